"""Deletes: files that cannot be removed hold up nothing else."""

import itertools
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import structlog.testing

from jobservice.engine.parts import Parts, Signals
from jobservice.engine.sweep import BATCH, STAYS_S, Sweeps
from jobservice.store.port import StopRequest
from jobservice.store.sqlite.store import SqliteStore
from jobservice.testing.clock import JumpClock
from tests.conformance.values import at, ended, key_of, seconds


class Disk:
    """Files of jobs, of which some cannot be removed."""

    def __init__(self) -> None:
        self.stays: set[str] = set()
        self.tried: list[list[str]] = []

    async def remove(self, jobs: Sequence[tuple[str, int]]) -> list[bool]:
        self.tried.append([job_id for job_id, _ in jobs])
        return [job_id not in self.stays for job_id, _ in jobs]


@pytest.fixture
async def parts(quick_path: Path) -> AsyncIterator[Parts]:
    store = await SqliteStore.open(quick_path / "jobs.db")
    yield Parts(store, JumpClock(at(1_000)), random.Random(1), Signals())
    await store.close()


def sweeps(parts: Parts, disk: Disk) -> Sweeps:
    return Sweeps(parts, remove_files=disk.remove, lease_s=30, poll_s=5, retention=seconds(86_400))


async def unwanted(parts: Parts, count: int) -> list[str]:
    """Ended jobs whose deletion was asked for; their ids in order."""
    keys = [key_of(each) for each in await ended(parts.store, count)]
    stops = [StopRequest(each.tenant, each.job_id, delete=True) for each in keys]
    await parts.store.request_stop(stops, now=at(20))
    return sorted(each.job_id for each in keys)


async def left(parts: Parts) -> list[str]:
    return [each.key.job_id for each in await parts.store.list_deletable(limit=9_999)]


async def test_many_whose_files_stay_keep_no_other_one(parts: Parts) -> None:
    disk = Disk()
    *stay, _ = await unwanted(parts, BATCH + 2)
    disk.stays = set(stay)
    with structlog.testing.capture_logs() as lines:
        await sweeps(parts, disk).collect_deleted()
    assert await left(parts) == stay
    assert [line["count"] for line in lines] == [BATCH, 1]


async def test_what_stays_is_tried_less_often_logged_once_and_goes_in_the_end(
    parts: Parts,
) -> None:
    disk, clock = Disk(), parts.clock
    assert isinstance(clock, JumpClock)
    [job_id] = await unwanted(parts, 1)
    disk.stays = {job_id}
    sweep, tries = sweeps(parts, disk), list[float]()
    with structlog.testing.capture_logs() as lines:
        for _ in range(3_600):
            before = len(disk.tried)
            parts.signals.deletions.ring()
            await sweep.collect_deleted()
            if len(disk.tried) > before:
                tries.append(clock.monotonic_s())
            clock.advance(1)
    assert [line["event"] for line in lines] == ["files_stay"]
    waits = [later - sooner for sooner, later in itertools.pairwise(tries)]
    assert waits == sorted(waits)
    assert waits[-1] == pytest.approx(STAYS_S, abs=2)
    disk.stays.clear()
    clock.advance(STAYS_S)
    await sweep.collect_deleted()
    assert await left(parts) == []
