"""A clock that stands still until it is moved."""

import asyncio
import contextlib
import datetime as dt
import heapq
import itertools
from collections.abc import AsyncIterator, Callable

START = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)


class Alarm:
    """Something that is called at an instant of a `JumpClock`."""

    __slots__ = ("_ring", "at_us")

    def __init__(self, at_us: int, ring: Callable[[], None]) -> None:
        self.at_us = at_us
        self._ring: Callable[[], None] | None = ring

    @property
    def is_set(self) -> bool:
        """Whether it still waits to be called."""
        return self._ring is not None

    def cancel(self) -> None:
        """Do not call it any more."""
        self._ring = None

    def ring(self) -> None:
        """Call it, once."""
        ring, self._ring = self._ring, None
        if ring is not None:
            ring()


class JumpClock:
    """Time for tests: `advance` moves it and wakes, in order, who slept until then.

    It counts whole microseconds, as the service does, so that nobody is woken just before his time.
    """

    def __init__(self, start: dt.datetime = START) -> None:
        self._start = start
        self._elapsed_us = 0
        self._order = itertools.count()
        self._alarms: list[tuple[int, int, Alarm]] = []

    def now(self) -> dt.datetime:
        return self._start + dt.timedelta(microseconds=self._elapsed_us)

    def monotonic_s(self) -> float:
        return self._elapsed_us / 1e6

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not woken.done():  # by a cancellation that has not come through yet
                woken.set_result(None)

        alarm = self.call_later(seconds, wake)
        try:
            await woken
        finally:
            alarm.cancel()

    @contextlib.asynccontextmanager
    async def timeout(self, seconds: float) -> AsyncIterator[object]:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(None) as limit:
            alarm = self.call_later(seconds, lambda: limit.reschedule(loop.time()))
            try:
                yield limit
            finally:
                alarm.cancel()

    def call_later(self, seconds: float, ring: Callable[[], None]) -> Alarm:
        """Have something called when so much time has passed."""
        alarm = Alarm(self._elapsed_us + max(round(seconds * 1e6), 0), ring)
        heapq.heappush(self._alarms, (alarm.at_us, next(self._order), alarm))
        return alarm

    def next_alarm_at(self) -> dt.datetime | None:
        """When the next one is woken; None where nobody sleeps."""
        while self._alarms and not self._alarms[0][2].is_set:
            heapq.heappop(self._alarms)
        if not self._alarms:
            return None
        return self._start + dt.timedelta(microseconds=self._alarms[0][0])

    def advance(self, seconds: float) -> None:
        """Let so much time pass."""
        self._move(self._elapsed_us + round(seconds * 1e6))

    def advance_to(self, instant: dt.datetime) -> None:
        """Let the time pass until then."""
        self._move((instant - self._start) // _MICROSECOND)

    def _move(self, to_us: int) -> None:
        self._elapsed_us = max(to_us, self._elapsed_us)
        while self._alarms and self._alarms[0][0] <= self._elapsed_us:
            heapq.heappop(self._alarms)[2].ring()
