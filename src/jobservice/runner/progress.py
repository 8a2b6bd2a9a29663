"""Progress: the lines that a job appends to the file $JOBSERVICE_PROGRESS.

A line is a percentage (`40`, `40.5`, `40%`) and, after white space, what is being done. The last one
counts; what is no such line, or longer than PROGRESS_LINE_BYTES, is ignored. Percentages are clamped
to 0..100. Any complete line is a sign of life, whatever it says. The file is the job's: it may be
missing, replaced or truncated at any time, and what is no regular file is not read.
"""

import math
import os
import stat

from . import limits

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def parse_line(line: bytes) -> tuple[float, str] | None:
    """Percentage and text of a line; None for nonsense."""
    words = line.decode("utf-8", "replace").strip().split(None, 1)
    if not words:
        return None
    try:
        percent = float(words[0].removesuffix("%"))
    except ValueError:
        return None
    if not math.isfinite(percent):
        return None
    return min(100.0, max(0.0, percent)), words[1] if len(words) > 1 else ""


def last_of(lines: list[bytes]) -> tuple[float, str] | None:
    """The last line that makes sense."""
    for line in reversed(lines):
        if len(line) <= limits.PROGRESS_LINE_BYTES and (found := parse_line(line)) is not None:
            return found
    return None


class ProgressFile:
    """Reads what was appended since the last look."""

    __slots__ = ("_inode", "_offset", "heard")

    def __init__(self) -> None:
        self._inode = 0
        self._offset = 0
        self.heard = False
        """Whether the last look found a new complete line."""

    def look(self, directory_fd: int, *, final: bool = False) -> tuple[float, str] | None:
        """The newest complete line since the last look; at the end an unfinished one counts too."""
        self.heard = False
        try:
            facts = os.stat("progress", dir_fd=directory_fd, follow_symlinks=False)
        except OSError:
            return None
        if facts.st_ino != self._inode or facts.st_size < self._offset:
            self._inode, self._offset = facts.st_ino, 0
        if facts.st_size == self._offset or not stat.S_ISREG(facts.st_mode):
            return None
        return self._read(directory_fd, final=final)

    def handover(self) -> dict[str, int]:
        """What a re-executed runner needs to read no line twice; `resume` takes it."""
        return {"inode": self._inode, "offset": self._offset}

    def resume(self, state: dict[str, int]) -> None:
        self._inode, self._offset = state["inode"], state["offset"]

    def _read(self, directory_fd: int, *, final: bool) -> tuple[float, str] | None:
        try:
            fd = os.open("progress", _OPEN, dir_fd=directory_fd)
        except OSError:
            return None
        try:
            facts = os.fstat(fd)
            if not stat.S_ISREG(facts.st_mode):
                return None
            start = max(self._offset, facts.st_size - limits.PROGRESS_READ_BYTES)
            data = os.pread(fd, limits.PROGRESS_READ_BYTES, start)
        except OSError:
            return None
        finally:
            os.close(fd)
        complete, newline, rest = data.rpartition(b"\n")
        self.heard = bool(newline)
        lines = complete.split(b"\n") if newline else []
        if start > self._offset:
            lines = lines[1:]  # the rest of a line whose beginning was not read
        self._offset = start + len(data) if final else start + len(data) - len(rest)
        if final and rest:
            lines.append(rest)
        elif len(rest) > limits.PROGRESS_LINE_BYTES:
            self._offset = start + len(data)  # too long to be a line; its end is nonsense too
        return last_of(lines)
