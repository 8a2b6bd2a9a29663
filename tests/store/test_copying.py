"""A store copied to the other kind and back: all of it, the same, or not at all."""

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import apsw
import pytest

from jobservice.errors import SetupError
from jobservice.model.lifecycle import State
from jobservice.store.copying import LEDGER, Copied, Kind, Shape, copy, tables_of
from jobservice.store.port import JobQuery, Order, Store
from jobservice.store.postgres.connect import connect
from jobservice.store.postgres.store import PostgresStore
from jobservice.store.postgres.tables import PostgresTables
from jobservice.store.rows import position_token
from jobservice.store.sqlite.migrate import upgrade
from jobservice.store.sqlite.store import SqliteStore
from jobservice.store.sqlite.tables import SqliteTables
from jobservice.testing.invariants import check_invariants
from tests.conformance.values import BEGINNING, TENANT, at, changes, ended, job
from tests.postgres import shared_postgres
from tests.store.filled import fill

EVERY = frozenset(State)
TENANTS = [TENANT, "others"]


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """An empty database, which is dropped: a test may change its schema."""
    found = await shared_postgres().new_database()
    yield found
    await shared_postgres().drop(found)


@pytest.fixture
async def filled(path: Path) -> Path:
    """A file with something of everything in it."""
    store = await SqliteStore.open(path)
    await fill(store)
    await store.close()
    connection = apsw.Connection(str(path))
    connection.execute("INSERT INTO unsettled VALUES ('default', 'j1', 'j2')")
    connection.close()
    return path


async def to_postgres(path: Path, url: str) -> list[Copied]:
    async with contextlib.aclosing(await PostgresTables.open(url)) as target:
        with contextlib.closing(SqliteTables(path, writable=False)) as source:
            tables = tables_of(await source.shapes(), await target.shapes())
            return await copy(source, target, tables)


async def to_sqlite(url: str, path: Path) -> list[Copied]:
    upgrade(path)
    async with contextlib.aclosing(await PostgresTables.open(url)) as source:
        with contextlib.closing(SqliteTables(path, writable=True)) as target:
            tables = tables_of(await target.shapes(), await source.shapes())
            return await copy(source, target, tables)


def content(path: Path) -> dict[str, list[dict[str, Any]]]:
    """All that is in a file, read by other means than the copy does."""
    connection = apsw.Connection(str(path))
    connection.row_trace = lambda cursor, row: dict(
        zip([name for name, _ in cursor.get_description()], row, strict=True)
    )
    names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
    found = {}
    for name in [each["name"] for each in names]:
        rows = list(connection.execute(f"SELECT * FROM {name}"))
        for row in rows:
            if "labels" in row:
                row["labels"] = json.loads(row["labels"])
        found[name] = sorted(rows, key=repr)
    connection.close()
    return found


async def reads(store: Store, tenants: list[str]) -> list[object]:
    """What users see."""
    found: list[object] = [await changes(store)]
    for tenant in tenants:
        for order in (Order.CREATED_ASC, Order.ENDED_DESC):
            page = await store.list_jobs(JobQuery(tenant, order, EVERY), limit=9999, cursor=None)
            found += [await job(store, each) for each in page.jobs]
        found.append(await store.list_queues(tenant, limit=99, after=""))
        found.append(await store.list_limits(tenant, limit=99, after=("", 0, "")))
        found.append(await store.list_operations(tenant, behind=None, limit=99))
        found += [await store.queue_counts(tenant, each, now=at(99)) for each in ("default", "gpu")]
        found.append(await store.list_schedules(tenant, limit=99, cursor=None))
        found.append(await store.list_parked_keys(tenant, limit=99, after=""))
    return [*found, await store.list_live("w1")]


async def tenants_of(path: Path) -> list[str]:
    connection = apsw.Connection(str(path))
    found = [tenant for (tenant,) in connection.execute("SELECT DISTINCT tenant FROM jobs")]
    connection.close()
    return found


async def test_there_and_back_again_it_is_the_same(filled: Path, url: str, tmp_path: Path) -> None:
    before = content(filled)
    empty = [name for name, rows in before.items() if not rows]
    assert not empty, "this test needs rows in every table"
    there = await to_postgres(filled, url)
    back = await to_sqlite(url, tmp_path / "back.db")
    assert back == there
    assert {each.table for each in there} == before.keys() - {LEDGER}
    assert {each.table: each.rows for each in there} == {
        name: len(rows) for name, rows in before.items() if name != LEDGER
    }
    assert content(tmp_path / "back.db") == before
    tenants = await tenants_of(filled)
    stores = [
        await SqliteStore.open(filled),
        await PostgresStore.open(url),
        await SqliteStore.open(tmp_path / "back.db"),
    ]
    first, *others = [await reads(store, tenants) for store in stores]
    for found in others:
        assert found == first
    for store in stores[1:]:
        await ended(store, 30)
        await check_invariants(store, beginning=BEGINNING, tenants=tenants)
    for store in stores:
        await store.close()


async def test_positions_go_on_behind_what_was_forgotten(path: Path, url: str) -> None:
    upgrade(path)
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE feed SET forgotten_position = 5000")
    connection.close()
    await to_postgres(path, url)
    store = await PostgresStore.open(url)
    assert await store.head_position() == position_token(5000)
    await ended(store, 1)
    assert (await changes(store, position_token(5000)))[0].position == position_token(5001)
    await store.close()


async def test_what_is_not_the_same_afterwards_is_undone_and_named(filled: Path, url: str) -> None:
    connection = await connect(url, 30)
    await connection.execute(
        "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN NEW.message = NEW.message || ''!''; RETURN NEW; END';"
        "CREATE TRIGGER spoil BEFORE INSERT ON attempts FOR EACH ROW EXECUTE FUNCTION spoil()"
    )
    with pytest.raises(SetupError, match=r"table attempts is not the same.*undone"):
        await to_postgres(filled, url)
    assert await connection.fetchval("SELECT count(*) FROM jobs") == 0
    await connection.execute("DROP TRIGGER spoil ON attempts")
    assert (await to_postgres(filled, url))[0].rows > 0
    await connection.close()


async def test_a_target_that_is_not_empty_is_left_alone(
    filled: Path, url: str, tmp_path: Path
) -> None:
    await to_postgres(filled, url)
    with pytest.raises(SetupError, match="is not empty: there are rows in the table array_items"):
        await to_postgres(filled, url)
    before = content(filled)
    with pytest.raises(SetupError, match="is not empty"):
        await to_sqlite(url, filled)
    assert content(filled) == before
    await to_sqlite(url, tmp_path / "new.db")


async def test_no_table_or_column_can_be_forgotten(path: Path, url: str) -> None:
    """A new one has to be in both stores, or named where the two differ on purpose."""
    upgrade(path)
    async with contextlib.aclosing(await PostgresTables.open(url)) as database:
        postgres = await database.shapes()
    with contextlib.closing(SqliteTables(path, writable=False)) as file:
        sqlite = await file.shapes()
    assert sqlite.keys() == postgres.keys()
    assert {each.name for each in tables_of(sqlite, postgres)} == content(path).keys() - {LEDGER}
    for table in sqlite:
        for more, less in ((sqlite, postgres), (postgres, sqlite)):
            wider = {**more, table: _with(more[table], "extra")}
            pair = (wider, less) if more is sqlite else (less, wider)
            with pytest.raises(
                SetupError, match=rf"only one of the two has the column {table}\.extra"
            ):
                tables_of(*pair)
    with pytest.raises(SetupError, match="PostgreSQL has no table jobs"):
        tables_of(sqlite, {name: each for name, each in postgres.items() if name != "jobs"})


def _with(shape: Shape, column: str) -> Shape:
    kinds: Mapping[str, Kind] = {**shape.kinds, column: Kind.TEXT}
    return Shape(shape.key, kinds)


async def test_a_value_that_the_target_cannot_hold_is_told(path: Path, url: str) -> None:
    upgrade(path)
    connection = apsw.Connection(str(path))
    connection.execute("INSERT INTO shares VALUES ('a', 'b' || char(0), 1)")
    connection.close()
    with pytest.raises(SetupError, match=r"table shares of postgresql://.*0x00.*undone"):
        await to_postgres(path, url)
