"""Stores with many jobs, which the database makes as copies of two."""

import contextlib
import dataclasses
import datetime as dt
import os
import random
from collections.abc import AsyncIterator

import apsw

from bench.workplace import Workplace
from jobservice.clock import from_us
from jobservice.engine.finish import settler
from jobservice.engine.submit import new_job
from jobservice.model.attempt import Cause, Outcome
from jobservice.model.ids import job_id
from jobservice.model.queue import AGEING_S_PER_POINT
from jobservice.model.spec import Command, JobSpec
from jobservice.store.port import AttemptEnd, AttemptStart, Store
from jobservice.store.sqlite.connect import open_writer
from jobservice.store.sqlite.store import SqliteStore

NOW = from_us(1_700_000_000_000_000)
LEASE = dt.timedelta(hours=1)
TENANT = "default"
TEAMS = 10
"""The jobs carry the label `team`, which is one of so many."""


@dataclasses.dataclass(frozen=True)
class Amount:
    """How many jobs a store holds."""

    queued: int
    finished: int = 0

    def __str__(self) -> str:
        finished = f" and {self.finished:,} finished" if self.finished else ""
        return f"{self.queued:,} queued{finished}"


@contextlib.asynccontextmanager
async def filled(place: Workplace, amount: Amount) -> AsyncIterator[SqliteStore]:
    """A store with so many jobs, all of them copies of two that it took itself."""
    path = place.path("filled.db")
    store = await SqliteStore.open(path)
    queued, finished = await originals(store)
    await store.close()
    with contextlib.closing(open_writer(path)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        _copy(connection, finished, amount.finished, first=1)
        _copy(connection, queued, amount.queued, first=1 + amount.finished)
    with path.open("rb") as file:
        os.fsync(file.fileno())
    store = await SqliteStore.open(path)
    try:
        yield store
    finally:
        await store.close()


async def originals(store: Store) -> tuple[str, str]:
    """A job that waits, and one that has ended."""
    spec = JobSpec(Command(("/bin/true", "of", "the", "bench")))
    jobs = [new_job(TENANT, job_id(0, n), spec, NOW) for n in range(2)]
    await store.insert_jobs(jobs)
    claimed = await store.claim_jobs(worker_id="bench", limit=1, lease_until=NOW + LEASE, now=NOW)
    [claim] = claimed.claims
    await store.start_attempts([AttemptStart(claim.fence, NOW)])
    end = AttemptEnd(claim.fence, Outcome(Cause.EXIT, NOW, NOW, exit_code=0))
    await store.finish_attempts([end], settler(NOW, random.Random(0)), now=NOW)
    [queued] = [job.job_id for job in jobs if job.job_id != claim.fence.job_id]
    return queued, claim.fence.job_id


def _copy(connection: apsw.Connection, original: str, count: int, first: int) -> None:
    """Copies of a job a millisecond apart, in all tables that a claim may read."""
    for table in _tables(connection):
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        connection.execute(
            "WITH RECURSIVE numbers (n) AS (SELECT :first UNION ALL SELECT n + 1 FROM numbers"
            " WHERE n + 1 < :first + :count)"
            f" INSERT INTO {table} ({', '.join(columns)})"
            f" SELECT {', '.join(_CHANGED.get(name, name) for name in columns)}"
            f" FROM numbers CROSS JOIN (SELECT * FROM {table} WHERE job_id = :original)"
            " WHERE :count > 0",
            {"first": first, "count": count, "original": original},
        )


def _tables(connection: apsw.Connection) -> list[str]:
    """Those with rows about a job, but for the events, which are appended to and not read."""
    names = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND EXISTS"
        " (SELECT 1 FROM pragma_table_info(sqlite_schema.name) AS info WHERE info.name = 'job_id')"
        " AND name NOT IN ('events', 'progress', 'tombstones')"
    )
    return [name for (name,) in names]


_LATER = {
    name: f"{name} + n * 1000" for name in ("created_us", "queued_us", "updated_us", "ended_us")
}
_CHANGED = {
    **_LATER,
    "job_id": "printf('j%026d', n)",
    "priority": "n % 3 * 50",
    "labels": f"json_object('team', 't' || (n % {TEAMS}))",
    "claim_key": f"claim_key + n * 1000 - n % 3 * 50 * {AGEING_S_PER_POINT * 1_000_000}",
}
"""What differs between the copies: time, id, one of three priorities, and the label."""
