"""Migrations of PostgreSQL beside servers that work: what these need stays, and none waits for long."""

import asyncio
import contextlib
import os
import random
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from jobservice.errors import SetupError
from jobservice.model.lifecycle import ACTIVE, FINAL, State
from jobservice.store.migrations import migrations
from jobservice.store.port import JobQuery, Order
from jobservice.store.postgres import migrate
from jobservice.store.postgres.migrate import MIGRATIONS, check, upgrade
from jobservice.store.postgres.store import PostgresStore
from tests.conformance.values import claim, insert_some
from tests.postgres import Postgres

UNRELEASED = 18
"""Up to here nobody has run a server before a migration beside one after it: nothing was released."""
_COLUMNS = """
SELECT table_name, column_name, data_type, is_nullable, column_default IS NOT NULL
FROM information_schema.columns WHERE table_schema = 'public'
"""


@pytest.fixture
async def empty(postgres: Postgres) -> AsyncIterator[str]:
    """The address of a database without a schema."""
    connection = await asyncpg.connect(postgres.url())
    name = f"without_a_schema_{os.getpid()}"
    await connection.execute(f"CREATE DATABASE {name}")
    yield postgres.url(name)
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


def folder_up_to(folder: Path, version: int, **more: str) -> Path:
    """The migrations up to one, and others of the test's own behind them."""
    folder.mkdir(exist_ok=True)
    for path in sorted(MIGRATIONS.glob("*.sql"))[:version]:
        shutil.copy(path, folder)
    for n, (name, text) in enumerate(more.items(), start=version + 1):
        (folder / f"{n:04}_{name}.sql").write_text(text)
    return folder


async def columns(connection: asyncpg.Connection) -> dict[tuple[str, str], tuple[object, ...]]:
    """The columns of all tables: their types, whether they may be NULL, whether they have a default."""
    return {(row[0], row[1]): tuple(row)[2:] for row in await connection.fetch(_COLUMNS)}


def broken(
    before: dict[tuple[str, str], tuple[object, ...]],
    after: dict[tuple[str, str], tuple[object, ...]],
) -> list[str]:
    """What a server that knows the schema before stumbles over in the one after."""
    tables = {table for table, _ in before}
    found = [f"{'.'.join(each)} is gone" for each in before.keys() - after.keys()]
    for each, (kind, may_be_null, has_default) in after.items():
        name = ".".join(each)
        if each in before and before[each][0] != kind:
            found.append(f"{name} has another type")
        if each in before and before[each][1] == "YES" and may_be_null == "NO":
            found.append(f"{name} may not be NULL any more")
        is_new = each not in before and each[0] in tables
        if is_new and may_be_null == "NO" and not has_default:
            found.append(f"{name} is new, and rows without it are refused")
    return found


async def test_a_server_of_before_finds_what_it_knows(empty: str, tmp_path: Path) -> None:
    """Expand first, contract a version later: it reads and writes on beside the new ones."""
    await upgrade(empty, folder_up_to(tmp_path / "base", UNRELEASED))
    connection = await asyncpg.connect(empty)
    before = await columns(connection)
    for version in range(UNRELEASED + 1, len(migrations(MIGRATIONS)) + 1):
        await upgrade(empty, folder_up_to(tmp_path / f"{version}", version))
        after = await columns(connection)
        assert broken(before, after) == [], f"migration {version:04}"
        before = after
    await connection.close()


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("ALTER TABLE jobs DROP COLUMN message", "jobs.message is gone"),
        ("ALTER TABLE jobs RENAME COLUMN message TO m", "jobs.message is gone"),
        ("DROP TABLE progress", "progress.percent is gone"),
        ("ALTER TABLE jobs ALTER signal TYPE bigint", "jobs.signal has another type"),
        ("ALTER TABLE jobs ALTER signal SET NOT NULL", "jobs.signal may not be NULL any more"),
        (
            "ALTER TABLE jobs ADD COLUMN n integer NOT NULL",
            "jobs.n is new, and rows without it are refused",
        ),
        ("ALTER TABLE jobs ADD COLUMN n integer NOT NULL DEFAULT 1", ""),
        ("CREATE TABLE t (n integer NOT NULL)", ""),
    ],
)
async def test_what_breaks_a_server_of_before_is_seen(
    postgres: Postgres, sql: str, said: str
) -> None:
    url = await postgres.new_database()
    connection = await asyncpg.connect(url)
    before = await columns(connection)
    await connection.execute(sql)
    found = broken(before, await columns(connection))
    assert (said in found) if said else not found
    await connection.close()
    await postgres.drop(url)


async def test_an_upgrade_that_is_cut_off_anywhere_is_made_good(empty: str) -> None:
    chance = random.Random(5)
    administrator = await asyncpg.connect(empty)
    for _ in range(12):
        upgrading = asyncio.ensure_future(upgrade(empty))
        for _ in range(chance.randrange(1, 12)):
            await administrator.fetchval("SELECT count(*) FROM pg_class")
        await administrator.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
        with contextlib.suppress(SetupError):
            await upgrading
    await upgrade(empty)
    await administrator.close()
    assert (await check(empty)).complaints == []
    store = await PostgresStore.open(empty)
    await insert_some(store)
    assert len(await claim(store)) == 1
    await store.close()


async def test_jobs_of_before_are_in_the_indexes_of_lists(empty: str, tmp_path: Path) -> None:
    """Up to 0020 one index had all jobs; then each is in that of the active or of the final ones."""
    await upgrade(empty, folder_up_to(tmp_path / "before", 20))
    connection = await asyncpg.connect(empty)
    await connection.execute(
        "INSERT INTO jobs (tenant, job_id, state, ended_us, created_us, revision, attempt_count, epoch,"
        " claim_key, queued_us, edit_version, updated_us, priority, stop_grace_us, retry, queue, name,"
        " labels) SELECT 't', 'j' || n, CASE WHEN n % 2 = 0 THEN 7 ELSE 4 END,"
        " CASE WHEN n % 2 = 0 THEN 9 END, n, 1, 0, 0, 1, 1, 1, 1, 0, 1, '[1,1000000,2.0,600000000,5]',"
        " 'default', 'n', '{}' FROM generate_series(1, 6) AS n"
    )
    await connection.execute(
        "INSERT INTO job_specs (tenant, job_id, cluster, output_limit_bytes, work_dir, argv, env)"
        """ SELECT tenant, job_id, 'local', 1, '', '["true"]', '{}' FROM jobs"""
    )
    await connection.close()
    store = await PostgresStore.open(empty)
    for states, expected in ((frozenset(State), "123456"), (FINAL, "246"), (ACTIVE, "135")):
        query = JobQuery("t", Order.CREATED_ASC, states)
        page = await store.list_jobs(query, limit=9, cursor=None)
        assert [each.job_id for each in page.jobs] == [f"j{n}" for n in expected]
    await store.close()


async def test_who_waits_for_a_table_keeps_nobody_from_it_for_long(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report reads while a migration wants the table: jobs are submitted all the same."""
    monkeypatch.setattr(migrate, "LOCK_MS", 200)
    monkeypatch.setattr(migrate, "PAUSE_S", 0.2)
    url = await postgres.new_database()
    known = len(migrations(MIGRATIONS))
    later = folder_up_to(tmp_path / "m", known, wider="ALTER TABLE jobs ADD COLUMN wide integer;")
    store, report = await PostgresStore.open(url, deadline_s=2.0), await asyncpg.connect(url)
    await insert_some(store)
    async with report.transaction():
        await report.fetchval("SELECT count(*) FROM jobs")
        upgrading = asyncio.ensure_future(upgrade(url, later))
        while not await report.fetchval("SELECT 1 FROM pg_locks WHERE NOT granted"):
            assert not upgrading.done()
        for _ in range(5):
            await insert_some(store)
        assert not upgrading.done()
    assert [each.name for each in await upgrading] == ["wider"]
    await store.close()
    await report.close()
    await postgres.drop(url)


async def test_a_table_that_is_never_free_is_said(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"LOCK_MS": 50, "PAUSE_S": 0.01, "TRIES": 3}.items():
        monkeypatch.setattr(migrate, name, value)
    url = await postgres.new_database()
    known = len(migrations(MIGRATIONS))
    later = folder_up_to(tmp_path / "m", known, wider="ALTER TABLE jobs ADD COLUMN wide integer;")
    report = await asyncpg.connect(url)
    async with report.transaction():
        await report.fetchval("SELECT count(*) FROM jobs")
        with pytest.raises(SetupError, match="lock timeout"):
            await upgrade(url, later)
    await report.close()
    await postgres.drop(url)
