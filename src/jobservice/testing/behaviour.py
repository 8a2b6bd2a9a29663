"""How jobs behave in virtual time: what an attempt does, and an executor that has it done."""

import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping, Sequence

from jobservice.errors import ExecutorUnavailable
from jobservice.executors.port import Ended, KnownAttempt, Report, StartOrder
from jobservice.model.attempt import Cause, Fence, Outcome
from jobservice.testing.clock import Alarm, JumpClock
from jobservice.testing.executor import ScriptedExecutor

NO_TIME = dt.timedelta()


@dataclasses.dataclass(frozen=True, slots=True)
class Behaviour:
    """What one attempt does. By itself it succeeds at once and says nothing."""

    exit_code: int = 0
    after: dt.timedelta | None = NO_TIME
    """How long it runs; None is until it is stopped. A timeout of the job ends it before that."""
    signal: int | None = None
    """The signal that ends it, instead of an exit code."""
    launch_error: str = ""
    """Why no process comes to be at all."""
    stdout: bytes = b""
    stderr: bytes = b""
    progress: Sequence[tuple[dt.timedelta, float, str]] = ()
    """What it says of itself: how long after its start, percent, step."""


SUCCEEDS = Behaviour()

Script = (
    Callable[[StartOrder], Behaviour] | Mapping[str, Behaviour | Sequence[Behaviour]] | Behaviour
)
"""What becomes of attempts: a function of what is to be started; or, by the command or its program,
what it does, and in a sequence what its first, second, … attempt does (the last one repeats); or the
same for all."""


def behaviour_of(script: Script, order: StartOrder) -> Behaviour:
    """What the script says about an attempt."""
    if isinstance(script, Behaviour):
        return script
    if not isinstance(script, Mapping):
        return script(order)
    found = script.get(" ".join(order.argv), script.get(order.argv[0], SUCCEEDS))
    if isinstance(found, Behaviour):
        return found
    return found[min(order.fence.attempt, len(found)) - 1]


class ActingExecutor(ScriptedExecutor):
    """Runs attempts as a script says, on a clock that jumps."""

    def __init__(self, clock: JumpClock, script: Script) -> None:
        super().__init__(clock)
        self._jumps = clock
        self._script = script
        self._alarms: dict[Fence, list[Alarm]] = {}
        self._away = False
        self.fault: Exception | None = None
        """What the script raised, if it did."""

    async def connect(
        self, on_reports: Callable[[Sequence[Report]], None], on_lost: Callable[[], None]
    ) -> Sequence[KnownAttempt]:
        if self._away:
            raise ExecutorUnavailable("The host of the worker is gone.")
        return await super().connect(on_reports, on_lost)

    def start(self, orders: Sequence[StartOrder]) -> None:
        known = set(self.orders)
        behaviours = {order.fence: self._behaviour(order) for order in orders}
        launched = [order for order in orders if not behaviours[order.fence].launch_error]
        super().start(launched)
        for order in orders:
            if order.fence not in known:
                self._begin(order, behaviours[order.fence])

    def lose(self) -> None:
        self._cancel(list(self._alarms))
        super().lose()

    def leave(self) -> None:
        """The host goes away with all that runs on it, and nobody hears of it."""
        self._away = True
        self._cancel(list(self._alarms))
        self.running.clear()
        self.ended.clear()
        self._on_lost()

    def come_back(self) -> None:
        """The host is there again, and nothing runs on it."""
        self._away = False

    def end(
        self,
        fence: Fence,
        cause: Cause = Cause.EXIT,
        *,
        exit_code: int | None = None,
        signal: int | None = None,
    ) -> None:
        self._cancel([fence])
        super().end(fence, cause, exit_code=exit_code, signal=signal)

    def _behaviour(self, order: StartOrder) -> Behaviour:
        try:
            return behaviour_of(self._script, order)
        except Exception as error:  # noqa: BLE001 - it is the user's, who is told of it
            self.fault = error
            return Behaviour(launch_error="its script has a fault")

    def _begin(self, order: StartOrder, behaviour: Behaviour) -> None:
        fence = order.fence
        if behaviour.launch_error:
            self.orders[fence] = order
            message = behaviour.launch_error
            self._report(
                Ended(fence, Outcome(Cause.LAUNCH_FAILED, self._clock.now(), message=message))
            )
            return
        _write(order, behaviour)
        alarms = self._alarms[fence] = [
            self._jumps.call_later(after.total_seconds(), _said(self, fence, percent, step))
            for after, percent, step in behaviour.progress
        ]
        runs_s = None if behaviour.after is None else behaviour.after.total_seconds()
        over = _time_over(order, behaviour)
        if over is not None and (runs_s is None or over[0] <= runs_s):
            after_s, cause = over
            alarms.append(
                self._jumps.call_later(after_s, lambda: self.end(fence, cause, signal=15))
            )
        elif runs_s is not None:
            code = behaviour.exit_code if behaviour.signal is None else None
            alarms.append(
                self._jumps.call_later(
                    runs_s, lambda: self.end(fence, exit_code=code, signal=behaviour.signal)
                )
            )

    def _cancel(self, fences: Sequence[Fence]) -> None:
        for fence in fences:
            for alarm in self._alarms.pop(fence, ()):
                alarm.cancel()


def _time_over(order: StartOrder, behaviour: Behaviour) -> tuple[float, Cause] | None:
    """How long after its start which timeout of an attempt is over first; None is never."""
    over: list[tuple[float, Cause]] = []
    if order.run_timeout_s is not None:
        over.append((order.run_timeout_s, Cause.RUN_TIMEOUT))
    if order.idle_timeout_s is not None:
        alive_s = 0.0
        for said_s in sorted(after.total_seconds() for after, _, _ in behaviour.progress):
            if said_s > alive_s + order.idle_timeout_s:
                break
            alive_s = said_s
        over.append((alive_s + order.idle_timeout_s, Cause.IDLE_TIMEOUT))
    return min(over, key=lambda each: each[0], default=None)


def _said(
    executor: ScriptedExecutor, fence: Fence, percent: float, step: str
) -> Callable[[], None]:
    return lambda: executor.progress(fence, percent, step)


def _write(order: StartOrder, behaviour: Behaviour) -> None:
    """The output, where the service looks for it."""
    for name, data in (("stdout", behaviour.stdout), ("stderr", behaviour.stderr)):
        if data:
            order.directory.mkdir(parents=True, exist_ok=True)
            (order.directory / name).write_bytes(data)
