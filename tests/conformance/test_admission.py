"""Admission: what a queue does that is full, too old, or drained."""

import asyncio
import datetime as dt
from typing import Any

import pytest

from jobservice.model.event import EventKind
from jobservice.model.job import NewJob
from jobservice.model.lifecycle import Reason, State
from jobservice.model.limit import ConcurrencyKey, OnConflict
from jobservice.model.queue import OnFull, Pause, PauseMode
from jobservice.model.spec import Command
from jobservice.store.port import Inserted, Insertion, Refusal, RequestKey, Store
from jobservice.testing.invariants import check_invariants
from tests.conformance.values import (
    BEGINNING,
    NOW,
    TENANT,
    at,
    changes,
    claim,
    insert,
    job,
    new_job,
    states,
)


async def bound(store: Store, **rules: Any) -> None:
    saved = await store.save_queue(
        TENANT, "default", rules, create=False, edit_version=None, now=NOW
    )
    assert not isinstance(saved, Refusal)


async def submit(store: Store, *jobs: NewJob, **more: Any) -> Inserted:
    return await store.insert_jobs(jobs, **more)


async def test_a_full_queue_refuses_and_creates_nothing(store: Store) -> None:
    await bound(store, max_depth=3)
    await insert(store, new_job(), new_job())
    refused = await submit(store, new_job(), new_job())
    assert (refused.insertion, refused.job_ids, refused.queue) == (
        Insertion.QUEUE_FULL,
        (),
        "default",
    )
    assert refused.bound == "2 of 3 jobs are queued, and 2 more do not fit"
    await insert(store, new_job())
    one = await submit(store, new_job())
    assert (one.insertion, one.bound) == (Insertion.QUEUE_FULL, "3 of 3 jobs are queued")
    assert len(await states(store)) == 3
    await insert(store, new_job(queue="other"))
    await insert(store, new_job("another tenant"))
    await check_invariants(store, beginning=BEGINNING, tenants=(TENANT, "another tenant"))


async def test_what_starts_makes_room(store: Store) -> None:
    await bound(store, max_depth=2)
    await insert(store, new_job(), new_job())
    assert len(await claim(store, 1)) == 1
    await insert(store, new_job())
    assert (await submit(store, new_job())).insertion is Insertion.QUEUE_FULL


async def test_calls_that_come_together_are_counted_together(store: Store) -> None:
    await bound(store, max_depth=5)
    answers = await asyncio.gather(*[submit(store, new_job()) for _ in range(20)])
    kinds = [each.insertion for each in answers]
    assert (kinds.count(Insertion.CREATED), kinds.count(Insertion.QUEUE_FULL)) == (5, 15)


async def test_jobs_that_start_later_come_in(store: Store) -> None:
    await bound(store, max_depth=1)
    await insert(store, new_job())
    await insert(store, new_job(start_after=at(100)))


async def test_an_old_queue_is_full(store: Store) -> None:
    await bound(store, max_age=dt.timedelta(minutes=1))
    await insert(store, new_job())
    await insert(store, new_job(created_at=at(60)))
    refused = await submit(store, new_job(created_at=at(61)))
    assert refused.insertion is Insertion.QUEUE_FULL
    assert refused.bound == "its oldest job has been queued for longer than 60 s"
    await claim(store, 1, now=at(61))
    await insert(store, new_job(created_at=at(61)))


@pytest.mark.parametrize(
    ("on_full", "gone"), [(OnFull.REPLACE_OLDEST, 0), (OnFull.REPLACE_NEWEST, 2)]
)
async def test_a_job_gives_way(store: Store, on_full: OnFull, gone: int) -> None:
    jobs = [new_job(created_at=at(n)) for n in range(3)]
    await insert(store, *jobs)
    await bound(store, max_depth=3, on_full=on_full)
    new = new_job(created_at=at(9))
    await insert(store, new)
    found = await job(store, jobs[gone])
    assert (found.state, found.reason, found.ended_at) == (
        State.SKIPPED,
        Reason.SUPERSEDED,
        at(9),
    )
    assert new.job_id in found.message
    kinds = [each.event.kind for each in (await changes(store))[-2:]]
    assert set(kinds) == {EventKind.SKIPPED, EventKind.CREATED}
    assert sum(state is State.QUEUED for state in (await states(store)).values()) == 3
    await check_invariants(store, beginning=BEGINNING)


async def test_a_batch_that_no_replacement_lets_in_is_refused(store: Store) -> None:
    await bound(store, max_depth=2, on_full=OnFull.REPLACE_OLDEST)
    first = new_job()
    await insert(store, first)
    refused = await submit(store, *[new_job() for _ in range(4)])
    assert refused.insertion is Insertion.QUEUE_FULL
    assert (await job(store, first)).state is State.QUEUED


async def test_replacements_of_calls_that_come_together(store: Store) -> None:
    await bound(store, max_depth=2, on_full=OnFull.REPLACE_OLDEST)
    jobs = [new_job(created_at=at(n)) for n in range(10)]
    await asyncio.gather(*[submit(store, each) for each in jobs])
    found = list((await states(store)).values())
    assert (found.count(State.QUEUED), found.count(State.SKIPPED)) == (2, 8)
    await check_invariants(store, beginning=BEGINNING)


async def test_a_waiting_job_with_the_same_command_stands_for_a_new_one(store: Store) -> None:
    await bound(store, max_depth=3, on_full=OnFull.COALESCE)
    same = Command(("build", "all"), {"A": "b"}, b"in", "/tmp")
    jobs = [new_job(command=same), new_job(created_at=at(1), command=same), new_job()]
    await insert(store, *jobs)
    once = RequestKey("r", b"x")
    stood_for = await submit(store, new_job(command=same), request=once)
    assert (stood_for.insertion, stood_for.job_ids) == (Insertion.STOOD_FOR, (jobs[1].job_id,))
    await claim(store, 10)
    again = await submit(store, new_job(command=same), request=once)
    assert (again.insertion, again.job_ids) == (Insertion.REPEATED, (jobs[1].job_id,))
    await insert(store, *[new_job() for _ in range(3)])
    other = await submit(store, new_job(command=same))
    assert other.insertion is Insertion.QUEUE_FULL


async def test_a_drained_queue_takes_nothing(store: Store) -> None:
    await insert(store, new_job())
    await bound(store, pause=Pause(PauseMode.DRAIN, NOW, until=at(60)))
    refused = await submit(store, new_job())
    assert (refused.insertion, refused.queue) == (Insertion.DRAINED, "default")
    assert len(await claim(store, 10)) == 1
    await insert(store, new_job(created_at=at(60)))
    await bound(store, pause=Pause(PauseMode.HOLD, NOW))
    await insert(store, new_job())


async def test_who_gives_way_lets_go_of_its_key(store: Store) -> None:
    keys = (ConcurrencyKey("k"),)
    held, first, second = [new_job(concurrency_keys=keys, created_at=at(n)) for n in range(3)]
    await insert(store, held, first, second)
    await claim(store, 10)
    assert await claim(store, 10) == []
    await bound(store, max_depth=2, on_full=OnFull.REPLACE_OLDEST)
    await insert(store, new_job(created_at=at(5)))
    assert (await job(store, first)).state is State.SKIPPED
    assert len(await claim(store, 10)) == 1
    await check_invariants(store, beginning=BEGINNING)


async def test_who_is_refused_for_its_key_has_nobody_give_way(store: Store) -> None:
    key = ConcurrencyKey("k", on_conflict=OnConflict.REJECT)
    await insert(store, new_job(queue="elsewhere", concurrency_keys=(key,)), new_job())
    for on_full in (OnFull.REPLACE_OLDEST, OnFull.REPLACE_NEWEST):
        await bound(store, max_depth=1, on_full=on_full)
        refused = await submit(store, new_job(concurrency_keys=(key,)))
        assert refused.insertion is Insertion.KEY_TAKEN
    assert set((await states(store)).values()) == {State.QUEUED}
