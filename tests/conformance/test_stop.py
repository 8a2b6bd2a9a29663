"""Stop: cancel and the first half of delete."""

import asyncio
import itertools
from typing import Any

import pytest

from jobservice.model.attempt import Fence
from jobservice.model.event import EventKind
from jobservice.model.job import NewJob
from jobservice.model.lifecycle import FINAL, Reason, State
from jobservice.model.spec import RetryPolicy
from jobservice.store.port import JobKey, Refusal, Stopped, StopRequest, Store
from tests.conformance.values import (
    NOW,
    TENANT,
    at,
    changes,
    claim,
    end,
    ended,
    finish,
    insert_some,
    job,
    key_of,
    run,
    states,
)


def stop(which: NewJob | Fence | JobKey, **more: Any) -> StopRequest:
    return StopRequest(which.tenant, which.job_id, **more)


async def test_a_queued_job_is_cancelled_at_once(store: Store) -> None:
    [new] = await insert_some(store)
    assert await store.request_stop([stop(new)], now=at(5)) == [Stopped(State.CANCELLED, None)]
    found = await job(store, new)
    assert (found.state, found.reason, found.ended_at) == (State.CANCELLED, Reason.USER, at(5))
    assert found.message
    assert await claim(store) == []
    event = (await changes(store))[-1].event
    assert (event.kind, event.previous_state, event.reason) == (
        EventKind.CANCELLED,
        State.QUEUED,
        Reason.USER,
    )


async def test_a_job_that_waits_for_its_retry_is_cancelled(store: Store) -> None:
    [fence] = await run(store, retry=RetryPolicy(max_attempts=2))
    await finish(store, end(fence, 1))
    await store.request_stop([stop(fence)], now=at(10.5))
    found = await job(store, fence)
    assert (found.state, found.start_at) == (State.CANCELLED, None)
    assert await store.release_due(now=at(99), limit=10) == 0
    assert await store.next_due_at() is None


async def test_a_running_job_stops(store: Store) -> None:
    [fence] = await run(store)
    assert await store.request_stop([stop(fence)], now=at(5)) == [Stopped(State.STOPPING, fence)]
    found = await job(store, fence)
    assert (found.state, found.reason, found.ended_at) == (State.STOPPING, Reason.USER, None)
    event = (await changes(store))[-1].event
    assert (event.kind, event.previous_state, event.attempt) == (
        EventKind.STOPPING,
        State.RUNNING,
        1,
    )


async def test_a_stop_asked_for_twice_is_told_once(store: Store) -> None:
    [fence] = await run(store)
    answers = await store.request_stop([stop(fence), stop(fence)], now=at(5))
    assert answers == [Stopped(State.STOPPING, fence)] * 2
    before = await changes(store)
    assert await store.request_stop([stop(fence)], now=at(6)) == [Stopped(State.STOPPING, fence)]
    assert await changes(store) == before


@pytest.mark.parametrize("exit_code", [0, 1])
async def test_a_final_job_stays_as_it_is(store: Store, exit_code: int) -> None:
    [fence] = await ended(store, exit_code=exit_code)
    before = await job(store, fence)
    [answer] = await store.request_stop([stop(fence)], now=at(50))
    assert answer == Stopped(before.state, None)
    assert await job(store, fence) == before


async def test_nobodys_job_is_not_found(store: Store) -> None:
    [new] = await insert_some(store)
    foreign = JobKey("other", new.job_id)
    answers = await store.request_stop([stop(foreign), stop(new)], now=at(5))
    assert answers == [Refusal.NOT_FOUND, Stopped(State.CANCELLED, None)]


async def test_a_stale_version_stops_nothing(store: Store) -> None:
    [new] = await insert_some(store)
    await store.update_job(key_of(new), {"name": "n"}, edit_version=None, now=at(1))
    requests = [stop(new, edit_version=1, delete=True), stop(new, edit_version=2)]
    assert await store.request_stop(requests[:1], now=at(5)) == [Refusal.STALE]
    found = await job(store, new)
    assert (found.state, found.delete_requested) == (State.QUEUED, False)
    assert await store.request_stop(requests[1:], now=at(5)) == [Stopped(State.CANCELLED, None)]


async def test_the_wish_to_delete_is_kept_in_every_state(store: Store) -> None:
    queued = (await insert_some(store, name="queued"))[0]
    [running] = await run(store)
    await ended(store)
    everything = [JobKey(TENANT, each) for each in await states(store)]
    await store.request_stop([stop(each, delete=True) for each in everything], now=at(20))
    found = await store.find_jobs(everything)
    assert all(each is not None and each.delete_requested for each in found)
    del queued, running


async def test_only_final_jobs_can_be_deleted(store: Store) -> None:
    [fence] = await run(store)
    await store.request_stop([stop(fence, delete=True)], now=at(5))
    assert await store.list_deletable(limit=10) == []
    await finish(store, end(fence, 1))
    [deletable] = await store.list_deletable(limit=10)
    assert (deletable.key, deletable.attempt_count) == (key_of(fence), 1)


async def test_a_stop_and_a_claim_do_not_both_win(store: Store) -> None:
    jobs = await insert_some(store, 60)
    stops = [store.request_stop([stop(each)], now=at(1)) for each in jobs]
    claims = [claim(store, 5) for _ in range(12)]
    answers, given = await asyncio.gather(asyncio.gather(*stops), asyncio.gather(*claims))
    found = await states(store)
    claimed = {each.fence.job_id for each in itertools.chain.from_iterable(given)}
    for new, [answer] in zip(jobs, answers, strict=True):
        assert isinstance(answer, Stopped)
        stopping = new.job_id in claimed
        assert found[new.job_id] is (State.STOPPING if stopping else State.CANCELLED)


async def test_a_mixed_batch_is_answered_in_order(store: Store) -> None:
    [finished] = await ended(store)
    [running] = await run(store)
    [queued] = await insert_some(store)
    answers = await store.request_stop(
        [stop(queued), stop(JobKey("x", "y")), stop(running), stop(finished)], now=NOW
    )
    assert answers == [
        Stopped(State.CANCELLED, None),
        Refusal.NOT_FOUND,
        Stopped(State.STOPPING, running),
        Stopped(State.SUCCEEDED, None),
    ]
    assert State.SUCCEEDED in FINAL
