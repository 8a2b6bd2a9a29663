"""A clock that stands still until it is moved."""

import asyncio
import datetime as dt
import heapq
import itertools

START = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)


class JumpClock:
    """Time for tests: `advance` moves it and wakes, in order, who slept until then."""

    def __init__(self, start: dt.datetime = START) -> None:
        self._start = start
        self._elapsed_s = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> dt.datetime:
        return self._start + dt.timedelta(seconds=self._elapsed_s)

    def monotonic_s(self) -> float:
        return self._elapsed_s

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed_s + seconds, next(self._order), woken))
        await woken

    def advance(self, seconds: float) -> None:
        """Let so much time pass."""
        self._elapsed_s += seconds
        while self._sleepers and self._sleepers[0][0] <= self._elapsed_s:
            _, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)
