"""The few system calls that Python 3.11 does not wrap, through ctypes, and facts about this boot.

Every function raises OSError with the errno of the call.
"""

import ctypes
import os
import signal
from collections.abc import Iterable

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_libc.signalfd.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
_libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]

_FALLOC_FL_KEEP_SIZE = 0x01
_FALLOC_FL_PUNCH_HOLE = 0x02
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_SIGSET_BYTES = 128
SIGNAL_INFO_BYTES = 128
"""Size of one signalfd_siginfo (signalfd(2))."""


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def punch_hole(fd: int, offset: int, length: int) -> None:
    """Give a range of a file back to the disk; it reads as zeros and the size stays."""
    _check(_libc.fallocate(fd, _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE, offset, length))


def signal_descriptor(signals: Iterable[signal.Signals]) -> int:
    """Block signals and return a descriptor from which they are read instead (signalfd(2))."""
    wanted = list(signals)
    signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
    bits = bytearray(_SIGSET_BYTES)
    for number in wanted:
        bits[(number - 1) // 8] |= 1 << (number - 1) % 8
    mask = (ctypes.c_char * _SIGSET_BYTES).from_buffer(bits)
    return _check(_libc.signalfd(-1, ctypes.byref(mask), os.O_CLOEXEC | os.O_NONBLOCK))


def read_signals(fd: int) -> list[tuple[int, int]]:
    """Number and sender of each signal that waits in a descriptor of `signal_descriptor`."""
    data = os.read(fd, 64 * SIGNAL_INFO_BYTES)
    return [
        (
            int.from_bytes(data[start : start + 4], "little"),
            int.from_bytes(data[start + 12 : start + 16], "little"),
        )
        for start in range(0, len(data), SIGNAL_INFO_BYTES)
    ]


def become_subreaper() -> None:
    """Make orphans among our descendants our children, so that they can be found and reaped."""
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))


def signal_on_parent_death(number: signal.Signals) -> None:
    """Send us a signal when the thread that forked us ends. The caller checks getppid afterwards."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0))


def boot_id() -> str:
    """The id of this boot of the kernel: pids of another boot mean nothing."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
