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

`numbered_rows(…)` has the place of each row as `number` besides. One statement for many rows is not a
matter of taste: see the head of `sqlite/writer.py`.
"""

import dataclasses
import enum
import functools
import re
from collections.abc import Mapping
from pathlib import Path

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
_FIELD = re.compile(r":([a-z]\w*)")
_COMMENT = re.compile(r"^\s*--.*$\n?", re.MULTILINE)


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
    text = _CONSTANT.sub(lambda use: str(int(_ENUMS[use[1]][use[2]])), source)
    return Query(name, parse_moves(moves), source, _ROWS.sub(_unnested, text))


def _filled(body: str, fragments: Mapping[str, str]) -> str:
    return _FRAGMENT.sub(lambda use: fragments[use[1]], body)


def _unnested(rows: re.Match[str]) -> str:
    fields = _names_and_types(rows[2])
    arrays = ", ".join(f"${n}::{type_}[]" for n, type_ in enumerate(fields.values(), 1))
    names = ", ".join([*fields, "number"] if rows[1] else fields)
    return f"unnest({arrays}){' WITH ORDINALITY' if rows[1] else ''} AS given ({names})"


def _names_and_types(fields: str) -> dict[str, str]:
    """The fields of `rows(…)`, each with its type."""
    pairs = (field.split(maxsplit=1) for field in fields.split(","))
    return {name: " ".join(type_.split()) for name, type_ in pairs}
