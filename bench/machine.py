"""What the numbers were measured on: the kind of machine, never which one."""

import os
import platform
import re
from pathlib import Path

import apsw
import grpc

IN_MEMORY = {"tmpfs", "ramfs"}


def describe(directory: Path) -> list[str]:
    """The machine and the file system of a directory, a line each."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    kernel = re.match(r"[\d.]*\d", platform.release())
    return [
        f"{os.cpu_count()} cores ({_processor()}), {memory_gib:.0f} GiB of memory",
        f"Linux {kernel[0] if kernel else ''}, {file_system(directory)}",
        f"load average {os.getloadavg()[0]:.1f} before the run",
        f"CPython {platform.python_version()}, {_libraries()}",
    ]


def file_system(directory: Path) -> str:
    """The kind of file system that a directory is on."""
    device = directory.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2] == wanted:
            return after.split()[0]
    return "unknown file system"


def _libraries() -> str:
    return f"SQLite {apsw.sqlite_lib_version()}, grpcio {grpc.__version__}"


def _processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1].strip() if found else platform.machine()
