"""The plans of PostgreSQL: walks along the index made for it, look-ups by key, whatever it believes.

A plan is made with what is believed of the tables when a statement is first run, and is kept. So each is
looked at over tables that were always empty, over full ones, over ones that were emptied, so that the
statistics say what will soon be wrong, and over full ones of which nobody has gathered any.
"""

import json
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from itertools import chain
from typing import Any

import pytest

from jobservice.model.graph import Condition
from jobservice.model.job import Progress
from jobservice.model.output import LogAppend, Piece, Stream
from jobservice.model.schedule import Overlap
from jobservice.model.spec import Dependency, RetryPolicy
from jobservice.store.port import ProgressReport, RequestKey, StopRequest
from jobservice.store.postgres.connect import Connection, connect
from jobservice.store.postgres.queries import QUERIES
from jobservice.store.postgres.reads import LISTS, _numbered
from jobservice.store.postgres.store import PostgresStore
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
from tests.store.plans import PARTS, TABLES, compare, difference, lists, sections

JOBS = 400


async def _fill(store: PostgresStore) -> None:
    for n in range(JOBS // 40):
        fences = await run(store, 40, retry=RetryPolicy(max_attempts=2))
        progress = Progress(1.0, "", None, at(n))
        await store.record_progress([ProgressReport(each, progress) for each in fences])
        pieces = [LogAppend(each, Stream.STDOUT, Piece(k, b"x")) for each in fences for k in (0, 1)]
        await store.append_logs(pieces)
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
    """The address of a database in which the statistics are of such tables."""
    url = await shared_postgres().new_database()
    connection = await connect(url, 30)
    for table in TABLES:
        await connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
    store = await PostgresStore.open(url)
    await _fill(store)
    if statistics != "drained":
        await insert_some(store, JOBS)
        await claim(store, 40)
    await store.close()
    if statistics != "none":
        await connection.execute("VACUUM ANALYZE")
    await connection.close()
    return url


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Connection]:
    """A connection as the store has them, to a database that is dropped in the end."""
    connection = await connect(url, 30)
    try:
        yield connection
    finally:
        await connection.close()
        await shared_postgres().drop(url)


@pytest.fixture
async def fresh() -> AsyncIterator[Connection]:
    """A connection to a database that nobody has used."""
    async with _connected(await shared_postgres().new_database()) as connection:
        yield connection


async def plan(connection: Connection, text: str) -> dict[str, Any]:
    """The plan that is kept, which is made without a look at the values."""
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    await connection.execute(f"PREPARE looked_at AS {text}")
    values = ", ".join(["NULL"] * len(set(re.findall(r"\$(\d+)", text))))
    execute = f"EXECUTE looked_at({values})" if values else "EXECUTE looked_at"
    [found] = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {execute}"))
    await connection.execute("DEALLOCATE looked_at")
    tree: dict[str, Any] = found["Plan"]
    return tree


def nodes(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield tree
    for child in tree.get("Plans", ()):
        yield from nodes(child)


async def _plans(connection: Connection) -> dict[str, dict[str, Any]]:
    """The plans of all queries, by the names of their sections in the file."""
    texts = {name: query.text for name, query in QUERIES.items() if name not in PARTS}
    texts |= lists(LISTS)
    return {name: await plan(connection, _numbered(text)[0]) for name, text in texts.items()}


def lines(tree: dict[str, Any]) -> list[str]:
    """What is kept of a plan."""
    return sorted({line for line in map(_line, nodes(tree)) if line})


def _line(node: dict[str, Any]) -> str:
    """What a node reads or sorts; empty where it works on what others read."""
    if "Sort" in node["Node Type"]:
        return f"sort by {_plain(', '.join(node['Sort Key']))}"
    if node.get("Relation Name") not in TABLES or node["Node Type"] == "ModifyTable":
        return ""
    way = "by place" if node["Node Type"] == "Tid Scan" else "without an index"
    if "Index Name" in node:
        way = f"along {node['Index Name']}"
        way += ", backwards" if node["Scan Direction"] == "Backward" else ""
    condition = node.get("Index Cond") or node.get("TID Cond") or "all of it"
    return f"{node['Relation Name']} {way}: {_plain(condition)}"


def _plain(expression: str) -> str:
    """An expression without its types and collations, and without needless parentheses."""
    expression = _ALONE.sub(r"\1", _TYPE.sub("", expression)).replace(") AND (", " AND ")
    depth = len(expression) - len(expression.lstrip("("))
    return expression[depth : len(expression) - depth]


_TYPE = re.compile(r'::(?:text|bigint|integer|smallint)(?:\[\])?| COLLATE "C"')
_ALONE = re.compile(r"(?<!\w)\(([\w.]+)\)")


async def test_the_plans_are_those_that_are_kept(
    fresh: Connection, pytestconfig: pytest.Config
) -> None:
    plans = {name: lines(tree) for name, tree in (await _plans(fresh)).items()}
    compare("postgres", plans, pytestconfig)


MERGED = re.compile(r"(list: created, (old|new)est first|targets: all)(, filtered)?(, behind)?$")
"""Lists of jobs that are active and of such that are final."""


@pytest.mark.parametrize("statistics", ["full", "drained", "none"])
async def test_a_list_over_all_states_is_merged_from_two_walks(statistics: str) -> None:
    """They are in order, so that it ends with the page, however many jobs there are."""
    async with _connected(await _believing(statistics)) as connection:
        plans = await _plans(connection)
    merged = {name: tree for name, tree in plans.items() if MERGED.search(name)}
    assert len(merged) == 16
    for name, tree in merged.items():
        [merge] = (node for node in nodes(tree) if node["Node Type"] == "Merge Append")
        walks = [node["Index Name"] for node in merge["Plans"]]
        assert walks == ["jobs_active", "jobs_closed"], name
        assert not any("Sort" in node["Node Type"] for node in nodes(tree)), name


async def test_a_lost_index_shows(fresh: Connection) -> None:
    rows = await fresh.fetch("SELECT indexrelname AS name FROM pg_stat_user_indexes")
    kept = "\n".join(chain.from_iterable(sections("postgres").values()))
    unused = {row["name"] for row in rows if f" along {row['name']}" not in kept}
    assert unused == {"schema_migrations_pkey"}
    await fresh.execute("DROP INDEX jobs_ready")
    plans = {name: lines(tree) for name, tree in (await _plans(fresh)).items()}
    changed = difference("postgres", plans)
    assert " -- find_claimable\n" in changed
    assert "\n-jobs along jobs_ready: " in changed


async def test_values_that_all_rows_share_change_no_plan(fresh: Connection) -> None:
    kept = sections("postgres")
    shared = 0
    for name, query in QUERIES.items():
        text, _ = query.bound([["x"] * len(query.fields or re.findall(r"\$\d+", query.text))])
        if text != query.text:
            shared += 1
            assert lines(await plan(fresh, text)) == kept[name]
    assert shared


@pytest.mark.parametrize("statistics", ["full", "drained", "none"])
async def test_whatever_is_believed_the_plans_are_the_same(statistics: str) -> None:
    kept = sections("postgres")
    async with _connected(await _believing(statistics)) as connection:
        plans = await _plans(connection)
    for name, tree in plans.items():
        found = lines(tree)
        if name in OF_ALL_THAT_RUNS:
            assert any(line.startswith("jobs along jobs_leased: ") for line in found)
            continue
        assert _but_for_few(found) == _but_for_few(kept[name]), (
            f"{name}: {json.dumps(tree, indent=1)}"
        )


OF_ALL_THAT_RUNS = {"find_held", "count_leases", "forget_workers"}
"""What runs is few: these may read all of it, and sort it or not."""


def _but_for_few(kept: Iterable[str]) -> set[str]:
    """The lines of a plan; without the conditions on tables of few rows, which may become filters."""
    return {line.partition(":")[0] if line.split()[0] in FEW else line for line in kept}


FEW = {"queues", "limits", "unsettled", "operations", "arrays", "array_items", "workers"}


def test_what_is_kept_walks_along_indexes() -> None:
    kept = sections("postgres")
    bare = {
        name for name, found in kept.items() if any("without an index" in line for line in found)
    }
    assert bare == {  # few rows, or one
        "find_company",
        "forget_shares",
        "next_resume",
        "raise_forgotten",
    }
    sorted_ = {name for name, found in kept.items() if any("sort by" in line for line in found)}
    assert sorted_ == SORTED


SORTED = {
    "find_asked",
    "find_claimable",
    "find_ends",
    "find_live",
    "find_parents",
    "find_places",
    "find_schedules",
    "find_waiters",
    "list_changes",
    "list_held_open",
    "list_live",
    "lock_jobs",
    "lock_schedules",
    "record_progress",
    "end of list: created, running",
    "end of list: created, running, behind",
    "list: created, running",
    "list: created, running, behind",
    "list: created, running, filtered",
    "list: created, running, filtered, behind",
}
"""What sorts the few rows that it found."""
