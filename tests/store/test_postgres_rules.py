"""Servers on one PostgreSQL database: a rule that was acknowledged holds at all of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from jobservice.model.limit import Limit, LimitKind
from jobservice.model.queue import Pause, PauseMode
from jobservice.store.port import Store
from jobservice.store.postgres.store import PostgresStore
from tests.conformance.values import NOW, TENANT, claim, insert_some
from tests.postgres import Postgres

POSITIONS_LOCK = 7305808869231650162
"""A claim takes it last, to tell of its leases."""


@pytest.fixture
async def url(postgres: Postgres) -> AsyncIterator[str]:
    lent = await postgres.lend()
    yield lent
    await postgres.take_back(lent)


async def pause(store: Store) -> None:
    rules = {"pause": Pause(PauseMode.HOLD, NOW)}
    await store.save_queue(TENANT, "default", rules, create=False, edit_version=None, now=NOW)


async def stop_all(store: Store) -> None:
    await store.save_limit(Limit(TENANT, LimitKind.TENANT, max_running=0), now=NOW)


@pytest.mark.parametrize("change", [pause, stop_all])
async def test_a_claim_that_went_by_the_old_rules_is_over_before_new_ones_hold(
    url: str, change: Callable[[Store], Awaitable[None]]
) -> None:
    one, other = [await PostgresStore.open(url) for _ in range(2)]
    holder = await asyncpg.connect(url)
    await insert_some(one, 2)
    async with holder.transaction():
        await holder.execute("SELECT pg_advisory_xact_lock($1)", POSITIONS_LOCK)
        claiming = asyncio.create_task(claim(one, 1))
        await waiting(holder, 1)
        changing = asyncio.ensure_future(change(other))
        await waiting(holder, 2)
        assert not changing.done()
    assert len(await claiming) == 1
    await changing
    assert await claim(one, 1) == []
    await holder.close()
    for store in (one, other):
        await store.close()


async def waiting(connection: asyncpg.Connection, count: int) -> None:
    """Until so many sessions of the database wait for a lock."""
    locks = (
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND database ="
        " (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    while await connection.fetchval(locks) < count:
        pass
