"""What limits cost: jobs through a store with a limit of the service and two keys each, beside none."""

import asyncio
import contextlib
import datetime as dt
import itertools
import random
import time
from collections.abc import AsyncIterator

from bench.report import Ratio, Row, Samples, per_round
from bench.rows.spawn import BATCH, run_jobs
from bench.service import connected, create_request
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
from jobservice.wire import messages as pb
from jobservice.wire.stubs import LimitServiceStub

AT_ONCE = 32
"""How many jobs are claimed, started and finished together: those of 32 slots."""
NOW = from_us(1_700_000_000_000_000)
LEASE = dt.timedelta(hours=1)
LIMIT = 10_000
"""Of the service and of each key: counted, and not reached."""
KEYS = "database", "licence"
COMMAND = Command(("/bin/true", "of", "the", "bench"))


def measure(place: Workplace) -> list[Row]:
    """Jobs a second through two stores in turns, and as processes through one service in turns."""
    return [*asyncio.run(_measure(place)), _with_processes(place)]


async def _measure(place: Workplace) -> list[Row]:
    jobs = place.amount(8_000, 1_600)
    async with _store(place, "free.db") as free, _store(place, "limited.db") as limited:
        for kind in (LimitKind.SERVICE, LimitKind.TENANT):
            tenant = "" if kind is LimitKind.SERVICE else "default"
            await limited.save_limit(Limit(tenant, kind, max_running=LIMIT), now=NOW)
        for name in KEYS:
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


def _with_processes(place: Workplace) -> Row:
    jobs = place.amount(2_000, 600)
    plain = create_request(place.stamp)
    keyed = create_request(place.stamp)
    keyed.job.concurrency_keys.extend([pb.ConcurrencyKey(key=name) for name in KEYS])
    ours: list[float] = []
    reference: list[float] = []
    with place.service(slots=32) as service, connected(service.unix_address) as channel:
        stub = LimitServiceStub(channel)
        for name in KEYS:
            _set(stub, pb.LimitKind.LIMIT_KIND_KEY, name)
        for number in place.rounds(9, 5):
            for limited in (True, False) if number % 2 else (False, True):
                if limited:
                    _set(stub, pb.LimitKind.LIMIT_KIND_SERVICE)
                one = keyed if limited else plain
                request = pb.BatchCreateJobsRequest(requests=[one] * BATCH)
                rate = run_jobs(channel, request.SerializeToString(), jobs)
                if limited:
                    stub.DeleteLimit(pb.DeleteLimitRequest(kind=pb.LimitKind.LIMIT_KIND_SERVICE))
                if number:  # the first round is for warming up
                    (ours if limited else reference).append(rate)
    return Row(
        "",
        "… limit of the service, 2 keys a job, as processes end to end, 32 slots / none",
        Samples(ours, "jobs/s"),
        Samples(reference, "jobs/s"),
        Ratio(per_round(ours, reference), required=0.95, percent=True),
    )


def _set(stub: LimitServiceStub, kind: pb.LimitKind.ValueType, name: str = "") -> None:
    limit = pb.Limit(kind=kind, name=name, max_running=LIMIT)
    stub.SetLimit(pb.SetLimitRequest(limit=limit))


async def _run(
    store: SqliteStore, jobs: int, numbers: "itertools.count[int]", *, keyed: bool
) -> float:
    """Jobs a second, through insert, claim, start and finish."""
    keys = tuple(ConcurrencyKey(name) for name in KEYS) if keyed else ()
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
