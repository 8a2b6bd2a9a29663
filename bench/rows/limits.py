"""What limits cost: jobs through a store with a limit of the service and two keys each, beside none."""

import asyncio
import contextlib
import datetime as dt
import itertools
import random
import time
from collections.abc import AsyncIterator

from bench.report import Ratio, Row, Samples, per_round
from bench.workplace import Workplace
from jobservice.clock import from_us
from jobservice.engine.finish import settler
from jobservice.engine.submit import new_job
from jobservice.model.attempt import Cause, Outcome
from jobservice.model.ids import job_id
from jobservice.model.limit import ConcurrencyKey, Limit, LimitKind
from jobservice.model.spec import Command, JobSpec
from jobservice.store.port import AttemptEnd, AttemptStart
from jobservice.store.sqlite.store import SqliteStore

AT_ONCE = 32
"""How many jobs are claimed, started and finished together: those of 32 slots."""
NOW = from_us(1_700_000_000_000_000)
LEASE = dt.timedelta(hours=1)
LIMIT = 10_000
"""Of the service and of each key: counted, and not reached."""
COMMAND = Command(("/bin/true", "of", "the", "bench"))


def measure(place: Workplace) -> list[Row]:
    """Jobs a second from the insert to the recorded end, in turns in two stores."""
    return asyncio.run(_measure(place))


async def _measure(place: Workplace) -> list[Row]:
    jobs = place.amount(8_000, 1_600)
    async with _store(place, "free.db") as free, _store(place, "limited.db") as limited:
        for kind in (LimitKind.SERVICE, LimitKind.TENANT):
            tenant = "" if kind is LimitKind.SERVICE else "default"
            await limited.save_limit(Limit(tenant, kind, max_running=LIMIT), now=NOW)
        for name in ("database", "licence"):
            await limited.save_limit(
                Limit("default", LimitKind.KEY, name, max_running=LIMIT), now=NOW
            )
        numbers = itertools.count()
        for store in (free, limited):
            await _run(store, jobs // 4, numbers, keyed=store is limited)
        ours, reference = [], []
        for number in place.rounds(11, 7):
            first, second = (free, limited) if number % 2 else (limited, free)
            rates = {
                store: await _run(store, jobs, numbers, keyed=store is limited)
                for store in (first, second)
            }
            ours.append(rates[limited])
            reference.append(rates[free])
    return [
        Row(
            "limits",
            "limits of service and tenant, 2 keys a job / none",
            Samples(ours, "jobs/s"),
            Samples(reference, "jobs/s"),
            Ratio(per_round(ours, reference), required=0.95, percent=True),
        )
    ]


async def _run(
    store: SqliteStore, jobs: int, numbers: "itertools.count[int]", *, keyed: bool
) -> float:
    """Jobs a second, through insert, claim, start and finish."""
    keys = (ConcurrencyKey("database"), ConcurrencyKey("licence")) if keyed else ()
    spec = JobSpec(COMMAND, concurrency_keys=keys)
    settle = settler(NOW, random.Random(0))
    begin = time.perf_counter()
    for _ in range(0, jobs, AT_ONCE):
        new = [new_job("default", job_id(0, next(numbers)), spec, NOW) for _ in range(AT_ONCE)]
        await store.insert_jobs(new)
        claimed = await store.claim_jobs(
            worker_id="bench", limit=AT_ONCE, lease_until=NOW + LEASE, now=NOW
        )
        claims = claimed.claims
        assert len(claims) == AT_ONCE
        await store.start_attempts([AttemptStart(each.fence, NOW) for each in claims])
        outcome = Outcome(Cause.EXIT, NOW, NOW, exit_code=0)
        await store.finish_attempts(
            [AttemptEnd(each.fence, outcome) for each in claims], settle, now=NOW
        )
    return jobs / (time.perf_counter() - begin)


@contextlib.asynccontextmanager
async def _store(place: Workplace, name: str) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(place.path(name))
    try:
        yield store
    finally:
        await store.close()
