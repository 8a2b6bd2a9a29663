"""The executor port: how an attempt becomes a process somewhere, and what is heard of it.

An executor outlives nothing: what it started lives in a runner (or a cluster) and is found again by
`connect`. Calls are batches. What happens is told through the `on_reports` callback, in order per
attempt, and is told again after a reconnect until it is acknowledged, so a receiver must treat a
report that it knows already as an ordinary case.
"""

import dataclasses
import datetime as dt
import enum
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from jobservice.model.attempt import Fence, Outcome


@dataclasses.dataclass(frozen=True, slots=True)
class StartOrder:
    """All that is needed to run one attempt. The environment is complete: nothing is inherited."""

    fence: Fence
    directory: Path
    """The attempt's own directory, made by the executor: `stdout`, `stderr`, `index`, `work/`."""
    argv: Sequence[str]
    env: dict[str, str]
    """The job's own variables. The executor puts PATH, HOME and LANG beneath, JOBSERVICE_* on top."""
    stdin: bytes
    work_dir: str | None
    """Absolute; None means `directory/work`."""
    run_timeout_s: float | None
    stop_grace_s: float
    output_limit_bytes: int
    idle_timeout_s: float | None = None
    """How long it may be silent: no byte on stdout or stderr, no line of progress."""


@dataclasses.dataclass(frozen=True, slots=True)
class Started:
    """A process exists."""

    fence: Fence
    started_at: dt.datetime
    pid: int


@dataclasses.dataclass(frozen=True, slots=True)
class Progressed:
    """The newest line that the job wrote to its progress file."""

    fence: Fence
    reported_at: dt.datetime
    percent: float
    step: str


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """No process of the attempt lives any more, and its output is whole. Sent until acknowledged."""

    fence: Fence
    outcome: Outcome
    silenced: bool = False
    """It was ended because nobody came to prolong its lease in time: nothing is to be told of it."""


Report = Started | Progressed | Ended


class Phase(enum.StrEnum):
    """Where an attempt is that the executor knows of."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    ENDED = "ended"


@dataclasses.dataclass(frozen=True, slots=True)
class KnownAttempt:
    """One line of the answer to `connect`."""

    fence: Fence
    phase: Phase
    started_at: dt.datetime | None
    pid: int | None


class Executor(Protocol):
    """The verbs every executor has."""

    async def connect(
        self,
        on_reports: Callable[[Sequence[Report]], None],
        on_lost: Callable[[], None],
    ) -> Sequence[KnownAttempt]:
        """Find the runner, or start one, and return every attempt it knows, ended ones included.

        The ends that were not acknowledged follow through `on_reports`, after this returned.
        `on_lost` is called once when the connection breaks; then `connect` again. Attempts of a
        runner that died have no process when this returns, and are reported as LOST.

        Raises:
            ExecutorUnavailable: no runner could be found or started in time.
        """

    def start(self, orders: Sequence[StartOrder]) -> None:
        """Ask for attempts. A fence that is known already is not started a second time."""

    def stop(self, fences: Sequence[Fence]) -> None:
        """Ask for the end of attempts: TERM to the tree, their grace, then KILL. Repeats do no harm.

        An order that has no process yet is dropped and ends as STOP. A fence that is not known is
        reported as an end by LOST, so that the caller is never left waiting.
        """

    def keep_until(self, until_s: float | None) -> None:
        """End everything at once when this instant of the monotonic clock is over, unless told anew.

        Also where nobody is connected by then. There is no such instant with None, and before the
        first call.
        """

    def acknowledge(self, fences: Sequence[Fence]) -> None:
        """The ends of these attempts are on disk elsewhere: forget them."""

    async def close(self, *, stop_runner: bool) -> None:
        """Let go of the runner, which goes on; or end it, once it has nothing left to run."""
