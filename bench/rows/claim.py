"""What a claim costs when there are many jobs, beside one when there are few."""

import asyncio
import statistics
import time

from bench.filled import LEASE, NOW, Amount, filled
from bench.report import Ratio, Row, Samples, per_round
from bench.workplace import Workplace
from jobservice.store.port import Store

LIMIT = 10
CLAIMS = 50
"""How many claims are one sample."""
FEW = 10_000


def measure(place: Workplace) -> list[Row]:
    """The time of a claim, its commit included, in turns in two stores."""
    many = Amount(place.amount(1_000_000, 100_000), place.amount(5_000_000, 300_000))
    return asyncio.run(_measure(place, many))


async def _measure(place: Workplace, many: Amount) -> list[Row]:
    async with filled(place, Amount(FEW)) as small, filled(place, many) as large:
        return [await in_turns(place, "claim", small, large, many, required=1.1)]


async def in_turns(
    place: Workplace, name: str, small: Store, large: Store, many: Amount, *, required: float
) -> Row:
    """Claims in a store with `FEW` jobs queued and in one with many."""
    for store in (small, large):
        await claim(store)
    ours, reference = [], []
    for number in place.rounds(15, 9):
        first, second = (small, large) if number % 2 else (large, small)
        took = {store: await claim(store) for store in (first, second)}
        ours.append(took[large])
        reference.append(took[small])
    return Row(
        name,
        f"claim of {LIMIT}: {many} / {Amount(FEW)}",
        Samples(ours, "ms"),
        Samples(reference, "ms"),
        Ratio(per_round(ours, reference), required=required, at_most=True),
    )


async def claim(store: Store) -> float:
    """Milliseconds of a claim, the median of `CLAIMS`."""
    took = []
    for _ in range(CLAIMS):
        begin = time.perf_counter()
        claimed = await store.claim_jobs(
            worker_id="bench", limit=LIMIT, lease_until=NOW + LEASE, now=NOW
        )
        took.append(1000 * (time.perf_counter() - begin))
        assert len(claimed.claims) == LIMIT
    return statistics.median(took)
