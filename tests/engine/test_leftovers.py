"""What deletes by other servers have left here: what is removed, what waits, and what is tried again."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jobservice.blobs.disk import AttemptFiles
from jobservice.engine.leftovers import Leftovers
from jobservice.engine.parts import Parts, Signals
from jobservice.engine.sweep import BATCH
from jobservice.model.worker import WorkerInfo
from jobservice.store.port import StopRequest
from jobservice.store.postgres.store import PostgresStore
from jobservice.testing.clock import JumpClock
from tests.conformance.values import at, ended, key_of, seconds
from tests.postgres import Databases

HERE, LEADER = "w1", "leader"


@pytest.fixture
async def parts(postgres: Databases) -> AsyncIterator[Parts]:
    url = await postgres.lend()
    store = await PostgresStore.open(url)
    yield Parts(store, JumpClock(at(1_000)), random.Random(1), Signals())
    await store.close()
    await postgres.take_back(url)


async def deleted(parts: Parts, count: int) -> list[str]:
    """Jobs that ran here and that another server has deleted; their ids in order."""
    store = parts.store
    await store.register_worker(WorkerInfo(HERE, embedded=True), now=at(0))
    keys = [key_of(each) for each in await ended(store, count)]
    stops = [StopRequest(each.tenant, each.job_id, delete=True) for each in keys]
    await store.request_stop(stops, now=at(20))
    led = store.led(await store.take_lead(LEADER, 0, lease=seconds(600)))
    assert all(await led.delete_jobs(keys, now=at(30)))
    return sorted(each.job_id for each in keys)


def directories(root: Path) -> set[str]:
    return {each.name for each in root.glob("*/*")}


async def test_what_is_in_use_or_stays_is_tried_again_and_holds_nothing_up(
    parts: Parts, tmp_path: Path
) -> None:
    files, held = AttemptFiles(tmp_path), set[str]()
    leftovers = Leftovers(
        parts, worker_id=HERE, remove_files=files.remove, held=lambda: held, poll_s=2
    )
    stays, runs, *others = await deleted(parts, BATCH + 3)
    held.add(runs)
    for job_id in (runs, *others):
        files.directory(job_id, 1).mkdir(parents=True)
    blocked = files.directory(stays, 1)
    blocked.write_text("no directory, so that it is not removed as one")
    assert not await leftovers.clear()
    assert directories(tmp_path) == {f"{stays}-1", f"{runs}-1"}
    known = await parts.store.list_left_files(HERE, after="", limit=9)
    assert known == [(stays, 1), (runs, 1)]
    held.clear()
    blocked.unlink()
    assert await leftovers.clear()
    assert directories(tmp_path) == set()
    assert await parts.store.list_left_files(HERE, after="", limit=9) == []
