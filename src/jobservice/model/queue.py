"""Queues: where jobs wait, in which order, and when nothing of one starts or is accepted.

The order is one static key, so that a claim is one walk along an index.
"""

import dataclasses
import datetime as dt
import enum

from jobservice.clock import EPOCH

AGEING_S_PER_POINT = 36
"""How many seconds of waiting are worth one point of priority.

A high job (50) goes before every low one (-50) that was queued up to an hour before it; the low one
is never passed by work that came more than an hour later, so its wait is bounded.
"""


def claim_key(priority: int, queued_us: int) -> int:
    """Where a job stands that waits since then: smaller first, and equal keys by rank and job id."""
    return queued_us - priority * AGEING_S_PER_POINT * 1_000_000


_BEYOND = 1 << 61
"""More microseconds than any place by priority and age is away from 1970."""


def top_key(now_us: int) -> int:
    """Before all jobs of the queue, also before those that were moved to the top earlier."""
    return -_BEYOND - now_us


def bottom_key(now_us: int) -> int:
    """Behind all jobs of the queue, also behind those that were moved to the bottom earlier."""
    return _BEYOND + now_us


class Move(enum.Enum):
    """Where a job is moved to."""

    TOP = enum.auto()
    BOTTOM = enum.auto()
    BEFORE = enum.auto()
    """Right before another job."""
    AFTER = enum.auto()
    """Right after another job."""


class PauseMode(enum.IntEnum):
    """What a pause stops. The numbers are those of the wire and of the stores, for ever."""

    HOLD = 1
    """Nothing new starts; jobs are accepted and wait, and what runs goes on."""
    DRAIN = 2
    """Nothing new is accepted; what waits and what runs goes on, until the queue is empty."""


class OnFull(enum.IntEnum):
    """What becomes of a job for a full queue. The numbers are those of the wire and of the stores."""

    REJECT = 1
    """It is refused."""
    REPLACE_OLDEST = 2
    """The job that waits longest makes room: it ends SKIPPED."""
    REPLACE_NEWEST = 3
    """The job that came last makes room: it ends SKIPPED."""
    COALESCE = 4
    """The newest waiting job with the same command stands for it; where there is none, it is refused."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pause:
    """Somebody stopped a queue."""

    mode: PauseMode
    since: dt.datetime
    reason: str = ""
    until: dt.datetime | None = None
    """When it ends by itself; None is not before somebody resumes the queue."""

    def holds(self, now: dt.datetime) -> bool:
        """Whether it is still in force."""
        return self.until is None or now < self.until


@dataclasses.dataclass(frozen=True, slots=True)
class Queue:
    """A queue of a tenant, with its rules. None is without a limit."""

    tenant: str
    name: str
    description: str = ""
    max_running: int | None = None
    """How many of its jobs may hold a lease at once."""
    max_depth: int | None = None
    """How many of its jobs may be QUEUED when another one is accepted."""
    max_age: dt.timedelta | None = None
    """It counts as full while its oldest job has been QUEUED for longer."""
    on_full: OnFull = OnFull.REJECT
    pause: Pause | None = None
    created_at: dt.datetime = EPOCH
    updated_at: dt.datetime = EPOCH
    edit_version: int = 0
    """Counts the edits from 1; 0 where nobody made the queue, and its rules are the defaults."""

    @property
    def etag(self) -> str:
        """The version of its rules; opaque to clients."""
        return f"e{self.edit_version:x}"


RULES = ("description", "max_running", "max_depth", "max_age", "on_full")
"""The fields of a queue that are its rules; a pause has verbs of its own."""


class Obstacle(enum.IntEnum):
    """What keeps the jobs of a queue from starting. The numbers are those of the wire."""

    NONE = 0
    """None of them waits."""
    PAUSED = 1
    QUEUE_LIMIT = 2
    TENANT_LIMIT = 3
    SERVICE_LIMIT = 4
    KEYS = 5
    """The oldest of them wait for concurrency keys."""
    SLOTS = 6
    """Nothing but the number of slots."""


@dataclasses.dataclass(frozen=True, slots=True)
class QueueStats:
    """How full a queue is, how it moves, and what holds it up."""

    name: str
    depth: int
    """How many of its jobs are QUEUED."""
    oldest_age: dt.timedelta | None
    """How long the oldest of them has been; None where there is none."""
    running: int
    created_per_second: float
    started_per_second: float
    obstacle: Obstacle = Obstacle.NONE
    obstacle_message: str = ""
    """The same in a sentence, for a person."""
