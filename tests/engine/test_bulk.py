"""Bulk operations as the engine carries them out, in virtual time and with a job at fault."""

import datetime as dt
import random
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from jobservice.engine import bulk
from jobservice.engine.parts import Parts, Signals
from jobservice.errors import AlreadyExists, LimitExceeded, OperationNotFound
from jobservice.model.filter import parse
from jobservice.model.lifecycle import State
from jobservice.model.operation import Action, BulkChange, OperationState
from jobservice.store.operation_port import OperationKey
from jobservice.store.sqlite.store import SqliteStore
from jobservice.testing.clock import JumpClock
from jobservice.testing.virtual import VirtualService
from tests.conformance.values import TENANT, at, insert_some, job

HOLD = BulkChange("*", Action.HOLD)
SECOND = dt.timedelta(seconds=1)


@pytest.fixture
def clock() -> JumpClock:
    return JumpClock(at(1_000))


@pytest.fixture
async def parts(quick_path: Path, clock: JumpClock) -> AsyncIterator[Parts]:
    store = await SqliteStore.open(quick_path / "jobs.db")
    yield Parts(store, clock, random.Random(1), Signals())
    await store.close()


def loops(parts: Parts) -> bulk.Operations:
    return bulk.Operations(parts, poll_s=5, retention=dt.timedelta(days=7))


async def test_batches_go_through_all_jobs(parts: Parts) -> None:
    jobs = await insert_some(parts.store, 2 * bulk.BATCH + 1)
    begun = await bulk.begin(parts, TENANT, HOLD, "")
    seen = []
    for _ in range(3):
        await loops(parts).advance()
        found = await bulk.get(parts, OperationKey(TENANT, begun.operation_id))
        seen.append((found.done_count, found.state))
    assert seen == [
        (200, OperationState.RUNNING),
        (400, OperationState.RUNNING),
        (401, OperationState.DONE),
    ]
    assert (await job(parts.store, jobs[-1])).state is State.HELD


def test_a_rate_is_kept() -> None:
    with VirtualService(slots=0) as service:
        service.client.create_many([["true"]] * 10)
        service.advance(SECOND)
        begun = service.client.bulk("hold", "*", max_per_second=2)
        seen = []
        for _ in range(6):
            seen.append(service.client.operation(begun).done_count)
            service.advance(SECOND)
        assert seen == [2, 4, 6, 8, 10, 10]
        done = service.client.wait_operation(begun)
        assert done.state is OperationState.DONE
        assert done.ended_at == begun.created_at + 4 * SECOND


async def test_a_job_at_fault_stops_none_of_the_others(parts: Parts, quick_path: Path) -> None:
    jobs = await insert_some(parts.store, 5)
    with apsw.Connection(str(quick_path / "jobs.db")) as connection:
        connection.execute(
            f"CREATE TRIGGER fault BEFORE UPDATE ON jobs WHEN new.job_id = '{jobs[2].job_id}'"
            " BEGIN SELECT RAISE(ABORT, 'broken'); END"
        )
    operation = await bulk.begin(parts, TENANT, HOLD, "")
    while operation.state is OperationState.RUNNING:
        stepped = await loops(parts).step(operation)
        assert stepped is not None
        operation = stepped.operation
    assert (operation.done_count, operation.skipped_count, operation.failed_count) == (4, 0, 1)
    assert [(await job(parts.store, each)).state.name for each in jobs] == [
        "HELD", "HELD", "QUEUED", "HELD", "HELD",
    ]  # fmt: skip


async def test_a_count_changes_nothing_and_has_a_bound(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    await insert_some(parts.store, 7, name="a")
    await insert_some(parts.store, 2, name="b")
    head = await parts.store.head_position()
    assert await bulk.count(parts, TENANT, parse("name = a")) == bulk.Count(7, is_at_least=False)
    assert await bulk.count(parts, TENANT, parse("name = c")) == bulk.Count(0, is_at_least=False)
    monkeypatch.setattr(bulk, "COUNT_PAGE", 3)
    assert await bulk.count(parts, TENANT, parse("name = a")) == bulk.Count(7, is_at_least=False)
    monkeypatch.setattr(bulk, "COUNTED_JOBS", 6)
    assert await bulk.count(parts, TENANT, parse("name = a")) == bulk.Count(6, is_at_least=True)
    monkeypatch.setattr(bulk, "COUNTED_PAGES", 1)
    assert await bulk.count(parts, TENANT, parse("name = a")) == bulk.Count(3, is_at_least=True)
    assert await parts.store.head_position() == head


async def test_a_request_id_is_for_one_operation(parts: Parts) -> None:
    begun = await bulk.begin(parts, TENANT, HOLD, "r")
    assert await bulk.begin(parts, TENANT, HOLD, "r") == begun
    with pytest.raises(AlreadyExists, match="with another filter, reason"):
        await bulk.begin(parts, TENANT, BulkChange("x", Action.HOLD, reason="y"), "r")


async def test_what_goes_on_has_a_bound(parts: Parts) -> None:
    begun = [await bulk.begin(parts, TENANT, HOLD, "") for _ in range(bulk.RUNNING_LIMIT)]
    with pytest.raises(LimitExceeded, match="100 operations go on already"):
        await bulk.begin(parts, TENANT, HOLD, "")
    await bulk.cancel(parts, OperationKey(TENANT, begun[0].operation_id))
    await bulk.begin(parts, TENANT, HOLD, "")


async def test_operations_are_forgotten_a_week_after_their_end(
    parts: Parts, clock: JumpClock
) -> None:
    begun = await bulk.begin(parts, TENANT, HOLD, "")
    key = OperationKey(TENANT, begun.operation_id)
    await loops(parts).advance()
    clock.advance(7 * 86_400)
    assert await loops(parts).forget() == 0
    clock.advance(1)
    assert await loops(parts).forget() == 1
    with pytest.raises(OperationNotFound):
        await bulk.get(parts, key)
