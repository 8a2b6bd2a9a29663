"""Lists: what a page costs does not depend on how much there is."""

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from jobservice.model.filter import parse
from jobservice.model.lifecycle import FINAL, State
from jobservice.store.port import JobQuery, Order
from jobservice.store.sqlite.connect import open_reader
from jobservice.store.sqlite.reads import list_jobs
from jobservice.store.sqlite.store import SqliteStore
from tests.conformance.values import (
    TENANT,
    at,
    claim,
    end,
    ended,
    finish,
    insert,
    insert_some,
    new_job,
    start,
)

STEP = 100
"""How many instructions of SQLite's machine are counted at once."""


@pytest.fixture
def reader(store: SqliteStore, path: Path) -> Iterator[apsw.Connection]:
    del store  # it makes the file
    connection = open_reader(path)
    yield connection
    connection.close()


def cost(reader: apsw.Connection, query: JobQuery, cursor: str | None = None) -> int:
    """Instructions of SQLite's machine for one page."""
    steps = 0

    def count() -> bool:
        nonlocal steps
        steps += STEP
        return False

    reader.set_progress_handler(count, STEP)
    list_jobs(reader, query, 20, cursor, walk=200)
    reader.set_progress_handler(None)
    return steps


QUERIES = {
    "newest": JobQuery(TENANT, Order.CREATED_DESC, frozenset(State)),
    "oldest": JobQuery(TENANT, Order.CREATED_ASC, frozenset(State)),
    "newest that ended": JobQuery(TENANT, Order.CREATED_DESC, FINAL),
    "active": JobQuery(TENANT, Order.CREATED_ASC, frozenset(State) - FINAL),
    "running": JobQuery(TENANT, Order.CREATED_ASC, frozenset({State.RUNNING})),
    "history": JobQuery(TENANT, Order.ENDED_DESC, FINAL),
    "failures": JobQuery(TENANT, Order.ENDED_DESC, frozenset({State.FAILED})),
    "by name": JobQuery(TENANT, Order.ENDED_DESC, FINAL, name="nobody", name_is_prefix=True),
    "by filter": JobQuery(
        TENANT, Order.ENDED_DESC, FINAL, filter=parse("labels.no = one AND create_time:*")
    ),
    "by the states of a filter": JobQuery(
        TENANT, Order.CREATED_ASC, frozenset(State), filter=parse("state = RUNNING")
    ),
    "by label": JobQuery(TENANT, Order.CREATED_DESC, frozenset(State), labels={"no": "one"}),
}


@pytest.mark.parametrize("name", QUERIES)
async def test_a_page_costs_the_same_with_ten_times_the_history(
    store: SqliteStore, reader: apsw.Connection, name: str
) -> None:
    await ended(store, 300)
    before = cost(reader, QUERIES[name])
    for _ in range(9):
        await ended(store, 300)
    assert cost(reader, QUERIES[name]) <= before * 1.2 + 10 * STEP


@pytest.mark.parametrize("order", [Order.CREATED_ASC, Order.CREATED_DESC])
async def test_a_page_of_jobs_that_ended_walks_over_no_others(
    store: SqliteStore, reader: apsw.Connection, order: Order
) -> None:
    await insert(store, *[new_job(created_at=at(n)) for n in range(5)])
    fences = [each.fence for each in await claim(store, 5)]
    await start(store, *fences)
    await finish(store, *[end(each) for each in fences])
    await insert_some(store, 50)  # all of them between the first and the second
    page = list_jobs(reader, JobQuery(TENANT, order, FINAL), 5, None, walk=10)
    assert len(page.jobs) == 5


async def test_a_page_that_walked_far_enough_ends_with_a_cursor(
    store: SqliteStore, reader: apsw.Connection
) -> None:
    await insert_some(store, 50, name="many")
    wanted = await insert_some(store, 3, name="few")
    await insert_some(store, 50, name="many")
    query = JobQuery(TENANT, Order.CREATED_ASC, frozenset(State), name="few")
    found, cursor, empty = [], None, 0
    while True:
        page = list_jobs(reader, query, 2, cursor, walk=10)
        found += [each.job_id for each in page.jobs]
        empty += not page.jobs
        cursor = page.cursor
        if cursor is None:
            break
    assert sorted(found) == sorted(each.job_id for each in wanted)
    assert empty >= 8
