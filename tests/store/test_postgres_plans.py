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

from jobservice.model.filter import parse
from jobservice.model.graph import Condition
from jobservice.model.job import Progress
from jobservice.model.lifecycle import FINAL, State
from jobservice.model.operation import Place
from jobservice.model.schedule import Overlap
from jobservice.model.spec import Dependency, RetryPolicy
from jobservice.store.lists import _digest, list_of, targets_of
from jobservice.store.port import JobQuery, Order, ProgressReport, RequestKey, StopRequest
from jobservice.store.postgres.connect import Connection, connect
from jobservice.store.postgres.queries import QUERIES
from jobservice.store.postgres.reads import LISTS, _numbered
from jobservice.store.postgres.store import PostgresStore
from jobservice.store.rows import cursor_token
from jobservice.store.schedule_port import ScheduleKey
from tests.conformance.schedules import Engine
from tests.conformance.values import (
    TENANT,
    at,
    claim,
    end,
    ended,
    finish,
    insert_some,
    key_of,
    new_job,
    run,
)
from tests.postgres import shared_postgres

TABLES = {
    "jobs", "job_specs", "attempts", "events", "progress", "tombstones", "requests", "queues",
    "job_keys", "limits", "shares", "schedules", "schedule_runs",
    "dependents", "dependencies", "unsettled", "operations",
}  # fmt: skip
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
    engine = Engine(store)
    for n in range(100):
        await engine.create(key=ScheduleKey(TENANT, f"s{n}"), overlap=Overlap.ALLOW)
    for _ in range(4):
        await engine.after(1)
        await engine.end_jobs()
    parents = await ended(store, 40)
    for parent in parents:
        dependencies = (Dependency(parent.job_id), Dependency(parent.job_id, Condition.FAILED))
        await store.insert_jobs([new_job(dependencies=dependencies) for _ in range(JOBS // 40)])
    stops = [StopRequest(each.tenant, each.job_id, delete=True) for each in parents[:20]]
    await store.request_stop(stops, now=at(20))
    await store.delete_jobs([key_of(each) for each in parents[:20]], now=at(20))


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
    "find_lanes": {("jobs", "jobs_ready"), ("queues", "queues_pkey"), ("limits", "limits_pkey")},
    "find_claimable": {("jobs", "jobs_ready"), ("job_specs", "job_specs_pkey")},
    "find_held": {("jobs", "jobs_leased")},
    "find_waiters": {("jobs", "jobs_parked")},
    "find_parked": {("jobs", "jobs_parked")},
    "find_lines": {("jobs", "jobs_parked")},
    "find_parked_keys": {("jobs", "jobs_parked")},
    "find_rates_due": {("limits", "limits_wake")},
    "find_first_waiting": {("jobs", "jobs_waiting")},
    "queue_counts": {("jobs", "jobs_waiting"), ("jobs", "jobs_leased")},
    "queue_flow": {("events", "events_pkey"), ("jobs", "jobs_pkey")},
    "find_peers": {("jobs", "jobs_ready"), ("jobs", "jobs_parked")},
    "find_oldest_waiting": {("jobs", "jobs_waiting")},
    "find_newest_waiting": {("jobs", "jobs_waiting")},
    "find_same_command": {("jobs", "jobs_waiting"), ("job_specs", "job_specs_pkey")},
    "find_bounds": {("queues", "queues_pkey"), ("jobs", "jobs_waiting")},
    "delete_job_keys": {("job_keys", "job_keys_pkey"), ("job_keys", "-")},  # by place
    "find_members": {("job_keys", "job_keys_pkey"), ("jobs", "jobs_pkey")},
    "list_held": {("jobs", "jobs_leased")},
    "count_parked": {("jobs", "jobs_parked")},
    "find_queue": {("queues", "queues_pkey")},
    "list_queues": {("queues", "queues_pkey")},
    "find_limit": {("limits", "limits_pkey")},
    "list_limits": {("limits", "limits_pkey")},
    "find_due": {("jobs", "jobs_scheduled")},
    "find_expired": {("jobs", "jobs_leased")},
    "list_live": {("jobs", "jobs_leased")},
    "list_deletable": {("jobs", "jobs_to_delete")},
    "next_lease_end": {("jobs", "jobs_leased")},
    "next_due": {("jobs", "jobs_scheduled"), ("limits", "limits_wake")},
    "queue_position": {("jobs", "jobs_ready"), ("jobs", "jobs_parked"), ("jobs", "jobs_pkey")},
    "find_waiting_too_long": {("jobs", "jobs_impatient")},
    "find_overdue": {("jobs", "jobs_expiring")},
    "next_time_out": {("jobs", "jobs_impatient"), ("jobs", "jobs_expiring")},
    "forget_requests": {("requests", "requests_created"), ("requests", "requests_pkey")},
    "find_forgettable": {("tombstones", "tombstones_deleted")},
    "list_running": {("operations", "operations_running")},
    "list_operations": {("operations", "operations_pkey")},
    "forget_operations": {("operations", "operations_ended"), ("operations", "operations_pkey")},
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
    "find_due_schedules": {("schedules", "schedules_due")},
    "next_look": {("schedules", "schedules_due")},
    "find_active": {("jobs", "jobs_of_schedules")},
    "find_active_of": {("jobs", "jobs_of_schedules")},
    "find_buffered": {("schedule_runs", "schedule_runs_buffered")},
    "find_made": {("schedule_runs", "schedule_runs_pkey")},
    "find_ends": {("schedule_runs", "schedule_runs_pkey"), ("jobs", "jobs_pkey")},
    "list_schedules": {("schedules", "schedules_pkey")},
    "list_runs": {("schedule_runs", "schedule_runs_pkey")},
    "prune_runs": {("schedule_runs", "schedule_runs_pkey")},
}
SORTED = {
    "find_claimable",
    "find_held",
    "find_waiters",
    "find_limit",
    "list_limits",
    "list_live",
    "list_changes",
    "find_ends",
}
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
    "skip_waiting",
    "find_bounded",
    "find_places",
    "rank_jobs",
    "move_jobs",
    "park_jobs",
    "wake_jobs",
    "find_rules",
    "find_shares",
    "start_attempts",
    "finish_attempts",
    "unclaim_attempts",
    "extend_leases",
    "release_due",
    "cancel_waiting",
    "fail_waiting",
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
    "lock_schedules",
    "find_schedules",
    "find_schedule",
    "edit_schedules",
    "move_schedules",
    "delete_schedules",
    "delete_runs",
    "release_runs",
    "find_parents",
    "find_buried",
    "mark_parents",
    "find_edges",
    "find_children",
    "find_dependents",
    "settle_edges",
    "count_verdicts",
    "find_ready",
    "settle_blocked",
    "reopen_jobs",
    "delete_dependents",
    "delete_dependencies",
    "find_jobs_basic",
    "find_operation",
    "find_operation_of_request",
    "lock_operation",
    "step_operation",
]
KEYS = {
    "jobs_pkey",
    "job_specs_pkey",
    "attempts_pkey",
    "progress_pkey",
    "requests_pkey",
    "limits_pkey",
    "queues_pkey",
    "shares_pkey",
    "operations_pkey",
    "operations_request",
    "events_tenant_job_id_revision_key",
    "schedules_pkey",
    "schedule_runs_pkey",
    "dependents_pkey",
    "dependencies_pkey",
    "dependencies_parent",
    "tombstones_job",
}
NAMED = (
    "job_id =", "request_id =", "name =", "member =", "schedule =", "parent_id =", "operation_id =",
)  # fmt: skip


@pytest.mark.parametrize("name", LOOK_UPS)
async def test_what_is_about_given_jobs_looks_them_up(connection: Connection, name: str) -> None:
    found = await plan(connection, QUERIES[name].text)
    assert reads(found)
    assert {index for _, index in reads(found)} <= KEYS, json.dumps(found, indent=1)
    for node in nodes(found):
        if node.get("Index Name") in KEYS:
            condition = node.get("Index Cond", "")
            assert "tenant =" in condition or "scope =" in condition, json.dumps(node)
            assert any(each in condition for each in NAMED), json.dumps(node)


def test_every_statement_that_reads_a_table_is_looked_at() -> None:
    inserts = {name for name, query in QUERIES.items() if query.text.startswith("INSERT")}
    apart = {
        "forgotten_position",
        "raise_forgotten",
        "draw_positions",
        "lock_claims",
        "count_running",
    }  # one row, or none
    rules = {
        "use_rates",
        "advance_wakes",
        "put_wakes",
        "delete_queues",
        "delete_limits",
        "forget_shares",
    }  # few rows
    lists = {
        "list_basic",
        "list_full",
        "list_ids",
        "walk_all",
        "walk_active",
        "walk_live",
        "walk_ended",
    }
    few = {"find_unsettled", "find_marks", "drop_unsettled"}  # there are never many of these
    assert {*WALKS, *LOOK_UPS} | few == QUERIES.keys() - inserts - apart - rules - lists


async def test_what_is_unsettled_is_few_and_its_jobs_are_looked_up(connection: Connection) -> None:
    found = reads(await plan(connection, QUERIES["find_unsettled"].text))
    assert {index for table, index in found if table == "jobs"} == {"jobs_pkey"}


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
    filter_ = parse("(name = n* OR labels.a < b) AND NOT (end_time:* AND exit_code > 1)")
    query = JobQuery(
        TENANT, order, states, queue="q", name="n", labels={"a": "b"}, filter=filter_, full=True
    )
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


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize(
    ("filter_", "index"), [("*", "jobs_created"), ("state = QUEUED", "jobs_active")]
)
async def test_what_an_operation_is_about_is_found_along_an_index(
    connection: Connection, filter_: str, index: str, begun: bool
) -> None:
    query = JobQuery(
        TENANT, Order.CREATED_ASC, frozenset(State), filter=parse(filter_), created_before=at(0)
    )
    page = targets_of(LISTS, query, Place(at(-1), "j") if begun else None, 20)
    assert page is not None
    found = await plan(connection, _numbered(page.page)[0])
    assert reads(found) == {("jobs", index), ("jobs", "jobs_pkey")}, json.dumps(found, indent=1)
    assert not [node for node in nodes(found) if "Sort" in node["Node Type"]]
