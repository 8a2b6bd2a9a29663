"""Fires: once for each nominal time, whoever is killed and however many servers there are."""

import asyncio
import datetime as dt
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from jobservice.engine import schedules
from jobservice.errors import Internal, InvalidTransition
from jobservice.failpoints import VARIABLE
from jobservice.model.firing import Seen
from jobservice.model.lifecycle import State
from jobservice.model.schedule import Outcome, Overlap
from jobservice.store.postgres.store import PostgresStore
from jobservice.store.schedule_port import Decide, Fired, Plan, ScheduleKey
from jobservice.store.sqlite.store import SqliteStore
from jobservice.testing.invariants import check_invariants
from tests.conformance.schedules import KEY, Engine, SetClock, at
from tests.conformance.values import BEGINNING, TENANT
from tests.postgres import Databases

ROOT = Path(__file__).parents[2]
MANY = [ScheduleKey(TENANT, f"s{n:02}") for n in range(30)]
"""More than one transaction fires."""


def fire(path: Path, failpoint: str = "") -> int:
    """Have another process fire what is due; its exit code."""
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    if failpoint:
        environment[VARIABLE] = failpoint
    command = [sys.executable, "-m", "tests.store.firing_child", str(path)]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("name", ["store.before_commit", "store.after_commit"])
async def test_a_kill_in_the_middle_of_a_fire_makes_none_twice_and_loses_none(
    path: Path, name: str, passes: int
) -> None:
    store = await SqliteStore.open(path)
    engine = Engine(store)
    for key in MANY:
        await engine.create(key=key)
    await store.close()
    assert fire(path, f"{name}@{passes}") == -signal.SIGKILL
    assert fire(path) == 0
    assert fire(path) == 0
    store = await SqliteStore.open(path)
    made = Counter(job.schedule for job in await Engine(store).jobs())
    assert made == {key.schedule_id: 1 for key in MANY}
    for key in MANY:
        assert await Engine(store).outcomes(key) == [(1, Outcome.FIRED)]
    await check_invariants(store, beginning=BEGINNING)
    await store.close()


async def test_two_servers_on_one_database_fire_each_time_once(postgres: Databases) -> None:
    url = await postgres.lend()
    stores = [await PostgresStore.open(url) for _ in range(2)]
    clock = SetClock()
    engines = [Engine(store, clock, seed) for seed, store in enumerate(stores)]
    for n, key in enumerate(MANY):
        policy = (Overlap.ALLOW, Overlap.SKIP, Overlap.CANCEL_OTHER, Overlap.BUFFER_ALL)[n % 4]
        await engines[0].create(key=key, overlap=policy)
    for minute in range(1, 7):
        clock.advance(60)
        others = schedules.trigger(engines[minute % 2].parts, MANY[minute])
        await asyncio.gather(*[engine.fire() for engine in engines], others)
        while any(
            [(await engine.store.next_look_at() or at(1e6)) <= clock.now() for engine in engines]
        ):
            await asyncio.gather(*[engine.fire() for engine in engines])
        await engines[0].end_jobs(random.Random(minute).randrange(2))
    jobs = await engines[0].jobs()
    times = Counter((job.schedule, job.schedule_at) for job in jobs)
    triggered = {(MANY[minute].schedule_id, at(minute)) for minute in range(1, 7)}
    assert all(count == 1 or (which in triggered and count == 2) for which, count in times.items())
    for n, key in enumerate(MANY):
        decided = [minute for minute, _ in await engines[1].outcomes(key)]
        assert sorted(set(decided)) == [1, 2, 3, 4, 5, 6]
        if n % 4 == 0:
            assert {at(minute) for minute in range(1, 7)} <= {
                job.schedule_at for job in jobs if job.schedule == key.schedule_id
            }
    await check_invariants(stores[0], beginning=BEGINNING)
    for store in stores:
        await store.close()
    await postgres.take_back(url)


async def test_who_comes_second_changes_nothing(postgres: Databases) -> None:
    """The key of the runs holds even where a server decides upon what is over."""
    url = await postgres.lend()
    store = await PostgresStore.open(url)
    engine = Engine(store)
    before = await engine.create(overlap=Overlap.ALLOW)
    await engine.after(1)
    await store.change_schedule(KEY, lambda _: before)
    await engine.fire()
    assert await engine.made() == [1]
    refused, fired = await engine.runs()
    assert (refused.outcome, fired.outcome) == (Outcome.REFUSED, Outcome.FIRED)
    assert refused.message == Internal.default_message()
    await store.close()
    await postgres.take_back(url)


async def test_a_job_that_is_refused_holds_up_no_other_schedule(store: SqliteStore) -> None:
    engine = Engine(store)
    for key in MANY[:5]:
        await engine.create(key=key)
    whole = store.fire_due

    async def refusing(decide: Decide, *, now: dt.datetime, limit: int) -> list[Fired]:
        def plan(seen: Seen) -> Plan:
            found = decide(seen)
            if found.jobs and seen.schedule.schedule_id == "s02":
                raise InvalidTransition("no room", state=State.QUEUED.name, trigger="create")
            return found

        return await whole(plan, now=now, limit=limit)

    store.fire_due = refusing  # type: ignore[method-assign]
    await engine.after(1)
    assert {job.schedule for job in await engine.jobs()} == {"s00", "s01", "s03", "s04"}
    [run] = await engine.runs(MANY[2])
    assert (run.outcome, run.message) == (Outcome.REFUSED, "no room")
    assert (await engine.schedule(MANY[2])).next_at == at(2)
