"""An executor without processes: the test says what becomes of each attempt."""

import datetime as dt
from collections.abc import Callable, Sequence

from jobservice.clock import Clock
from jobservice.executors.port import (
    Ended,
    KnownAttempt,
    Phase,
    Progressed,
    Report,
    Started,
    StartOrder,
)
from jobservice.model.attempt import Cause, Fence, Outcome


class ScriptedExecutor:
    """Keeps the promises of the executor port in memory, ends included until acknowledged."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._on_reports: Callable[[Sequence[Report]], None] = lambda _reports: None
        self._on_lost: Callable[[], None] = lambda: None
        self.orders: dict[Fence, StartOrder] = {}
        """Every order that was ever given."""
        self.running: dict[Fence, dt.datetime] = {}
        self.ended: dict[Fence, Ended] = {}
        """Ends that are not acknowledged."""
        self.stops: list[Fence] = []
        self.heedless: set[Fence] = set()
        """Attempts that a stop does not end."""
        self.connections = 0
        self.kept_until_s: float | None = None
        """Until when it may go on; a test calls `end_in_silence` when that is over."""

    async def connect(
        self, on_reports: Callable[[Sequence[Report]], None], on_lost: Callable[[], None]
    ) -> Sequence[KnownAttempt]:
        self._on_reports, self._on_lost = on_reports, on_lost
        self.connections += 1
        known = [
            KnownAttempt(fence, Phase.RUNNING, since, 1) for fence, since in self.running.items()
        ]
        known += [KnownAttempt(fence, Phase.ENDED, None, None) for fence in self.ended]
        if self.ended:
            on_reports(list(self.ended.values()))
        return known

    def start(self, orders: Sequence[StartOrder]) -> None:
        for order in orders:
            if order.fence not in self.orders:
                self.orders[order.fence] = order
                self.running[order.fence] = self._clock.now()
        self._on_reports(
            [
                Started(order.fence, self.running[order.fence], 1)
                for order in orders
                if order.fence in self.running
            ]
        )

    def stop(self, fences: Sequence[Fence]) -> None:
        self.stops += fences
        for fence in fences:
            if fence in self.running:
                if fence not in self.heedless:
                    self.end(fence, Cause.STOP, signal=15)
            elif fence not in self.ended:
                self._report(Ended(fence, Outcome(Cause.LOST, self._clock.now())))

    def keep_until(self, until_s: float | None) -> None:
        self.kept_until_s = until_s

    def acknowledge(self, fences: Sequence[Fence]) -> None:
        for fence in fences:
            self.ended.pop(fence, None)

    async def close(self, *, stop_runner: bool) -> None:
        self._on_reports = lambda _reports: None
        if stop_runner:
            self.running.clear()

    def end(
        self,
        fence: Fence,
        cause: Cause = Cause.EXIT,
        *,
        exit_code: int | None = None,
        signal: int | None = None,
    ) -> None:
        """The process of the attempt ends."""
        started_at = self.running.pop(fence)
        self._report(
            Ended(
                fence,
                Outcome(cause, self._clock.now(), started_at, exit_code=exit_code, signal=signal),
            )
        )

    def end_in_silence(self) -> list[Fence]:
        """What the runner does by itself when the time is over that it was told; what it ended."""
        if self.kept_until_s is None or self._clock.monotonic_s() < self.kept_until_s:
            return []
        ended = list(self.running)
        for fence in ended:
            outcome = Outcome(Cause.LOST, self._clock.now(), self.running.pop(fence), signal=9)
            self._report(Ended(fence, outcome, silenced=True))
        return ended

    def progress(self, fence: Fence, percent: float, step: str) -> None:
        """The process says how far it is."""
        self.report([Progressed(fence, self._clock.now(), percent, step)])

    def report(self, reports: Sequence[Report]) -> None:
        """All that is told in one frame."""
        self._on_reports(reports)

    def lose(self) -> None:
        """The runner dies with everything that it ran; a new one tells of it."""
        for fence, started_at in list(self.running.items()):
            self.ended[fence] = Ended(fence, Outcome(Cause.LOST, self._clock.now(), started_at))
        self.running.clear()
        self._on_lost()

    def _report(self, end: Ended) -> None:
        self.ended[end.fence] = end
        self._on_reports([end])
