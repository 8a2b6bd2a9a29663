"""Durable submits in batches on PostgreSQL, beside a bare insert of the same rows, and beside peers."""

import asyncio
import dataclasses
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg
import uvloop

from bench.peers import Peer
from bench.postgres import configuration, empty_database
from bench.report import Ratio, Row, Samples, per_round
from bench.workplace import Workplace
from jobservice.clock import SystemClock
from jobservice.engine.submit import new_job
from jobservice.model.array import ArraySpec
from jobservice.model.ids import RANDOM_BITS, job_id
from jobservice.model.job import NewJob
from jobservice.model.spec import Command, JobSpec
from jobservice.store.postgres.connect import Connection, connect
from jobservice.store.postgres.floors import Floors
from jobservice.store.postgres.migrate import upgrade
from jobservice.store.postgres.queries import QUERIES
from jobservice.store.postgres.store import PostgresStore
from jobservice.store.postgres.transaction import Transaction
from jobservice.store.verbs import submit
from jobservice.store.verbs.transaction import Row as Values

BATCH = 100
IN_FLIGHT = 4
SPEC = JobSpec(command=Command(("/bin/true", "of", "the", "bench")))
ARRAY = dataclasses.replace(
    SPEC, array=ArraySpec(BATCH, tuple(f"item {n} of the bench" for n in range(BATCH)))
)
DEADLINE_S = 30.0
TABLES = "insert_jobs", "insert_specs"
"""The statements whose rows the bare insert writes, as one row each job."""


def measure(place: Workplace) -> list[Row]:
    """Jobs a second: ours, the bare insert and the peers, in turns."""
    return uvloop.run(_measure(place))


async def _measure(place: Workplace) -> list[Row]:
    calls = place.amount(400, 40)
    url = await empty_database(place, "submit")
    await upgrade(url)
    bare = await _Bare.open(await empty_database(place, "submit_bare"))
    pgqueuer = Peer("peer_pgqueuer", await empty_database(place, "submit_pgqueuer"))
    procrastinate = Peer("peer_procrastinate", await empty_database(place, "submit_procrastinate"))
    for peer in (pgqueuer, procrastinate):
        peer.tell("install")
    store = await PostgresStore.open(url)
    sides: dict[str, Callable[[], Awaitable[float]]] = {
        "ours": lambda: submit_batches(store, calls),
        "arrays": lambda: submit_batches(store, calls, _array),
        "bare": lambda: bare.insert(calls, 1),
        "bare, in flight": lambda: bare.insert(calls, IN_FLIGHT),
        "pgqueuer": lambda: _enqueue(pgqueuer, calls, BATCH, IN_FLIGHT),
        "procrastinate": lambda: _enqueue(procrastinate, calls // 4, BATCH),
    }
    await submit_batches(store, calls // 4)
    await bare.insert(calls // 4, IN_FLIGHT)
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in place.rounds(7, 3):
        order = list(sides)
        for name in order if number % 2 else reversed(order):
            found[name].append(await sides[name]())
    await store.close()
    await bare.close()

    def row(
        name: str, what: str, side: str, ratio: Ratio, unit: str, *notes: str, ours: str = "ours"
    ) -> Row:
        samples = Samples(found[ours], "jobs/s")
        return Row(name, what, samples, Samples(found[side], unit), ratio, notes)

    def against(side: str, ours: str = "ours") -> Sequence[float]:
        return per_round(found[ours], found[side])

    return [
        row(
            "postgres_submit",
            f"durable submits in batches of {BATCH} / bare unnest insert of the same rows",
            "bare",
            Ratio(against("bare"), required=0.4, percent=True),
            "rows/s",
            await configuration(place),
            f"ours writes rows of {len(TABLES) + 1} tables with all their indexes, the bare insert all"
            " columns of the job and its command into one table with its primary key alone, in a loop;"
            f" {IN_FLIGHT} batches are in flight at ours and at PgQueuer",
            "the indices of an array become jobs when their turn comes: see the row of arrays",
        ),
        row(
            "",
            f"… / bare inserts over {IN_FLIGHT} connections",
            "bare, in flight",
            Ratio(against("bare, in flight"), percent=True),
            "rows/s",
        ),
        row("", "… / PgQueuer", "pgqueuer", Ratio(against("pgqueuer"), required=1.0), "jobs/s"),
        row(
            "",
            f"arrays of {BATCH} items / PgQueuer, which has as many payloads for one entrypoint",
            "pgqueuer",
            Ratio(against("pgqueuer", "arrays")),
            "jobs/s",
            ours="arrays",
        ),
        row("", "… / Procrastinate", "procrastinate", Ratio(against("procrastinate")), "jobs/s"),
    ]


def _jobs(rng: random.Random) -> list[NewJob]:
    now = SystemClock().now()
    first = rng.getrandbits(RANDOM_BITS - 1)
    unix_ms = int(now.timestamp() * 1000)
    ids = [job_id(unix_ms, first + n) for n in range(BATCH)]  # as `engine.submit` has them
    return [new_job("default", each, SPEC, now) for each in ids]


def _array(rng: random.Random) -> list[NewJob]:
    now = SystemClock().now()
    new_id = job_id(int(now.timestamp() * 1000), rng.getrandbits(RANDOM_BITS - 1))
    return [new_job("default", new_id, ARRAY, now)]


async def submit_batches(
    store: PostgresStore, calls: int, make: Callable[[random.Random], list[NewJob]] = _jobs
) -> float:
    """Jobs a second through the store, as many a call, however a call says it."""
    rng = random.Random(calls)

    async def some() -> None:
        for _ in range(calls // IN_FLIGHT):
            await store.insert_jobs(make(rng))

    begin = time.perf_counter()
    await asyncio.gather(*[some() for _ in range(IN_FLIGHT)])
    return calls // IN_FLIGHT * IN_FLIGHT * BATCH / (time.perf_counter() - begin)


async def _enqueue(peer: Peer, calls: int, *how: int) -> float:
    return float(await asyncio.to_thread(peer.tell, "enqueue", calls, *how))


class _Bare:
    """The rows of jobs, as the store makes them, put into one table by one statement each batch."""

    def __init__(self, connections: Sequence[Connection]) -> None:
        self._connections = connections
        self._rng = random.Random(1)
        types = {name: type_ for each in TABLES for name, type_ in QUERIES[each].types.items()}
        arrays = ", ".join(f"${n}::{type_}[]" for n, type_ in enumerate(types.values(), 1))
        self._insert = f"INSERT INTO bare SELECT * FROM unnest({arrays})"
        columns = ", ".join(f"{name} {type_}" for name, type_ in types.items())
        self._create = f"CREATE TABLE bare ({columns}, PRIMARY KEY (tenant, job_id))"

    @classmethod
    async def open(cls, url: str) -> "_Bare":
        """The table in a database of its own."""
        bare = cls([await connect(url, DEADLINE_S) for _ in range(IN_FLIGHT)])
        await bare._connections[0].execute(bare._create)
        return bare

    async def insert(self, calls: int, in_flight: int) -> float:
        """Rows a second. They are made before the clock starts."""
        batches = [await self._batch() for _ in range(calls)]
        shares = [batches[n::in_flight] for n in range(in_flight)]
        begin = time.perf_counter()
        await asyncio.gather(*map(self._some, self._connections[:in_flight], shares))
        return calls * BATCH / (time.perf_counter() - begin)

    async def _some(self, connection: Connection, batches: Sequence[Sequence[Any]]) -> None:
        for batch in batches:
            await connection.execute(self._insert, *batch)

    async def _batch(self) -> list[list[Any]]:
        """The columns of a batch."""
        kept = _Kept(self._connections[0])
        await submit.insert_jobs(kept, [submit.insert_call(_jobs(self._rng), None)])
        jobs, specs = (kept.rows[name] for name in TABLES)
        rows = [(*job, *spec[2:]) for job, spec in zip(jobs, specs, strict=True)]
        return [list(column) for column in zip(*rows, strict=True)]

    async def close(self) -> None:
        """Let go of the database."""
        for each in self._connections:
            await each.close()


class _Kept(Transaction):
    """Keeps what a verb would write."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        super().__init__(connection, Floors())
        self.rows: dict[str, Sequence[Values]] = {}

    async def read(self, name: str, rows: Sequence[Values]) -> Sequence[Any]:
        del name, rows
        return []

    async def write(self, name: str, rows: Sequence[Values]) -> int:
        self.rows[name] = rows
        return len(rows)
