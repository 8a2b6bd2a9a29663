"""All tables of a PostgreSQL database, to be copied out or in; see `store/copying.py`."""

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg

from jobservice.errors import SetupError, StoreFull
from jobservice.store.copying import (
    BATCH_BYTES,
    BATCH_ROWS,
    LEDGER,
    Column,
    Kind,
    Row,
    Shape,
    Table,
    size_of,
)
from jobservice.store.postgres.connect import (
    Connection,
    connect_first,
    is_away,
    is_pooled,
    redacted,
    said,
)
from jobservice.store.postgres.queries import QUERIES
from jobservice.store.rows import dump_json

DEADLINE_S = 3600.0
"""How long one statement may take; reading a table in the order of its key begins at once."""
LOCK_MS = 10_000
"""How long others, who use the target, are waited for."""
FIRST_ROWS = 50
"""How many rows the first batch of a table has. The next ones follow from their size."""

_KINDS = {
    "smallint": Kind.INTEGER,
    "integer": Kind.INTEGER,
    "bigint": Kind.INTEGER,
    "double precision": Kind.REAL,
    "text": Kind.TEXT,
    "bytea": Kind.BYTES,
    "boolean": Kind.BOOLEAN,
    "jsonb": Kind.JSON,
}
_OWN = frozenset({LEDGER, "lead", "left_files"})
"""What is of this database alone: what was applied to it, which of its servers leads, and what is left
with the others."""
_SHAPES = """
SELECT tables.relname AS table, columns.attname AS column,
    format_type(columns.atttypid, NULL) AS type,
    array_position(keys.indkey::smallint[], columns.attnum) AS place
FROM pg_class AS tables
JOIN pg_attribute AS columns ON columns.attrelid = tables.oid
LEFT JOIN pg_index AS keys ON keys.indrelid = tables.oid AND keys.indisprimary
WHERE tables.relkind = 'r' AND columns.attnum > 0 AND NOT columns.attisdropped
    AND tables.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('jobs'))
ORDER BY tables.relname, place
"""
_DERIVED = {
    ("jobs", "last_position"): """(
        SELECT events.position FROM events
        WHERE (events.tenant, events.job_id, events.revision)
            = (jobs.tenant, jobs.job_id, jobs.revision))""",
    ("events", "previous_position"): """(
        SELECT before.position FROM events AS before
        WHERE (before.tenant, before.job_id, before.revision)
            = (events.tenant, events.job_id, events.revision - 1))""",
}
_LIVE = """
SELECT count(*) FROM jobs
WHERE lease_until_us > extract(epoch FROM clock_timestamp()) * 1000000
"""
_CONNECTED = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'jobservice' AND pid <> pg_backend_pid()
"""


class PostgresTables:
    """A PostgreSQL database; made for one copy, and closed after it."""

    def __init__(self, connection: Connection, url: str) -> None:
        self.name = redacted(url)
        self._connection = connection

    @classmethod
    async def open(cls, url: str) -> "PostgresTables":
        """Connect to a database.

        Raises:
            SetupError: it cannot be used, or a pooler is before it.
        """
        if is_pooled(url):
            raise SetupError(
                f"{redacted(url)} is a pooler, and a copy is one long transaction. Give the address of "
                "the database itself."
            )
        return cls(await connect_first(url, DEADLINE_S), url)

    async def aclose(self) -> None:
        """Let go of the database."""
        await self._connection.close()

    async def refuse_in_use(self) -> None:
        """See that no service works with the database.

        Raises:
            SetupError: jobs run, or somebody is connected.
        """
        live = await self._connection.fetchval(_LIVE)
        connected = await self._connection.fetchval(_CONNECTED)
        if live or connected:
            raise SetupError(
                f"{self.name} is in use: {live} jobs have a lease, and {connected} connections of "
                "services are open. What they write from now on would be missing in the copy, and both "
                "stores would run the same jobs. Stop the services; or say --force, and see to it "
                "yourself."
            )

    async def shapes(self) -> Mapping[str, Shape]:
        keys: dict[str, list[str]] = {}
        kinds: dict[str, dict[str, Kind]] = {}
        for table, column, type_, place in await self._connection.fetch(_SHAPES):
            if table in _OWN:
                continue
            if place is not None:
                keys.setdefault(table, []).append(column)
            if type_ in _KINDS:  # tables of others may be here, with anything in them
                kinds.setdefault(table, {})[column] = _KINDS[type_]
        return {table: Shape(tuple(keys.get(table, ())), kinds[table]) for table in kinds}

    async def rows(self, table: Table) -> AsyncIterator[Sequence[Row]]:
        columns = ", ".join(_read(table, each) for each in table.columns)
        key = ", ".join(f'{table.name}."{each}"' for each in table.key)
        sql = f"SELECT {columns} FROM {table.name} ORDER BY {key}"  # noqa: S608 - of the schema
        readers = [_READERS.get(each.kind) for each in table.columns]
        with _told(table, self.name):
            cursor = await self._connection.cursor(sql)
            count = FIRST_ROWS
            while found := await cursor.fetch(count):
                batch = [_converted(row, readers) for row in found]
                yield batch
                mean = sum(map(size_of, batch)) // len(batch) + 1
                count = max(1, min(BATCH_ROWS, BATCH_BYTES // mean))

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        async with self._connection.transaction(isolation="repeatable_read", readonly=True):
            await self._wait_for_long()
            yield

    async def insert(self, table: Table, rows: Sequence[Row]) -> None:
        columns = [each for each in table.columns if not each.is_derived]
        places = [n for n, each in enumerate(table.columns) if not each.is_derived]
        writers = [_WRITERS.get(each.kind) for each in columns]
        with _told(table, self.name):
            await self._connection.copy_records_to_table(
                table.name,
                records=[_converted([row[n] for n in places], writers) for row in rows],
                columns=[each.name for each in columns],
            )

    async def go_on(self) -> None:
        """Positions are drawn from a sequence."""
        head = await self._connection.fetchval(QUERIES["head_position"].text)
        if head:
            await self._connection.execute("SELECT setval('positions', $1)", head)

    @asynccontextmanager
    async def writing(self, tables: Sequence[Table]) -> AsyncIterator[None]:
        execute = self._connection.execute
        async with self._connection.transaction():
            await self._wait_for_long()
            names = ", ".join(each.name for each in tables)
            try:
                await execute(f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE")
            except asyncpg.LockNotAvailableError:
                raise SetupError(f"{self.name} is in use. Stop what works with it.") from None
            await execute("DELETE FROM feed WHERE forgotten_position = 0")
            for table in tables:
                sql = f"SELECT EXISTS (SELECT FROM {table.name})"  # noqa: S608 - of the schema
                if await self._connection.fetchval(sql):
                    raise SetupError(
                        f"{self.name} is not empty: there are rows in the table {table.name}. Copy "
                        "into a new one."
                    )
            yield

    async def _wait_for_long(self) -> None:
        """While the other store is read or written nothing is heard of us here."""
        milliseconds = int(DEADLINE_S * 1000)
        await self._connection.execute(
            f"SET LOCAL idle_in_transaction_session_timeout = {milliseconds};"
            f"SET LOCAL lock_timeout = {LOCK_MS}"
        )


def _read(table: Table, column: Column) -> str:
    if column.is_derived:
        return _DERIVED[table.name, column.name]
    name = f'{table.name}."{column.name}"'
    return f"{name}::text" if column.kind is Kind.JSON else name


def _in_order(text: str) -> str:
    value = json.loads(text)
    return dump_json(dict(sorted(value.items())) if isinstance(value, dict) else value)


_Converters = Sequence[Callable[[Any], Any] | None]
_READERS: Mapping[Kind, Callable[[Any], Any]] = {Kind.BOOLEAN: int, Kind.JSON: _in_order}
_WRITERS: Mapping[Kind, Callable[[Any], Any]] = {Kind.BOOLEAN: bool}


def _converted(row: Sequence[Any], converters: _Converters) -> Row:
    return tuple(
        value if convert is None or value is None else convert(value)
        for value, convert in zip(row, converters, strict=True)
    )


@contextmanager
def _told(table: Table, name: str) -> Iterator[None]:
    """Say what PostgreSQL says of a table."""
    try:
        yield
    except asyncpg.DiskFullError:
        raise StoreFull(f"There is no room for {name}. The copy was undone.") from None
    except (asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        hint = "" if is_away(error) else "It cannot hold, or give, what is copied. "
        raise SetupError(
            f"The table {table.name} of {name}: {said(error)}. {hint}The copy was undone."
        ) from error
