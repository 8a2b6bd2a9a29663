"""What is remembered of everything that happens to a job, and how changes are told in order."""

import dataclasses
import datetime as dt
import enum

from jobservice.model.job import Progress
from jobservice.model.lifecycle import Reason, State


class EventKind(enum.IntEnum):
    """What happened. The numbers are those of the wire and of the stores, for ever."""

    CREATED = 1
    DUE = 2
    CLAIMED = 3
    UNCLAIMED = 4
    STARTED = 5
    PROGRESS = 6
    RETRYING = 7
    LOST = 8
    STOPPING = 9
    SUCCEEDED = 10
    FAILED = 11
    CANCELLED = 12
    RETRIED = 13
    UPDATED = 14
    DELETED = 15
    HELD = 16
    RELEASED = 17
    SKIPPED = 18
    UNBLOCKED = 19
    REOPENED = 20
    MOVED = 21
    OPENED = 22
    """The turn of an array came."""


UNNUMBERED = frozenset({EventKind.PROGRESS, EventKind.DELETED})
"""Kinds that carry the number of the event before them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a job.

    The events of a job are numbered by `revision`, from 1 without gaps. PROGRESS and DELETED are no
    transitions: they carry the number of the event before them; of progress only the newest is
    kept, and a DELETED one outlives its job for seven days.
    """

    tenant: str
    job_id: str
    revision: int
    kind: EventKind
    state: State
    """From then on."""
    at: dt.datetime
    previous_state: State | None = None
    reason: Reason = Reason.NONE
    message: str = ""
    attempt: int = 0
    exit_code: int | None = None
    signal: int | None = None
    start_at: dt.datetime | None = None
    """When a job that waits for its next attempt becomes due."""
    progress: Progress | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """An event and its place among all changes of the store."""

    position: str
    """Opaque, and only the store compares it: database sequences are not in commit order."""
    event: Event
