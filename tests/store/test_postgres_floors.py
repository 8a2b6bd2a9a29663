"""Claims that begin at floors: what may come later than without them, and what may not."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from jobservice.clock import to_us
from jobservice.errors import StoreUnavailable
from jobservice.model.job import Job
from jobservice.model.limit import Limit, LimitKind
from jobservice.store.postgres import floors, writer
from jobservice.store.postgres.store import PostgresStore
from tests.conformance.values import (
    at,
    claim,
    end,
    ended,
    finish,
    insert,
    insert_some,
    key_of,
    new_job,
)
from tests.postgres import Postgres


@pytest.fixture
async def stores(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[list[PostgresStore]]:
    """What two servers have open; every walk is slow, and a few dead rows are many."""
    monkeypatch.setattr(floors, "SLOW_S", 0.0)
    monkeypatch.setattr(floors, "HELD_S", 0.0)
    monkeypatch.setattr(floors, "DEAD_ROWS", 20)
    monkeypatch.setattr(floors, "KEPT_S", 3.0)
    url = await postgres.lend()
    holder = await asyncpg.connect(url)
    transaction = holder.transaction(isolation="repeatable_read")
    await transaction.start()
    await holder.fetchval("SELECT count(*) FROM jobs")
    opened = [await PostgresStore.open(url) for _ in range(2)]
    while not opened[0]._writers[0].floors.known():
        await ended(opened[0], 40)
    yield opened
    for store in opened:
        await store.close()
    await transaction.rollback()
    await holder.close()
    await postgres.take_back(url)


def _is_on(store: PostgresStore) -> bool:
    return bool(store._writers[0].floors.known())


async def _claimed(store: PostgresStore, count: int = 1) -> list[str]:
    return [each.fence.job_id for each in await claim(store, count)]


async def _until_it_is_told(store: PostgresStore) -> None:
    told = asyncio.Event()
    store._writers[0].floors.callbacks.append(told.set)
    await told.wait()


async def test_what_this_server_inserts_keeps_its_order(stores: list[PostgresStore]) -> None:
    store = stores[0]
    first = await insert_some(store, 3)
    assert {each.job_id for each in first} <= set(await _claimed(store, 100))
    assert _is_on(store)
    normal = await insert_some(store, 2)
    [high] = await insert_some(store, priority=50)
    assert await _claimed(store) == [high.job_id]
    [elsewhere] = await insert_some(store, queue="elsewhere")
    wanted = {elsewhere.job_id, *[each.job_id for each in normal]}
    assert set(await _claimed(store, 9)) == wanted
    assert _is_on(store)


async def test_a_claim_that_did_not_see_a_new_job_does_not_put_its_floor_above_it(
    stores: list[PostgresStore],
) -> None:
    store = stores[0]
    await insert_some(store, 3)
    await _claimed(store)
    assert _is_on(store)
    known = store._writers[0].floors
    [(tenant, queue, fairness_key, placement, *_)] = known.known()
    lane = tenant, queue, fairness_key, placement
    known.of(lane)  # a claim begins
    [high] = await insert_some(store, priority=50)
    known.found(lane, (to_us(at(9)), 0))  # which ends without having seen that
    assert (await _claimed(store))[0] == high.job_id


async def test_what_comes_before_the_floor_is_found_at_the_next_whole_walk(
    stores: list[PostgresStore],
) -> None:
    store, other = stores
    await insert_some(store, 3)
    await _claimed(store)
    assert _is_on(store)
    high = await insert_some(other, priority=50)
    elsewhere = await insert_some(other, queue="elsewhere")
    told = asyncio.ensure_future(_until_it_is_told(store))
    found = await _claimed(store, 100)
    wanted = {each.job_id for each in (*high, *elsewhere)}
    assert not wanted & set(found)
    await told
    assert set(await _claimed(store, 100)) == wanted


async def test_what_somebody_asks_for_here_is_done_at_once(stores: list[PostgresStore]) -> None:
    store = stores[0]
    [held] = await insert_some(store)
    await store.hold_job(key_of(held), now=at(1))
    later = new_job(created_at=at(5))
    await insert(store, later)
    assert await _claimed(store) == [later.job_id]
    assert _is_on(store)
    assert isinstance(await store.release_job(key_of(held), now=at(6)), Job)
    assert await _claimed(store) == [held.job_id]


async def test_without_a_transaction_that_is_open_there_are_no_floors(
    stores: list[PostgresStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floors, "HELD_S", 3_600.0)
    await insert_some(stores[1], 3)
    await _claimed(stores[1])
    assert not _is_on(stores[1])


async def test_without_dead_rows_there_are_no_floors(
    stores: list[PostgresStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floors, "DEAD_ROWS", 1 << 40)
    await insert_some(stores[1], 3)
    await _claimed(stores[1])
    assert not _is_on(stores[1])


# --- the floor of the leases ------------------------------------------------------------------


@pytest.fixture
async def limited(postgres: Postgres) -> AsyncIterator[list[PostgresStore]]:
    """What two servers have open, which may run one job together; four wait."""
    url = await postgres.lend()
    opened = [await PostgresStore.open(url) for _ in range(2)]
    await opened[0].save_limit(Limit("", LimitKind.SERVICE, max_running=1), now=at(0))
    await insert_some(opened[0], 4)
    yield opened
    for store in opened:
        await store.close()
    await postgres.take_back(url)


async def test_what_was_leased_long_ago_counts_until_it_ends(limited: list[PostgresStore]) -> None:
    [first] = await claim(limited[0])
    for seconds in range(100, 500, 100):
        assert [await claim(each, now=at(seconds)) for each in limited] == [[], []]
    await finish(limited[1], end(first.fence))
    assert len(await claim(limited[0], now=at(500))) == 1


async def test_what_a_server_leased_whose_clock_is_behind_counts(
    limited: list[PostgresStore],
) -> None:
    store, behind = limited
    [first] = await claim(store)
    await finish(store, end(first.fence))
    [second] = await claim(store, now=at(100))
    await finish(store, end(second.fence))
    assert store._writers[0].floors.leases_us > to_us(at(80))
    assert len(await claim(behind, now=at(95))) == 1
    assert await claim(store, now=at(101)) == []


async def test_an_end_that_was_undone_leaves_its_lease_counted(
    limited: list[PostgresStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = limited[0]
    [first] = await claim(store)

    def fail(place: str) -> None:
        raise OSError(place)

    with monkeypatch.context() as patch:
        patch.setattr(writer, "failpoint", fail)
        answers = await asyncio.gather(
            finish(store, end(first.fence)), claim(store, now=at(100)), return_exceptions=True
        )
    assert [type(each) for each in answers] == [StoreUnavailable] * 2
    assert await claim(store, now=at(101)) == []


async def test_another_connection_begins_without_a_floor(limited: list[PostgresStore]) -> None:
    store = limited[0]
    await claim(store, now=at(100))
    connection = store._writers[0]._connection
    assert connection is not None
    connection.terminate()
    await insert_some(store, job_type="that the writer looks at")
    assert store._writers[0].floors.leases_us == 0


async def test_a_clock_that_was_set_back_counts_what_was_prolonged_since(
    limited: list[PostgresStore],
) -> None:
    store = limited[0]
    [first] = await claim(store, now=at(1000))
    await finish(store, end(first.fence))
    [second] = await claim(store, now=at(1001))
    assert await claim(store, now=at(1002)) == []
    await store.extend_leases([second.fence], lease_until=at(60))
    assert await claim(store, now=at(30)) == []
