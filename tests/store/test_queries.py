"""Queries: what their headers say is what they do, and they use the indexes made for them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest

from jobservice.model.lifecycle import FIRST, TRANSITIONS, State
from jobservice.store import verbs
from jobservice.store.postgres.queries import FILES as POSTGRES_FILES
from jobservice.store.postgres.queries import QUERIES as POSTGRES
from jobservice.store.sqlfile import FEW, VARIANTS, Query, load, parse_moves
from jobservice.store.sqlite.migrate import upgrade
from jobservice.store.sqlite.queries import FILES, QUERIES
from jobservice.store.sqlite.reads import LISTS
from tests.store.plans import PARTS, TABLES, compare, difference, lists, sections

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
    of_many_writers = {
        "lock_jobs",
        "lock_schedules",
        "lock_claims",
        "lock_unique",
        "draw_positions",
        "find_lead",
        "lock_lead",
        "take_lead",
        "renew_lead",
        "leave_lead",
        "find_obeyed",
        "find_lanes_from",
        "count_dead_rows",
        "list_held_open",
        "list_left_files",
        "forget_left_files",
    }
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
    schema.execute(f"EXPLAIN {text}", _nothing(text))


SORTED = {
    "find_ends",
    "count_leases",
    "find_held",
    "list_live",
    "end of list: created, running",
    "end of list: created, running, behind",
    "list: created, running",
    "list: created, running, behind",
    "list: created, running, filtered",
    "list: created, running, filtered, behind",
}
"""What sorts the few rows that it found."""


# --- plans ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> apsw.Connection:
    """A database without a row, which no test changes."""
    path = tmp_path_factory.mktemp("schema") / "jobservice.db"
    upgrade(path)
    return apsw.Connection(str(path))


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


def _plans(schema: apsw.Connection) -> dict[str, list[str]]:
    """What is kept of the plans of all queries, by the names of their sections in the file."""
    texts = {name: query.for_rows(2) for name, query in QUERIES.items() if name not in PARTS}
    texts |= lists(LISTS)
    return {name: _lines(schema, text) for name, text in texts.items()}


def _lines(schema: apsw.Connection, text: str) -> list[str]:
    """What is kept of a plan: no walk over what the statement itself made or was given."""
    try:
        found = plan(schema, text).splitlines()
    except apsw.SQLError as error:
        return [str(error)]
    made = {*_MADE.findall(text), *_JOINED.findall(text)}
    return sorted(
        {line for line in found if _READS.match(line) and line.removeprefix("SCAN ") not in made}
    )


_READS = re.compile(r"SEARCH (?!\()|SCAN (?!\(|\d|.*(VIRTUAL TABLE|CONSTANT ROW))|USE TEMP")
_MADE = re.compile(r"(\w+)(?: ?\([\w, ]+\))? AS (?:(?:NOT )?MATERIALIZED )?\(")
_JOINED = re.compile(r"\) AS (\w+)")


def test_the_plans_are_those_that_are_kept(
    schema: apsw.Connection, pytestconfig: pytest.Config
) -> None:
    compare("sqlite", _plans(schema), pytestconfig)


def test_a_lost_index_shows(schema: apsw.Connection) -> None:
    indexes = "SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL"
    for (name,) in schema.execute(indexes).fetchall():
        schema.execute("SAVEPOINT whole")
        schema.execute(f"DROP INDEX {name}")
        assert re.search(rf"\n-.* INDEX {name}\b", difference("sqlite", _plans(schema))), name
        schema.execute("ROLLBACK TO whole")
        schema.execute("RELEASE whole")
    assert not difference("sqlite", _plans(schema))


def test_what_is_kept_walks_along_indexes() -> None:
    kept = sections("sqlite")
    for name, lines in kept.items():
        for line in lines:
            assert "AUTOMATIC" not in line, name
            assert not line.startswith("SCAN jobs") or " INDEX " in line, name
    scanned = {line for lines in kept.values() for line in lines if line.startswith("SCAN")}
    tables = {line.split()[1] for line in scanned if " INDEX " not in line}
    assert tables & TABLES == {
        "feed",
        "unsettled",
        "shares",
        "workers",
    }  # there are never many of these
    assert {name for name, lines in kept.items() if any("TEMP" in line for line in lines)} == SORTED


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


def _wide(tmp_path: Path, fields: str = "a text; b integer, c text") -> Query:
    file = tmp_path / "wide.sql"
    file.write_text(f"-- name: wide\n-- Says what.\nINSERT INTO t SELECT * FROM rows({fields})\n")
    return load(file)["wide"]


def test_what_is_the_same_in_all_rows_is_passed_once(tmp_path: Path) -> None:
    query = _wide(tmp_path)
    assert query.fields == ("a", "b", "c")
    text, values = query.bound([(str(n), 7, None if n else "") for n in range(FEW)])
    assert values == [[str(n) for n in range(FEW)], 7, ["", *[None] * (FEW - 1)]]
    assert text == (
        "INSERT INTO t SELECT * FROM (SELECT a, $2::integer AS b, c"
        " FROM unnest($1::text[], $3::text[]) AS given (a, c)) AS given"
    )
    text, values = query.bound([("x", 1, "y")])
    assert values == [["x"], 1, "y"]
    assert "unnest($1::text[]) AS given (a)" in text


def test_what_a_few_rows_have_in_common_is_chance(tmp_path: Path) -> None:
    query = _wide(tmp_path)
    text, values = query.bound([("x", 1, "z"), ("y", 1, "z")])
    assert (text, values) == (query.text, [["x", "y"], [1, 1], ["z", "z"]])


def test_what_is_compared_is_always_an_array(tmp_path: Path) -> None:
    query = _wide(tmp_path, "a text, b integer")
    assert query.bound([("x", 1)] * FEW) == (query.text, [["x"] * FEW, [1] * FEW])


def test_where_nothing_is_compared_all_may_be_passed_once_but_for_one_array(tmp_path: Path) -> None:
    query = _wide(tmp_path, "; a text, b integer")
    text, values = query.bound([("x", 1)] * FEW)
    assert (values, "unnest($1::text[]) AS given (a)" in text) == ([["x"] * FEW, 1], True)
    text, values = query.bound([("x", n) for n in range(FEW)])
    assert (values, "unnest($2::integer[]) AS given (b)" in text) == (["x", [*range(FEW)]], True)


def test_what_a_statement_does_not_name_is_not_passed(tmp_path: Path) -> None:
    file = tmp_path / "own.sql"
    file.write_text(
        "-- name: own\n-- Says what.\nINSERT INTO t (a) SELECT a FROM rows(; a text, b integer)\n"
    )
    query = load(file)["own"]
    for count in (1, 2, FEW):
        text, values = query.bound([(str(n), n) for n in range(count)])
        assert values == [[str(n) for n in range(count)], None]
        assert "unnest($1::text[]) AS given (a)" in text


def test_the_statements_of_a_query_are_bounded(tmp_path: Path) -> None:
    names = [f"c{n}" for n in range(VARIANTS + 4)]
    query = _wide(tmp_path, "a text; " + ", ".join(f"{name} integer" for name in names))

    def bound(differing: set[str]) -> tuple[str, Sequence[Any]]:
        rows = [("x", *(n if each in differing else 7 for each in names)) for n in range(FEW)]
        return query.bound(rows)

    texts = {bound({name})[0] for name in names}
    assert len(texts) == VARIANTS  # with the one in which nothing is the same
    again, values = bound({names[0], names[1]})
    assert again in texts
    assert all(isinstance(value, list) for value in values)
    fewer, values = bound({names[0]})
    assert [isinstance(value, list) for value in values[:3]] == [True, True, False]
    assert fewer in texts
