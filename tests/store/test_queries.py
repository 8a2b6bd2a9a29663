"""Queries: what their headers say is what they do, and they use the indexes made for them."""

import re
from pathlib import Path

import apsw
import pytest

from jobservice.model.lifecycle import FINAL, TRANSITIONS, State, Trigger
from jobservice.store import verbs
from jobservice.store.lists import _digest, list_of
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
PARTS = {"list_basic", "list_full"}
"""What `lists.py` puts together with a walk; see the plans of lists."""
NOT_YET = {
    Trigger.RELEASE_TO_BLOCKED,
    Trigger.UNBLOCK,
    Trigger.UNBLOCK_LATER,
    Trigger.SKIP,
    Trigger.REOPEN,
}
"""Triggers that no verb of the port pulls yet."""


@pytest.mark.parametrize("query", MOVING)
def test_every_move_is_in_the_table(query: Query) -> None:
    for source, target in query.moves:
        assert (source, target) in MOVES or (not source and target == "QUEUED")


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
def test_an_insert_puts_jobs_where_its_header_says(store: str) -> None:
    query = STORES[store]["insert_jobs"]
    [(source, target)] = query.moves
    assert source == ""
    assert STATE.findall(query.source) == [target]


def test_the_stores_have_the_same_statements_over_the_same_rows() -> None:
    of_many_writers = {"lock_jobs", "draw_positions"}  # SQLite has one
    assert QUERIES.keys() == POSTGRES.keys() - of_many_writers
    for name, query in QUERIES.items():
        other = POSTGRES[name]
        assert query.moves == other.moves, name
        assert query.fields == other.fields, name


@pytest.mark.parametrize("store", STORES)
def test_every_move_that_the_port_can_make_has_a_query(store: str) -> None:
    """All of the table but for the triggers of later verbs, and failures before an attempt."""
    written = {move for query in STORES[store].values() for move in query.moves}
    for (source, trigger), target in TRANSITIONS.items():
        early_failure = trigger is Trigger.FAIL and source not in {State.RUNNING, State.STOPPING}
        if trigger not in NOT_YET and not early_failure:
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
    return dict.fromkeys(names, 1) if names else [1] * text.count("?")


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
        ("find_claimable", "jobs_queued"),
        ("find_due", "jobs_scheduled"),
        ("find_expired", "jobs_leased"),
        ("list_live", "jobs_leased"),
        ("list_deletable", "jobs_to_delete"),
        ("next_due", "jobs_scheduled"),
        ("queue_position", "jobs_queued"),
        ("forget_requests", "requests_created"),
        ("find_forgettable", "tombstones_deleted"),
    ],
)
def test_what_is_run_all_the_time_walks_along_its_index(
    schema: apsw.Connection, name: str, index: str
) -> None:
    found = plan_of(schema, name)
    assert f"INDEX {index}" in found, found
    if name != "list_live":  # it sorts what one worker runs
        assert "TEMP B-TREE" not in found, found


@pytest.mark.parametrize(
    "name",
    [
        "find_job",
        "find_jobs",
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
        "update_jobs",
        "request_deletion",
        "delete_jobs",
        "delete_specs",
        "delete_attempts",
        "delete_events",
        "delete_progress",
        "find_requests",
    ],
)
def test_what_is_about_given_jobs_looks_them_up(schema: apsw.Connection, name: str) -> None:
    tables = ("jobs", "job_specs", "attempts", "events", "progress", "requests")
    for line in plan_of(schema, name).splitlines():
        scanned = line.startswith("SCAN ") and line.split()[1] in tables
        assert not scanned, plan_of(schema, name)


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
    query = JobQuery("t", order, states, queue="q", name="n", labels={"a": "b"}, full=True)
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
