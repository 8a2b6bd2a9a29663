"""What the runner has to say to a person: a few lines on stderr, which is its log file."""

import os
import sys
import time
import traceback

from . import limits

_said = 0


def say(message: str) -> None:
    """Write one line with the time and the pid; silent once LOG_BYTES were said."""
    global _said  # noqa: PLW0603  # a bound over the whole process
    if _said > limits.LOG_BYTES:
        return
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    line = f"{stamp} runner[{os.getpid()}] {message}\n"
    _said += len(line)
    try:
        sys.stderr.write(line)
        sys.stderr.flush()
    except (OSError, ValueError):
        _said = limits.LOG_BYTES + 1  # nobody can hear us: the disk is full, or stderr is gone


def fault(doing: str) -> None:
    """Say what went wrong; called while an exception is handled."""
    say(f"fault while {doing}: {traceback.format_exc(limit=8).strip()}")
