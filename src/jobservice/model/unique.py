"""Unique keys: which other job is in the way of a new one, and what becomes of the new one then."""

import dataclasses
import datetime as dt
import enum

from jobservice.model.lifecycle import ACTIVE, State


class UniqueScope(enum.IntEnum):
    """Where a key is looked for. The numbers are those of the wire."""

    TENANT = 1
    """Among all jobs of the tenant."""
    QUEUE = 2
    """Among the jobs that are in the queue of the new one."""


class OnDuplicate(enum.IntEnum):
    """What becomes of a new job when another one counts. The numbers are those of the wire."""

    RETURN_EXISTING = 1
    """The other stands for it; nothing is created."""
    REJECT = 2
    """It is refused."""
    REPLACE = 3
    """Others that wait end SKIPPED, and it is created; where one does not wait, it is refused."""


@dataclasses.dataclass(frozen=True, slots=True)
class UniqueKey:
    """What makes a job one of a kind. All but the name is about the new job alone."""

    key: str
    scope: UniqueScope = UniqueScope.TENANT
    window: dt.timedelta | None = None
    """For how long after its creation another job counts; None is without a limit."""
    states: tuple[State, ...] = ()
    """In which another job counts; empty is every one that is not final."""
    on_duplicate: OnDuplicate = OnDuplicate.RETURN_EXISTING

    @property
    def counted(self) -> frozenset[State]:
        """The states in which another job counts, written out."""
        return frozenset(self.states) or ACTIVE
