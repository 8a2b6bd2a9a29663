"""Reports: what the worker has not been told yet.

Ends are kept until they are acknowledged. The rest is bounded by the number of attempts: one start and
the newest progress of each. Under load a report waits up to COALESCE_S for others.
"""

import time
from typing import TypeVar

from . import limits
from .protocol import End, Message

_Report = TypeVar("_Report")


class Reports:
    """The tables of what is to be told."""

    def __init__(self) -> None:
        self.unacknowledged: dict[str, End] = {}
        self._started: list[tuple[str, int, int]] = []
        self._progress: dict[str, tuple[str, int, float, str]] = {}
        self._ended: dict[str, End] = {}
        self._since = 0.0

    def add_started(self, key: str, at_ns: int, pid: int) -> None:
        self._note()
        self._started.append((key, at_ns, pid))

    def add_progress(self, key: str, at_ns: int, percent: float, step: str) -> None:
        self._note()
        self._progress[key] = (key, at_ns, percent, step)

    def add_end(self, end: End) -> None:
        """A new end, or one that must be told again."""
        self._note()
        self.unacknowledged[end.key] = self._ended[end.key] = end

    def acknowledge(self, key: str) -> End | None:
        """The end of an attempt need not be told again."""
        self._ended.pop(key, None)
        return self.unacknowledged.pop(key, None)

    def begin_again(self) -> None:
        """For a new connection: its hello lists what has started, and every end is told again."""
        self._started.clear()
        self._ended = dict(self.unacknowledged)
        self._note()

    def _note(self) -> None:
        if not self:
            self._since = time.monotonic()

    def __bool__(self) -> bool:
        return bool(self._ended or self._started or self._progress)

    def wait_s(self, live: int) -> float:
        """How long to wait for company, with so many live attempts; 0 when it is time to tell."""
        enough = min(limits.COALESCE_ENDS, live // limits.COALESCE_LIVE)
        if live <= limits.COALESCE_LIVE or len(self._ended) >= enough:
            return 0.0
        return max(0.0, self._since + limits.COALESCE_S - time.monotonic())

    def take_frame(self) -> Message:
        """The next frame of reports, and take them off the tables."""
        started = self._started[: limits.REPORTS_PER_FRAME]
        del self._started[: limits.REPORTS_PER_FRAME]
        message: Message = {"type": "reports", "started": started, "progress": [], "ended": []}
        if not self._started:
            message["progress"] = _take(self._progress)
        if not self._started and not self._progress:
            message["ended"] = [end._asdict() for end in _take(self._ended)]
        return message


def _take(table: "dict[str, _Report]") -> "list[_Report]":
    if len(table) <= limits.REPORTS_PER_FRAME:
        taken = list(table.values())
        table.clear()
        return taken
    return [table.pop(key) for key in list(table)[: limits.REPORTS_PER_FRAME]]
