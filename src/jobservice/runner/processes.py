"""Processes by /proc: start times, descendants, environments, and signals that never go astray.

A pid alone names nothing for long. A process is a pid and its start time (field 22 of
/proc/PID/stat, in clock ticks since the boot); a signal goes through a pidfd that is opened first and
checked afterwards, so it reaches the process that was meant or nobody.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Collection

_STATE, _PARENT, _START = 0, 1, 19  # fields after the name, which stands in parentheses


def _stat(pid: int) -> list[bytes] | None:
    """The fields of /proc/PID/stat after the name; None for a process that is gone."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(fd, 4096).rpartition(b")")[2].split()
    except OSError:
        return None
    finally:
        os.close(fd)


def start_time(pid: int) -> int:
    """Field 22 of proc(5); 0 for a process that is gone."""
    fields = _stat(pid)
    return int(fields[_START]) if fields else 0


def is_alive(pid: int, started: int) -> bool:
    """Whether this very process exists and is not a zombie."""
    fields = _stat(pid)
    return fields is not None and int(fields[_START]) == started and fields[_STATE] not in b"ZX"


def parent(pid: int) -> int:
    """The pid of the parent; 0 for a process that is gone."""
    fields = _stat(pid)
    return int(fields[_PARENT]) if fields else 0


def all_pids() -> list[int]:
    """Every process that this namespace shows."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


_HAS_CHILDREN = os.path.exists(f"/proc/self/task/{os.getpid()}/children")
"""Whether the kernel was built with CONFIG_PROC_CHILDREN."""


def children(pid: int) -> list[int]:
    """The children of all threads of a process; empty for one that is gone."""
    if not _HAS_CHILDREN:
        return [other for other in all_pids() if parent(other) == pid]
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                found += [int(child) for child in file.read().split()]
    return found


def descendants(pid: int, known: Collection[int] = ()) -> list[int]:
    """The processes beneath `pid`, parents first, without itself and without those in `known`.

    A snapshot that may miss what forks meanwhile; callers look again until nothing is left.
    """
    found: list[int] = []
    queue = [pid]
    while queue:
        fresh = [child for child in children(queue.pop(0)) if child not in known]
        found += fresh
        queue += fresh
    return found


def is_our_descendant(pid: int) -> bool:
    """Whether a pid names a process beneath us now."""
    ours, seen = os.getpid(), 0
    while pid > 1 and seen < 10_000:
        if pid == ours:
            return True
        pid, seen = parent(pid), seen + 1
    return False


def send_signal(pid: int, number: signal.Signals, is_still_meant: Callable[[int], bool]) -> bool:
    """Signal a process that `is_still_meant(pid)` names after a pidfd of it was opened."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if not is_still_meant(pid):
            return False
        with contextlib.suppress(ProcessLookupError, PermissionError):
            signal.pidfd_send_signal(fd, number)
            return True
        return False
    finally:
        os.close(fd)


def environment_of(pid: int) -> dict[str, str]:
    """The environment a process was started with; empty for one that hides it or is gone."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return {}
    pairs = (os.fsdecode(entry).partition("=") for entry in entries if entry)
    return {name: value for name, _, value in pairs}


def shares_our_files(pid: int) -> bool:
    """Whether a process sees the same file tree, so that its paths mean what ours mean."""
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
    except OSError:
        return False


def cgroup_of(pid: int) -> str:
    """The cgroup v2 path of a process, below the mount; empty for one that is gone."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            return next((line[3:].rstrip("\n") for line in file if line.startswith("0::")), "")
    except OSError:
        return ""
