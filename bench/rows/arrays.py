"""What an array costs: its accept, and each of its indices beside a job of its own."""

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator

from bench.filled import LEASE
from bench.report import Ratio, Row, Samples, per_round
from bench.service import connected, raw
from bench.workplace import Workplace
from jobservice.clock import from_us
from jobservice.engine.finish import settler
from jobservice.engine.submit import new_job
from jobservice.model.array import MOST_INDICES, ArraySpec
from jobservice.model.attempt import Cause, Outcome
from jobservice.model.ids import RANDOM_BITS, job_id
from jobservice.model.spec import Command, JobSpec
from jobservice.store.port import AttemptEnd, AttemptStart
from jobservice.store.sqlite.store import SqliteStore
from jobservice.wire import messages as pb

LONGEST_S = 2.0
"""In which the largest array has to be accepted."""
AT_ONCE = 32
"""How many jobs are claimed, started and finished together: those of 32 slots."""
NOW = from_us(1_700_000_000_000_000)
ARGV = ("/bin/true", "of", "the", "bench")


def measure(place: Workplace) -> list[Row]:
    """Seconds until the largest array is accepted; then indices a second through a store."""
    return [*_accepts(place), *asyncio.run(_runs(place))]


def _accepts(place: Workplace) -> list[Row]:
    command = pb.Command(argv=ARGV)
    items = [f"item {n:06}" for n in range(MOST_INDICES)]
    bare = pb.CreateJobRequest(job=pb.Job(command=command, array=pb.Array(size=MOST_INDICES)))
    full = pb.CreateJobRequest(job=pb.Job(command=command, array=pb.Array(items=items)))
    kinds = {"": bare.SerializeToString(), " with items": full.SerializeToString()}
    took: dict[str, list[float]] = {name: [] for name in kinds}
    with place.service(slots=0) as service, connected(service.unix_address) as channel:
        create = raw(channel, "CreateJob")
        for _ in place.rounds(5, 3):
            for name, request in kinds.items():
                begin = time.perf_counter()
                create(request)
                took[name].append(time.perf_counter() - begin)
    return [
        Row(
            "" if name else "arrays",
            f"accept of an array of {MOST_INDICES:,}{name}",
            Samples(seconds, "s"),
            None,
            Ratio([each / LONGEST_S for each in seconds], required=1.0, at_most=True),
        )
        for name, seconds in took.items()
    ]


async def _runs(place: Workplace) -> list[Row]:
    jobs = place.amount(8_000, 1_600)
    ours: list[float] = []
    reference: list[float] = []
    chance = random.Random(0)
    async with _store(place, "arrays.db") as arrays, _store(place, "jobs.db") as plain:
        numbers = itertools.count()
        for number in place.rounds(11, 5):
            kinds = [(ours, arrays), (reference, plain)]
            for rates, store in kinds if number % 2 else reversed(kinds):
                rates.append(await _run(store, jobs, numbers, chance, in_array=store is arrays))
    return [
        Row(
            "",
            "indices of one array through a store / jobs in batches",
            Samples(ours, "jobs/s"),
            Samples(reference, "jobs/s"),
            Ratio(per_round(ours, reference), percent=True),
        )
    ]


async def _run(
    store: SqliteStore,
    jobs: int,
    numbers: "itertools.count[int]",
    chance: random.Random,
    *,
    in_array: bool,
) -> float:
    """Jobs a second, through insert, claim, start and finish."""
    settle, command = settler(NOW, chance), Command(ARGV)
    begin = time.perf_counter()
    if in_array:
        spec = JobSpec(command, array=ArraySpec(jobs))
        await store.insert_jobs([new_job("default", job_id(0, next(numbers)), spec, NOW)])
    done = 0
    while done < jobs:
        if not in_array:
            spec = JobSpec(command)
            new = [new_job("default", job_id(0, next(numbers)), spec, NOW) for _ in range(AT_ONCE)]
            await store.insert_jobs(new)
        claimed = await store.claim_jobs(
            worker_id="bench", limit=AT_ONCE, lease_until=NOW + LEASE, now=NOW
        )
        claims = claimed.claims
        await store.start_attempts([AttemptStart(each.fence, NOW) for each in claims])
        outcome = Outcome(Cause.EXIT, NOW, NOW, exit_code=0)
        ends = [AttemptEnd(each.fence, outcome) for each in claims]
        await store.finish_attempts(ends, settle, now=NOW)
        if in_array:
            bits = chance.getrandbits(RANDOM_BITS - 1)
            await store.settle_arrays(("", ""), now=NOW, randomness=bits)
        done += len(claims)
    return jobs / (time.perf_counter() - begin)


@contextlib.asynccontextmanager
async def _store(place: Workplace, name: str) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(place.path(name))
    try:
        yield store
    finally:
        await store.close()
