"""A whole store copied into an empty one of the other kind, and compared row by row.

What there is to copy is read from the two schemas, never listed here: a table or a column that one of
them has and the other has not is refused, so none can be forgotten. Rows come in the order of their
keys, a batch at a time, and with values that are the same whichever store they are read from. Everything
is written in one transaction of the target, then read back and compared by count and checksum within it:
a copy that is not the same is undone whole.
"""

import dataclasses
import enum
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from jobservice.errors import SetupError

BATCH_ROWS = 1_000
BATCH_BYTES = 4 << 20
"""How much is read at a time, or a little more."""
LEDGER = "schema_migrations"
"""A table that is not copied: each store says for itself what was applied to it."""
SQLITE_ONLY = frozenset({("jobs", "last_position"), ("events", "previous_position")})
"""Columns that PostgreSQL has no need of. It finds an event by its job and revision, and so tells what
they hold."""

Row = tuple[Any, ...]


class Kind(enum.Enum):
    """What a column holds, and how its values are written here."""

    INTEGER = "int"
    REAL = "float"
    TEXT = "str"
    BYTES = "bytes"
    BOOLEAN = "0 or 1"
    JSON = "a JSON text without space, its names in order"


_PLAIN = {Kind.BOOLEAN: Kind.INTEGER, Kind.JSON: Kind.TEXT}
"""How SQLite keeps what it has no type for."""


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """A column of both stores, or of the SQLite store alone."""

    name: str
    kind: Kind
    is_derived: bool = False
    """Whether PostgreSQL has none, and tells its value from other rows."""


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """A table of both stores."""

    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """A table as one of the stores has it: the names of its key, and the kinds of its columns."""

    key: tuple[str, ...]
    kinds: Mapping[str, Kind]


@dataclasses.dataclass(frozen=True, slots=True)
class Copied:
    """What was copied of a table."""

    table: str
    rows: int
    sha256: str


class Source(Protocol):
    """A store that is read, as it is at one instant."""

    name: str
    """How it is called where something is wrong with it."""

    async def shapes(self) -> Mapping[str, Shape]:
        """Its tables."""

    def rows(self, table: Table) -> AsyncIterator[Sequence[Row]]:
        """All rows of a table in the order of its key, in batches."""

    def reading(self) -> AbstractAsyncContextManager[None]:
        """A transaction in which all of it is of one instant."""


class Target(Source, Protocol):
    """A store that is empty, and is written."""

    async def insert(self, table: Table, rows: Sequence[Row]) -> None:
        """Add rows.

        Raises:
            SetupError: it cannot hold them.
        """

    async def go_on(self) -> None:
        """Have what is numbered go on behind what was copied."""

    def writing(self, tables: Sequence[Table]) -> AbstractAsyncContextManager[None]:
        """A transaction that is committed at its end, or undone by an error.

        Raises:
            SetupError: one of the tables has rows.
        """


def tables_of(sqlite: Mapping[str, Shape], postgres: Mapping[str, Shape]) -> list[Table]:
    """What there is to copy: every table of the SQLite store, which has no others than ours.

    Raises:
        SetupError: the two schemas are not of the same tables, columns and keys.
    """
    wrong, tables = [], []
    for name, shape in sorted(sqlite.items()):
        other = postgres.get(name)
        if name == LEDGER:
            continue
        if other is None:
            wrong.append(f"PostgreSQL has no table {name}")
            continue
        derived = {column for table, column in SQLITE_ONLY if table == name}
        wrong += [
            f"only one of the two has the column {name}.{column}"
            for column in sorted(set(shape.kinds) ^ set(other.kinds) ^ derived)
        ]
        wrong += [
            f"{name}.{column} is {kind.name} here and {other.kinds[column].name} there"
            for column, kind in shape.kinds.items()
            if _PLAIN.get(other.kinds.get(column, kind), other.kinds.get(column, kind)) is not kind
        ]
        if shape.key != other.key or not shape.key:
            wrong.append(f"the keys of {name} are {shape.key} and {other.key}")
        kinds = {**shape.kinds, **other.kinds}  # PostgreSQL also knows what is true or false
        columns = [Column(each, kinds[each], each in derived) for each in sorted(shape.kinds)]
        tables.append(Table(name, shape.key, tuple(columns)))
    if wrong:
        raise SetupError(f"The two schemas do not agree: {'; '.join(wrong)}.")
    return tables


async def copy(
    source: Source,
    target: Target,
    tables: Sequence[Table],
    tell: Callable[[Copied], None] = lambda _: None,
) -> list[Copied]:
    """Copy all rows of tables; returns what was copied, once it is committed.

    Raises:
        SetupError: the target has rows, cannot hold those of the source, or holds others afterwards.
            Nothing was changed.
    """
    copied = []
    async with target.writing(tables):
        async with source.reading():
            for table in tables:
                digest = _Digest(table)
                async for batch in source.rows(table):
                    digest.add(batch)
                    await target.insert(table, batch)
                copied.append(digest.copied())
                tell(copied[-1])
        for table, expected in zip(tables, copied, strict=True):
            digest = _Digest(table)
            async for batch in target.rows(table):
                digest.add(batch)
            if digest.copied() != expected:
                raise SetupError(_differs(source, target, expected, digest.copied()))
        await target.go_on()
    return copied


def size_of(row: Row) -> int:
    """About how many bytes a row takes."""
    return sum(len(value) if isinstance(value, str | bytes) else 8 for value in row)


class _Digest:
    """The count and the checksum of the rows of a table."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._rows = 0
        self._hash = hashlib.sha256(repr([each.name for each in table.columns]).encode())

    def add(self, rows: Sequence[Row]) -> None:
        """The next rows, in the order of the key. What Python writes of them tells all values apart."""
        self._rows += len(rows)
        for row in rows:
            self._hash.update(repr(row).encode())

    def copied(self) -> Copied:
        """All rows so far."""
        return Copied(self._table.name, self._rows, self._hash.hexdigest())


def _differs(source: Source, target: Source, expected: Copied, found: Copied) -> str:
    return (
        f"The table {expected.table} is not the same after the copy: {source.name} gave {expected.rows} "
        f"rows with the checksum {expected.sha256[:12]}, {target.name} has {found.rows} with "
        f"{found.sha256[:12]}. The copy was undone."
    )
