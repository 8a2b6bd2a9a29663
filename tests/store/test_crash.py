"""Crashes: a process that is killed at any instant loses nothing that it acknowledged."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from jobservice.errors import SetupError
from jobservice.failpoints import NAMES, VARIABLE, Failpoints
from jobservice.model.lifecycle import FINAL, State
from jobservice.store.port import JobKey
from jobservice.store.sqlite.store import SqliteStore
from jobservice.testing.invariants import check_invariants
from tests.conformance.values import BEGINNING, TENANT, insert, new_job

ROOT = Path(__file__).parents[2]
ROUNDS = 8


def child(path: Path, failpoint: str = "") -> "subprocess.Popen[str]":
    environment = {**os.environ, VARIABLE: failpoint}
    if not failpoint:
        del environment[VARIABLE]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.store.writing_child", str(path)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def acknowledged(process: "subprocess.Popen[str]") -> list[tuple[str, str]]:
    """The lines that are still to come, without one that was cut off."""
    assert process.stdout is not None
    lines = [line for line in process.stdout if line.endswith("\n")]
    process.stdout.close()
    assert process.wait(timeout=30) == -signal.SIGKILL
    return [(what, job_id) for what, job_id in (line.split() for line in lines)]


async def check(path: Path, promised: list[tuple[str, str]]) -> None:
    """The file is whole, and every promise is kept."""
    connection = apsw.Connection(str(path))
    assert connection.execute("PRAGMA integrity_check").get == "ok"
    connection.close()
    store = await SqliteStore.open(path)
    deleted = {job_id for what, job_id in promised if what == "deleted"}
    for what, job_id in promised:
        job = await store.find_job(JobKey(TENANT, job_id))
        if job_id in deleted:
            assert job is None, f"{job_id} was deleted and is back"
        elif job is None:
            # Its deletion may be on disk without having been acknowledged; then it is told.
            assert what != "deleted"
            assert await was_deleted(store, job_id), f"{what} {job_id} is lost"
        elif what == "started":
            assert job.state is not State.QUEUED, f"{job_id} was started"
        elif what == "ended":
            assert job.state in FINAL, f"{job_id} had ended and is {job.state!r}"
    await check_invariants(store, beginning=BEGINNING)
    await insert(store, new_job("after the crash"))
    await store.close()


async def was_deleted(store: SqliteStore, job_id: str) -> bool:
    page = await store.list_changes(BEGINNING, limit=100_000)
    return any(each.event.job_id == job_id for each in page.changes)


@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_a_kill_at_any_instant_loses_nothing(path: Path, seed: int) -> None:
    process = child(path)
    assert process.stdout is not None
    count = random.Random(seed).randint(1, 600)
    heard = [next(process.stdout).split() for _ in range(count)]
    process.kill()
    promised = [(what, job_id) for what, job_id in heard] + acknowledged(process)
    await check(path, promised)


@pytest.mark.parametrize("passes", [1, 7, 40])
@pytest.mark.parametrize("name", sorted(each for each in NAMES if each.startswith("store.")))
async def test_a_crash_around_a_commit_loses_nothing(path: Path, name: str, passes: int) -> None:
    promised = acknowledged(child(path, f"{name}@{passes}"))
    await check(path, promised)
    if passes == 1:
        assert promised == []


async def test_what_was_committed_and_not_acknowledged_is_there_whole(path: Path) -> None:
    """The caller heard nothing, so either is right; but never a part of it."""
    acknowledged(child(path, "store.after_commit"))
    connection = apsw.Connection(str(path))
    counts = [
        connection.execute(f"SELECT count(*) FROM {table}").get  # names of ours
        for table in ("jobs", "job_specs", "events")
    ]
    connection.close()
    assert counts[0] > 0
    assert len(set(counts)) == 1


def test_an_unknown_failpoint_is_refused() -> None:
    with pytest.raises(SetupError, match=r"store\.before_commit"):
        Failpoints("store.nowhere")


def test_a_failpoint_that_is_not_armed_does_nothing() -> None:
    for name in NAMES:
        Failpoints("").reach(name)
        Failpoints("store.before_commit@2").reach("store.before_commit")
