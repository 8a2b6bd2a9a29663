"""The migrations of a SQLite file; see `store/migrations.py`."""

from collections.abc import Sequence
from pathlib import Path

import apsw

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
from jobservice.store.sqlite.connect import open_reader, open_writer, run_all

MIGRATIONS = Path(__file__).parent / "migrations"

_LEDGER = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version INTEGER NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    checksum TEXT NOT NULL
) STRICT
"""


def current(path: Path) -> int:
    """The version of the schema of a SQLite file; 0 where there is none yet.

    Raises:
        SetupError: the file cannot be opened.
    """
    if not path.exists():
        return 0
    connection = open_writer(path)
    try:
        return max(_applied(connection), default=0)
    finally:
        connection.close()


def check(path: Path, folder: Path = MIGRATIONS) -> Review:
    """How the schema of a SQLite file stands; it is only read, and not made where there is none.

    Raises:
        SetupError: the file cannot be opened.
    """
    known = migrations(folder)
    if not path.exists():
        return review(known, {}, str(path))
    connection = open_reader(path)
    try:
        return review(known, _applied(connection), str(path))
    except apsw.Error as error:
        raise SetupError(f"The database {path} cannot be read: {error}.") from error
    finally:
        connection.close()


def sql(begin: int = 0, end: int | None = None, folder: Path = MIGRATIONS) -> str:
    """What `upgrade` runs from one version to another, for reading or running by hand.

    Raises:
        SetupError: there are no such versions.
    """
    chosen = between(migrations(folder), begin, end)
    return script(chosen, before="", ledger=_LEDGER, begin="BEGIN IMMEDIATE", after=begin)


def upgrade(path: Path, folder: Path = MIGRATIONS) -> list[Migration]:
    """Bring a SQLite file, made if need be, up to date; returns what was applied.

    Raises:
        SetupError: see `pending`; or the file cannot be opened.
    """
    connection = open_writer(path)
    try:
        return upgrade_connection(connection, path, migrations(folder))
    finally:
        connection.close()


def upgrade_connection(
    connection: apsw.Connection, path: Path, known: Sequence[Migration]
) -> list[Migration]:
    """As `upgrade`, over a connection that may write."""
    todo = pending(known, _applied(connection), str(path))
    return [each for each in todo if _apply(connection, each, path)]


def _applied(connection: apsw.Connection) -> dict[int, str]:
    if not connection.table_exists("main", "schema_migrations"):
        return {}
    rows = connection.execute("SELECT version, checksum FROM schema_migrations")
    return {int(version): str(checksum) for version, checksum in rows}


def _apply(connection: apsw.Connection, migration: Migration, path: Path) -> bool:
    """Apply one migration unless another process was quicker."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(_LEDGER)
        new = migration.version not in _applied(connection)
        if new:
            run_all(connection, migration.sql)
            connection.execute(
                "INSERT INTO schema_migrations (version, name, checksum) VALUES (?, ?, ?)",
                (migration.version, migration.name, migration.checksum),
            )
        connection.execute("COMMIT")
    except apsw.Error as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise SetupError(
            f"Migration {migration.version:04} ({migration.name}) of {path} failed: {error}."
        ) from error
    return new
