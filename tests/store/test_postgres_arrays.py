"""PostgreSQL: arrays that several servers move on, retry, stop and delete at once."""

import asyncio
import collections
import random
from collections.abc import AsyncIterator, Awaitable

import asyncpg
import pytest

from jobservice.model.array import ArrayCounts, ArraySpec
from jobservice.model.ids import RANDOM_BITS
from jobservice.model.job import Job, NewJob
from jobservice.model.lifecycle import FINAL, State
from jobservice.model.queue import Move
from jobservice.store.port import JobQuery, Order, StopRequest
from jobservice.store.postgres.store import PostgresStore
from jobservice.testing.invariants import check_invariants
from tests.conformance.values import (
    BEGINNING,
    TENANT,
    at,
    claim,
    end,
    finish,
    insert,
    job,
    key_of,
    new_job,
    start,
    states,
)
from tests.postgres import Databases

SERVERS = 3
RANDOM = random.Random(11)


@pytest.fixture
async def url(postgres: Databases) -> AsyncIterator[str]:
    """An empty database."""
    lent = await postgres.lend()
    yield lent
    await postgres.take_back(lent)


@pytest.fixture
async def stores(url: str) -> AsyncIterator[list[PostgresStore]]:
    """What several servers have open; afterwards every invariant holds."""
    opened = [await PostgresStore.open(url) for _ in range(SERVERS)]
    yield opened
    await check_invariants(opened[0], beginning=BEGINNING)
    for store in opened:
        await store.close()


async def settle(store: PostgresStore, now: float = 10) -> None:
    """One look at all arrays."""
    after: tuple[str, str] | None = ("", "")
    while after is not None:
        bits = RANDOM.getrandbits(RANDOM_BITS - 1)
        after = (await store.settle_arrays(after, now=at(now), randomness=bits)).after


async def indices(store: PostgresStore, array: NewJob) -> list[Job]:
    query = JobQuery(TENANT, Order.CREATED_ASC, frozenset(State))
    page = await store.list_jobs(query, limit=10_000, cursor=None)
    found = {
        each.index.index: each
        for each in page.jobs
        if each.index and each.index.array_job_id == array.job_id
    }
    return [found[n] for n in sorted(found)]


async def run_once(store: PostgresStore, count: int, code: int = 0, now: float = 10) -> None:
    claims = await claim(store, count, now=at(now))
    assert len(claims) == count
    await start(store, *[each.fence for each in claims])
    await finish(store, *[end(each.fence, code) for each in claims], now=at(now))


async def failed(store: PostgresStore, size: int) -> NewJob:
    """An array whose indices have all failed, counted but for the last."""
    array = new_job(array=ArraySpec(size))
    await insert(store, array)
    assert await claim(store, size) == []
    await settle(store)
    await run_once(store, size, 1)
    return array


class Held:
    """A transaction of somebody else that has a job locked."""

    def __init__(self, url: str, held: Job) -> None:
        self._url, self._job_id = url, held.job_id

    async def __aenter__(self) -> None:
        self._connection = await asyncpg.connect(self._url)
        await self._connection.execute("BEGIN")
        await self._connection.execute(
            "SELECT 1 FROM jobs WHERE job_id = $1 FOR UPDATE", self._job_id
        )

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()


async def test_an_index_that_another_changes_is_run_again_all_the_same(
    url: str, stores: list[PostgresStore]
) -> None:
    array = await failed(stores[0], 3)
    await settle(stores[0])
    await stores[0].retry_job(key_of(array), now=at(20))
    assert await claim(stores[0], 3, now=at(20)) == []
    held = (await indices(stores[0], array))[1]
    async with Held(url, held):
        await settle(stores[0], 20)
        await settle(stores[0], 20)
    for _ in range(2):
        await settle(stores[0], 20)
    await run_once(stores[0], 3, now=20)
    await settle(stores[0], 20)
    found = await job(stores[0], array)
    assert (found.state, found.array_counts) == (State.SUCCEEDED, ArrayCounts(3, 3, 0, 0))


async def test_an_index_that_another_changes_is_named_all_the_same(
    url: str, stores: list[PostgresStore]
) -> None:
    array = new_job(array=ArraySpec(2))
    await insert(stores[0], array)
    assert await claim(stores[0], 2) == []
    await settle(stores[0])
    await run_once(stores[0], 1, 1)
    await settle(stores[0])
    await run_once(stores[0], 1, 1)
    first, _ = await indices(stores[0], array)
    async with Held(url, first):
        await settle(stores[0])
    found = await job(stores[0], array)
    assert found.message == "2 of 2 indices did not succeed: 0, 1"


async def test_servers_that_want_arrays_and_their_indices_at_once(
    stores: list[PostgresStore], capsys: pytest.CaptureFixture[str]
) -> None:
    """Locked in other orders, the index first and then its array, they would be deadlocks."""
    for _ in range(15):
        array = await failed(stores[0], 4)
        found = await indices(stores[0], array)
        keys = [key_of(each) for each in found]
        stops = [StopRequest(TENANT, key.job_id) for key in keys]
        both = [StopRequest(TENANT, array.job_id, delete=True), *stops]
        calls: list[Awaitable[object]] = [stores[2].retry_job(key, now=at(20)) for key in keys]
        calls += [stores[n % 2].retry_job(key, now=at(20)) for n, key in enumerate(keys)]
        calls += [settle(store, 20) for store in stores]
        calls += [stores[1].request_stop(both, now=at(20))]
        await asyncio.gather(*RANDOM.sample(calls, len(calls)))
        await asyncio.gather(*[settle(store, 30) for store in stores for _ in range(3)])
    assert "deadlock" not in capsys.readouterr().out


class Servers:
    """Several servers that do all that may be done to arrays, at the same time."""

    def __init__(self, stores: list[PostgresStore], arrays: list[NewJob]) -> None:
        self.stores = stores
        self.arrays = arrays
        self.claimed: collections.Counter[str] = collections.Counter()
        self.retried: collections.Counter[str] = collections.Counter()

    async def run(self, rounds: int) -> None:
        await asyncio.gather(*[self._serve(n, rounds) for n in range(len(self.stores))])

    async def work(self, server: int, count: int, codes: list[int]) -> int:
        store = self.stores[server]
        claims = await claim(store, count, worker_id=f"w{server}", now=at(10))
        self.claimed.update(each.fence.job_id for each in claims)
        await start(store, *[each.fence for each in claims])
        ends = [end(each.fence, RANDOM.choice(codes)) for each in claims]
        assert None not in await finish(store, *ends)
        return len(claims)

    async def _serve(self, server: int, rounds: int) -> None:
        for _ in range(rounds):
            await asyncio.gather(
                settle(self.stores[server]),
                self.work(server, 7, [0, 0, 1]),
                *[self._meddle(server) for _ in range(3)],
            )

    async def _meddle(self, server: int) -> None:
        store = self.stores[server]
        found = await indices(store, RANDOM.choice(self.arrays))
        if not found:
            return
        chosen = RANDOM.choice([each for each in found if each.state in FINAL] or found)
        if isinstance(await store.retry_job(key_of(chosen), now=at(10)), Job):
            self.retried[chosen.job_id] += 1
        key = key_of(RANDOM.choice(found))
        if RANDOM.random() < 0.3:
            await store.hold_job(key, now=at(10))
            await store.release_job(key, now=at(10))
            await store.move_job(key, Move.TOP, None, now=at(10))

    async def end(self) -> None:
        """Let everything come to its end."""
        for _ in range(200):
            work = [self.work(n, 20, [0, 1]) for n in range(len(self.stores))]
            await asyncio.gather(*work, *[settle(store) for store in self.stores])
            if all([(await job(self.stores[0], each)).state in FINAL for each in self.arrays]):
                return
        pytest.fail("arrays never end")


@pytest.mark.timeout(120)
async def test_several_servers_move_arrays_on(
    stores: list[PostgresStore], capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = ArraySpec(60), ArraySpec(60, max_parallel=3), ArraySpec(60, max_failures=60)
    arrays = [new_job(array=kind) for kind in kinds * 2]
    await insert(stores[0], *arrays)
    servers = Servers(stores, arrays)
    await servers.run(15)
    await check_invariants(stores[0], beginning=BEGINNING)
    await servers.end()
    assert sum(servers.retried.values()) > 20
    for array in arrays:
        found = await indices(stores[0], array)
        assert len(found) == 60
        ends = [each.state for each in found]
        counts = ArrayCounts(60, ends.count(State.SUCCEEDED), ends.count(State.FAILED), 0)
        assert (await job(stores[0], array)).array_counts == counts
        for each in found:
            ran = servers.claimed[each.job_id], each.attempt_count
            assert ran == (1 + servers.retried[each.job_id],) * 2
    assert "deadlock" not in capsys.readouterr().out


async def collect(store: PostgresStore) -> None:
    """What the collector does, once."""
    found = await store.list_deletable(limit=100)
    await store.delete_jobs([each.key for each in found], now=at(40))


@pytest.mark.timeout(120)
async def test_several_servers_stop_retry_and_delete_arrays(
    stores: list[PostgresStore], capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = [new_job(array=ArraySpec(1_500)) for _ in range(4)]
    await insert(stores[0], *arrays)
    servers = Servers(stores, arrays)
    for _ in range(3):
        await servers.run(2)
        for array in arrays:
            stop = StopRequest(TENANT, array.job_id)
            calls: list[Awaitable[object]] = [
                store.request_stop([stop], now=at(10)) for store in stores
            ]
            calls += [store.retry_job(key_of(array), now=at(10)) for store in stores]
            await asyncio.gather(*calls, *[settle(store) for store in stores])
    deletes = [StopRequest(TENANT, each.job_id, delete=True) for each in arrays]
    await asyncio.gather(servers.run(2), stores[1].request_stop(deletes, now=at(10)))
    for _ in range(200):
        await asyncio.gather(*[servers.work(n, 20, [0]) for n in range(SERVERS)])
        await asyncio.gather(*[each(store) for store in stores for each in (settle, collect)])
        if not await states(stores[0]):
            break
    assert not await states(stores[0])
    assert "deadlock" not in capsys.readouterr().out
