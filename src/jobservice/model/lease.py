"""Leases: what a worker is given, what it tells of it, and what it is answered. Frozen values."""

import dataclasses
import datetime as dt
import enum

from jobservice.model.attempt import Fence, Outcome
from jobservice.model.job import AttemptState, Progress
from jobservice.model.lifecycle import State
from jobservice.model.spec import Command


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
    """A lease on a new attempt, with what is needed to run it."""

    fence: Fence
    command: Command
    timeout: dt.timedelta | None
    stop_grace: dt.timedelta
    output_limit_bytes: int
    idle_timeout: dt.timedelta | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class AttemptStart:
    """A process exists."""

    fence: Fence
    started_at: dt.datetime


@dataclasses.dataclass(frozen=True, slots=True)
class AttemptEnd:
    """No process of the attempt exists any more."""

    fence: Fence
    outcome: Outcome


class LeaseAnswer(enum.Enum):
    """What the holder of a lease is told when it extends it."""

    KEPT = enum.auto()
    STOP = enum.auto()
    """Kept, and the job is to be stopped."""
    REFUSED = enum.auto()
    """The fence is stale: whatever still runs under it must end."""


@dataclasses.dataclass(frozen=True, slots=True)
class LiveAttempt:
    """An attempt that holds a lease."""

    fence: Fence
    worker_id: str
    attempt_state: AttemptState
    """STARTING or RUNNING."""
    job_state: State
    """RUNNING or STOPPING."""
    started_at: dt.datetime | None
    is_restored: bool = False
    """The lease came out of a backup: what became of the attempt since is not in the store."""


@dataclasses.dataclass(frozen=True, slots=True)
class ProgressReport:
    """What an attempt says of itself."""

    fence: Fence
    progress: Progress
