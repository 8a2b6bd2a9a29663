"""What a claim costs on PostgreSQL: with many jobs queued, and behind an open transaction."""

import contextlib
import datetime as dt
import itertools
import random
import statistics
import time
from collections.abc import AsyncIterator

import asyncpg
import uvloop

from bench.filled import NOW, TENANT, Amount, originals
from bench.postgres import empty_database
from bench.report import Ratio, Row, Samples
from bench.rows.claim import CLAIMS, FEW, LIMIT, in_turns
from bench.workplace import Workplace
from jobservice.engine.finish import settler
from jobservice.engine.submit import new_job
from jobservice.model.attempt import Cause, Outcome
from jobservice.model.ids import job_id
from jobservice.model.limit import Limit, LimitKind
from jobservice.model.queue import AGEING_S_PER_POINT
from jobservice.model.spec import Command, JobSpec
from jobservice.store.port import AttemptEnd
from jobservice.store.postgres.store import PostgresStore

FLOW = 100
HELD_S = 36
"""How long leases are kept, as with the settings that the service has by itself."""
"""How many jobs flow through together."""
WAITING = 1_000
SPEC = JobSpec(Command(("/bin/true", "of", "the", "bench")))


def measure_claim(place: Workplace) -> list[Row]:
    """The time of a claim, its commit included, in turns in two databases."""
    return uvloop.run(_measure_claim(place))


async def _measure_claim(place: Workplace) -> list[Row]:
    many = Amount(place.amount(1_000_000, 100_000))
    async with _filled(place, Amount(FEW)) as small, _filled(place, many) as large:
        return [await in_turns(place, "postgres_claim", small, large, many, required=1.3)]


@contextlib.asynccontextmanager
async def _filled(place: Workplace, amount: Amount) -> AsyncIterator[PostgresStore]:
    """A store with so many jobs queued, copies of one; nobody has gathered statistics of it."""
    url = await empty_database(place, f"queued_{amount.queued}")
    store = await PostgresStore.open(url)
    original, _ = await originals(store)
    connection = await asyncpg.connect(url)
    await connection.execute("SET synchronous_commit = off")
    for table in ("jobs", "job_specs"):
        await _copy(connection, table, original, amount.queued)
    await connection.close()
    await store.close()
    store = await PostgresStore.open(url)  # whose plans are of now
    try:
        yield store
    finally:
        await store.close()


async def _copy(connection: asyncpg.Connection, table: str, original: str, count: int) -> None:
    """Copies of a job a millisecond apart, of three priorities, in one table."""
    columns = [
        name
        for (name,) in await connection.fetch(
            "SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0"
            " AND NOT attisdropped ORDER BY attnum",
            table,
        )
    ]
    await connection.execute(
        f"INSERT INTO {table} ({', '.join(columns)})"
        f" SELECT {', '.join(_CHANGED.get(name, name) for name in columns)}"
        f" FROM generate_series(1, $2::integer) AS n CROSS JOIN {table} WHERE job_id = $1",
        original,
        count,
    )


_CHANGED = {
    **{name: f"{name} + n * 1000" for name in ("created_us", "queued_us", "updated_us")},
    "job_id": "'j' || lpad(n::text, 26, '0')",
    "priority": "n % 3 * 50",
    "claim_key": f"claim_key + n * 1000 - n % 3 * 50 * {AGEING_S_PER_POINT * 1_000_000}::bigint",
}
"""What differs between the copies."""


def measure_held(place: Workplace) -> list[Row]:
    """The time of a claim before and after jobs flowed behind an open transaction."""
    return uvloop.run(_measure_held(place))


async def _measure_held(place: Workplace) -> list[Row]:
    jobs = place.amount(60_000, 6_000)
    what = f"claim of {LIMIT} behind a transaction held open for {jobs:,} jobs / before it"
    plain = await _held(place, jobs, None)
    limited = await _held(place, jobs, Limit("", LimitKind.SERVICE, max_running=WAITING))
    return [
        Row("postgres_held", what, *plain, Ratio(_medians(*plain), required=2.0, at_most=True)),
        Row("", "… under a limit", *limited, Ratio(_medians(*limited), required=2.0, at_most=True)),
    ]


def _medians(after: Samples, before: Samples) -> list[float]:
    return [statistics.median(after.values) / statistics.median(before.values)]


async def _held(place: Workplace, jobs: int, limit: Limit | None) -> tuple[Samples, Samples]:
    """The times of claims behind and before so many jobs."""
    url = await empty_database(place, "held_limited" if limit else "held")
    store = await PostgresStore.open(url)
    if limit is not None:
        await store.save_limit(limit, now=NOW)
    flow = _Flow(store)
    await flow.insert(WAITING)
    for _ in range(10):
        await flow.through(FLOW)
    before = await flow.claims()
    holder = await asyncpg.connect(url)
    async with holder.transaction(isolation="repeatable_read"):
        await holder.fetchval("SELECT count(*) FROM jobs")
        for _ in range(0, jobs, FLOW):
            await flow.through(FLOW)
        after = await flow.claims()
    await holder.close()
    await store.close()
    return Samples(after, "ms"), Samples(before, "ms")


class _Flow:
    """Jobs that come, run and go, the oldest first, while always as many wait; 100 a second."""

    def __init__(self, store: PostgresStore) -> None:
        self._store = store
        self._numbers = itertools.count()
        self._rng = random.Random(0)
        self._now = NOW

    async def insert(self, count: int) -> None:
        """Jobs come, each a hundredth of a second after the one before."""
        new = [
            new_job(TENANT, job_id(n, self._rng.getrandbits(74)), SPEC, self._at(n))
            for n in itertools.islice(self._numbers, count)
        ]
        self._now = new[-1].created_at
        await self._store.insert_jobs(new)

    async def through(self, count: int) -> float:
        """As many come, are claimed, and end; returns how many milliseconds the claim took."""
        await self.insert(count)
        now = self._now
        begin = time.perf_counter()
        claimed = await self._store.claim_jobs(
            worker_id="bench", limit=count, lease_until=now + dt.timedelta(seconds=HELD_S), now=now
        )
        took_ms = 1000 * (time.perf_counter() - begin)
        assert len(claimed.claims) == count
        outcome = Outcome(Cause.EXIT, now, now, exit_code=0)
        ends = [AttemptEnd(each.fence, outcome) for each in claimed.claims]
        await self._store.finish_attempts(ends, settler(now, self._rng), now=now)
        return took_ms

    async def claims(self) -> list[float]:
        """The milliseconds of claims of `LIMIT`."""
        return [await self.through(LIMIT) for _ in range(CLAIMS)]

    def _at(self, number: int) -> dt.datetime:
        return NOW + dt.timedelta(milliseconds=10 * number)
