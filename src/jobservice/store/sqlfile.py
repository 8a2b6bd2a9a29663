"""Named queries in `.sql` files beside the code that runs them.

    -- name: claim_jobs  moves: QUEUED -> RUNNING
    -- Lease the jobs to one worker.
    UPDATE jobs SET state = {State.RUNNING} ... WHERE state = {State.QUEUED}

The header says which moves of `model/lifecycle.py` the statement makes (several are separated by
`;`, alternatives by `|`, further `-- moves:` lines go on), and a test holds it to the statement and
to the table. `{State.QUEUED}`, `{EventKind.DUE}` and `{AttemptState.RUNNING}` stand for the numbers.
`{{job_columns}}` puts in the text under `-- fragment: job_columns`, which may have others in it.

A statement over many rows marks what is repeated, with the fields by name:

    VALUES /*each*/ (:tenant, :job_id, {State.QUEUED}) /*end*/

`Query.for_rows(3)` repeats it three times with `?`, to be bound to one flat sequence. On PostgreSQL
the fields come with their types, each is bound as an array, and the statement is always the same:

    SELECT * FROM rows(tenant text, job_id text)

`numbered_rows(…)` has the place of each row as `number` besides. Fields behind a semicolon are only
written, never compared: where all rows have the same value in one, `Query.bound` passes it once. Rows
are wide and mostly alike, and an array costs PostgreSQL more than the column of the table that it fills.
A field that the rest of the statement does not name, because only another store needs it, is not passed
at all.

    SELECT * FROM rows(tenant text, job_id text; state smallint, started_us bigint)
    SELECT * FROM rows(; tenant text, job_id text)

One statement for many rows is not a matter of taste: see the head of `sqlite/writer.py`.
"""

import dataclasses
import enum
import functools
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from jobservice.model.event import EventKind
from jobservice.model.job import AttemptState
from jobservice.model.lifecycle import State
from jobservice.model.limit import LimitKind
from jobservice.model.operation import OperationState
from jobservice.model.queue import PauseMode

Moves = tuple[tuple[str, str], ...]
"""Pairs of states by name; the first is empty where the job comes to be."""

_ENUMS: Mapping[str, type[enum.IntEnum]] = {
    "State": State,
    "EventKind": EventKind,
    "AttemptState": AttemptState,
    "LimitKind": LimitKind,
    "PauseMode": PauseMode,
    "OperationState": OperationState,
}
_HEADER = re.compile(r"^-- (name|fragment): (\w+)(?: +moves: (.*))?$", re.MULTILINE)
_MORE_MOVES = re.compile(r"^-- +moves: (.*)$", re.MULTILINE)
_CONSTANT = re.compile(
    r"\{(State|EventKind|AttemptState|LimitKind|PauseMode|OperationState)\.(\w+)\}"
)
_FRAGMENT = re.compile(r"\{\{(\w+)\}\}")
_EACH = re.compile(r"/\*each\*/(.*?)/\*end\*/", re.DOTALL)
_ROWS = re.compile(r"\b(numbered_)?rows\(([^()]*)\)")
_NOTHING = (None,)
_ALL = re.compile(r"SELECT \*")
_WORD = re.compile(r"\w+")
_FIELD = re.compile(r":([a-z]\w*)")
_COMMENT = re.compile(r"^\s*--.*$\n?", re.MULTILINE)

FEW = 8
"""Of so few rows only a single one has its values passed once: what several have in common is chance."""
VARIANTS = 16
"""How many sets of columns that are alike get a statement of their own; each is prepared, and kept."""


@dataclasses.dataclass(frozen=True)
class Query:
    """A statement with a name."""

    name: str
    moves: Moves
    source: str
    """As written, with the constants still by name."""
    text: str
    """Ready to run, unless it is over many rows."""

    @functools.cached_property
    def fields(self) -> tuple[str, ...]:
        """What one row is made of, in order; empty where the statement is not over many rows."""
        each = _EACH.search(self.source)
        return tuple(_FIELD.findall(each[1])) if each else tuple(self.types)

    @functools.cached_property
    def types(self) -> Mapping[str, str]:
        """The fields with their types, where the statement has these."""
        rows = _ROWS.search(self.source)
        return _names_and_types(rows[2]) if rows else {}

    def bound(self, rows: Sequence[Sequence[Any]]) -> tuple[str, Sequence[Any]]:
        """The statement over rows, of which there is at least one, and what is bound to it.

        A column is an array; one that is only written is one value where all rows have the same. A
        statement that is not over many rows takes one row as it is.
        """
        if not self.fields:
            [values] = rows
            return self.text, values
        columns, count = list(zip(*rows, strict=True)), len(rows)
        alike = self._unused
        for n in alike:
            columns[n] = _NOTHING
        if self._written and (count == 1 or count >= FEW):
            found = {n for n in self._written if columns[n].count(columns[n][0]) == count}
            if len(alike | found) == len(columns):
                found.remove(0)  # a row comes out of an array
            alike = self._variant(alike | found)
        return self._variants[alike], [
            column[0] if n in alike else list(column) for n, column in enumerate(columns)
        ]

    def _variant(self, alike: frozenset[int]) -> frozenset[int]:
        """Those columns of `alike` that have a statement: all, or as many as one that is there has."""
        if alike in self._variants:
            return alike
        if len(self._variants) < VARIANTS:
            self._variants[alike] = _ROWS.sub(
                functools.partial(_unnested, alike=alike), _numbers(self.source)
            )
            return alike
        return max((known for known in self._variants if known <= alike), key=len)

    @functools.cached_property
    def _variants(self) -> dict[frozenset[int], str]:
        """The statements by the columns that are one value."""
        return {self._unused: self.text}

    @functools.cached_property
    def _unused(self) -> frozenset[int]:
        """The places of the fields that the statement does not use; another store does."""
        return _unused(self.source)

    @functools.cached_property
    def _written(self) -> range:
        """The places of the fields that are only written."""
        rows = _ROWS.search(self.source)
        if rows is None or ";" not in rows[2]:
            return range(0)
        compared = rows[2].partition(";")[0]
        return range(len(_names_and_types(compared)), len(self.types))

    def for_rows(self, count: int) -> str:
        """The statement over so many rows, with `?` for each field of each row."""
        return _for_rows(self.text, count)


@functools.lru_cache(maxsize=4096)
def _for_rows(text: str, count: int) -> str:
    def repeated(each: re.Match[str]) -> str:
        row = _FIELD.sub("?", each[1]).strip()
        return ", ".join([row] * count)

    return _EACH.sub(repeated, text, count=1)


def load(*paths: Path) -> dict[str, Query]:
    """All queries of some files by name; fragments may be used across them.

    Raises:
        ValueError: two have the same name.
    """
    sections = [section for path in paths for section in _sections(path.read_text("utf-8"))]
    names = [name for _, name, _, _ in sections]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two queries of one name: {', '.join(sorted(twice))}")
    parts = {name: body for kind, name, _, body in sections if kind == "fragment"}
    fragments = {name: _filled(body, parts) for name, body in parts.items()}
    return {
        name: _query(name, moves, body, fragments)
        for kind, name, moves, body in sections
        if kind == "name"
    }


def parse_moves(text: str) -> Moves:
    """The pairs that a header such as `A | B -> C; C -> D` stands for."""
    pairs = []
    for move in filter(None, (each.strip() for each in text.split(";"))):
        sources, _, targets = move.partition("->")
        pairs += [
            (source.strip(), target.strip())
            for source in sources.split("|")
            for target in targets.split("|")
        ]
    return tuple(pairs)


def _sections(text: str) -> list[tuple[str, str, str, str]]:
    """Kind, name, moves and body of each section of a file."""
    headers = list(_HEADER.finditer(text))
    ends = [header.start() for header in headers[1:]] + [len(text)]
    sections = []
    for header, end in zip(headers, ends, strict=True):
        body = text[header.end() : end]
        moves = "; ".join([header[3] or "", *_MORE_MOVES.findall(body)])
        sections.append((header[1], header[2], moves, _COMMENT.sub("", body).strip()))
    return sections


def _query(name: str, moves: str, body: str, fragments: Mapping[str, str]) -> Query:
    source = _filled(body, fragments)
    unnested = functools.partial(_unnested, alike=_unused(source))
    return Query(name, parse_moves(moves), source, _ROWS.sub(unnested, _numbers(source)))


def _numbers(source: str) -> str:
    """A statement with its constants as numbers."""
    return _CONSTANT.sub(lambda use: str(int(_ENUMS[use[1]][use[2]])), source)


def _filled(body: str, fragments: Mapping[str, str]) -> str:
    return _FRAGMENT.sub(lambda use: fragments[use[1]], body)


def _unused(source: str) -> frozenset[int]:
    """The places of the fields of `rows(…)` that the rest of a statement does not name."""
    rows = _ROWS.search(source)
    rest = _ROWS.sub("", source)
    if rows is None or _ALL.search(rest):
        return frozenset()
    words = set(_WORD.findall(rest))
    fields = _names_and_types(rows[2])
    return frozenset(n for n, name in enumerate(fields) if n and name not in words)


def _unnested(rows: re.Match[str], alike: Collection[int]) -> str:
    """What `rows(…)` stands for; the columns at the places of `alike` are one value."""
    fields = _names_and_types(rows[2])
    numbered = list(enumerate(fields.items()))
    arrays = ", ".join(f"${n + 1}::{type_}[]" for n, (_, type_) in numbered if n not in alike)
    names = [name for n, name in enumerate(fields) if n not in alike]
    source = f"unnest({arrays}){' WITH ORDINALITY' if rows[1] else ''} AS given"
    if not alike:
        return f"{source} ({', '.join([*names, 'number'] if rows[1] else names)})"
    columns = ", ".join(
        f"${n + 1}::{type_} AS {name}" if n in alike else name for n, (name, type_) in numbered
    )
    return f"(SELECT {columns} FROM {source} ({', '.join(names)})) AS given"  # noqa: S608


def _names_and_types(fields: str) -> dict[str, str]:
    """The fields of `rows(…)`, each with its type."""
    given = fields.replace(";", ",").strip(" \n,")
    pairs = [field.split(maxsplit=1) for field in given.split(",")] if given else []
    return {name: " ".join(type_.split()) for name, type_ in pairs}
