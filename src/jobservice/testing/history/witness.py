"""The witness: a job that tells by itself when it ran, apart from all that the service says.

Each attempt appends to one file when it started, that it lives (every 50 ms), and how it ended; and it
holds a lock on behalf of its job for as long as any process of its tree lives. So two attempts of a job
at the same time are seen, whoever is to blame.
"""

import fcntl
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PROGRAMS = Path(__file__).with_name("programs")
_GET_LOCK = 36
"""F_OFD_GETLK, which Python names since 3.12."""
_LOCK = "hhqqi4x"


class Witness:
    """Commands of jobs that note their runs below `folder`; the C compiler makes them cheap."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._locks = folder / "locks"
        self._locks.touch(mode=0o600)
        self._program = self._build()

    def _build(self) -> Sequence[str]:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            return (sys.executable, "-IS", str(PROGRAMS / "witness.py"))
        program = self.folder / "witness"
        if not program.exists():
            source = PROGRAMS / "witness.c"
            subprocess.run([compiler, "-O2", "-Wall", "-o", program, source], check=True)  # noqa: S603
        return (str(program),)

    def argv(
        self,
        *,
        sleep_ms: int = 0,
        exit_code: int = 0,
        fail_until: int = 0,
        lines: int = 0,
        keys: Sequence[str] = (),
        child: bool = False,
    ) -> list[str]:
        """A command.

        Args:
            sleep_ms: How long it runs.
            exit_code: How it exits.
            fail_until: Attempts up to this one exit with 3.
            lines: How many lines it prints, each the key of its attempt and a number from 0.
            keys: Concurrency keys, for the records.
            child: Whether it has a child in a session of its own that ignores SIGTERM and outlives it.
        """
        options = {
            "sleep_ms": sleep_ms,
            "exit": exit_code,
            "fail_until": fail_until,
            "lines": lines,
            "keys": ",".join(keys),
            "child": int(child),
        }
        words = [f"{name}={value}" for name, value in options.items() if value]
        return [*self._program, str(self.folder), *words]

    def is_alive(self, job_id: str, tenant: str = "default") -> bool:
        """Whether any process of a job lives now."""
        query = struct.pack(_LOCK, fcntl.F_WRLCK, os.SEEK_SET, _spot(f"{tenant}/{job_id}"), 1, 0)
        with self._locks.open("rb+") as file:
            answer = fcntl.fcntl(file, _GET_LOCK, query)
        return bool(struct.unpack(_LOCK, answer)[0] != fcntl.F_UNLCK)


def output_of(key: str, lines: int) -> str:
    """What an attempt prints."""
    return "".join(f"{key} {number}\n" for number in range(lines))


def _spot(job: str) -> int:
    """The byte of the file of locks that stands for a job."""
    spot = 14695981039346656037
    for byte in job.encode():
        spot = (spot ^ byte) * 1099511628211 % 2**64
    return spot >> 2
