"""Schedules: what a user asks for, and what is remembered of them and their fires. Frozen values.

A fire is known by its nominal time, which comes from the timing alone; delays, jitter and the clock
never change it. `firing.py` has the rules.
"""

import dataclasses
import datetime as dt
import enum

from jobservice.model.spec import JobSpec
from jobservice.model.when import Timing

DEFAULT_WINDOW = dt.timedelta(hours=1)
DEFAULT_CATCH_UP = 10
"""How many fires the misfire policy ALL makes where no number is given."""
BACKFILL_LIMIT = 100_000
"""How many times of a schedule a backfill may have."""
DEFAULT_RATE = 60
"""Jobs of a backfill in a minute."""
DEFAULT_PREVIEW = 10
"""How many fires are looked ahead to where no number is given."""


class MisfirePolicy(enum.IntEnum):
    """Which of several fires that are due together are made. The numbers are those of the wire."""

    SKIP = 1
    LAST = 2
    ALL = 3


class Overlap(enum.IntEnum):
    """What a fire does while a job of its schedule is active. The numbers are those of the wire."""

    SKIP = 1
    BUFFER_ONE = 2
    BUFFER_ALL = 3
    CANCEL_OTHER = 4
    ALLOW = 5


class Cause(enum.IntEnum):
    """Why there is a run. The numbers are those of the wire and of the stores, for ever."""

    TIMER = 1
    TRIGGER = 2
    BACKFILL = 3


class Outcome(enum.IntEnum):
    """What became of a run. The numbers are those of the wire and of the stores, for ever."""

    FIRED = 1
    BUFFERED = 2
    SKIPPED = 3
    MISSED = 4
    REFUSED = 5


class BackfillState(enum.IntEnum):
    """Where a backfill is. The numbers are those of the wire and of the stores, for ever."""

    ACTIVE = 1
    DONE = 2
    CANCELLED = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Misfire:
    """What becomes of fires that were missed."""

    policy: MisfirePolicy = MisfirePolicy.LAST
    max_count: int = DEFAULT_CATCH_UP
    """How many ALL makes at most."""
    window: dt.timedelta = DEFAULT_WINDOW
    """What has been due for longer is missed in any case."""


@dataclasses.dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """All that a user says of a schedule. Defaults are filled in."""

    job: JobSpec
    timing: Timing
    description: str = ""
    misfire: Misfire = Misfire()
    overlap: Overlap = Overlap.SKIP
    pause_after_failures: int = 0
    """So many jobs in a row that ended FAILED pause the schedule; 0 is never."""


EDITABLE = frozenset(field.name for field in dataclasses.fields(ScheduleSpec))


@dataclasses.dataclass(frozen=True, slots=True)
class Pause:
    """Why and since when a schedule makes no jobs by itself."""

    reason: str
    since: dt.datetime
    until: dt.datetime | None = None
    """None: until somebody resumes it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Backfill:
    """The jobs of a range of times, made at a rate; and how far that is."""

    start_at: dt.datetime
    end_at: dt.datetime
    """Not part of the range."""
    jobs_per_minute: int
    total_count: int
    created_at: dt.datetime
    due_at: dt.datetime
    """When the next job may be made."""
    state: BackfillState = BackfillState.ACTIVE
    job_count: int = 0
    skipped_count: int = 0
    cursor_at: dt.datetime | None = None
    """All times up to this one are done."""


@dataclasses.dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule as it stands in the store."""

    tenant: str
    schedule_id: str
    spec: ScheduleSpec
    created_at: dt.datetime
    updated_at: dt.datetime
    decided_at: dt.datetime
    """No fire with this nominal time or an earlier one is made by itself any more."""
    edit_version: int = 1
    """Counts the edits of a user; what the etag stands for."""
    next_at: dt.datetime | None = None
    """The nominal time of the next fire."""
    look_at: dt.datetime | None = None
    """When there is something to decide; None is never."""
    pause: Pause | None = None
    judged_from: dt.datetime | None = None
    """Only jobs that ended after it count as failures in a row; None is all."""
    buffered_count: int = 0
    buffered_since: dt.datetime | None = None
    backfill: Backfill | None = None

    @property
    def etag(self) -> str:
        """The version of what a user may edit; opaque to clients."""
        return f"e{self.edit_version:x}"

    @property
    def seed(self) -> str:
        """What the hashes and the jitter of the timing are drawn from."""
        return seed_of(self.tenant, self.schedule_id)


def seed_of(tenant: str, schedule_id: str) -> str:
    """What the hashes and the jitter of a timing are drawn from: the same for a name, for ever."""
    return f"{tenant}/{schedule_id}"


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """What became of a fire, or of several that were missed together."""

    nominal_at: dt.datetime
    """Of the last of them."""
    cause: Cause
    outcome: Outcome
    decided_at: dt.datetime
    message: str = ""
    job_id: str = ""
    count: int = 1
    first_at: dt.datetime | None = None
    """The nominal time of the first of several."""


@dataclasses.dataclass(frozen=True, slots=True)
class Upcoming:
    """A fire that is to come."""

    nominal_at: dt.datetime
    due_at: dt.datetime
    """With jitter."""
    local: str
    """The nominal time as a clock in the zone of the schedule shows it (RFC 3339)."""
    note: str = ""
    """What a change of the clocks did to it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Preview:
    """What a timing means."""

    words: str
    fires: tuple[Upcoming, ...]
