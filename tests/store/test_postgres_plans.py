"""The plans of PostgreSQL: walks along the index made for it, look-ups by key, whatever it believes.

A plan is made with what is believed of the tables when a statement is first run, and is kept. So each is
looked at over tables that were always empty, over full ones, and over ones that were emptied, so that
the statistics say what will soon be wrong.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from jobservice.model.job import Progress
from jobservice.model.lifecycle import FINAL, State
from jobservice.model.spec import RetryPolicy
from jobservice.store.lists import _digest, list_of
from jobservice.store.port import JobQuery, Order, ProgressReport, RequestKey
from jobservice.store.postgres.connect import Connection, connect
from jobservice.store.postgres.queries import QUERIES
from jobservice.store.postgres.reads import LISTS, _numbered
from jobservice.store.postgres.store import PostgresStore
from jobservice.store.rows import cursor_token
from tests.conformance.values import TENANT, at, claim, end, finish, insert_some, new_job, run
from tests.postgres import shared_postgres

TABLES = {"jobs", "job_specs", "attempts", "events", "progress", "tombstones", "requests"}
JOBS = 400
STATISTICS = ["empty", "full", "drained"]
Found = set[tuple[str, str]]
"""Tables and the indexes over which they are read; "-" where a whole table is."""


async def _fill(store: PostgresStore) -> None:
    for n in range(JOBS // 40):
        fences = await run(store, 40, retry=RetryPolicy(max_attempts=2))
        progress = Progress(1.0, "", None, at(n))
        await store.record_progress([ProgressReport(each, progress) for each in fences])
        await finish(store, *[end(each, k % 2) for k, each in enumerate(fences)], now=at(n))
    for n in range(40):
        await store.insert_jobs([new_job()], request=RequestKey(f"r{n}", b""))


async def _believing(statistics: str) -> str:
    url = await shared_postgres().new_database()
    if statistics == "empty":
        return url
    store = await PostgresStore.open(url)
    await _fill(store)
    if statistics == "full":
        await insert_some(store, JOBS)
        await claim(store, 40)
    await store.close()
    connection = await connect(url, 30)
    await connection.execute("VACUUM ANALYZE")
    await connection.close()
    return url


@pytest.fixture(scope="module", params=STATISTICS)
def statistics(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a database in which the statistics are of such tables."""
    url = asyncio.run(_believing(request.param))
    yield url
    asyncio.run(shared_postgres().drop(url))


@pytest.fixture
async def connection(statistics: str) -> AsyncIterator[Connection]:
    """A connection as the store has them."""
    connection = await connect(statistics, 30)
    yield connection
    await connection.close()


async def plan(connection: Connection, text: str) -> dict[str, Any]:
    """The plan that is kept, which is made without a look at the values."""
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    await connection.execute(f"PREPARE looked_at AS {text}")
    values = ", ".join(["NULL"] * len(set(re.findall(r"\$(\d+)", text))))
    execute = f"EXECUTE looked_at({values})" if values else "EXECUTE looked_at"
    [found] = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {execute}"))
    tree: dict[str, Any] = found["Plan"]
    return tree


def nodes(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield tree
    for child in tree.get("Plans", ()):
        yield from nodes(child)


def reads(tree: dict[str, Any]) -> Found:
    """Which tables a plan reads, and how."""
    return {
        (node["Relation Name"], node.get("Index Name", "-"))
        for node in nodes(tree)
        if node.get("Relation Name") in TABLES and node["Node Type"] != "ModifyTable"
    }


WALKS = {
    "find_claimable": {("jobs", "jobs_queued"), ("job_specs", "job_specs_pkey")},
    "find_due": {("jobs", "jobs_scheduled")},
    "find_expired": {("jobs", "jobs_leased")},
    "list_live": {("jobs", "jobs_leased")},
    "list_deletable": {("jobs", "jobs_to_delete")},
    "next_due": {("jobs", "jobs_scheduled")},
    "queue_position": {("jobs", "jobs_queued"), ("jobs", "jobs_pkey")},
    "forget_requests": {("requests", "requests_created"), ("requests", "requests_pkey")},
    "find_forgettable": {("tombstones", "tombstones_deleted")},
    "forget_tombstones": {("tombstones", "tombstones_pkey")},
    "head_position": {
        ("events", "events_pkey"),
        ("progress", "progress_position"),
        ("tombstones", "tombstones_pkey"),
    },
    "list_changes": {
        ("events", "events_pkey"),
        ("progress", "progress_position"),
        ("tombstones", "tombstones_pkey"),
    },
}
SORTED = {"find_claimable", "list_live", "list_changes"}
"""What sorts the few rows that it found."""


@pytest.mark.parametrize("name", WALKS)
async def test_what_is_run_all_the_time_walks_along_its_index(
    connection: Connection, name: str
) -> None:
    found = await plan(connection, QUERIES[name].text)
    assert reads(found) == WALKS[name], json.dumps(found, indent=1)
    if name not in SORTED:
        assert not [node for node in nodes(found) if "Sort" in node["Node Type"]]


LOOK_UPS = [
    "lock_jobs",
    "find_job",
    "find_jobs",
    "find_submitted",
    "find_live",
    "find_asked",
    "claim_jobs",
    "start_attempts",
    "finish_attempts",
    "unclaim_attempts",
    "extend_leases",
    "release_due",
    "cancel_waiting",
    "stop_running",
    "retry_jobs",
    "hold_jobs",
    "release_jobs",
    "update_jobs",
    "request_deletion",
    "keep_submitted",
    "delete_jobs",
    "delete_specs",
    "delete_attempts",
    "delete_events",
    "delete_progress",
    "find_requests",
]
KEYS = {
    "jobs_pkey",
    "job_specs_pkey",
    "attempts_pkey",
    "progress_pkey",
    "requests_pkey",
    "events_tenant_job_id_revision_key",
}


@pytest.mark.parametrize("name", LOOK_UPS)
async def test_what_is_about_given_jobs_looks_them_up(connection: Connection, name: str) -> None:
    found = await plan(connection, QUERIES[name].text)
    assert reads(found)
    assert {index for _, index in reads(found)} <= KEYS, json.dumps(found, indent=1)
    for node in nodes(found):
        if node.get("Index Name") in KEYS:
            condition = node.get("Index Cond", "")
            assert "tenant =" in condition, json.dumps(node)
            assert "job_id =" in condition or "request_id =" in condition, json.dumps(node)


def test_every_statement_that_reads_a_table_is_looked_at() -> None:
    inserts = {name for name, query in QUERIES.items() if query.text.startswith("INSERT")}
    apart = {"forgotten_position", "raise_forgotten", "draw_positions"}  # one row, or none
    lists = {"list_basic", "list_full", "walk_all", "walk_active", "walk_live", "walk_ended"}
    assert {*WALKS, *LOOK_UPS} == QUERIES.keys() - inserts - apart - lists


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize(
    ("order", "states", "index"),
    [
        (Order.CREATED_ASC, frozenset(State), "jobs_created"),
        (Order.CREATED_DESC, frozenset(State), "jobs_created"),
        (Order.CREATED_DESC, FINAL, "jobs_created"),
        (Order.CREATED_ASC, frozenset(State) - FINAL, "jobs_active"),
        (Order.CREATED_DESC, frozenset({State.QUEUED}), "jobs_active"),
        (Order.CREATED_DESC, frozenset({State.RUNNING}), "jobs_leased"),
        (Order.ENDED_DESC, FINAL, "jobs_ended"),
        (Order.ENDED_DESC, frozenset({State.FAILED}), "jobs_ended"),
    ],
)
async def test_a_list_walks_along_its_index(
    connection: Connection, order: Order, states: frozenset[State], index: str, begun: bool
) -> None:
    query = JobQuery(TENANT, order, states, queue="q", name="n", labels={"a": "b"}, full=True)
    token = cursor_token(_digest(query), 1, "j") if begun else None
    page = list_of(LISTS, query, 20, token)
    assert page is not None
    found = await plan(connection, _numbered(page.page)[0])
    assert reads(found) == {
        ("jobs", index),
        ("jobs", "jobs_pkey"),
        ("job_specs", "job_specs_pkey"),
        ("progress", "progress_pkey"),
    }, json.dumps(found, indent=1)
    walk, *look_ups = [node for node in nodes(found) if node.get("Relation Name") in TABLES]
    assert walk["Index Name"] == index
    for node in look_ups:
        if node["Index Name"] != index:
            assert "job_id =" in node["Index Cond"], json.dumps(node)
    if index != "jobs_leased":
        assert not [node for node in nodes(found) if "Sort" in node["Node Type"]]
