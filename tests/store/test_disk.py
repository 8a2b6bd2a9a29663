"""Disks that are full or fail: nothing acknowledged is lost, nothing refused is done."""

import asyncio
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from jobservice.errors import StoreFull, StoreUnavailable
from jobservice.store.sqlite.store import SqliteStore
from jobservice.testing.invariants import check_invariants
from tests.conformance.values import claim, end, finish, insert, new_job, states
from tests.store.faulty_disk import FaultyDisk

MOUNT_BYTES = 4 << 20
_libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def disk() -> Iterator[FaultyDisk]:
    """A disk whose faults the test sets; the default of SQLite meanwhile."""
    faulty = FaultyDisk()
    yield faulty
    faulty.unregister()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    options = f"size={MOUNT_BYTES}".encode()
    if _libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, options):
        pytest.skip(f"cannot mount a tmpfs here: {os.strerror(ctypes.get_errno())}")
    yield folder
    assert not _libc.umount2(os.fsencode(folder), 0)


async def fill(store: SqliteStore) -> list[str]:
    """Insert until the disk is full; returns the acknowledged jobs."""
    acknowledged: list[str] = []
    for _ in range(2_000):
        jobs = [new_job(name="x" * 200) for _ in range(10)]
        calls = [store.insert_jobs([each]) for each in jobs]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        faults = [each for each in answers if isinstance(each, BaseException)]
        acknowledged += [
            job.job_id
            for job, answer in zip(jobs, answers, strict=True)
            if not isinstance(answer, BaseException)
        ]
        if faults:
            assert {type(each) for each in faults} == {StoreFull}
            return acknowledged
    raise AssertionError("the disk never was full")


async def test_a_full_disk_loses_nothing_acknowledged(small_disk: Path) -> None:
    path = small_disk / "jobservice.db"
    store = await SqliteStore.open(path)
    beginning = await store.head_position()
    filler = small_disk / "filler"
    filler.write_bytes(b"\0" * (2 << 20))
    acknowledged = await fill(store)
    assert set(await states(store)) == set(acknowledged)
    with pytest.raises(StoreFull):
        await store.insert_jobs([new_job(name="x" * 200) for _ in range(1_000)])
    filler.unlink()
    await insert(store, last := new_job())
    await check_invariants(store, beginning=beginning)
    await store.close()
    await sound(path, {*acknowledged, last.job_id})


async def test_a_full_database_refuses_and_goes_on(path: Path) -> None:
    """The same without a mount: SQLite's own bound on pages says SQLITE_FULL."""
    store = await SqliteStore.open(path)
    store._writer._connection.execute("PRAGMA max_page_count = 120").get  # noqa: B018  # runs it
    acknowledged = await fill(store)
    assert set(await states(store)) == set(acknowledged)
    store._writer._connection.execute("PRAGMA max_page_count = 100000").get  # noqa: B018
    await insert(store, last := new_job())
    await store.close()
    await sound(path, {*acknowledged, last.job_id})


async def test_what_is_acknowledged_was_synced(disk: FaultyDisk, path: Path) -> None:
    store = await SqliteStore.open(path)
    for _ in range(5):
        before = disk.syncs
        await insert(store, new_job())
        assert disk.syncs > before
    await store.close()


async def test_a_failed_fsync_fails_the_calls_and_is_not_tried_again(
    disk: FaultyDisk, path: Path
) -> None:
    store = await SqliteStore.open(path)
    await insert(store, kept := new_job())
    disk.sync_fault, disk.syncs = apsw.IOError, 0
    calls = [store.insert_jobs([new_job()]) for _ in range(5)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(each) for each in answers} == {StoreUnavailable}
    assert disk.syncs <= 5
    assert set(await states(store)) == {kept.job_id}
    disk.sync_fault = None
    await insert(store, later := new_job())
    await store.close()
    await sound(path, {kept.job_id, later.job_id})


@pytest.mark.parametrize(
    ("fault", "refusal"), [(apsw.FullError, StoreFull), (apsw.IOError, StoreUnavailable)]
)
async def test_a_failed_write_undoes_every_verb(
    disk: FaultyDisk, path: Path, fault: type[apsw.Error], refusal: type[Exception]
) -> None:
    store = await SqliteStore.open(path)
    beginning = await store.head_position()
    await insert(store, *[new_job() for _ in range(6)])
    fences = [each.fence for each in await claim(store, 3)]
    before = await states(store)
    disk.write_fault = fault
    answers = await asyncio.gather(
        store.insert_jobs([new_job()]),
        claim(store, 1),
        finish(store, end(fences[0])),
        store.unclaim_attempts(fences[1:], now=end(fences[0]).outcome.ended_at),
        return_exceptions=True,
    )
    assert {type(each) for each in answers} == {refusal}
    assert await states(store) == before
    disk.write_fault = None
    assert await finish(store, end(fences[0])) != [None]
    await check_invariants(store, beginning=beginning)
    await store.close()
    await sound(path, set(before))


async def sound(path: Path, job_ids: set[str]) -> None:
    """The file is whole and has these jobs."""
    connection = apsw.Connection(str(path))
    assert connection.execute("PRAGMA integrity_check").get == "ok"
    connection.close()
    store = await SqliteStore.open(path)
    assert set(await states(store)) == job_ids
    await store.close()
