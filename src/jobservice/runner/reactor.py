"""The loop of the runner: descriptors that became ready, and timers.

One thread, level-triggered epoll(7). Without a descriptor that is ready and without a timer that is
due it sleeps, so an idle runner uses no CPU. A fault in a handler is logged and the loop goes on: the
runner must never die of one attempt. Time is CLOCK_MONOTONIC: the time in which a job could run, so
the suspend of a host counts towards no timeout.
"""

import heapq
import select
import time
from collections.abc import Callable

from . import log

IN, OUT, PRIORITY = select.EPOLLIN, select.EPOLLOUT, select.EPOLLPRI
_TIMERS_SLACK = 64


class Timer:
    """A callback at an instant; `cancel` it when it is not wanted any more."""

    __slots__ = ("_reactor", "callback", "due")

    def __init__(self, reactor: "Reactor", due: float, callback: Callable[[], None]) -> None:
        self._reactor = reactor
        self.due = due
        self.callback: Callable[[], None] | None = callback

    def __lt__(self, other: "Timer") -> bool:
        return self.due < other.due

    def cancel(self) -> None:
        """Never call back. Harmless when it did already."""
        if self.callback is not None:
            self.callback = None
            self._reactor.note_cancelled()


class Reactor:
    """Watches descriptors and timers and calls their handlers, one after another."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._timers: list[Timer] = []
        self._cancelled = 0

    def watch(self, fd: int, mask: int, handler: Callable[[], None]) -> None:
        """Call `handler` whenever `fd` is ready; an `fd` that is watched gets the new mask."""
        known = fd in self._handlers
        self._handlers[fd] = handler
        if known:
            self._epoll.modify(fd, mask)
        else:
            self._epoll.register(fd, mask)

    def unwatch(self, fd: int) -> None:
        """Stop watching; must be called before `fd` is closed."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def after(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call back once after so many seconds, not earlier."""
        return self.at(time.monotonic() + seconds, callback)

    def at(self, due: float, callback: Callable[[], None]) -> Timer:
        """Call back once at an instant of the monotonic clock."""
        timer = Timer(self, due, callback)
        heapq.heappush(self._timers, timer)
        return timer

    def note_cancelled(self) -> None:
        """Keep the heap at most twice as large as what is alive in it."""
        self._cancelled += 1
        if self._cancelled > _TIMERS_SLACK + len(self._timers) // 2:
            self._timers = [timer for timer in self._timers if timer.callback is not None]
            heapq.heapify(self._timers)
            self._cancelled = 0

    def turn(self, *, busy: bool) -> None:
        """Wait for something (not at all when `busy`) and handle it."""
        for fd, _ in self._epoll.poll(0 if busy else self._timeout_s()):
            handler = self._handlers.get(fd)
            if handler is not None:
                self._call(handler)
        self._run_timers()

    def _timeout_s(self) -> float | None:
        while self._timers and self._timers[0].callback is None:
            heapq.heappop(self._timers)
            self._cancelled = max(0, self._cancelled - 1)
        if not self._timers:
            return None
        return max(0.0, self._timers[0].due - time.monotonic())

    def _run_timers(self) -> None:
        if not self._timers:
            return
        now = time.monotonic()
        while self._timers and self._timers[0].due <= now:
            timer = heapq.heappop(self._timers)
            callback, timer.callback = timer.callback, None
            if callback is None:
                self._cancelled = max(0, self._cancelled - 1)
            else:
                self._call(callback)

    def _call(self, handler: Callable[[], None]) -> None:
        try:
            handler()
        except Exception:  # noqa: BLE001  # one attempt must not end the others
            log.fault(f"in {getattr(handler, '__qualname__', handler)}")
