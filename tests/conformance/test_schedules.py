"""Schedules: a fire and its job are one transaction, and there is one for each nominal time."""

import asyncio
import dataclasses
import datetime as dt
import random
from typing import Any

import pytest

from jobservice.engine import schedules
from jobservice.engine.finish import settler
from jobservice.errors import (
    EtagMismatch,
    InvalidRequest,
    PageTokenInvalid,
    QueueDrained,
    QueueFull,
    ScheduleExists,
    ScheduleNotFound,
)
from jobservice.model.lifecycle import Reason, State
from jobservice.model.queue import OnFull, Pause, PauseMode
from jobservice.model.schedule import Cause, Misfire, MisfirePolicy, Outcome, Overlap, Run
from jobservice.model.spec import Command, JobSpec, RetryPolicy
from jobservice.model.when import Timing
from jobservice.store.port import JobKey, Refusal, StopRequest, Store
from jobservice.store.schedule_port import RUNS_BETWEEN, RUNS_KEPT, ScheduleKey
from jobservice.testing.clock import START
from tests.conformance.schedules import HOUR, KEY, MINUTE, TRUE, Engine, SetClock, at
from tests.conformance.values import TENANT, claim, insert_some

FIRED, SKIPPED, MISSED, BUFFERED = (
    Outcome.FIRED,
    Outcome.SKIPPED,
    Outcome.MISSED,
    Outcome.BUFFERED,
)
ALL = MisfirePolicy.ALL


@pytest.fixture
async def engine(store: Store) -> Engine:
    return Engine(store)


async def test_a_schedule_makes_a_job_at_each_of_its_times(engine: Engine) -> None:
    command = Command(("/bin/tar", "c"), {"LANG": "C"})
    await engine.create(job=JobSpec(command, name="backup", queue="nights"))
    await engine.fire()
    assert await engine.jobs() == []
    await engine.after(0.999)
    assert await engine.jobs() == []
    await engine.after(0.001)
    [job] = await engine.jobs()
    assert (job.schedule, job.schedule_at, job.state) == ("nightly", at(1), State.QUEUED)
    assert (job.spec.name, job.spec.queue) == ("backup", "nights")
    assert job.spec.command.argv == command.argv
    assert job.spec.command.env == {
        "LANG": "C",
        "JOBSERVICE_SCHEDULE": "nightly",
        "JOBSERVICE_SCHEDULE_TIME": "2030-01-01T00:01:00Z",
    }
    [run] = await engine.runs()
    assert (run.outcome, run.cause, run.job_id) == (FIRED, Cause.TIMER, job.job_id)
    await engine.end_jobs()
    await engine.after(1)
    assert await engine.made() == [1, 2]
    found = await engine.schedule()
    assert (found.decided_at, found.next_at, found.look_at) == (at(2), at(3), at(3))


async def test_a_time_is_fired_once_however_often_it_is_looked_at(engine: Engine) -> None:
    await engine.create(overlap=Overlap.ALLOW)
    engine.clock.advance(60)
    for _ in range(3):
        await engine.fire()
    assert await engine.made() == [1]


@pytest.mark.parametrize("end", ["finish", "cancel", "time out", "replace", "lose"])
async def test_what_waits_for_a_job_is_made_as_soon_as_that_ends(engine: Engine, end: str) -> None:
    store, now = engine.store, engine.clock.now
    job = dataclasses.replace(TRUE, deadline=at(2.5), retry=RetryPolicy(max_lost=1))
    await engine.create(overlap=Overlap.BUFFER_ONE, job=job)
    other = ScheduleKey(TENANT, "other")
    await engine.create(
        key=other, overlap=Overlap.BUFFER_ONE, job=dataclasses.replace(TRUE, queue="q")
    )
    await engine.after(1)
    await engine.after(1)
    await engine.after(0.5)
    assert await engine.outcomes() == [(1, FIRED), (2, BUFFERED)]
    look_at = (await engine.schedule(other)).look_at
    [first] = [each for each in await engine.jobs() if each.spec.queue != "q"]
    if end == "finish":
        await engine.end_jobs()
    elif end == "cancel":
        await store.request_stop([StopRequest(TENANT, first.job_id)], now=now())
    elif end == "time out":
        assert (await store.time_out_jobs(now=at(2.5), limit=10)).count == 1
    elif end == "replace":
        await rule(store, max_depth=1, on_full=OnFull.REPLACE_OLDEST)
        await insert_some(store)
        await rule(store, max_depth=None)
    else:
        await claim(store, 10, now=now(), lease=dt.timedelta(seconds=1))
        engine.clock.advance(1)
        assert await store.expire_leases(settler(now(), random.Random(1)), now=now(), limit=10)
    at_once = await engine.fires.fire_due()
    assert at_once == (2 if end == "finish" else 1)
    assert await engine.outcomes() == [(1, FIRED), (2, FIRED)]
    if at_once == 1:
        assert (await engine.schedule(other)).look_at == look_at


async def rule(store: Store, **rules: Any) -> None:
    saved = await store.save_queue(
        TENANT, "default", rules, create=False, edit_version=None, now=START
    )
    assert not isinstance(saved, Refusal)


async def test_a_full_queue_takes_no_job_of_a_schedule(engine: Engine) -> None:
    await rule(engine.store, max_depth=1)
    await engine.create(overlap=Overlap.ALLOW)
    other = ScheduleKey(TENANT, "other")
    await engine.create(key=other, job=dataclasses.replace(TRUE, queue="free"))
    await engine.after(1)
    await engine.after(1)
    first, refused = await engine.runs()
    assert (first.outcome, refused.outcome) == (FIRED, Outcome.REFUSED)
    assert (refused.message, refused.job_id) == (
        "The queue default is full: 1 of 1 jobs are queued.",
        "",
    )
    assert [run.outcome for run in await engine.runs(other)] == [FIRED, SKIPPED]
    with pytest.raises(QueueFull):
        await schedules.trigger(engine.parts, KEY)
    assert len(await engine.jobs()) == 2
    await engine.end_jobs()
    await engine.after(1)
    assert await engine.outcomes() == [(1, FIRED), (2, Outcome.REFUSED), (3, FIRED)]


async def test_a_drained_queue_takes_no_job_of_a_schedule(engine: Engine) -> None:
    await rule(engine.store, pause=Pause(PauseMode.DRAIN, START))
    await engine.create()
    await engine.after(1)
    [run] = await engine.runs()
    assert (run.outcome, run.message) == (Outcome.REFUSED, "The queue default is being drained.")
    with pytest.raises(QueueDrained):
        await schedules.trigger(engine.parts, KEY)
    assert await engine.jobs() == []


async def test_a_job_of_a_schedule_takes_the_place_of_another(engine: Engine) -> None:
    await rule(engine.store, max_depth=1, on_full=OnFull.REPLACE_OLDEST)
    await engine.create(overlap=Overlap.ALLOW)
    await engine.after(1)
    await engine.after(1)
    first, second = await engine.jobs()
    assert (first.state, first.reason) == (State.SKIPPED, Reason.SUPERSEDED)
    assert (second.state, second.schedule_at) == (State.QUEUED, at(2))
    assert await engine.outcomes() == [(1, FIRED), (2, FIRED)]


async def test_what_waits_for_a_job_of_its_schedule_waits_for_room_too(engine: Engine) -> None:
    await rule(engine.store, max_depth=1)
    await engine.create(overlap=Overlap.BUFFER_ONE)
    await engine.after(1)
    await engine.after(1)
    await engine.end_jobs()
    await insert_some(engine.store)
    await engine.after(0.1)
    await engine.after(0.3)
    assert await engine.outcomes() == [(1, FIRED), (2, BUFFERED)]
    assert (await engine.schedule()).buffered_count == 1
    await engine.end_jobs()
    await engine.after(0.5)
    assert await engine.outcomes() == [(1, FIRED), (2, FIRED)]
    assert (await engine.schedule()).buffered_count == 0


async def test_what_is_made_is_what_was_asked_for(engine: Engine) -> None:
    created = await engine.create(
        Timing(cron="30 2 * * 1", zone="Europe/Berlin", jitter=MINUTE, end_at=at(1e6)),
        description="every week",
        misfire=Misfire(ALL, 3, 2 * HOUR),
        overlap=Overlap.BUFFER_ALL,
        pause_after_failures=2,
        job=dataclasses.replace(
            TRUE, timeout=MINUTE, idle_timeout=2 * MINUTE, labels={"a": "b"}, priority=7
        ),
    )
    assert await engine.schedule() == created
    assert (await engine.store.list_schedules(TENANT, limit=5, cursor=None)).schedules == (created,)


async def test_a_create_that_is_repeated_changes_nothing_and_another_one_is_refused(
    engine: Engine,
) -> None:
    created = await engine.create()
    engine.clock.advance(30)
    assert await engine.create() == created
    with pytest.raises(ScheduleExists, match="nightly already, with another timing, overlap"):
        await engine.create(Timing(every=HOUR), overlap=Overlap.ALLOW)
    assert await engine.schedule() == created


async def test_schedules_are_listed_by_name_in_pages(engine: Engine) -> None:
    names = [f"s{n}" for n in range(5)]
    for name in reversed(names):
        await engine.create(key=ScheduleKey(TENANT, name))
    await engine.create(key=ScheduleKey("another", "x"))
    found, cursor = [], None
    while True:
        page = await engine.store.list_schedules(TENANT, limit=2, cursor=cursor)
        found += [each.schedule_id for each in page.schedules]
        cursor = page.cursor
        if cursor is None:
            break
    assert found == names


async def test_a_schedule_of_another_tenant_is_none(engine: Engine) -> None:
    await engine.create()
    key = ScheduleKey("another", "nightly")
    with pytest.raises(ScheduleNotFound):
        await schedules.get_schedule(engine.parts, key)
    with pytest.raises(ScheduleNotFound):
        await schedules.trigger(engine.parts, key)
    with pytest.raises(ScheduleNotFound):
        await schedules.delete(engine.parts, key, etag="", allow_missing=False)


# --- missed -----------------------------------------------------------------------------------


async def test_after_three_hours_away_the_last_fire_is_made_and_the_gap_recorded(
    engine: Engine,
) -> None:
    await engine.create()
    await engine.after(1)
    await engine.end_jobs()
    await engine.after(180)
    assert await engine.made() == [1, 181]
    _, gap, last = await engine.runs()
    assert (gap.outcome, gap.count, gap.first_at, gap.nominal_at) == (MISSED, 179, at(2), at(180))
    assert gap.message == "not made in time; due 1 minute ago"
    assert last.outcome is FIRED


async def test_all_makes_the_newest_within_its_window(engine: Engine) -> None:
    await engine.create(misfire=Misfire(ALL, 100, 5 * MINUTE), overlap=Overlap.ALLOW)
    await engine.after(180)
    assert await engine.made() == [175, 176, 177, 178, 179, 180]
    assert (await engine.runs())[0].count == 174
    await engine.create(
        key=ScheduleKey(TENANT, "other"), misfire=Misfire(ALL, 2), overlap=Overlap.ALLOW
    )
    await engine.after(180)
    assert (await engine.made())[-2:] == [359, 360]


async def test_skip_makes_none_that_is_late(engine: Engine) -> None:
    await engine.create(Timing(every=HOUR), misfire=Misfire(MisfirePolicy.SKIP))
    await engine.after(62)
    assert await engine.outcomes() == [(60, MISSED)]
    await engine.after(58.5)
    assert await engine.outcomes() == [(60, MISSED), (120, FIRED)]


async def test_a_gap_of_a_year_costs_no_more_than_one_of_an_hour(engine: Engine) -> None:
    await engine.create(Timing(every=MINUTE / 60))
    await engine.after(365 * 24 * 60)
    gap, last = await engine.runs()
    assert (gap.outcome, gap.count) == (MISSED, 999)
    assert gap.message.endswith("with others before the first")
    assert last.outcome is FIRED
    assert len(await engine.jobs()) == 1


async def test_a_clock_that_is_set_back_fires_no_time_again(engine: Engine) -> None:
    await engine.create(overlap=Overlap.ALLOW)
    await engine.after(1)
    await engine.after(1)
    engine.clock.set_by = -HOUR
    for _ in range(10):
        await engine.after(7)
    made = await engine.made()
    assert made[:2] == [1, 2]
    assert len(made) == len(set(made))
    assert min(made[2:]) > 2


async def test_a_clock_that_is_set_forward_follows_the_misfire_rule(engine: Engine) -> None:
    await engine.create(misfire=Misfire(ALL, 3), overlap=Overlap.ALLOW)
    await engine.after(1)
    engine.clock.set_by = HOUR
    await engine.fire()
    assert await engine.made() == [1, 59, 60, 61]
    engine.clock.set_by = HOUR * 0
    await engine.after(30)
    assert await engine.made() == [1, 59, 60, 61]


# --- overlap ----------------------------------------------------------------------------------


async def test_skip_leaves_out_what_is_due_while_a_job_is_active(engine: Engine) -> None:
    await engine.create()
    for _ in range(3):
        await engine.after(1)
    assert await engine.outcomes() == [(1, FIRED), (2, SKIPPED), (3, SKIPPED)]
    assert (await engine.runs())[1].message == "a job of the schedule is not final"
    await engine.end_jobs()
    await engine.after(1)
    assert await engine.made() == [1, 4]


async def test_a_job_on_hold_or_between_attempts_is_active(engine: Engine) -> None:
    await engine.create()
    await engine.after(1)
    [job] = await engine.jobs()
    await engine.store.hold_job(JobKey(TENANT, job.job_id), now=engine.clock.now())
    await engine.after(1)
    assert await engine.made() == [1]


async def test_buffer_one_keeps_the_first_until_the_job_has_ended(engine: Engine) -> None:
    await engine.create(overlap=Overlap.BUFFER_ONE)
    for _ in range(3):
        await engine.after(1)
    assert await engine.outcomes() == [(1, FIRED), (2, BUFFERED), (3, SKIPPED)]
    assert (await engine.schedule()).buffered_count == 1
    await engine.end_jobs()
    await engine.after(0.5)
    assert await engine.made() == [1, 2]
    assert (await engine.schedule()).buffered_count == 0
    assert (await engine.outcomes())[:2] == [(1, FIRED), (2, FIRED)]
    await engine.end_jobs()
    await engine.after(0.5)
    assert await engine.made() == [1, 2, 4]


async def test_buffer_all_makes_every_fire_one_after_the_other(engine: Engine) -> None:
    await engine.create(Timing(every=MINUTE, end_at=at(5)), overlap=Overlap.BUFFER_ALL)
    for _ in range(5):
        await engine.after(1)
    assert (await engine.schedule()).buffered_count == 3
    assert (await engine.schedule()).next_at is None
    for count in range(2, 5):
        await engine.end_jobs()
        await engine.after(1)
        assert await engine.made() == list(range(1, count + 1))
    assert (await engine.schedule()).look_at is None


async def test_cancel_other_ends_what_is_active(engine: Engine) -> None:
    heard: list[object] = []
    engine.parts.signals.stops.append(heard.extend)
    await engine.create(overlap=Overlap.CANCEL_OTHER)
    await engine.after(1)
    await engine.after(1)
    first, second = await engine.jobs()
    assert (first.state, first.reason) == (State.CANCELLED, Reason.USER)
    [claimed] = await claim(engine.store, now=engine.clock.now())
    assert claimed.fence.job_id == second.job_id
    await engine.after(1)
    _, second, third = await engine.jobs()
    assert (second.state, third.state) == (State.STOPPING, State.QUEUED)
    assert heard == [claimed.fence]


async def test_allow_makes_it_all_the_same(engine: Engine) -> None:
    await engine.create(overlap=Overlap.ALLOW)
    for _ in range(3):
        await engine.after(1)
    assert await engine.made() == [1, 2, 3]


# --- pause, failures --------------------------------------------------------------------------


async def test_a_pause_leaves_out_what_is_due_and_a_resume_goes_on_from_then(
    engine: Engine,
) -> None:
    await engine.create()
    paused = await schedules.pause(engine.parts, KEY, reason="flood", until=None)
    assert paused.pause is not None
    assert (paused.pause.reason, paused.next_at, paused.look_at) == ("flood", None, None)
    await engine.after(10)
    assert await engine.runs() == []
    again = await schedules.resume(engine.parts, KEY)
    assert (again.pause, again.next_at) == (None, at(11))
    await engine.after(1)
    assert await engine.outcomes() == [(11, FIRED)]


async def test_a_pause_until_an_instant_ends_by_itself(engine: Engine) -> None:
    await engine.create()
    with pytest.raises(InvalidRequest, match="must be in the future"):
        await schedules.pause(engine.parts, KEY, reason="", until=START)
    await schedules.pause(engine.parts, KEY, reason="", until=at(5))
    await engine.after(4)
    assert await engine.runs() == []
    await engine.after(1)
    assert await engine.outcomes() == [(5, FIRED)]
    assert (await engine.schedule()).pause is None


async def test_failures_in_a_row_pause_the_schedule(engine: Engine) -> None:
    await engine.create(pause_after_failures=2)
    for exit_code in (1, 0, 1):
        await engine.after(1)
        await engine.end_jobs(exit_code)
    await engine.after(1)
    await engine.cancel_jobs()  # counts neither way
    await engine.after(1)
    await engine.end_jobs(1)
    assert len(await engine.jobs()) == 5
    await engine.after(1)
    paused = (await engine.schedule()).pause
    assert paused is not None
    assert (paused.reason, paused.since) == ("2 jobs in a row failed", at(6))
    assert len(await engine.jobs()) == 5
    await schedules.resume(engine.parts, KEY)
    await engine.after(1)
    await engine.end_jobs(1)
    await engine.after(1)
    assert await engine.made() == [1, 2, 3, 4, 5, 7, 8]


# --- trigger ----------------------------------------------------------------------------------


async def test_a_trigger_makes_a_job_at_once_whatever_else_is(engine: Engine) -> None:
    await engine.create()
    await schedules.pause(engine.parts, KEY, reason="", until=None)
    first = await schedules.trigger(engine.parts, KEY)
    second = await schedules.trigger(engine.parts, KEY)
    assert (first.schedule, first.schedule_at) == ("nightly", START)
    assert first.job_id != second.job_id
    runs = await engine.runs()
    assert [(run.cause, run.outcome) for run in runs] == [(Cause.TRIGGER, FIRED)] * 2
    assert {run.job_id for run in runs} == {first.job_id, second.job_id}


async def test_a_trigger_at_the_very_time_of_a_fire_does_not_take_its_place(
    engine: Engine,
) -> None:
    await engine.create(overlap=Overlap.ALLOW)
    engine.clock.advance(60)
    await schedules.trigger(engine.parts, KEY)
    await engine.fire()
    assert await engine.made() == [1, 1]


# --- update, delete ---------------------------------------------------------------------------


async def test_an_update_with_another_timing_goes_on_from_now(engine: Engine) -> None:
    created = await engine.create(Timing(every=HOUR))
    engine.clock.advance(90 * 60)
    updated = await schedules.update(
        engine.parts, KEY, {"timing": Timing(every=MINUTE)}, etag=created.etag
    )
    assert updated.next_at == at(91)
    await engine.after(1)
    assert await engine.outcomes() == [(91, FIRED)]
    with pytest.raises(EtagMismatch):
        await schedules.update(engine.parts, KEY, {"description": "x"}, etag=created.etag)
    later = await schedules.update(engine.parts, KEY, {"description": "x"}, etag=updated.etag)
    assert (later.spec.description, later.decided_at) == ("x", at(91))


async def test_a_deleted_schedule_is_gone_and_its_jobs_stay(engine: Engine) -> None:
    created = await engine.create()
    await engine.after(1)
    with pytest.raises(EtagMismatch):
        await schedules.delete(engine.parts, KEY, etag="e9", allow_missing=False)
    await schedules.delete(engine.parts, KEY, etag=created.etag, allow_missing=False)
    assert await engine.runs() == []
    assert len(await engine.jobs()) == 1
    await engine.after(1)
    assert len(await engine.jobs()) == 1
    await schedules.delete(engine.parts, KEY, etag="", allow_missing=True)


# --- runs -------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_runs_are_listed_in_pages_and_the_newest_are_kept(engine: Engine) -> None:
    await engine.create(
        Timing(every=MINUTE), misfire=Misfire(ALL, 100, 3 * HOUR), overlap=Overlap.ALLOW
    )
    for _ in range(13):
        await engine.after(100)
    runs = await engine.runs()
    assert RUNS_KEPT <= len(runs) <= RUNS_KEPT + RUNS_BETWEEN
    assert runs[-1].nominal_at == at(1300)
    found: list[Run] = []
    cursor = None
    while True:
        page = await engine.store.list_schedule_runs(KEY, limit=170, cursor=cursor)
        found += page.runs
        cursor = page.cursor
        if cursor is None:
            break
    assert found == runs[::-1]
    with pytest.raises(PageTokenInvalid):
        await engine.store.list_schedule_runs(KEY, limit=5, cursor="x")


# --- several servers, faults ------------------------------------------------------------------


async def test_many_schedules_that_are_due_at_once_are_fired_in_batches(engine: Engine) -> None:
    keys = [ScheduleKey(TENANT, f"s{n:03}") for n in range(120)]
    for key in keys:
        await engine.create(key=key)
    engine.clock.advance(60)
    assert await engine.fires.fire_due() < 120
    await engine.fire()
    assert sorted(job.schedule for job in await engine.jobs()) == [key.schedule_id for key in keys]
    assert await engine.store.next_look_at() == at(2)


async def test_two_loops_over_one_store_fire_each_time_once(store: Store) -> None:
    clock = SetClock()
    engines = [Engine(store, clock, seed) for seed in (1, 2)]
    keys = [ScheduleKey(TENANT, f"s{n}") for n in range(40)]
    for key in keys:
        await engines[0].create(key=key, overlap=Overlap.ALLOW)
    for _ in range(5):
        clock.advance(60)
        await asyncio.gather(*[engine.fire() for engine in engines])
    jobs = await engines[0].jobs()
    made = {(job.schedule, job.schedule_at) for job in jobs}
    assert len(made) == len(jobs) == len(keys) * 5


async def test_a_decision_that_fails_leaves_everything_as_it_was(engine: Engine) -> None:
    await engine.create()
    engine.clock.advance(60)

    def fault(_: object) -> None:
        raise RuntimeError("in the middle of a fire")

    with pytest.raises(RuntimeError):
        await engine.store.fire_due(fault, now=engine.clock.now(), limit=10)  # type: ignore[arg-type]
    assert await engine.jobs() == []
    await engine.fire()
    assert await engine.made() == [1]
