"""Delete and forget: what goes, what stays, and for how long."""

import pytest

from jobservice.errors import ResumeTokenExpired
from jobservice.model.event import EventKind
from jobservice.model.job import Progress
from jobservice.model.lifecycle import State
from jobservice.model.spec import RetryPolicy
from jobservice.model.worker import WorkerInfo
from jobservice.store.port import (
    Insertion,
    JobKey,
    ProgressReport,
    RequestKey,
    StopRequest,
    Store,
)
from jobservice.store.sqlite.store import SqliteStore
from tests.conformance.values import (
    BEGINNING,
    at,
    changes,
    claim,
    end,
    ended,
    finish,
    insert_some,
    job,
    key_of,
    new_job,
    run,
    seconds,
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
    first = await store.list_deletable(limit=200)
    rest = await store.list_deletable(limit=200, after=first[-1].key)
    assert [each.key.job_id for each in first + rest] == sorted(each.job_id for each in keys)
    assert len(first) == 200
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


# --- files that are left with other servers -------------------------------------------------------


async def ran_by(store: Store, *workers: str) -> JobKey:
    """A job that each of some workers had an attempt of; the last one succeeded, and it is unwanted."""
    [new] = await insert_some(store, retry=RetryPolicy(max_attempts=len(workers)))
    for n, worker_id in enumerate(workers):
        await store.release_due(now=at(20 * n), limit=10)
        [held] = await claim(store, worker_id=worker_id, now=at(20 * n))
        is_last = n + 1 == len(workers)
        await finish(store, end(held.fence, int(not is_last)), now=at(20 * n + 10))
    await unwanted(store, key_of(new))
    return key_of(new)


async def servers(store: Store, *names: str) -> Store:
    """The store of the first of these servers, which leads; a worker elsewhere is there too."""
    for name in names:
        await store.register_worker(WorkerInfo(name, embedded=True), now=at(0))
    await store.register_worker(WorkerInfo("remote"), now=at(0))
    return store.led(await store.take_lead(names[0], 0, lease=seconds(600)))


async def left(
    store: Store, worker_id: str, after: str = "", limit: int = 10
) -> list[tuple[str, int]]:
    return await store.list_left_files(worker_id, after=after, limit=limit)


def has_one_server(store: Store) -> bool:
    return isinstance(store, SqliteStore)


async def test_a_delete_notes_what_is_left_with_other_servers(store: Store) -> None:
    leads = await servers(store, "a", "b", "c")
    mixed = await ran_by(store, "b", "a", "b", "remote", "c", "unknown")
    own = await ran_by(store, "a", "remote")
    assert await left(store, "b") == [], "nothing before the delete"
    assert await leads.delete_jobs([mixed, own], now=at(500)) == [True, True]
    found = {name: await left(store, name) for name in ("a", "b", "c", "remote", "unknown")}
    if has_one_server(store):
        assert not any(found.values())
        return
    there = {"b": [(mixed.job_id, 3)], "c": [(mixed.job_id, 5)]}
    assert found == {"a": [], "remote": [], "unknown": [], **there}
    await store.forget_left_files("b", [mixed.job_id, own.job_id])
    assert await left(store, "b") == []
    assert await left(store, "c") == [(mixed.job_id, 5)]
    await store.forget_left_files("b", [mixed.job_id])


async def test_a_delete_that_is_refused_notes_nothing(store: Store) -> None:
    leads = await servers(store, "a", "b")
    [new] = await insert_some(store, retry=RetryPolicy(max_attempts=2))
    [held] = await claim(store, worker_id="b")
    await finish(store, end(held.fence, 1))
    assert await leads.delete_jobs([key_of(new)], now=at(30)) == [False]
    assert await left(store, "b") == []


async def test_what_is_left_is_listed_in_pages(store: Store) -> None:
    leads = await servers(store, "a", "b")
    keys = [await ran_by(store, "b") for _ in range(5)]
    await leads.delete_jobs(keys, now=at(500))
    names = [] if has_one_server(store) else sorted(key.job_id for key in keys)
    assert await left(store, "b", limit=2) == [(name, 1) for name in names[:2]]
    assert await left(store, "b", names[1] if names else "", limit=9) == [
        (name, 1) for name in names[2:]
    ]


async def test_what_is_left_with_a_forgotten_worker_is_forgotten_too(store: Store) -> None:
    leads = await servers(store, "a", "b", "c")
    keys = [await ran_by(store, name) for name in ("b", "c")]
    await leads.delete_jobs(keys, now=at(500))
    for name in ("a", "c", "remote"):
        await store.note_contact(name, now=at(900))
    assert await leads.forget_workers(before=at(900)) == 1
    await store.register_worker(WorkerInfo("b", embedded=True), now=at(901))
    assert await left(store, "b") == []
    assert await left(store, "c") == ([] if has_one_server(store) else [(keys[1].job_id, 1)])
