"""How long attempts may go on without their worker.

A worker may be cut off from its service, or the service that it is in from its store, and then its
attempts may be given to another one. It says after each answer until when everything may go on, and we
end it all at that instant unless it has said so anew: also when the worker hangs or is dead. Nothing is
started either until it has. Instants are of CLOCK_BOOTTIME, which counts the sleep of the host, and
which the worker reads too; so it does not matter how long a message lay unread.
"""

import time
from collections.abc import Callable

from . import limits
from .reactor import Reactor, Timer


class Leash:
    """The instant at which everything ends; there is none before a worker names one."""

    def __init__(self, reactor: Reactor, end_all: Callable[[], None]) -> None:
        self._reactor = reactor
        self._end_all = end_all
        self.until: float | None = None
        self._timer: Timer | None = None

    def hold(self, until: float | None) -> None:
        """Everything may go on until then, or for ever."""
        self.until = until
        if self._timer is None and until is not None:
            self._look_again()

    def is_over(self) -> bool:
        """Whether nothing may run."""
        return self.until is not None and time.clock_gettime(time.CLOCK_BOOTTIME) >= self.until

    def _look(self) -> None:
        """Now and then, for timers go by a clock that does not count the sleep of the host."""
        self._timer = None
        if self.is_over():
            self._end_all()
        elif self.until is not None:
            self._look_again()

    def _look_again(self) -> None:
        assert self.until is not None  # as it is held
        left = self.until - time.clock_gettime(time.CLOCK_BOOTTIME)
        self._timer = self._reactor.after(min(max(left, 0.0), limits.LEASH_LOOK_S), self._look)
