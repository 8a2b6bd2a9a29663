"""One write transaction on PostgreSQL: statements over many rows, events.

Positions are drawn by the statements themselves (`next_position()` in the schema), those of events
right before the commit, so the numbers that verbs pass around are all 0 here.
"""

from collections.abc import Sequence
from typing import Any

from jobservice.model.job import Job
from jobservice.store.port import JobKey
from jobservice.store.postgres import reads
from jobservice.store.postgres.connect import Connection
from jobservice.store.postgres.queries import QUERIES
from jobservice.store.verbs.group import Calls, Savepoints
from jobservice.store.verbs.touched import jobs_of
from jobservice.store.verbs.transaction import EventRow, Row

POSITION = 0


class Transaction(Savepoints):
    """What is open between BEGIN and COMMIT on the connection that writes."""

    def __init__(self, connection: Connection) -> None:
        self.changed = False
        """Whether a change was told."""
        self._connection = connection
        self._events: list[Row] = []
        self._mark = 0

    async def lock_first(self, batch: Calls) -> None:
        """Lock the jobs that several calls are about in the order that all servers share.

        One after the other the calls would lock them in any order, and two servers that want the same
        jobs would wait for each other until PostgreSQL notices, a second later.
        """
        if len(batch) > 1:
            await self.read("lock_jobs", sorted(jobs_of(batch)))

    def record(self, event: EventRow) -> int:
        self._events.append((POSITION, *event))
        return POSITION

    def next_position(self) -> int:
        self.changed = True
        return POSITION

    async def write(self, name: str, rows: Sequence[Row]) -> int:
        query = QUERIES[name]
        if not rows:
            return 0
        if query.fields:
            answer = await self._connection.execute(query.text, *_arrays(rows))
        else:
            [values] = rows
            answer = await self._connection.execute(query.text, *values)
        return int(answer.rpartition(" ")[2])  # such as UPDATE 3

    async def read(self, name: str, rows: Sequence[Row]) -> Sequence[Any]:
        if not rows:
            return []
        found: Sequence[Any] = await self._connection.fetch(QUERIES[name].text, *_arrays(rows))
        return found

    async def read_all(self, name: str, *values: object) -> Sequence[Any]:
        found: Sequence[Any] = await self._connection.fetch(QUERIES[name].text, *values)
        return found

    async def find_job(self, key: JobKey) -> Job | None:
        return await reads.find_job(self._connection, key)

    async def flush(self) -> None:
        """Write the events that were recorded."""
        if self._events:
            await self.write("insert_events", self._events)
            self.changed = True
            self._events = []

    async def begin_part(self) -> None:
        self._mark = len(self._events)
        await self._connection.execute("SAVEPOINT part")

    async def end_part(self, *, undo: bool) -> None:
        if undo:
            await self._connection.execute("ROLLBACK TO SAVEPOINT part")
            del self._events[self._mark :]
        await self._connection.execute("RELEASE SAVEPOINT part")


def _arrays(rows: Sequence[Row]) -> list[list[Any]]:
    """The columns of rows, as a statement over many rows takes them."""
    return [list(column) for column in zip(*rows, strict=True)]
