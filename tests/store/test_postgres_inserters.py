"""New jobs over connections of their own: what waits for what, and what does not."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from jobservice.model.job import NewJob
from jobservice.model.lifecycle import State
from jobservice.model.limit import ConcurrencyKey
from jobservice.model.spec import Dependency
from jobservice.model.unique import UniqueKey
from jobservice.store.port import Insertion, RequestKey
from jobservice.store.postgres.inserters import CONNECTIONS, LARGE
from jobservice.store.postgres.store import PostgresStore
from tests.conformance.values import (
    NOW,
    TENANT,
    claim,
    end,
    finish,
    insert,
    insert_some,
    key_of,
    new_job,
)

DIGEST = b"\1" * 32


@pytest.fixture
def store(postgres_store: PostgresStore) -> PostgresStore:
    return postgres_store


@pytest.fixture
async def other(store: PostgresStore) -> AsyncIterator[asyncpg.Connection]:
    """Somebody who remembers requests of ours, and does not say whether that is to be."""
    connection = await asyncpg.connect(store._writers[0]._url)
    await connection.execute("BEGIN")
    yield connection
    await connection.close()


async def stuck(
    store: PostgresStore, other: asyncpg.Connection, name: str, jobs: list[NewJob]
) -> "asyncio.Future[Insertion]":
    """A submit that PostgreSQL does not get on with until `other` ends its transaction."""
    await other.execute(
        "INSERT INTO requests (tenant, request_id, digest, job_ids, created_us)"
        " VALUES ($1, $2, $3, '[]', 0)",
        TENANT, name, DIGEST,
    )  # fmt: skip

    async def submit() -> Insertion:
        return (await store.insert_jobs(jobs, request=RequestKey(name, DIGEST))).insertion

    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'transactionid'"
    watcher = await asyncpg.connect(store._writers[0]._url)
    before = await watcher.fetchval(waits)
    future = asyncio.ensure_future(submit())
    while await watcher.fetchval(waits) == before:
        pass
    await watcher.close()
    return future


async def test_nothing_waits_behind_large_submits(
    store: PostgresStore, other: asyncpg.Connection
) -> None:
    [job] = await insert_some(store)
    large = [[new_job() for _ in range(LARGE)] for _ in range(CONNECTIONS)]
    futures = [await stuck(store, other, f"r{n}", jobs) for n, jobs in enumerate(large)]
    [claimed] = await claim(store)
    assert claimed.fence.job_id == job.job_id
    await insert(store, new_job(concurrency_keys=(ConcurrencyKey("k"),)))
    await insert(store, new_job(job_type="t"))
    await insert(store, new_job(unique_key=UniqueKey("u")))
    await insert(store, new_job(dependencies=(Dependency(job.job_id),)))
    await finish(store, end(claimed.fence))
    found = await store.find_job(key_of(job))
    assert found is not None
    assert found.state is State.SUCCEEDED
    assert not any(each.done() for each in futures)
    await other.execute("ROLLBACK")
    assert await asyncio.gather(*futures) == [Insertion.CREATED] * CONNECTIONS


async def test_one_large_submit_leaves_the_other_connection_to_the_next_one(
    store: PostgresStore, other: asyncpg.Connection
) -> None:
    future = await stuck(store, other, "r", [new_job() for _ in range(LARGE)])
    await insert(store, *[new_job() for _ in range(LARGE)])
    assert not future.done()
    await other.execute("COMMIT")  # the request is another's
    assert await future is Insertion.REPEATED


async def test_what_a_queue_may_refuse_waits_its_turn_behind_the_writer(
    store: PostgresStore, other: asyncpg.Connection
) -> None:
    await store.save_queue(
        TENANT, "bounded", {"max_depth": LARGE}, create=True, edit_version=None, now=NOW
    )
    keyed = [new_job(concurrency_keys=(ConcurrencyKey("k"),))]
    future = await stuck(store, other, "r", keyed)
    many = [new_job(queue="bounded") for _ in range(LARGE)]
    bounded = asyncio.ensure_future(store.insert_jobs(many))
    for _ in range(CONNECTIONS):  # the connection that it went by at first has got on since
        await insert_some(store, LARGE)
    assert not bounded.done()
    await other.execute("ROLLBACK")
    assert await future is Insertion.CREATED
    assert (await bounded).insertion is Insertion.CREATED
    assert (await store.insert_jobs([new_job(queue="bounded")])).insertion is Insertion.QUEUE_FULL


async def test_a_request_that_is_sent_twice_at_once_makes_its_jobs_once(
    store: PostgresStore,
) -> None:
    request = RequestKey("r", DIGEST)
    twice = [[new_job() for _ in range(LARGE)] for _ in range(2)]
    first, second = await asyncio.gather(
        *[store.insert_jobs(jobs, request=request) for jobs in twice]
    )
    assert {first.insertion, second.insertion} == {Insertion.CREATED, Insertion.REPEATED}
    assert first.job_ids == second.job_ids
    assert len(await claim(store, 1_000)) == LARGE
