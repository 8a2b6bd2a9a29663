"""Walks from one value to the next read no more where there are more rows of a value."""

from pathlib import Path

import apsw
import pytest

from jobservice.store.sqlite.queries import QUERIES
from jobservice.store.sqlite.store import SqliteStore
from tests.conformance.values import insert_some

WALKS = {"find_lanes": ("", "", "", "", 1000, "w"), "find_parked_keys": ("", "", 1000)}


async def steps(path: Path, name: str, count: int) -> int:
    """How many steps SQLite's machine takes for a statement, with so many jobs."""
    store = await SqliteStore.open(path)
    await insert_some(store, count)
    await store.close()
    taken: list[int] = []
    connection = apsw.Connection(str(path))
    if name == "find_parked_keys":
        connection.execute("UPDATE jobs SET blocked_key = 'taken'")
    connection.trace_v2(
        apsw.SQLITE_TRACE_PROFILE,
        lambda event: taken.append(event["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"]),
    )
    assert connection.execute(QUERIES[name].text, WALKS[name]).get.count("default") > 0
    connection.close()
    return taken[0]


@pytest.mark.parametrize("name", WALKS)
async def test_a_walk_costs_the_same_however_many_jobs_there_are(tmp_path: Path, name: str) -> None:
    few = await steps(tmp_path / "few.db", name, 5)
    many = await steps(tmp_path / "many.db", name, 900)
    assert many == few
