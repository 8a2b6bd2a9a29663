"""The part of the store port that is about schedules. The head of `port.py` holds for it too."""

import dataclasses
import datetime as dt
from collections.abc import Callable
from typing import Protocol

from jobservice.model.attempt import Fence
from jobservice.model.firing import Decision, Seen
from jobservice.model.job import NewJob
from jobservice.model.schedule import Run, Schedule

RUNS_KEPT = 1_000
"""How many runs of a schedule are kept; up to RUNS_BETWEEN more until they are dropped together."""
RUNS_BETWEEN = 100


@dataclasses.dataclass(frozen=True, slots=True)
class ScheduleKey:
    """A schedule of a tenant."""

    tenant: str
    schedule_id: str


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """A decision, and the jobs that it makes."""

    decision: Decision
    jobs: tuple[NewJob, ...]
    """For each buffered fire that is released, then for each run that is FIRED, in order."""


Decide = Callable[[Seen], Plan]
"""Pure but for chance, and quick: it runs inside the transaction, and may be run again."""
Change = Callable[[Schedule], Schedule]
"""As `Decide`. What it raises is raised to the caller, and nothing is changed."""
Check = Callable[[Schedule], None]
"""As `Change`, where nothing is to be changed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Fired:
    """What was done about a schedule that was due."""

    key: ScheduleKey
    job_ids: tuple[str, ...]
    stopping: tuple[Fence, ...] = ()
    """The attempts that have to end."""


@dataclasses.dataclass(frozen=True, slots=True)
class SchedulePage:
    """Some schedules, and where the next ones begin."""

    schedules: tuple[Schedule, ...]
    cursor: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class RunPage:
    """Some runs, and where the next ones begin."""

    runs: tuple[Run, ...]
    cursor: str | None


class ScheduleStore(Protocol):
    """The verbs about schedules."""

    async def insert_schedule(self, new: Schedule) -> Schedule | None:
        """Store a new schedule; where there is one of its name, change nothing and return that."""

    async def change_schedule(self, key: ScheduleKey, change: Change) -> Schedule | None:
        """Replace a schedule by what `change` makes of it. None: there is none."""

    async def delete_schedule(self, key: ScheduleKey, check: Check) -> bool:
        """Remove a schedule that `check` lets pass, with its runs. False: there is none."""

    async def fire_due(self, decide: Decide, *, now: dt.datetime, limit: int) -> list[Fired]:
        """Do what `decide` says about schedules whose `look_at` has come, the earliest first.

        The schedule, its runs and its jobs are written together. Schedules that another server is
        looking at are left to it.

        Raises:
            QueueFull, QueueDrained: a queue does not take one of the jobs; nothing was written.
        """

    async def fire_schedule(
        self, key: ScheduleKey, decide: Decide, *, now: dt.datetime
    ) -> Fired | None:
        """Do what `decide` says about one schedule now. None: there is none.

        `made` are the times from `now` on at which it was triggered already.

        Raises:
            QueueFull, QueueDrained: its queue does not take the job; nothing was written.
        """

    async def find_schedule(self, key: ScheduleKey) -> Schedule | None:
        """One schedule."""

    async def list_schedules(self, tenant: str, *, limit: int, cursor: str | None) -> SchedulePage:
        """Schedules by name, behind the one that the cursor names."""

    async def list_all_schedules(self, after: tuple[str, str], *, limit: int) -> list[Schedule]:
        """Schedules of all tenants, by tenant and name, behind one."""

    async def list_schedule_runs(
        self, key: ScheduleKey, *, limit: int, cursor: str | None
    ) -> RunPage:
        """Runs by nominal time, newest first. A cursor that is none raises PageTokenInvalid."""

    async def next_look_at(self) -> dt.datetime | None:
        """The earliest `look_at` of a schedule."""
