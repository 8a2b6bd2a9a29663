"""An operation: one change of many jobs by a filter, and how far it has come. Frozen values."""

import dataclasses
import datetime as dt
import enum


class Action(enum.IntEnum):
    """What is done to each job. The numbers are those of the wire and of the stores, for ever."""

    CANCEL = 1
    HOLD = 2
    RELEASE = 3
    RETRY = 4
    DELETE = 5
    SET_PRIORITY = 6


class OperationState(enum.IntEnum):
    """Where an operation is. The numbers are those of the wire and of the stores, for ever."""

    RUNNING = 1
    DONE = 2
    CANCELLED = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """A job that was there, in the order of creation; where a walk goes on behind."""

    created_at: dt.datetime
    job_id: str


@dataclasses.dataclass(frozen=True, slots=True)
class BulkChange:
    """What a user asks to be done to many jobs."""

    filter: str
    """The text of a filter, as `str()` of one writes it."""
    action: Action
    priority: int | None = None
    """The new one; given exactly for SET_PRIORITY."""
    reason: str = ""
    """In the user's words."""
    max_per_second: int = 0
    """How many jobs are changed in a second at most; 0 is without a limit."""


@dataclasses.dataclass(frozen=True, slots=True)
class Operation:
    """A change of many jobs, as it is remembered."""

    tenant: str
    operation_id: str
    change: BulkChange
    created_at: dt.datetime
    """Only jobs that were created before are changed."""
    updated_at: dt.datetime
    due_at: dt.datetime
    """When it may go on; behind the last batch by what `max_per_second` asks for."""
    state: OperationState = OperationState.RUNNING
    place: Place | None = None
    """The last job that was looked at; None at the beginning."""
    done_count: int = 0
    """Jobs that were changed."""
    skipped_count: int = 0
    """Jobs whose state does not allow it, or which were so already."""
    failed_count: int = 0
    """Jobs that could not be changed by a fault of ours."""
    ended_at: dt.datetime | None = None

    @property
    def matched_count(self) -> int:
        """For how many jobs the filter held when their turn came."""
        return self.done_count + self.skipped_count + self.failed_count
