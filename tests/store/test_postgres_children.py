"""PostgreSQL: jobs depend on others while several servers end, insert and retry them at once."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from jobservice.model.graph import Condition, OnUnmet, Rule
from jobservice.model.lifecycle import State
from jobservice.store.port import StopRequest
from jobservice.store.postgres.store import PostgresStore
from jobservice.testing.invariants import check_invariants
from tests.conformance.families import after, on
from tests.conformance.values import (
    BEGINNING,
    TENANT,
    at,
    end,
    finish,
    insert,
    key_of,
    run,
    starts,
    states,
)
from tests.postgres import Databases

SERVERS = 3


@pytest.fixture
async def stores(postgres: Databases) -> AsyncIterator[list[PostgresStore]]:
    """What several servers have open; afterwards, once all are told, every invariant holds."""
    url = await postgres.lend()
    opened = [await PostgresStore.open(url) for _ in range(SERVERS)]
    yield opened
    await tell(opened)
    await check_invariants(opened[0], beginning=BEGINNING)
    for store in opened:
        await store.close()
    await postgres.take_back(url)


async def tell(stores: list[PostgresStore]) -> None:
    """All servers sweep until nobody has anything left to tell."""
    while any(await asyncio.gather(*[s.settle_children(now=at(50), limit=10) for s in stores])):
        pass


async def test_no_end_is_missed_by_jobs_that_come_meanwhile(stores: list[PostgresStore]) -> None:
    for _ in range(15):
        [parent] = await run(stores[0])
        children = [after(on(parent, each)) for each in Condition for _ in range(4)]
        inserts = [stores[n % SERVERS].insert_jobs([child]) for n, child in enumerate(children)]
        await asyncio.gather(*inserts[:6], finish(stores[2], end(parent)), *inserts[6:])
        await tell(stores)
        found = await states(stores[0])
        for child in children:
            failed = child.spec.dependencies[0].condition is Condition.FAILED
            expected = State.SKIPPED if failed else State.QUEUED
            assert found[child.job_id] is expected
        stops = [StopRequest(TENANT, each.job_id) for each in children]
        await stores[0].request_stop(stops, now=at(20))


async def test_ends_on_several_servers_are_all_counted(stores: list[PostgresStore]) -> None:
    for _ in range(5):
        parents = await run(stores[0], 12)
        ids = [each.job_id for each in parents]
        children = [after(*ids) for _ in range(8)]
        last = after(*children)
        await insert(stores[0], *children, last)
        await asyncio.gather(
            *[finish(stores[n % SERVERS], end(each)) for n, each in enumerate(parents)]
        )
        await tell(stores)
        found = await states(stores[0])
        assert {found[each.job_id] for each in children} == {State.QUEUED}
        stops = [StopRequest(TENANT, each.job_id) for each in children]
        await stores[0].request_stop(stops, now=at(20))


async def test_ends_on_several_servers_bring_a_start_forward(stores: list[PostgresStore]) -> None:
    for _ in range(5):
        parents = await run(stores[0], 9)
        delays = [on(each, delay_s=300 + 60 * n) for n, each in enumerate(parents)]
        children = [after(*delays, rule=Rule.ANY) for _ in range(4)]
        children += [after(*delays, rule=Rule.AT_LEAST, at_least=2) for _ in range(4)]
        await insert(stores[0], *children)
        ends = [
            finish(stores[n % SERVERS], end(each), now=at(10))
            for n, each in reversed(list(enumerate(parents)))
        ]
        await asyncio.gather(*ends)
        await tell(stores)
        assert await starts(stores[0], *children) == [at(310)] * 4 + [at(370)] * 4
        stops = [StopRequest(TENANT, each.job_id) for each in children]
        await stores[0].request_stop(stops, now=at(20))


async def test_ends_retries_and_releases_meet(stores: list[PostgresStore]) -> None:
    parents = await run(stores[0], 6)
    ids = [each.job_id for each in parents]
    children = [after(*ids[n : n + 3], on_unmet=OnUnmet.HOLD) for n in range(4)]
    below = [after(each) for each in children]
    await insert(stores[0], *children, *below)
    ends = [finish(stores[n % SERVERS], end(each, n % 2)) for n, each in enumerate(parents)]
    holds = [
        stores[n % SERVERS].hold_job(key_of(each), now=at(9)) for n, each in enumerate(children)
    ]
    await asyncio.gather(*ends, *holds)
    for _ in range(5):
        retries = [
            stores[n % SERVERS].retry_job(key_of(each), now=at(21))
            for n, each in enumerate(parents)
        ]
        stops = [
            stores[(n + 1) % SERVERS].request_stop([StopRequest(TENANT, each)], now=at(22))
            for n, each in enumerate(ids)
        ]
        releases = [
            stores[(n + 2) % SERVERS].release_job(key_of(each), now=at(23))
            for n, each in enumerate(children)
        ]
        await asyncio.gather(*retries, *stops, *releases)
    await tell(stores)
