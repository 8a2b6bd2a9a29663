"""One write transaction on SQLite: statements over many rows, events, positions."""

from collections.abc import Sequence
from typing import Any

import apsw

from jobservice.model.job import Job
from jobservice.store.port import JobKey
from jobservice.store.rows import parse_json
from jobservice.store.sqlite.connect import ROWS_A_STATEMENT
from jobservice.store.sqlite.queries import QUERIES
from jobservice.store.sqlite.reads import find_job, find_jobs
from jobservice.store.verbs.group import Savepoints
from jobservice.store.verbs.transaction import EventRow, Row


class Transaction(Savepoints):
    """What is open between BEGIN and COMMIT on the one connection that writes.

    `position` is that of the newest change. Events are gathered and written as one statement right
    before the commit (`flush`).
    """

    def __init__(self, connection: apsw.Connection, position: int) -> None:
        self.position = position
        self._connection = connection
        self._events: list[Row] = []
        self._mark = position, 0

    def record(self, event: EventRow) -> int:
        self.position += 1
        self._events.append((self.position, *event))
        return self.position

    def next_position(self) -> int:
        self.position += 1
        return self.position

    def told(self) -> set[tuple[str, str]]:
        return {(tenant, job_id) for _, _, tenant, job_id, *_ in self._events}

    async def write(self, name: str, rows: Sequence[Row]) -> int:
        query, execute, changed = QUERIES[name], self._connection.execute, 0
        for begin in range(0, len(rows), ROWS_A_STATEMENT):
            chunk = rows[begin : begin + ROWS_A_STATEMENT]
            execute(query.for_rows(len(chunk)), [value for row in chunk for value in row])
            changed += self._connection.changes()
        return changed

    async def read(self, name: str, rows: Sequence[Row]) -> list[list[Any]]:
        query = QUERIES[name]
        found: list[list[Any]] = []
        for begin in range(0, len(rows), ROWS_A_STATEMENT):
            chunk = rows[begin : begin + ROWS_A_STATEMENT]
            values = [value for row in chunk for value in row]
            found += self._answers(query.for_rows(len(chunk)), values)
        return found

    async def read_all(self, name: str, *values: object) -> list[list[Any]]:
        return self._answers(QUERIES[name].text, values)

    def _answers(self, sql: str, values: Sequence[Any]) -> list[list[Any]]:
        """What a query answers with: one JSON array of rows."""
        found: list[list[Any]] = parse_json(self._connection.execute(sql, values).get)
        return found

    async def alone(self) -> bool:
        return False  # there is one writer

    async def find_held(self, now_us: int) -> list[list[Any]]:
        del now_us
        return await self.read_all("find_held")

    async def find_job(self, key: JobKey) -> Job | None:
        return find_job(self._connection, key)

    async def find_jobs(self, keys: Sequence[JobKey]) -> list[Job | None]:
        return find_jobs(self._connection, keys, "find_jobs_basic")

    async def flush(self) -> None:
        """Write the events that were recorded."""
        if self._events:
            await self.write("insert_events", self._events)
            self._events = []

    async def begin_part(self) -> None:
        self._mark = self.position, len(self._events)
        self._connection.execute("SAVEPOINT part")

    async def keep_part(self) -> None:
        self._connection.execute("RELEASE part")

    async def undo_part(self) -> None:
        self._connection.execute("ROLLBACK TO part")
        self._connection.execute("RELEASE part")
        self.position, count = self._mark
        del self._events[count:]
