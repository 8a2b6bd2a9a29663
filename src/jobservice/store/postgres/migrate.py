"""The migrations of a PostgreSQL database; see `store/migrations.py`.

Servers that start together take turns by an advisory lock. Other servers go on meanwhile: a migration
waits only shortly for a table that somebody uses, for whoever comes later waits behind it, and tries
again.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import asyncpg

from jobservice.clock import SystemClock
from jobservice.errors import SetupError
from jobservice.store.migrations import (
    Migration,
    Review,
    between,
    migrations,
    pending,
    review,
    script,
)
from jobservice.store.postgres.connect import Connection, connect_first, is_away, redacted, said

MIGRATIONS = Path(__file__).parent / "migrations"
DEADLINE_S = 60.0
"""How long one statement of a migration may take."""
LOCK_MS = 1_000
"""How long a migration waits for a table, and everybody who wants that table behind it."""
TRIES, PAUSE_S = 30, 1.0
"""How often it tries, and how long others have the table in between."""
LOCK = 7305808869231650161
"""The advisory lock of migrations. The numbers after it are those of positions (`next_position()`), of
claims, of the lead (`obeyed_epoch()`) and of rules (`writer.py`)."""

_LEDGER = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version integer NOT NULL PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL
)
"""


async def current(url: str) -> int:
    """The version of the schema; 0 where there is none yet.

    Raises:
        SetupError: the database cannot be used.
    """
    connection = await connect_first(url, DEADLINE_S)
    try:
        async with connection.transaction():
            return max(await _applied(connection), default=0)
    finally:
        await connection.close()


async def check(url: str, folder: Path = MIGRATIONS) -> Review:
    """How the schema of a database stands; it is only read.

    Raises:
        SetupError: the database cannot be used.
    """
    connection = await connect_first(url, DEADLINE_S)
    try:
        async with connection.transaction():
            return review(migrations(folder), await _applied(connection), redacted(url))
    except asyncpg.PostgresError as error:
        raise SetupError(f"The schema of {redacted(url)} cannot be read: {said(error)}.") from error
    finally:
        await connection.close()


def sql(begin: int = 0, end: int | None = None, folder: Path = MIGRATIONS) -> str:
    """What `upgrade` runs from one version to another, for reading or running by hand.

    Raises:
        SetupError: there are no such versions.
    """
    chosen = between(migrations(folder), begin, end)
    before = f"SELECT pg_advisory_xact_lock({LOCK})"
    return script(chosen, before=before, ledger=_LEDGER, after=begin)


async def upgrade(url: str, folder: Path = MIGRATIONS) -> list[Migration]:
    """Bring a database up to date; returns what was applied.

    Raises:
        SetupError: see `pending`; or the database cannot be used.
    """
    connection = await connect_first(url, DEADLINE_S)
    try:
        return await _upgrade(connection, redacted(url), migrations(folder))
    except Exception as error:
        if not is_away(error):
            raise
        raise SetupError(
            f"{redacted(url)} was lost while its schema was brought up to date: {said(error)}. Do it "
            "again: what was applied is kept, and nothing is applied by half."
        ) from error
    finally:
        with contextlib.suppress(OSError, asyncpg.InterfaceError):  # it may be lost
            await connection.close()


async def _upgrade(
    connection: Connection, database: str, known: Sequence[Migration]
) -> list[Migration]:
    async with connection.transaction():
        if not pending(known, await _applied(connection), database):
            return []
    done = []
    for each in known:
        for tries_left in reversed(range(TRIES)):
            try:
                done += await _apply(connection, database, known, each)
                break
            except asyncpg.PostgresError as error:
                if not tries_left or not isinstance(error, asyncpg.LockNotAvailableError):
                    raise SetupError(
                        f"Migration {each.version:04} ({each.name}) of {database} failed: "
                        f"{said(error)}."
                    ) from error
            await SystemClock().sleep(PAUSE_S)
    return done


async def _apply(
    connection: Connection, database: str, known: Sequence[Migration], each: Migration
) -> list[Migration]:
    """Apply one migration with its record, unless that was done."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
        await connection.execute(f"{_LEDGER}; SET LOCAL lock_timeout = {LOCK_MS}")
        if each not in pending(known, await _applied(connection), database):
            return []
        await connection.execute(each.sql)
        await connection.execute(
            "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)",
            each.version,
            each.name,
            each.checksum,
        )
    return [each]


async def _applied(connection: Connection) -> dict[int, str]:
    if await connection.fetchval("SELECT to_regclass('schema_migrations')") is None:
        return {}
    rows = await connection.fetch("SELECT version, checksum FROM schema_migrations")
    return {int(version): str(checksum) for version, checksum in rows}
