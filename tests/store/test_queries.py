"""Queries: what their headers say is what they do, and they use the indexes made for them."""

import re
from pathlib import Path

import apsw
import pytest

from jobservice.clock import EPOCH
from jobservice.model.filter import parse
from jobservice.model.lifecycle import FINAL, FIRST, TRANSITIONS, State
from jobservice.model.operation import Place
from jobservice.store import verbs
from jobservice.store.lists import _digest, list_of, targets_of
from jobservice.store.port import JobQuery, Order
from jobservice.store.postgres.queries import FILES as POSTGRES_FILES
from jobservice.store.postgres.queries import QUERIES as POSTGRES
from jobservice.store.rows import cursor_token
from jobservice.store.sqlfile import Query, load, parse_moves
from jobservice.store.sqlite.migrate import upgrade
from jobservice.store.sqlite.queries import FILES, QUERIES
from jobservice.store.sqlite.reads import LISTS

MOVES = {(source.name, target.name) for (source, _), target in TRANSITIONS.items()}
STORES = {"sqlite": QUERIES, "postgres": POSTGRES}
MOVING = [
    pytest.param(query, id=f"{store}-{name}")
    for store, queries in STORES.items()
    for name, query in queries.items()
    if query.moves
]
WRITES_STATE = re.compile(
    r"UPDATE jobs\s+SET.*?\bstate = (?P<set>[^,]+?),|INSERT INTO jobs\b", re.DOTALL
)
GUARD = re.compile(r"jobs\.state (?:\+ 0 )?(?:= (\{State\.\w+\})|IN \(([^)]*)\))")
PAIR_GUARD = re.compile(r"jobs\.state = \{State\.(\w+)\} AND \w+\.state IN \(([^)]*)\)", re.DOTALL)
STATE = re.compile(r"\{State\.(\w+)\}")
PARTS = {"list_basic", "list_full", "list_ids"}
"""What `lists.py` puts together with a walk; see the plans of lists."""


@pytest.mark.parametrize("query", MOVING)
def test_every_move_is_in_the_table(query: Query) -> None:
    for source, target in query.moves:
        assert (source, target) in MOVES or (not source and State[target] in FIRST)


@pytest.mark.parametrize("store", STORES)
def test_every_statement_that_writes_a_state_says_so(store: str) -> None:
    queries = STORES[store]
    writing = {name for name, query in queries.items() if WRITES_STATE.search(query.source)}
    assert writing == {name for name, query in queries.items() if query.moves}


@pytest.mark.parametrize("query", MOVING)
def test_a_guard_names_what_the_header_says(query: Query) -> None:
    if query.name == "insert_jobs":
        return  # nothing is there that a guard could look at
    where = query.source[query.source.rindex("WHERE") :]
    pairs = {
        (source, target)
        for source, targets in PAIR_GUARD.findall(where)
        for target in STATE.findall(targets)
    }
    if not pairs:
        [guard] = GUARD.finditer(where)
        written = WRITES_STATE.search(query.source)
        assert written is not None
        [target] = STATE.findall(written["set"])
        pairs = {(source, target) for source in STATE.findall(guard[0])}
    assert pairs == set(query.moves)


@pytest.mark.parametrize("store", STORES)
def test_an_insert_puts_jobs_where_they_may_come_to_be(store: str) -> None:
    query = STORES[store]["insert_jobs"]
    assert set(query.moves) == {("", state.name) for state in FIRST}
    assert STATE.findall(query.source) == []  # the verb gives it, and looks at it


def test_the_stores_have_the_same_statements_over_the_same_rows() -> None:
    of_many_writers = {"lock_jobs", "lock_schedules", "lock_claims", "draw_positions"}
    assert QUERIES.keys() == POSTGRES.keys() - of_many_writers
    for name, query in QUERIES.items():
        other = POSTGRES[name]
        assert query.moves == other.moves, name
        assert query.fields == other.fields, name


@pytest.mark.parametrize("store", STORES)
def test_every_move_that_the_port_can_make_has_a_query(store: str) -> None:
    written = {move for query in STORES[store].values() for move in query.moves}
    for (source, trigger), target in TRANSITIONS.items():
        assert (source.name, target.name) in written, (source, trigger)


@pytest.mark.parametrize("store", STORES)
def test_every_query_is_used_and_described(store: str) -> None:
    files = FILES if store == "sqlite" else POSTGRES_FILES
    here = files[0].parent
    folders = here, here.parent, Path(verbs.__file__).parent
    code = "".join(
        path.read_text()
        for folder in folders
        for path in folder.glob("*.py")
        if path.name != "queries.py"
    )
    for name in STORES[store]:
        assert f'"{name}"' in code, f"nobody runs {name}"
    for path in files:
        headers = re.findall(
            r"^-- name: .*\n(?:--   moves: .*\n)?(.*)$", path.read_text(), re.MULTILINE
        )
        assert all(line.startswith("-- ") for line in headers), path


@pytest.mark.parametrize("name", sorted(QUERIES.keys() - PARTS))
def test_every_statement_is_one_that_sqlite_takes(name: str, schema: apsw.Connection) -> None:
    query = QUERIES[name]
    text = query.for_rows(2) if query.fields else query.text
    if name == "walk_ended":
        text += f" {int(State.FAILED)}"
    schema.execute(f"EXPLAIN {text}", _nothing(text))


# --- plans ------------------------------------------------------------------------------------


@pytest.fixture
def schema(tmp_path: Path) -> apsw.Connection:
    upgrade(tmp_path / "jobservice.db")
    return apsw.Connection(str(tmp_path / "jobservice.db"))


def _nothing(text: str) -> dict[str, int] | list[int]:
    names = set(re.findall(r":(\w+)", text))
    numbered = set(re.findall(r"\?(\d+)", text))
    return dict.fromkeys(names, 1) if names else [1] * (len(numbered) or text.count("?"))


def plan(schema: apsw.Connection, text: str) -> str:
    rows = schema.execute(f"EXPLAIN QUERY PLAN {text}", _nothing(text))
    return "\n".join(str(row[3]) for row in rows)


def plan_of(schema: apsw.Connection, name: str) -> str:
    query = QUERIES[name]
    text = query.for_rows(2) if query.fields else query.text
    return plan(schema, text)


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("find_lanes", "jobs_ready"),
        ("find_claimable", "jobs_ready"),
        ("find_held", "jobs_leased"),
        ("find_waiters", "jobs_parked"),
        ("find_parked", "jobs_parked"),
        ("find_lines", "jobs_parked"),
        ("find_parked_keys", "jobs_parked"),
        ("find_rates_due", "limits_wake"),
        ("find_first_waiting", "jobs_waiting"),
        ("queue_counts", "jobs_waiting"),
        ("list_held", "jobs_leased"),
        ("find_oldest_waiting", "jobs_waiting"),
        ("find_newest_waiting", "jobs_waiting"),
        ("find_same_command", "jobs_waiting"),
        ("find_peers", "jobs_ready"),
        ("count_parked", "jobs_parked"),
        ("find_due", "jobs_scheduled"),
        ("find_expired", "jobs_leased"),
        ("list_live", "jobs_leased"),
        ("list_deletable", "jobs_to_delete"),
        ("next_due", "jobs_scheduled"),
        ("next_lease_end", "jobs_leased"),
        ("queue_position", "jobs_ready"),
        ("find_waiting_too_long", "jobs_impatient"),
        ("find_overdue", "jobs_expiring"),
        ("next_time_out", "jobs_impatient"),
        ("next_time_out", "jobs_expiring"),
        ("forget_requests", "requests_created"),
        ("find_forgettable", "tombstones_deleted"),
        ("find_due_schedules", "schedules_due"),
        ("next_look", "schedules_due"),
        ("find_active", "jobs_of_schedules"),
        ("find_active_of", "jobs_of_schedules"),
        ("find_buffered", "schedule_runs_buffered"),
        ("list_running", "operations_running"),
        ("forget_operations", "operations_ended"),
        ("find_operation_of_request", "operations_request"),
    ],
)
def test_what_is_run_all_the_time_walks_along_its_index(
    schema: apsw.Connection, name: str, index: str
) -> None:
    found = plan_of(schema, name)
    assert f"INDEX {index}" in found, found
    if name not in {"list_live", "find_held"}:  # they sort what runs
        assert "TEMP B-TREE" not in found, found


@pytest.mark.parametrize(
    "name",
    [
        "find_job",
        "find_jobs",
        "find_live",
        "find_asked",
        "claim_jobs",
        "skip_waiting",
        "find_members",
        "delete_job_keys",
        "find_bounded",
        "find_bounds",
        "find_places",
        "rank_jobs",
        "move_jobs",
        "park_jobs",
        "wake_jobs",
        "find_rules",
        "use_rates",
        "advance_wakes",
        "put_wakes",
        "find_shares",
        "find_queue",
        "delete_queues",
        "delete_limits",
        "list_queues",
        "find_limit",
        "list_limits",
        "queue_flow",
        "start_attempts",
        "finish_attempts",
        "unclaim_attempts",
        "extend_leases",
        "release_due",
        "cancel_waiting",
        "fail_waiting",
        "stop_running",
        "retry_jobs",
        "update_jobs",
        "request_deletion",
        "keep_submitted",
        "delete_jobs",
        "delete_specs",
        "delete_attempts",
        "delete_events",
        "delete_progress",
        "find_requests",
        "find_schedules",
        "find_schedule",
        "list_schedules",
        "edit_schedules",
        "move_schedules",
        "delete_schedules",
        "delete_runs",
        "find_made",
        "find_ends",
        "release_runs",
        "prune_runs",
        "list_runs",
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
        "find_marks",
        "drop_unsettled",
        "delete_dependents",
        "delete_dependencies",
        "find_jobs_basic",
        "find_operation",
        "lock_operation",
        "step_operation",
    ],
)
def test_what_is_about_given_jobs_looks_them_up(schema: apsw.Connection, name: str) -> None:
    tables = (
        "jobs", "job_specs", "attempts", "events", "progress", "requests", "queues", "limits", "shares",
        "schedules", "schedule_runs", "dependents", "dependencies", "unsettled", "tombstones",
        "operations",
    )  # fmt: skip
    for line in plan_of(schema, name).splitlines():
        scanned = line.startswith("SCAN ") and line.split()[1] in tables
        assert not scanned, plan_of(schema, name)


def test_what_is_unsettled_is_walked_and_its_jobs_are_looked_up(schema: apsw.Connection) -> None:
    first, second, *_ = plan_of(schema, "find_unsettled").splitlines()[1:]
    assert "unsettled" in first
    assert "jobs" in second
    assert "SEARCH" in second


def test_changes_are_merged_and_not_sorted(schema: apsw.Connection) -> None:
    found = plan_of(schema, "list_changes")
    assert "TEMP B-TREE" not in found, found
    assert "SCAN events" not in found, found


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize(
    ("order", "states", "index"),
    [
        (Order.CREATED_ASC, frozenset(State), "jobs_created"),
        (Order.CREATED_DESC, frozenset(State), "jobs_created"),
        (Order.CREATED_DESC, FINAL, "jobs_created"),
        (Order.CREATED_ASC, frozenset(State) - FINAL, "jobs_active"),
        (Order.CREATED_DESC, frozenset({State.QUEUED}), "jobs_active"),
        (Order.ENDED_DESC, FINAL, "jobs_ended"),
        (Order.ENDED_DESC, frozenset({State.FAILED}), "jobs_ended"),
    ],
)
def test_a_list_walks_along_its_index(
    schema: apsw.Connection, order: Order, states: frozenset[State], index: str, begun: bool
) -> None:
    filter_ = parse("(name = n* OR labels.a < b) AND NOT (end_time:* AND exit_code > 1)")
    query = JobQuery(
        "t", order, states, queue="q", name="n", labels={"a": "b"}, filter=filter_, full=True
    )
    token = cursor_token(_digest(query), 1, "j") if begun else None
    page = list_of(LISTS, query, 20, token)
    assert page is not None
    found = plan(schema, page.page)
    assert f"COVERING INDEX {index}" in found, found
    assert "TEMP B-TREE" not in found, found
    assert "AUTOMATIC" not in found, found


# --- the loader -------------------------------------------------------------------------------


def test_moves_are_read_from_headers() -> None:
    assert parse_moves("A | B -> C; C -> D | E") == (("A", "C"), ("B", "C"), ("C", "D"), ("C", "E"))
    assert parse_moves("-> QUEUED") == (("", "QUEUED"),)
    assert parse_moves("") == ()


def test_a_name_is_given_once(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.sql").write_text("-- name: same\n-- Says what.\nSELECT 1\n")
    with pytest.raises(ValueError, match="two queries of one name: same"):
        load(tmp_path / "one.sql", tmp_path / "two.sql")


def test_a_file_becomes_its_queries(tmp_path: Path) -> None:
    file = tmp_path / "some.sql"
    file.write_text(
        "-- About the file.\n\n"
        "-- fragment: both\nx, y\n\n"
        "-- name: one  moves: QUEUED -> RUNNING\n--   moves: RUNNING -> FAILED\n-- Says what.\n"
        "SELECT {{both}} FROM t WHERE s = {State.RUNNING} -- why\n"
        "-- name: many\n-- Says what.\nINSERT INTO t VALUES /*each*/ (:a, {State.QUEUED}, :b) /*end*/\n"
    )
    queries = load(file)
    assert set(queries) == {"one", "many"}
    one, many = queries["one"], queries["many"]
    assert one.text.startswith("SELECT x, y FROM t WHERE s = 5")
    assert one.moves == (("QUEUED", "RUNNING"), ("RUNNING", "FAILED"))
    assert one.fields == ()
    assert many.fields == ("a", "b")
    assert many.for_rows(2) == "INSERT INTO t VALUES (?, 4, ?), (?, 4, ?)"
    assert isinstance(one, Query)


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize(
    ("filter_", "index"),
    [("*", "jobs_created"), ("state = QUEUED", "jobs_active"), ("state = FAILED", "jobs_created")],
)
def test_what_an_operation_is_about_is_found_along_an_index(
    schema: apsw.Connection, filter_: str, index: str, begun: bool
) -> None:
    query = JobQuery(
        "t", Order.CREATED_ASC, frozenset(State), filter=parse(filter_), created_before=EPOCH
    )
    found = targets_of(LISTS, query, Place(EPOCH, "j") if begun else None, 20)
    assert found is not None
    for text in (found.page, found.end):
        lines = plan(schema, text)
        assert f"COVERING INDEX {index} " in lines
        assert "created_us<?" in lines
        assert "TEMP B-TREE" not in lines
