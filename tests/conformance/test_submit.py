"""Submit: what is stored is what was asked for, once for each request id, whole or not at all."""

import asyncio
import datetime as dt

import pytest

from jobservice.errors import Internal
from jobservice.model.event import EventKind
from jobservice.model.lifecycle import State
from jobservice.model.spec import Command, RetryPolicy
from jobservice.store.port import Inserted, Insertion, JobKey, RequestKey, Store
from tests.conformance.values import (
    NOW,
    at,
    changes,
    insert,
    insert_some,
    job,
    key_of,
    new_job,
    states,
)

KEY = RequestKey("request-1", b"\x01" * 32)


async def test_a_new_job_is_queued_as_it_was_asked_for(store: Store) -> None:
    new = new_job(
        command=Command(("tar", "-x"), {"A": "ä", "B": ""}, b"\x00\xff\n", "/srv"),
        name="night ✓ 'import'",
        labels={"team": "data", "x/y": 'qu"ote'},
        queue="bulk",
        priority=-7,
        cluster="local",
        timeout=dt.timedelta(microseconds=1_500_001),
        retry=RetryPolicy(3, dt.timedelta(seconds=0.25), 1.1, dt.timedelta(hours=2), 9),
        stop_grace=dt.timedelta(seconds=3),
        output_limit_bytes=1 << 40,
        idle_timeout=dt.timedelta(microseconds=2_500_001),
    )
    await insert(store, new)
    found = await job(store, new)
    assert found.spec == new.spec
    assert (found.state, found.revision, found.edit_version) == (State.QUEUED, 1, 1)
    assert found.created_at == found.updated_at == NOW
    assert found.attempts == ()
    unset = (found.started_at, found.ended_at, found.start_at, found.progress)
    assert unset == (None, None, None, None)


async def test_what_is_unset_stays_unset(store: Store) -> None:
    [new] = await insert_some(store)
    found = await job(store, new)
    assert found.spec.timeout is None
    assert found.spec.idle_timeout is None
    assert found.spec.command == Command(("/bin/true",))


async def test_a_created_job_is_told(store: Store) -> None:
    [new] = await insert_some(store)
    [change] = await changes(store)
    event = change.event
    assert (event.job_id, event.kind, event.state) == (new.job_id, EventKind.CREATED, State.QUEUED)
    assert (event.revision, event.previous_state, event.at) == (1, None, NOW)


async def test_many_jobs_keep_their_order(store: Store) -> None:
    jobs = await insert_some(store, 1_000)
    found = await store.find_jobs([key_of(each) for each in jobs])
    assert [each.job_id for each in found if each] == [each.job_id for each in jobs]
    assert len(await changes(store)) == 1_000


async def test_nothing_to_insert_is_nothing(store: Store) -> None:
    assert await store.insert_jobs([]) == Inserted(Insertion.CREATED, ())


async def test_a_batch_with_a_fault_creates_nothing(store: Store) -> None:
    first, twice = new_job(), new_job()
    with pytest.raises(Internal):
        await store.insert_jobs([first, twice, twice])
    assert await states(store) == {}
    assert await changes(store) == []


async def test_a_fault_is_the_callers_alone(store: Store) -> None:
    faulty = [new_job() for _ in range(300)]
    others = [new_job() for _ in range(20)]
    calls = [store.insert_jobs([each]) for each in others]
    answers = await asyncio.gather(
        *calls[:10],
        store.insert_jobs([*faulty, faulty[-1]]),
        *calls[10:],
        return_exceptions=True,
    )
    assert [each for each in answers if isinstance(each, BaseException)] == [answers[10]]
    assert set(await states(store)) == {each.job_id for each in others}
    positions = [change.event.job_id for change in await changes(store)]
    assert len(positions) == len(set(positions)) == 20


async def test_a_repeated_request_is_answered_with_the_jobs_of_then(store: Store) -> None:
    jobs = [new_job(), new_job()]
    await store.insert_jobs(jobs, request=KEY)
    again = await store.insert_jobs([new_job(), new_job()], request=KEY)
    ids = tuple(each.job_id for each in jobs)
    expected = Inserted(Insertion.REPEATED, ids, requested_at=jobs[0].created_at)
    assert again == expected
    assert len(await states(store)) == 2


async def test_a_request_id_with_another_body_is_a_conflict(store: Store) -> None:
    first = new_job()
    await store.insert_jobs([first], request=KEY)
    other = RequestKey(KEY.request_id, b"\x02" * 32)
    answer = await store.insert_jobs([new_job()], request=other)
    assert answer == Inserted(Insertion.CONFLICT, (first.job_id,))
    assert len(await states(store)) == 1


async def test_request_ids_belong_to_a_tenant(store: Store) -> None:
    await store.insert_jobs([new_job()], request=KEY)
    answer = await store.insert_jobs([new_job("other")], request=KEY)
    assert answer.insertion is Insertion.CREATED


async def test_one_of_many_concurrent_repeats_creates(store: Store) -> None:
    answers = await asyncio.gather(
        *[store.insert_jobs([new_job()], request=KEY) for _ in range(30)]
    )
    assert [each.insertion for each in answers].count(Insertion.CREATED) == 1
    assert len({each.job_ids for each in answers}) == 1
    assert len(await states(store)) == 1


async def test_tenants_do_not_see_each_other(store: Store) -> None:
    mine, theirs = new_job("mine", at(1)), new_job("theirs", at(2))
    await insert(store, mine)
    await insert(store, theirs)
    assert await store.find_job(JobKey("mine", theirs.job_id)) is None
    assert set(await states(store, "mine")) == {mine.job_id}
    assert await store.find_jobs([JobKey("theirs", mine.job_id), key_of(theirs)]) == [
        None,
        (await store.find_jobs([key_of(theirs)]))[0],
    ]
