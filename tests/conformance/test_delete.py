"""Delete and forget: what goes, what stays, and for how long."""

import pytest

from jobservice.errors import ResumeTokenExpired
from jobservice.model.event import EventKind
from jobservice.model.job import Progress
from jobservice.model.lifecycle import State
from jobservice.store.port import (
    Insertion,
    JobKey,
    ProgressReport,
    RequestKey,
    StopRequest,
    Store,
)
from tests.conformance.values import (
    BEGINNING,
    at,
    changes,
    end,
    ended,
    finish,
    insert_some,
    job,
    key_of,
    new_job,
    run,
    states,
)


async def unwanted(store: Store, *keys: JobKey) -> None:
    stops = [StopRequest(key.tenant, key.job_id, delete=True) for key in keys]
    await store.request_stop(stops, now=at(20))


async def test_a_deleted_job_is_gone_but_for_a_tombstone(store: Store) -> None:
    [kept] = await insert_some(store, name="kept")
    fences = await run(store, 2)
    report = ProgressReport(fences[1], Progress(3.0, "x", None, at(3)))
    await store.record_progress([report])
    await finish(store, *[end(each) for each in fences])
    key = key_of(fences[1])
    await unwanted(store, key)
    assert await store.delete_jobs([key], now=at(30)) == [True]
    assert await store.find_job(key) is None
    assert await store.find_jobs([key]) == [None]
    assert key.job_id not in await states(store)
    left = [each.event for each in await changes(store) if each.event.job_id == key.job_id]
    [event] = left
    assert (event.kind, event.state, event.at) == (EventKind.DELETED, State.SUCCEEDED, at(30))
    assert event.revision == 4
    assert await store.list_deletable(limit=10) == []
    await job(store, kept)
    await job(store, fences[0])


async def test_only_unwanted_final_jobs_are_deleted(store: Store) -> None:
    [finished] = await ended(store)
    [running] = await run(store)
    await unwanted(store, key_of(running))
    keys = [key_of(finished), key_of(running), JobKey("other", finished.job_id)]
    assert await store.delete_jobs(keys, now=at(30)) == [False, False, False]
    assert len(await states(store)) == 2


async def test_a_job_is_deleted_once(store: Store) -> None:
    [fence] = await ended(store)
    key = key_of(fence)
    await unwanted(store, key)
    assert await store.delete_jobs([key, key], now=at(30)) == [True, False]
    assert await store.delete_jobs([key], now=at(31)) == [False]
    kinds = [each.event.kind for each in await changes(store)]
    assert kinds == [EventKind.DELETED]


async def test_many_jobs_are_deleted_together(store: Store) -> None:
    fences = await ended(store, 300)
    keys = [key_of(each) for each in fences]
    await unwanted(store, *keys)
    assert len(await store.list_deletable(limit=200)) == 200
    assert await store.delete_jobs(keys, now=at(30)) == [True] * 300
    assert await states(store) == {}
    assert {each.event.kind for each in await changes(store)} == {EventKind.DELETED}


async def test_the_request_id_of_a_deleted_job_makes_no_new_one(store: Store) -> None:
    new, request = new_job(), RequestKey("r", b"1")
    await store.insert_jobs([new], request=request)
    await unwanted(store, key_of(new))
    await store.delete_jobs([key_of(new)], now=at(30))
    again = await store.insert_jobs([new_job()], request=request)
    assert (again.insertion, again.job_ids) == (Insertion.REPEATED, (new.job_id,))
    assert await states(store) == {}


async def test_old_request_ids_are_forgotten(store: Store) -> None:
    for n in range(5):
        await store.insert_jobs([new_job(created_at=at(n))], request=RequestKey(f"r{n}", b"1"))
    assert await store.forget(before=at(3), limit=2) == 2
    assert await store.forget(before=at(3), limit=2) == 1
    assert await store.forget(before=at(3), limit=2) == 0
    insertions = [
        (await store.insert_jobs([new_job()], request=RequestKey(f"r{n}", b"1"))).insertion
        for n in range(5)
    ]
    created, repeated = Insertion.CREATED, Insertion.REPEATED
    assert insertions == [created, created, created, repeated, repeated]
    assert len(await states(store)) == 8


async def test_a_forgotten_tombstone_expires_the_tokens_before_it(store: Store) -> None:
    fences = await ended(store, 2)
    before = await store.head_position()
    await unwanted(store, *[key_of(each) for each in fences])
    await store.delete_jobs([key_of(fences[0])], now=at(30))
    between = await store.head_position()
    await store.delete_jobs([key_of(fences[1])], now=at(40))
    assert len(await changes(store, before)) == 2
    assert await store.forget(before=at(35), limit=10) == 1
    for token in (BEGINNING, before):
        with pytest.raises(ResumeTokenExpired):
            await store.list_changes(token, limit=10)
    [change] = await changes(store, between)
    assert change.event.job_id == fences[1].job_id


async def test_positions_go_on_when_all_was_forgotten(store: Store) -> None:
    [fence] = await ended(store)
    await unwanted(store, key_of(fence))
    await store.delete_jobs([key_of(fence)], now=at(30))
    head = await store.head_position()
    assert await store.forget(before=at(31), limit=10) == 1
    assert await store.head_position() == head
    [new] = await insert_some(store)
    [change] = await changes(store, head)
    assert change.event.job_id == new.job_id
