"""Schedules for the tests of a store: an engine over it, whose clock is moved by hand."""

import dataclasses
import datetime as dt
import random
from typing import Any

from jobservice.engine import schedules
from jobservice.engine.fire import Fires
from jobservice.engine.parts import Parts, Signals
from jobservice.model.job import Job
from jobservice.model.lifecycle import FINAL, State
from jobservice.model.schedule import Cause, Outcome, Overlap, Run, Schedule, ScheduleSpec
from jobservice.model.spec import Command, JobSpec
from jobservice.model.when import Timing
from jobservice.store.port import JobQuery, Order, StopRequest, Store
from jobservice.store.schedule_port import ScheduleKey
from jobservice.testing.clock import START, JumpClock
from tests.conformance.values import TENANT, claim, end, finish, start

MINUTE = dt.timedelta(minutes=1)
HOUR = dt.timedelta(hours=1)
EACH_MINUTE = Timing(every=MINUTE)
KEY = ScheduleKey(TENANT, "nightly")
TRUE = JobSpec(Command(("/bin/true",)))


class SetClock(JumpClock):
    """One that can be set, too, as the clock of a host is."""

    def __init__(self) -> None:
        super().__init__()
        self.set_by = dt.timedelta(0)

    def now(self) -> dt.datetime:
        return super().now() + self.set_by


def at(minutes: float) -> dt.datetime:
    """So many minutes after the tests' beginning of time."""
    return START + minutes * MINUTE


class Engine:
    """The use cases of schedules over a store. Several may share a store, or have one each."""

    def __init__(self, store: Store, clock: SetClock | None = None, seed: int = 1) -> None:
        self.clock = clock or SetClock()
        self.store = store
        self.parts = Parts(store, self.clock, random.Random(seed), Signals())
        self.fires = Fires(self.parts, idle_s=60)

    async def create(
        self,
        timing: Timing = EACH_MINUTE,
        key: ScheduleKey = KEY,
        job: JobSpec = TRUE,
        **rules: Any,
    ) -> Schedule:
        spec = ScheduleSpec(job, timing, **rules)
        return await schedules.create(self.parts, schedules.new_schedule(self.parts, key, spec))

    async def fire(self) -> int:
        """Do all that is due now."""
        count = 0
        while fired := await self.fires.fire_due():
            count += fired
        return count

    async def after(self, minutes: float) -> None:
        """Let time pass, and do what is due then."""
        self.clock.advance(minutes * 60)
        await self.fire()

    async def schedule(self, key: ScheduleKey = KEY) -> Schedule:
        return await schedules.get_schedule(self.parts, key)

    async def runs(self, key: ScheduleKey = KEY) -> list[Run]:
        """Every run, the oldest nominal time first."""
        page = await self.store.list_schedule_runs(key, limit=10_000, cursor=None)
        assert page.cursor is None
        return list(page.runs)[::-1]

    async def outcomes(self, key: ScheduleKey = KEY) -> list[tuple[float, Outcome]]:
        """Of every run, with its minute."""
        return [((run.nominal_at - START) / MINUTE, run.outcome) for run in await self.runs(key)]

    async def jobs(self) -> list[Job]:
        """Every job, oldest first."""
        query = JobQuery(TENANT, Order.CREATED_ASC, frozenset(State), full=True)
        page = await self.store.list_jobs(query, limit=10_000, cursor=None)
        return list(page.jobs)

    async def made(self) -> list[float]:
        """The minutes that jobs were made for, in the order of their creation."""
        return [(job.schedule_at - START) / MINUTE for job in await self.jobs() if job.schedule_at]

    async def end_jobs(self, exit_code: int = 0) -> None:
        """Have every job that waits run to its end."""
        now = self.clock.now()
        fences = [each.fence for each in await claim(self.store, 1_000, now=now)]
        await start(self.store, *fences, started_at=now)
        ends = [end(fence, exit_code, ended_at=now) for fence in fences]
        await finish(self.store, *ends, now=now)

    async def cancel_jobs(self) -> None:
        jobs = [job for job in await self.jobs() if job.state not in FINAL]
        stops = [StopRequest(TENANT, job.job_id) for job in jobs]
        await self.store.request_stop(stops, now=self.clock.now())


def without_jobs(run: Run) -> Run:
    """A run as it is with any job."""
    return dataclasses.replace(run, job_id="")


__all__ = ["Cause", "Outcome", "Overlap"]
