"""The writer: group commit, its limits, and what happens while another holds the database."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from jobservice.errors import DeadlineExceeded, Internal, LimitExceeded, StoreUnavailable
from jobservice.model.lifecycle import State
from jobservice.store.port import JobKey, JobQuery, Order, StopRequest
from jobservice.store.sqlite import writer
from jobservice.store.sqlite.store import SqliteStore
from jobservice.testing.invariants import check_invariants
from tests.conformance.values import (
    TENANT,
    at,
    claim,
    end,
    finish,
    insert,
    key_of,
    new_job,
    settle,
    start,
    states,
)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another connection has the write lock."""
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


async def reached(fact: "asyncio.Future[None]") -> None:
    async with asyncio.timeout(10):
        await fact


async def taken(store: SqliteStore) -> None:
    """The writer has begun with all that waited, and waits for a lock itself."""
    loop = asyncio.get_running_loop()
    fact: asyncio.Future[None] = loop.create_future()

    def look() -> None:
        if store._writer._queue.qsize() == 0:
            fact.set_result(None)
        else:
            loop.call_later(0.001, look)

    loop.call_soon(look)
    await reached(fact)


async def test_calls_that_wait_are_committed_together(store: SqliteStore) -> None:
    commits = 0

    def count() -> None:
        nonlocal commits
        commits += 1

    store.on_commit(count)
    await asyncio.gather(*[store.insert_jobs([new_job()]) for _ in range(400)])
    assert len(await states(store)) == 400
    assert commits <= 40


async def test_no_call_is_answered_before_its_commit(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    before_commit: asyncio.Future[None] = loop.create_future()
    may_go_on = threading.Event()

    def halt(place: str) -> None:
        if place == "store.before_commit":
            loop.call_soon_threadsafe(before_commit.set_result, None)
            may_go_on.wait(10)

    monkeypatch.setattr(writer, "failpoint", halt)
    call = asyncio.ensure_future(store.insert_jobs([new_job()]))
    await reached(before_commit)
    answered = (await asyncio.wait([call], timeout=0.01))[0]
    may_go_on.set()
    await call
    assert not answered


async def test_a_faulty_call_leaves_nothing_behind(store: SqliteStore, path: Path) -> None:
    """Not even rows that no verb would show: the first statements of the call had succeeded."""
    faulty = [new_job() for _ in range(300)]
    with locked(path):
        first = asyncio.ensure_future(store.insert_jobs([new_job()]))
        await taken(store)
        others = [asyncio.ensure_future(store.insert_jobs([new_job()])) for _ in range(9)]
        last = asyncio.ensure_future(store.insert_jobs([*faulty, faulty[-1]]))
        assert not (await asyncio.wait([last], timeout=0.01))[0]
    await asyncio.gather(first, *others)
    with pytest.raises(Internal):
        await last
    for table in ("jobs", "job_specs", "events"):
        assert store._readers._here.execute(f"SELECT count(*) FROM {table}").get == 10


async def test_one_thread_writes(store: SqliteStore) -> None:
    writers = [each.name for each in threading.enumerate() if each.name == "store-writer"]
    assert writers == ["store-writer"]
    await store.close()
    assert "store-writer" not in [each.name for each in threading.enumerate()]


async def test_too_many_waiting_calls_are_refused(path: Path) -> None:
    store = await SqliteStore.open(path, waiting_limit=10)
    with locked(path):
        calls = [asyncio.ensure_future(store.insert_jobs([new_job()])) for _ in range(25)]
        answers = await asyncio.gather(*calls[10:], return_exceptions=True)
        assert [type(each) for each in answers] == [LimitExceeded] * 15
    await asyncio.gather(*calls[:10])
    assert len(await states(store)) == 10
    await insert(store, new_job())
    await store.close()


async def test_a_lock_of_another_process_refuses_in_time(path: Path) -> None:
    store = await SqliteStore.open(path)
    await insert(store, new_job())
    loop = asyncio.get_running_loop()
    with locked(path):
        began = loop.time()
        answers = await asyncio.gather(
            *[store.insert_jobs([new_job()]) for _ in range(20)], return_exceptions=True
        )
        assert {type(each) for each in answers} == {StoreUnavailable}
        assert loop.time() - began < 5
        assert len(await states(store)) == 1
    await insert(store, new_job())
    assert len(await states(store)) == 2
    await store.close()


async def test_a_call_that_waited_too_long_is_taken_back(path: Path) -> None:
    store = await SqliteStore.open(path, deadline_s=0.3)
    begun, queued = new_job(), new_job()
    with locked(path):
        first = asyncio.ensure_future(store.insert_jobs([begun]))
        await taken(store)
        with pytest.raises(StoreUnavailable):
            await store.insert_jobs([queued])
        with pytest.raises(DeadlineExceeded):
            await first
    await insert(store, new_job())
    found = await states(store)
    assert begun.job_id in found
    assert queued.job_id not in found
    await store.close()


async def test_a_caller_that_gave_up_in_the_queue_changes_nothing(path: Path) -> None:
    store = await SqliteStore.open(path)
    begun, given_up = new_job(), new_job()
    with locked(path):
        first = asyncio.ensure_future(store.insert_jobs([begun]))
        await taken(store)
        second = asyncio.ensure_future(store.insert_jobs([given_up]))
        assert not (await asyncio.wait([second], timeout=0.01))[0]
        second.cancel()
    await first
    await insert(store, new_job())
    assert given_up.job_id not in await states(store)
    await store.close()


async def test_closing_commits_what_waits(path: Path) -> None:
    store = await SqliteStore.open(path)
    calls = [asyncio.ensure_future(store.insert_jobs([new_job()])) for _ in range(100)]
    assert not (await asyncio.wait(calls, timeout=0))[0]
    await store.close()
    await asyncio.gather(*calls)
    with pytest.raises(StoreUnavailable):
        await store.insert_jobs([new_job()])
    with pytest.raises(StoreUnavailable):
        await store.find_job(JobKey(TENANT, "j"))
    with pytest.raises(StoreUnavailable):
        await states(store)
    await store.close()
    again = await SqliteStore.open(path)
    assert len(await states(again)) == 100
    await again.close()


async def test_nothing_is_left_beside_the_file(path: Path) -> None:
    store = await SqliteStore.open(path)
    await insert(store, new_job())
    await store.close()
    assert [each.name for each in path.parent.iterdir()] == [path.name]


async def test_the_log_is_written_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobservice.store.sqlite.writer.CHECKPOINT_PAGES", 50)
    store = await SqliteStore.open(path)
    for _ in range(60):
        await insert(store, *[new_job(name="x" * 256) for _ in range(20)])
    assert pages(path.with_name(f"{path.name}-wal")) < 200
    assert pages(path) > 50
    await store.close()


def pages(file: Path) -> float:
    return file.stat().st_size / 4096


async def mixed_work(store: SqliteStore, number: int) -> AsyncIterator[None]:
    """One client's steps, none of which may fail."""
    now = at(number)
    for n in range(25):
        jobs = [new_job(created_at=at(n)) for _ in range(2)]
        await insert(store, *jobs)
        yield
        given = await claim(store, 2, worker_id=f"w{number}", now=now)
        await start(store, *[each.fence for each in given])
        yield
        await store.extend_leases([each.fence for each in given], lease_until=at(1_000))
        await store.list_live(f"w{number}")
        await finish(store, *[end(each.fence, n % 3) for each in given])
        yield
        await store.request_stop([StopRequest(TENANT, jobs[0].job_id, n % 2 == 0)], now=now)
        await store.find_job(key_of(jobs[1]))
        await store.delete_jobs([key_of(jobs[0])], now=now)
        await store.list_changes(await store.head_position(), limit=10)
        await store.release_due(now=now, limit=10)
        await store.expire_leases(settle, now=now, limit=1)
        yield


async def test_sixteen_clients_see_no_busy_database(store: SqliteStore) -> None:
    beginning = await store.head_position()

    async def client(number: int) -> None:
        newest = JobQuery(TENANT, Order.CREATED_DESC, frozenset(State))
        async for _ in mixed_work(store, number):
            assert (await store.list_jobs(newest, limit=5, cursor=None)).jobs

    await asyncio.gather(*[client(number) for number in range(16)])
    await check_invariants(store, beginning=beginning)
    assert State.RUNNING not in (await states(store)).values()
