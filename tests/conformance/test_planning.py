"""Schedules after a start: planned anew, for the rules of their zones may be others."""

import dataclasses

from jobservice.engine import schedules
from jobservice.model.schedule import Outcome, Overlap, Schedule
from jobservice.model.when import Timing
from jobservice.store.port import Store
from jobservice.store.schedule_port import ScheduleKey
from tests.conformance.schedules import HOUR, Engine, at
from tests.conformance.values import TENANT


async def test_other_rules_of_a_zone_move_what_was_planned(store: Store) -> None:
    engine = Engine(store)
    nightly = Timing(cron="30 3 * * *", zone="Europe/Berlin")
    keys = [ScheduleKey(tenant, "s") for tenant in ("a", "b")]
    right = [await engine.create(nightly, key=key) for key in keys]

    def by_older_rules(schedule: Schedule) -> Schedule:
        assert schedule.next_at is not None
        assert schedule.look_at is not None
        return dataclasses.replace(
            schedule, next_at=schedule.next_at + HOUR, look_at=schedule.look_at + HOUR
        )

    for key in keys:
        await store.change_schedule(key, by_older_rules)
    await Engine(store, engine.clock).fires.plan_anew()
    assert [await engine.schedule(key) for key in keys] == right


async def test_what_was_missed_meanwhile_is_still_due(store: Store) -> None:
    engine = Engine(store)
    await engine.create(Timing(every=HOUR))
    engine.clock.advance(3.5 * 3_600)
    again = Engine(store, engine.clock)
    await again.fires.plan_anew()
    await again.fire()
    assert [run.outcome for run in await engine.runs()] == [Outcome.MISSED, Outcome.FIRED]


async def test_what_is_planned_rightly_stays_as_it_is(store: Store) -> None:
    engine = Engine(store)
    await engine.create(overlap=Overlap.BUFFER_ALL)
    await engine.create(key=ScheduleKey(TENANT, "paused"))
    await schedules.pause(engine.parts, ScheduleKey(TENANT, "paused"), reason="", until=None)
    await engine.create(Timing(at=at(5)), key=ScheduleKey(TENANT, "once"))
    for _ in range(7):
        await engine.after(1)
    engine.clock.advance(20)
    before = await store.list_all_schedules(("", ""), limit=10)
    await Engine(store, engine.clock).fires.plan_anew()
    assert await store.list_all_schedules(("", ""), limit=10) == before
