"""Fire: the jobs of schedules come to be when they are due."""

import dataclasses
import datetime as dt
from collections.abc import Callable

from jobservice.clock import rfc3339
from jobservice.engine.parts import Parts
from jobservice.engine.submit import new_job
from jobservice.errors import Internal, JobServiceError, StoreFull, Unavailable
from jobservice.model.firing import Decision, Seen, decide, planned, refused
from jobservice.model.ids import RANDOM_BITS, job_id
from jobservice.model.job import NewJob
from jobservice.model.schedule import Outcome, Schedule
from jobservice.store.schedule_port import Decide, Plan, ScheduleKey
from jobservice.telemetry import Logger, logger

BATCH = 4
"""How many schedules are decided about in one transaction: few, so that a submit that comes meanwhile
does not wait long for its turn."""
PLANNED_AT_ONCE = 100
"""How many schedules are planned anew between two reads."""
LONGEST_REST_S = 0.1
LOCKED_ELSEWHERE_S = 0.2
"""How long to wait when something is due and another server has it."""
VARIABLES = "JOBSERVICE_SCHEDULE", "JOBSERVICE_SCHEDULE_TIME"
"""What a job finds in its environment: the name of its schedule, and its nominal time."""


class Fires:
    """The loop that fires what is due. It can be stopped at any point and begun again."""

    def __init__(self, parts: Parts, *, idle_s: float) -> None:
        self._parts = parts
        self._idle_s = idle_s
        self._log: Logger = logger("fire")
        self._is_planned = False

    async def plan_anew(self) -> None:
        """Work out the next fire of every schedule, once after a start.

        The rules of its zone may be others than when it was planned: governments change them, and an
        upgrade brings them. What is overdue stays so.
        """
        store, now, after = self._parts.store, self._parts.clock.now(), ("", "")
        while found := await store.list_all_schedules(after, limit=PLANNED_AT_ONCE):
            for schedule in found:
                if self._next_at(schedule, now) != schedule.next_at:
                    key = ScheduleKey(schedule.tenant, schedule.schedule_id)
                    changed = await store.change_schedule(key, lambda old: planned(old, now))
                    next_at = None if changed is None else changed.next_at
                    self._log.info(
                        "schedule_planned_anew",
                        schedule=key.schedule_id,
                        tenant=key.tenant,
                        was=rfc3339(schedule.next_at),
                        next=rfc3339(next_at),
                    )
            after = found[-1].tenant, found[-1].schedule_id

    def _next_at(self, schedule: Schedule, now: dt.datetime) -> dt.datetime | None:
        """When it fires next; as it is planned where its zone is not known any more."""
        try:
            return planned(schedule, now).next_at
        except ValueError as error:
            self._log.warning("schedule_without_zone", error=str(error), tenant=schedule.tenant)
            return schedule.next_at

    async def fire(self) -> None:
        """Fire a batch of what is due; where there was nothing, wait for the next.

        With more to come, rest for as long as the batch took: half of the time is that of others.
        """
        if not self._is_planned:
            await self.plan_anew()
            self._is_planned = True
        clock = self._parts.clock
        begin_s = clock.monotonic_s()
        count = await self.fire_due()
        if not count:
            await self._wait()
        elif count == BATCH and (took_s := clock.monotonic_s() - begin_s) > 0:
            await clock.sleep(min(took_s, LONGEST_REST_S))

    async def fire_due(self) -> int:
        """Fire a batch of what is due; returns how many schedules were decided about."""
        now = self._parts.clock.now()
        try:
            return await self._fire(lambda seen: decide(seen, now), now, BATCH)
        except (Unavailable, StoreFull):
            raise
        except JobServiceError:
            return await self._fire_each(now)

    async def _fire(
        self, decision_of: Callable[[Seen], Decision], now: dt.datetime, limit: int
    ) -> int:
        parts = self._parts
        plan = planner(parts, now, decision_of)
        fired = await parts.store.fire_due(plan, now=now, limit=limit)
        if any(each.job_ids for each in fired):
            parts.signals.work.ring()
            parts.signals.timers.ring()
            parts.signals.arrays.ring()  # one may be to be stopped for a new job
        stopping = [fence for each in fired for fence in each.stopping]
        if stopping:
            parts.signals.stop(stopping)
        return len(fired)

    async def _fire_each(self, now: dt.datetime) -> int:
        """The same one by one, so that a job that is refused holds up no other schedule."""
        for count in range(BATCH):
            try:
                fired = await self._fire(lambda seen: decide(seen, now), now, 1)
            except (Unavailable, StoreFull):
                raise
            except JobServiceError as error:
                self._log.warning("fire_refused", error=error.message)
                fault = isinstance(error, Internal)
                said = Internal.default_message() if fault else error.message
                fired = await self._fire(_refusing(now, said), now, 1)
            if not fired:
                return count
        return BATCH

    async def _wait(self) -> None:
        """Until the next time, and not for long: the clock may be set meanwhile."""
        clock, bell = self._parts.clock, self._parts.signals.schedules
        look_at = await self._parts.store.next_look_at()
        if look_at is None:
            await bell.wait(clock, self._idle_s)
            return
        left_s = (look_at - clock.now()).total_seconds()
        await bell.wait(clock, min(left_s, self._idle_s) if left_s > 0 else LOCKED_ELSEWHERE_S)


def _refusing(now: dt.datetime, message: str) -> Callable[[Seen], Decision]:
    return lambda seen: refused(decide(seen, now), message, now)


def planner(parts: Parts, now: dt.datetime, decision_of: Callable[[Seen], Decision]) -> Decide:
    """What makes the jobs of a decision. Their ids count up, so that they start in their order."""
    unix_ms = int(now.timestamp() * 1000)

    def plan(seen: Seen) -> Plan:
        decision = decision_of(seen)
        nominals = [
            *decision.released,
            *(run.nominal_at for run in decision.runs if run.outcome is Outcome.FIRED),
        ]
        first = parts.random.getrandbits(RANDOM_BITS - 1)
        return Plan(
            decision,
            tuple(
                job_of(seen.schedule, nominal_at, job_id(unix_ms, first + n), now)
                for n, nominal_at in enumerate(nominals)
            ),
        )

    return plan


def job_of(schedule: Schedule, nominal_at: dt.datetime, identity: str, now: dt.datetime) -> NewJob:
    """The job of a schedule for a nominal time."""
    spec = schedule.spec.job
    shown = nominal_at.isoformat().replace("+00:00", "Z")
    named = dict(zip(VARIABLES, (schedule.schedule_id, shown), strict=True))
    command = dataclasses.replace(spec.command, env={**spec.command.env, **named})
    made = new_job(schedule.tenant, identity, dataclasses.replace(spec, command=command), now)
    return made._replace(schedule=schedule.schedule_id, schedule_at=nominal_at)
