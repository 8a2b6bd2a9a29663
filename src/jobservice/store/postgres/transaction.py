"""One write transaction on PostgreSQL: statements over many rows, changes told, locks in one order.

Whoever draws a position holds the lock of all positions until its commit (`next_position()` in the
schema). So whatever tells a change is kept until everything else is written (`flush`): the lock is
held for as short as can be, and nobody waits for anything else while holding it. The numbers that verbs
pass around before are places within the transaction.

The locks of a transaction, in order: the schedules and then the jobs that its calls name, by tenant
and id; schedules and jobs that it finds by itself, without waiting for any (SKIP LOCKED); the lock of
claims, limits and turns; request ids and the end of the feed; the positions. Only request ids, and jobs
that a schedule ends to make another, may be asked for by two servers in two orders: one of the two is
undone and run again.
"""

from collections.abc import Sequence
from typing import Any

from jobservice.model.job import Job
from jobservice.store.port import JobKey
from jobservice.store.postgres import reads
from jobservice.store.postgres.connect import Connection
from jobservice.store.postgres.queries import QUERIES
from jobservice.store.verbs.group import Calls, Savepoints
from jobservice.store.verbs.touched import jobs_of, schedules_of
from jobservice.store.verbs.transaction import EventRow, Row

_TELLING = frozenset({"record_progress", "insert_tombstones"})
"""Statements that tell changes, besides `insert_events`."""


class Transaction(Savepoints):
    """What is open between BEGIN and COMMIT on the connection that writes."""

    def __init__(self, connection: Connection) -> None:
        self.changed = False
        """Whether a change was told."""
        self._connection = connection
        self._told = 0
        self._events: list[Row] = []
        self._kept: list[tuple[str, Sequence[Row]]] = []

    async def lock_first(self, batch: Calls) -> None:
        """Lock the schedules and jobs that several calls are about, in the order that all servers share.

        One after the other the calls would lock them in any order, and two servers that want the same
        jobs would wait for each other until PostgreSQL notices, a second later.
        """
        if len(batch) > 1:
            await self.read("lock_schedules", sorted(schedules_of(batch)))
            await self.read("lock_jobs", sorted(jobs_of(batch)))

    def record(self, event: EventRow) -> int:
        position = self.next_position()
        self._events.append((position, *event))
        return position

    def next_position(self) -> int:
        self._told += 1
        return self._told - 1

    def told(self) -> set[tuple[str, str]]:
        told = {(tenant, job_id) for _, _, tenant, job_id, *_ in self._events}
        progress = [rows for name, rows in self._kept if name == "record_progress"]
        return told | {(row[0], row[1]) for rows in progress for row in rows}

    async def write(self, name: str, rows: Sequence[Row]) -> int:
        if not rows:
            return 0
        if name in _TELLING:
            self._kept.append((name, rows))
            return len(rows)
        return await self._write(name, rows)

    async def _write(self, name: str, rows: Sequence[Row]) -> int:
        query = QUERIES[name]
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

    async def alone(self) -> bool:
        await self.read_all("lock_claims")
        return True

    async def find_job(self, key: JobKey) -> Job | None:
        return await reads.find_job(self._connection, key)

    async def find_jobs(self, keys: Sequence[JobKey]) -> list[Job | None]:
        return await reads.find_jobs(self._connection, keys, "find_jobs_basic")

    async def flush(self) -> None:
        """Write what tells changes, each with its position."""
        events = [("insert_events", self._events)] if self._events else []
        telling = [*self._kept, *events]
        if not telling:
            return
        positions: Sequence[int | None] = [None] * self._told
        if len(telling) > 1:
            drawn = await self.read_all("draw_positions", self._told)
            positions = [position for [position] in drawn]
        for name, rows in telling:
            place = QUERIES[name].fields.index("position")
            await self._write(
                name, [(*row[:place], positions[row[place]], *row[place + 1 :]) for row in rows]
            )
        self.changed = True
        self._told, self._events, self._kept = 0, [], []

    async def begin_part(self) -> None:
        await self._connection.execute("SAVEPOINT part")

    async def keep_part(self) -> None:
        await self.flush()
        await self._connection.execute("RELEASE SAVEPOINT part")

    async def undo_part(self) -> None:
        await self._connection.execute("ROLLBACK TO SAVEPOINT part")
        await self._connection.execute("RELEASE SAVEPOINT part")
        self._told, self._events, self._kept = 0, [], []


def _arrays(rows: Sequence[Row]) -> list[list[Any]]:
    """The columns of rows, as a statement over many rows takes them."""
    return [list(column) for column in zip(*rows, strict=True)]
