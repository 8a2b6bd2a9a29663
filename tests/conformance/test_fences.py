"""Fences: only the newest lease of a job may write."""

import dataclasses
from collections.abc import Awaitable, Callable

import pytest

from jobservice.model.attempt import Cause, Fence
from jobservice.model.event import EventKind
from jobservice.model.job import AttemptState, Progress
from jobservice.model.lifecycle import State
from jobservice.store.port import LeaseAnswer, ProgressReport, StopRequest, Store
from tests.conformance.values import (
    at,
    changes,
    claim,
    end,
    finish,
    insert_some,
    job,
    run,
    start,
)

Write = Callable[[Store, Fence], Awaitable[object]]


async def report(store: Store, fence: Fence) -> object:
    [answer] = await store.record_progress(
        [ProgressReport(fence, Progress(50.0, "half", None, at(3)))]
    )
    return answer


async def begin(store: Store, fence: Fence) -> object:
    [answer] = await start(store, fence)
    return answer


async def conclude(store: Store, fence: Fence) -> object:
    [answer] = await finish(store, end(fence))
    return answer


async def hand_back(store: Store, fence: Fence) -> object:
    [answer] = await store.unclaim_attempts([fence], now=at(3))
    return answer


async def extend(store: Store, fence: Fence) -> object:
    [answer] = await store.extend_leases([fence], lease_until=at(500))
    return None if answer is LeaseAnswer.REFUSED else answer


WRITES = [report, begin, conclude, hand_back, extend]


async def stale_fences(store: Store) -> list[Fence]:
    """A live attempt, and every fence that is not its: older, newer, other job, other tenant."""
    [first] = await run(store)
    await finish(store, end(first, cause=Cause.LOST))
    [given] = await claim(store)
    live = given.fence
    return [
        first,
        dataclasses.replace(live, epoch=live.epoch - 1),
        dataclasses.replace(live, epoch=live.epoch + 1),
        dataclasses.replace(live, attempt=live.attempt - 1),
        dataclasses.replace(live, attempt=live.attempt + 1),
        dataclasses.replace(live, tenant="other"),
        dataclasses.replace(live, job_id="j" + "0" * 26),
    ]


@pytest.mark.parametrize("write", WRITES)
async def test_a_stale_fence_writes_nothing(store: Store, write: Write) -> None:
    stale = await stale_fences(store)
    before = await changes(store), await job(store, stale[0])
    for fence in stale:
        assert not await write(store, fence), fence
    assert (await changes(store), await job(store, stale[0])) == before


@pytest.mark.parametrize("write", WRITES)
async def test_a_final_job_has_no_fence(store: Store, write: Write) -> None:
    [fence] = await run(store)
    await finish(store, end(fence))
    before = await changes(store)
    assert not await write(store, fence)
    assert await changes(store) == before


@pytest.mark.parametrize("write", WRITES)
async def test_nothing_is_written_for_nobody(store: Store, write: Write) -> None:
    del write
    assert await store.start_attempts([]) == []
    assert await finish(store) == []
    assert await store.unclaim_attempts([], now=at(0)) == []
    assert await store.extend_leases([], lease_until=at(0)) == []
    assert await store.record_progress([]) == []


async def test_stale_and_live_fences_of_one_call_are_told_apart(store: Store) -> None:
    fences = await run(store, 3)
    stale = [dataclasses.replace(each, epoch=99) for each in fences]
    mixed = [end(stale[0]), end(fences[0]), end(stale[1]), end(fences[2])]
    answers = await finish(store, *mixed)
    assert [each is not None for each in answers] == [False, True, False, True]
    assert (await job(store, fences[1])).state is State.RUNNING


async def test_a_lease_handed_back_leaves_no_attempt_and_uses_up_its_epoch(store: Store) -> None:
    [new] = await insert_some(store)
    [newer] = await insert_some(store, name="newer")
    [given] = await claim(store)
    assert await store.unclaim_attempts([given.fence, given.fence], now=at(4)) == [True, False]
    found = await job(store, new)
    assert (found.state, found.attempt_count, found.attempts) == (State.QUEUED, 0, ())
    event = (await changes(store))[-1].event
    assert (event.kind, event.previous_state, event.state, event.at) == (
        EventKind.UNCLAIMED,
        State.RUNNING,
        State.QUEUED,
        at(4),
    )
    again, other = await claim(store, 2)
    assert (again.fence.job_id, other.fence.job_id) == (new.job_id, newer.job_id)
    assert (again.fence.attempt, again.fence.epoch) == (1, 2)
    assert await start(store, given.fence) == [False]


async def test_a_lease_with_a_process_is_not_handed_back(store: Store) -> None:
    [fence] = await run(store)
    assert await store.unclaim_attempts([fence], now=at(4)) == [False]
    assert (await job(store, fence)).attempts[0].state is AttemptState.RUNNING


async def test_a_lease_of_a_stopping_job_is_not_handed_back(store: Store) -> None:
    [new] = await insert_some(store)
    [given] = await claim(store)
    await store.request_stop([StopRequest(new.tenant, new.job_id)], now=at(1))
    assert await store.unclaim_attempts([given.fence], now=at(4)) == [False]
    [settlement] = await finish(store, end(given.fence, cause=Cause.STOP))
    assert settlement is not None
    assert (await job(store, new)).state is State.CANCELLED
