"""What a page of the history costs far behind its beginning, beside one at its beginning."""

import asyncio
import statistics
import time

from bench.filled import TEAMS, TENANT, Amount, filled
from bench.report import Ratio, Row, Samples, per_round
from bench.workplace import Workplace
from jobservice.model.lifecycle import FINAL
from jobservice.store.port import JobQuery, Order
from jobservice.store.sqlite.store import SqliteStore

PAGE = 50
"""How many jobs are on a page."""
PAGES = 40
"""How many pages are read on from a place for one sample."""
ALL = JobQuery(TENANT, Order.ENDED_DESC, FINAL)
OF_ONE_TEAM = JobQuery(TENANT, Order.ENDED_DESC, FINAL, labels={"team": "t7"})


def measure(place: Workplace) -> list[Row]:
    """Milliseconds of a page at two places, in turns in one store."""
    return asyncio.run(_measure(place, place.amount(5_000, 500)))


async def _measure(place: Workplace, far: int) -> list[Row]:
    finished = (far + (1 + PAGES) * TEAMS) * PAGE
    far_of_team = far // TEAMS
    async with filled(place, Amount(0, finished)) as store:
        return [
            await _row(place, store, ALL, far, "history", f"of {finished:,} jobs"),
            await _row(
                place, store, OF_ONE_TEAM, far_of_team, "", f"of those with 1 of {TEAMS} labels"
            ),
        ]


async def _row(
    place: Workplace, store: SqliteStore, query: JobQuery, far: int, name: str, which: str
) -> Row:
    behind = await _behind(store, query, far - 1)
    ours, reference = [], []
    for number in place.rounds(15, 9):
        places = (None, behind) if number % 2 else (behind, None)
        took = {each: await _read_on(store, query, each) for each in places}
        ours.append(took[behind])
        reference.append(took[None])
    ratio = Ratio(per_round(ours, reference), required=1.1, at_most=True)
    what = f"page {far:,} / page 1 {which}"
    return Row(name, what, Samples(ours, "ms"), Samples(reference, "ms"), ratio)


async def _behind(store: SqliteStore, query: JobQuery, pages: int) -> str:
    """The cursor behind so many pages."""
    cursor = None
    for _ in range(pages):
        page = await store.list_jobs(query, limit=PAGE, cursor=cursor)
        assert page.cursor is not None
        cursor = page.cursor
    assert cursor is not None
    return cursor


async def _read_on(store: SqliteStore, query: JobQuery, cursor: str | None) -> float:
    """Milliseconds of a page, the median of `PAGES` from a cursor on."""
    took = []
    for _ in range(PAGES):
        begin = time.perf_counter()
        page = await store.list_jobs(query, limit=PAGE, cursor=cursor)
        took.append(1000 * (time.perf_counter() - begin))
        assert len(page.jobs) == PAGE
        cursor = page.cursor
    return statistics.median(took)
