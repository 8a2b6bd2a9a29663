"""All tables of a SQLite file, to be copied out or in; see `store/copying.py`."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import apsw

from jobservice.errors import SetupError, StoreFull
from jobservice.store.copying import (
    BATCH_BYTES,
    BATCH_ROWS,
    LEDGER,
    Kind,
    Row,
    Shape,
    Table,
    size_of,
)
from jobservice.store.rows import dump_json
from jobservice.store.sqlite.connect import open_reader, open_writer

_KINDS = {
    "INTEGER": Kind.INTEGER,
    "REAL": Kind.REAL,
    "TEXT": Kind.TEXT,
    "BLOB": Kind.BYTES,
}


class SqliteTables:
    """A SQLite file that nobody else has open; made for one copy, and closed after it."""

    def __init__(self, path: Path, *, writable: bool) -> None:
        self.name = str(path)
        self._connection = open_writer(path) if writable else open_reader(path)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    async def shapes(self) -> Mapping[str, Shape]:
        names = self._connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
        )
        return {name: self._shape(name) for (name,) in list(names) if name != LEDGER}

    def _shape(self, table: str) -> Shape:
        found = list(
            self._connection.execute("SELECT name, type, pk FROM pragma_table_info(?)", (table,))
        )
        key = sorted((place, name) for name, _, place in found if place)
        kinds = {name: _KINDS[kind] for name, kind, _ in found}
        return Shape(tuple(name for _, name in key), kinds)

    async def rows(self, table: Table) -> AsyncIterator[Sequence[Row]]:
        columns = ", ".join(_quoted(each.name) for each in table.columns)
        key = ", ".join(map(_quoted, table.key))
        sql = f"SELECT {columns} FROM {_quoted(table.name)} ORDER BY {key}"  # noqa: S608 - of the schema
        json_at = [n for n, each in enumerate(table.columns) if each.kind is Kind.JSON]
        batch: list[Row] = []
        size = 0
        for found in self._connection.execute(sql):
            row = _canonical(found, json_at) if json_at else found
            batch.append(row)
            size += size_of(row)
            if len(batch) >= BATCH_ROWS or size >= BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("ROLLBACK")

    async def insert(self, table: Table, rows: Sequence[Row]) -> None:
        columns = ", ".join(_quoted(each.name) for each in table.columns)
        places = ", ".join("?" * len(table.columns))
        sql = f"INSERT INTO {_quoted(table.name)} ({columns}) VALUES ({places})"  # noqa: S608
        try:
            self._connection.executemany(sql, rows)
        except apsw.FullError:
            raise StoreFull(f"There is no room for {self.name}. The copy was undone.") from None
        except apsw.Error as error:
            raise SetupError(
                f"The table {table.name} of {self.name} cannot hold what is copied: {error}. The copy "
                "was undone."
            ) from error

    async def go_on(self) -> None:
        """Positions go on behind the newest that is in the tables, whoever opens the file."""

    @asynccontextmanager
    async def writing(self, tables: Sequence[Table]) -> AsyncIterator[None]:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            execute("DELETE FROM feed WHERE forgotten_position = 0")
            for table in tables:
                found = execute(f"SELECT EXISTS (SELECT 1 FROM {_quoted(table.name)})").get  # noqa: S608
                if found:
                    raise SetupError(
                        f"{self.name} is not empty: there are rows in the table {table.name}. Copy "
                        "into a new one."
                    )
            yield
            execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                execute("ROLLBACK")
        self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)


def _quoted(name: str) -> str:
    return f'"{name}"'


def _canonical(row: Sequence[Any], json_at: Sequence[int]) -> Row:
    values = list(row)
    for n in json_at:
        if values[n] is not None:
            values[n] = dump_json(_in_order(json.loads(values[n])))
    return tuple(values)


def _in_order(value: Any) -> Any:
    return dict(sorted(value.items())) if isinstance(value, dict) else value
