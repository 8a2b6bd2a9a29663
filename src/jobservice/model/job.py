"""A job and its attempts as they are remembered. Frozen values, no I/O."""

import dataclasses
import datetime as dt
import enum
from collections.abc import Mapping
from typing import NamedTuple

from jobservice.model.array import ArrayCounts, Index
from jobservice.model.graph import Verdict
from jobservice.model.lifecycle import Reason, State
from jobservice.model.spec import JobSpec


class AttemptState(enum.IntEnum):
    """Where an attempt is. The numbers are those of the wire and of the stores, for ever."""

    STARTING = 1
    RUNNING = 2
    SUCCEEDED = 3
    FAILED = 4
    CANCELLED = 5
    LOST = 6


@dataclasses.dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a job, as it is remembered."""

    attempt: int
    state: AttemptState
    worker_id: str
    claimed_at: dt.datetime
    reason: Reason = Reason.NONE
    message: str = ""
    started_at: dt.datetime | None = None
    ended_at: dt.datetime | None = None
    exit_code: int | None = None
    signal: int | None = None
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    dropped_bytes: int = 0
    cpu_s: float = 0.0
    max_rss_bytes: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """What an attempt last said of itself."""

    percent: float
    step: str
    estimated_completion: dt.datetime | None
    reported_at: dt.datetime


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """A job as it stands in the store."""

    tenant: str
    job_id: str
    spec: JobSpec
    """As it is now, with edits. In a BASIC read `command.env` and `command.stdin` are empty."""
    state: State
    created_at: dt.datetime
    updated_at: dt.datetime
    edit_version: int
    """Counts the edits of a user, from 1; what the etag stands for."""
    revision: int
    """Counts the events, from 1 at the creation."""
    reason: Reason = Reason.NONE
    message: str = ""
    attempt_count: int = 0
    failure_count: int = 0
    lost_count: int = 0
    exit_code: int | None = None
    signal: int | None = None
    start_at: dt.datetime | None = None
    """When a SCHEDULED job becomes due."""
    started_at: dt.datetime | None = None
    ended_at: dt.datetime | None = None
    delete_requested: bool = False
    blocked_key: str = ""
    """The concurrency key that a QUEUED job waits for; empty where no claim has found one taken."""
    progress: Progress | None = None
    """Of the newest attempt."""
    attempts: tuple[Attempt, ...] = ()
    """Oldest first; empty in lists."""
    schedule: str = ""
    """The schedule that made it."""
    schedule_at: dt.datetime | None = None
    """The nominal time that it was made for."""
    cause_job_id: str = ""
    """Whose end is the first cause of the reason DEPENDENCY; empty in lists."""
    verdicts: tuple[Verdict, ...] = ()
    """Of each of the dependencies; empty in lists."""
    existing: bool = False
    """In the answer of a create: it was there before, and stands for the job that was asked for."""
    array_counts: ArrayCounts | None = None
    """How far an array is."""
    index: Index | None = None
    """Which index of which array it is."""

    @property
    def etag(self) -> str:
        """The version of what a user may edit; opaque to clients."""
        return f"e{self.edit_version:x}"


class NewJob(NamedTuple):
    """A job that is about to be stored, decided by the engine."""

    tenant: str
    job_id: str
    spec: JobSpec
    created_at: dt.datetime
    state: State = State.QUEUED
    """What it would be without dependencies: QUEUED, or SCHEDULED until `start_at`."""
    start_at: dt.datetime | None = None
    """When a SCHEDULED one becomes due."""
    schedule: str = ""
    schedule_at: dt.datetime | None = None
    index: Index | None = None  # type: ignore[assignment]  # in the place of tuple.index
    """Of an array, whose command it runs."""
    queued_at: dt.datetime | None = None
    """Since when it counts as waiting; None is since its creation."""
    claim_key: int | None = None
    """Its place in the queue; None is by priority and age."""


EDITABLE_ALWAYS = frozenset({"name", "labels"})
EDITABLE_UNTIL_FINAL = frozenset(
    {
        "priority",
        "queue",
        "timeout",
        "idle_timeout",
        "retry_policy",
        "stop_grace",
        "queue_timeout",
        "total_timeout",
        "deadline",
    }
)
EDITABLE_BEFORE_START = frozenset({"start_after"})
"""While a job is SCHEDULED for its first start."""
EDITABLE = EDITABLE_ALWAYS | EDITABLE_UNTIL_FINAL | EDITABLE_BEFORE_START


Edits = Mapping[str, object]
"""New values by the name of the field, out of the sets above, as `JobSpec` holds them (the
policy under `retry_policy`)."""
