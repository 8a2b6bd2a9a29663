"""One write transaction on PostgreSQL: statements over many rows, changes told, locks in one order.

Whoever draws a position holds the lock of all positions until its commit (`next_position()` in the
schema). So whatever tells a change is kept until everything else is written (`flush`): the lock is
held for as short as can be, and nobody waits for anything else while holding it. The numbers that verbs
pass around before are places within the transaction.

The locks of a transaction, in order: the parts of all unique keys that its calls are about; the
schedules and then the jobs that its calls name or replace, by tenant and id; schedules and jobs that it
finds by itself, without waiting for any (SKIP LOCKED); the lock of claims, limits and turns; request ids
and the end of the feed; the positions. Only request ids, and jobs that a schedule ends to make another,
may be asked for by two servers in two orders: one of the two is undone and run again.
"""

import zlib
from collections.abc import Sequence
from typing import Any

from jobservice.model.job import Job
from jobservice.mutants import mutant
from jobservice.store.port import JobKey
from jobservice.store.postgres import floors, reads
from jobservice.store.postgres.connect import Connection
from jobservice.store.postgres.floors import FIRST_LANE, FIRST_PLACE, Floors
from jobservice.store.postgres.queries import QUERIES
from jobservice.store.verbs.group import Calls, Savepoints
from jobservice.store.verbs.retry import arrays_of
from jobservice.store.verbs.touched import (
    jobs_of,
    replacing_of,
    revived_of,
    schedules_of,
    unique_of,
)
from jobservice.store.verbs.transaction import EventRow, Row
from jobservice.store.verbs.unique import wanted_rows

_TELLING = frozenset({"record_progress", "insert_tombstones"})
"""Statements that tell changes, besides `insert_events`."""

_HINTED = frozenset(
    {
        "insert_schedules",
        "edit_schedules",
        "insert_operations",
        "save_queues",
        "delete_queues",
        "save_limits",
        "delete_limits",
        "request_deletion",
        "wake_jobs",
    }
)
"""Statements that tell no change, and yet there is something to do for whoever leads, or may claim."""

_ASKED = frozenset({"move_jobs", "release_jobs", "retry_jobs", "update_jobs"})
"""Statements that put jobs before others because somebody asked for it, who is not to wait."""

UNIQUE_LOCKS, UNIQUE_PARTS = 7305808869231650200, 64
"""The first number, and how many there are, of the advisory locks that unique keys share."""


class Transaction(Savepoints):
    """What is open between BEGIN and COMMIT on the connection that writes."""

    def __init__(self, connection: Connection, begin_at: Floors) -> None:
        self.changed = False
        """Whether there is something for others to look at."""
        self.leases_us: int | None = None
        """The floor of the leases once this is committed, where it was looked at."""
        self.inserted: list[Sequence[Row]] = []
        """Rows of new jobs, of which the floors are told behind the commit."""
        self._connection = connection
        self._floors = begin_at
        self._told = 0
        self._events: list[tuple[int, EventRow]] = []
        self._kept: list[tuple[str, Sequence[Row]]] = []

    async def begin(self, settings: str) -> None:
        """Begin, with what has to be said in the same round trip."""
        await self._connection.execute(settings)

    async def commit(self) -> None:
        """Make it durable."""
        await self._connection.execute("COMMIT")

    async def lock_first(self, batch: Calls) -> None:
        """Lock the unique keys, schedules and jobs that calls are about, in the order of all servers.

        One after the other the calls would lock them in any order, and two servers that want the same
        jobs would wait for each other until PostgreSQL notices, a second later.
        """
        unique = unique_of(batch)
        if unique:
            await self.read("lock_unique", [(each,) for each in sorted(set(map(_part, unique)))])
        if len(batch) > 1:
            await self.read("lock_schedules", sorted(schedules_of(batch)))
            jobs = jobs_of(batch)
            if unique:
                jobs |= await self._replaced_by(batch)
            jobs |= set(await arrays_of(self, sorted(revived_of(batch))))
            await self.read("lock_jobs", sorted(jobs))

    async def _replaced_by(self, batch: Calls) -> set[tuple[str, str]]:
        """The jobs that have to end for new ones, as far as they are known before."""
        new = replacing_of(batch)
        rows = [row for n, job in enumerate(new) for row in wanted_rows(n, job)]
        found = await self.read("find_duplicates", rows)
        return {(new[n].tenant, job_id) for n, job_id, *_ in found}

    def record(self, event: EventRow) -> int:
        position = self.next_position()
        self._events.append((position, event))
        return position

    def next_position(self) -> int:
        self._told += 1
        return self._told - 1

    def told(self) -> set[tuple[str, str]]:
        told = {(event.tenant, event.job_id) for _, event in self._events}
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
        text, values = QUERIES[name].bound(rows)
        answer = await self._connection.execute(text, *values)
        count = int(answer.rpartition(" ")[2])  # such as UPDATE 3
        self.changed = self.changed or (count > 0 and name in _HINTED)
        if name == "insert_jobs":
            self.inserted.append(rows)
        elif name in _ASKED:
            self._floors.drop()
        return count

    async def read(self, name: str, rows: Sequence[Row]) -> Sequence[Any]:
        if not rows:
            return []
        text, values = QUERIES[name].bound(rows)
        found: Sequence[Any] = await self._connection.fetch(text, *values)
        return found

    async def read_all(self, name: str, *values: Any) -> Sequence[Any]:
        if name == "find_lanes" and values[:4] == FIRST_LANE:
            return await self._find_lanes(*values)
        if name == "find_claimable" and values[4:7] == FIRST_PLACE:
            return await self._find_claimable(*values)
        return await self._read_all(name, *values)

    async def _find_lanes(self, *values: Any) -> Sequence[Any]:
        """All lanes, or those that are known, from their floors on."""
        known = self._floors.known()
        if known:
            found = await self.read("find_lanes_from", [(*each, values[-1]) for each in known])
            return sorted(found, key=lambda lane: tuple(lane[:4]))
        begin_s = self._floors.begin()
        lanes = await self._read_all("find_lanes", *values)
        if self._floors.is_slow(begin_s, lanes):
            [(dead,)] = await self._read_all("count_dead_rows", floors.HELD_S)
            self._floors.keep(begin_s, lanes, dead)
        return lanes

    async def _find_claimable(self, *values: Any) -> Sequence[Any]:
        """The first jobs of a lane, from its floor on."""
        lane, floor = values[:4], self._floors.of(values[:4])
        found = await self._read_all("find_claimable", *lane, *floor, *values[6:])
        if found:
            self._floors.found(lane, (found[0][0], found[0][1]))
        return found

    async def _read_all(self, name: str, *values: object) -> Sequence[Any]:
        found: Sequence[Any] = await self._connection.fetch(QUERIES[name].text, *values)
        return found

    async def alone(self) -> bool:
        if not mutant("limit.not_alone"):
            await self.read_all("lock_claims")
        return True

    async def find_held(self, now_us: int) -> Sequence[Any]:
        """From the floor of the leases on, which is raised once this is committed."""
        floor_us = self._floors.leases_us
        if now_us < floor_us:
            floor_us = 0  # our clock was set back: others may end before, too
        found = await self._read_all("find_held", floor_us)
        earliest_us = min((lease_until_us for *_, lease_until_us in found), default=now_us)
        self.leases_us = min(earliest_us, now_us - floors.APART_US)
        return [held for *held, _ in found]

    async def find_job(self, key: JobKey) -> Job | None:
        return await reads.find_job(self._connection, key)

    async def find_jobs(self, keys: Sequence[JobKey]) -> list[Job | None]:
        return await reads.find_jobs(self._connection, keys, "find_jobs_basic")

    async def flush(self) -> None:
        """Write what tells changes, each with its position."""
        statements = len(self._kept) + bool(self._events)
        if not statements:
            return
        positions: Sequence[int | None] = [None] * self._told
        if statements > 1:
            drawn = await self.read_all("draw_positions", self._told)
            positions = [position for [position] in drawn]
        for name, rows in self._kept:
            place = QUERIES[name].fields.index("position")
            await self._write(
                name, [(*row[:place], positions[row[place]], *row[place + 1 :]) for row in rows]
            )
        if self._events:
            events = [(positions[place], *event) for place, event in self._events]
            await self._write("insert_events", events)
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
        self.leases_us = None


def _part(name: tuple[str, str]) -> int:
    """The lock of a unique key: one of a few, for the room for locks is that of all transactions."""
    return UNIQUE_LOCKS + zlib.crc32("\0".join(name).encode()) % UNIQUE_PARTS
