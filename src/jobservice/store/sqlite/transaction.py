"""One write transaction, as the verbs see it: statements over many rows, events, positions."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import apsw

from jobservice.errors import Internal
from jobservice.model.event import EventKind
from jobservice.store.rows import parse_json
from jobservice.store.sqlfile import Query

ROWS_A_STATEMENT = 128
"""How many rows are bound to one statement at most."""

Row = Sequence[Any]


class EventRow(NamedTuple):
    """Everything of an event but its position, in the order of `insert_events`."""

    previous_position: int | None
    """Of the event before it of the same job."""
    tenant: str
    job_id: str
    revision: int
    kind: EventKind
    state: int
    previous_state: int | None
    at_us: int
    attempt: int = 0
    reason: int = 0
    message: str = ""
    exit_code: int | None = None
    signal: int | None = None
    start_us: int | None = None


class Transaction:
    """What is open between BEGIN and COMMIT on the one connection that writes.

    `position` is that of the newest change. Events are gathered and written as one statement right
    before the commit (`flush`).
    """

    def __init__(self, connection: apsw.Connection, position: int, insert_events: Query) -> None:
        self.connection = connection
        self.position = position
        self._insert_events = insert_events
        self._events: list[Row] = []

    def record(self, event: EventRow) -> int:
        """Tell a change; returns its position, for the job's `last_position`."""
        self.position += 1
        self._events.append((self.position, *event))
        return self.position

    def next_position(self) -> int:
        """The position of a change that is told by another table than `events`."""
        self.position += 1
        return self.position

    def write(self, query: Query, rows: Sequence[Row]) -> int:
        """Run a statement over rows; returns how many rows of the database it changed."""
        execute, changed = self.connection.execute, 0
        for begin in range(0, len(rows), ROWS_A_STATEMENT):
            chunk = rows[begin : begin + ROWS_A_STATEMENT]
            execute(query.for_rows(len(chunk)), [value for row in chunk for value in row])
            changed += self.connection.changes()
        return changed

    def change(self, query: Query, rows: Sequence[Row]) -> None:
        """Run a statement that must change exactly one row of the database for each of `rows`.

        Raises:
            Internal: its guard stopped it, though what was read in this transaction allowed it.
        """
        changed = self.write(query, rows)
        if changed != len(rows):
            raise Internal(f"{query.name} changed {changed} rows of {len(rows)}.")

    def read(self, query: Query, rows: Sequence[Row]) -> list[list[Any]]:
        """Run a query over rows that answers with JSON arrays of its answers; returns these."""
        found: list[list[Any]] = []
        for begin in range(0, len(rows), ROWS_A_STATEMENT):
            chunk = rows[begin : begin + ROWS_A_STATEMENT]
            values = [value for row in chunk for value in row]
            found += parse_json(self.scalar(query.for_rows(len(chunk)), values))
        return found

    def read_all(self, query: Query, *values: object) -> list[list[Any]]:
        """Run a query that answers with one JSON array of its answers; returns these."""
        found: list[list[Any]] = parse_json(self.scalar(query.text, values))
        return found

    def scalar(self, sql: str, values: Sequence[Any]) -> Any:
        """The one value that a query answers with."""
        return self.connection.execute(sql, values).get

    def flush(self) -> None:
        """Write the events that were recorded."""
        if self._events:
            self.write(self._insert_events, self._events)
            self._events = []

    def mark(self) -> tuple[int, int]:
        """Where to go back to with `restore`."""
        return self.position, len(self._events)

    def restore(self, mark: tuple[int, int]) -> None:
        """Forget the changes told since `mark`; the caller has undone them in the database."""
        self.position, count = mark
        del self._events[count:]
