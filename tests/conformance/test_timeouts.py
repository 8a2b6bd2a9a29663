"""Timeouts: waits and whole lives that are over end their jobs, once, and no others."""

import datetime as dt
from typing import Any

import pytest

from jobservice.model.attempt import Cause, Fence
from jobservice.model.event import EventKind
from jobservice.model.graph import Condition
from jobservice.model.job import AttemptState, Job, NewJob
from jobservice.model.lifecycle import Reason, State
from jobservice.model.limit import ConcurrencyKey
from jobservice.model.spec import Dependency, RetryPolicy
from jobservice.store.port import Refusal, StopRequest, Store, TimedOut
from tests.conformance.values import (
    at,
    changes,
    claim,
    end,
    finish,
    insert_some,
    job,
    key_of,
    run,
    seconds,
    start,
)

_LOST, _STOP = Cause.LOST, Cause.STOP
NONE = TimedOut(0, ())
OVER = (State.FAILED, Reason.TOTAL_TIMEOUT)


async def time_out(store: Store, now: dt.datetime, limit: int = 9) -> TimedOut:
    return await store.time_out_jobs(now=now, limit=limit)


async def where(store: Store, which: NewJob | Fence) -> tuple[State, Reason]:
    found = await job(store, which)
    return found.state, found.reason


# --- one wait in the queue --------------------------------------------------------------------


async def test_a_wait_that_is_over_fails_the_job(store: Store) -> None:
    [new] = await insert_some(store, queue_timeout=seconds(5))
    assert await store.next_time_out_at() == at(5)
    assert await time_out(store, at(4.9)) == NONE
    assert await time_out(store, at(5)) == TimedOut(1, ())
    found = await job(store, new)
    assert (found.state, found.reason) == (State.FAILED, Reason.QUEUE_TIMEOUT)
    assert found.message == "waited longer than its queue timeout"
    assert (found.ended_at, found.attempt_count) == (at(5), 0)
    event = (await changes(store))[-1].event
    assert (event.kind, event.previous_state, event.state) == (
        EventKind.FAILED,
        State.QUEUED,
        State.FAILED,
    )
    assert (event.reason, event.revision) == (Reason.QUEUE_TIMEOUT, 2)
    assert await store.next_time_out_at() is None
    assert await time_out(store, at(99)) == NONE


async def test_jobs_without_timeouts_wait_for_ever(store: Store) -> None:
    await insert_some(store, 3)
    assert await store.next_time_out_at() is None
    assert await time_out(store, at(10**9)) == NONE


async def test_a_claim_ends_the_wait(store: Store) -> None:
    [fence] = await run(store, queue_timeout=seconds(5))
    assert await store.next_time_out_at() is None
    assert await time_out(store, at(99)) == NONE
    assert await where(store, fence) == (State.RUNNING, Reason.NONE)


async def test_a_lease_that_is_handed_back_is_no_end_of_the_wait(store: Store) -> None:
    [new] = await insert_some(store, queue_timeout=seconds(5))
    [claimed] = await claim(store, now=at(2))
    assert await store.unclaim_attempts([claimed.fence], now=at(3)) == [True]
    assert await store.next_time_out_at() == at(5)
    assert await time_out(store, at(5)) == TimedOut(1, ())
    assert await where(store, new) == (State.FAILED, Reason.QUEUE_TIMEOUT)


async def test_each_wait_is_counted_for_itself(store: Store) -> None:
    retry = RetryPolicy(max_attempts=9)
    [new] = await insert_some(store, queue_timeout=seconds(5), start_after=at(50), retry=retry)
    assert await store.next_time_out_at() is None
    await store.release_due(now=at(51), limit=9)
    assert await store.next_time_out_at() == at(56)
    await store.hold_job(key_of(new), now=at(52))
    assert await time_out(store, at(60)) == NONE
    await store.release_job(key_of(new), now=at(60))
    assert await store.next_time_out_at() == at(65)
    [claimed] = await claim(store, now=at(61))
    await start(store, claimed.fence)
    await finish(store, end(claimed.fence, None, cause=_LOST), now=at(70))
    assert await store.next_time_out_at() == at(75)
    [claimed] = await claim(store, now=at(71))
    await finish(store, end(claimed.fence, 1, ended_at=at(72)), now=at(72))
    assert await store.next_time_out_at() is None
    await store.release_due(now=at(73), limit=9)
    assert await store.next_time_out_at() == at(78)
    await time_out(store, at(78))
    await store.retry_job(key_of(new), now=at(80))
    assert await store.next_time_out_at() == at(85)


async def test_a_new_queue_timeout_counts_from_then_on(store: Store) -> None:
    [new] = await insert_some(store, queue_timeout=seconds(5))

    async def edit(now: int, **edits: Any) -> None:
        edited = await store.update_job(key_of(new), edits, edit_version=None, now=at(now))
        assert isinstance(edited, Job)

    await edit(3, name="other")
    assert await store.next_time_out_at() == at(5)
    await edit(4, queue_timeout=seconds(20))
    assert await store.next_time_out_at() == at(24)
    await edit(5, queue_timeout=None)
    assert await store.next_time_out_at() is None


# --- all of it --------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [{"total_timeout": seconds(5)}, {"deadline": at(5)}])
@pytest.mark.parametrize("state", [State.QUEUED, State.HELD, State.SCHEDULED])
async def test_time_that_is_over_fails_a_job_that_waits(
    store: Store, spec: dict[str, Any], state: State
) -> None:
    retry = RetryPolicy(max_attempts=2)
    if state is State.SCHEDULED:
        [fence] = await run(store, retry=retry, **spec)
        await finish(store, end(fence, 1, ended_at=at(4.5)), now=at(4.5))
        which: NewJob | Fence = fence
    else:
        [which] = await insert_some(store, **spec)
    if state is State.HELD:
        await store.hold_job(key_of(which), now=at(1))
    assert (await job(store, which)).state is state
    assert await store.next_time_out_at() == at(5)
    assert await time_out(store, at(4.9)) == NONE
    assert await time_out(store, at(5)) == TimedOut(1, ())
    found = await job(store, which)
    assert (found.state, found.reason, found.start_at, found.ended_at) == (*OVER, None, at(5))
    text = "took longer than its total timeout" if "total_timeout" in spec else "its deadline"
    assert found.message.startswith(text)
    assert await store.next_due_at() is None
    assert await time_out(store, at(99)) == NONE


async def test_a_job_that_runs_is_stopped_and_then_fails(store: Store) -> None:
    [fence] = await run(store, retry=RetryPolicy(max_attempts=9), total_timeout=seconds(5))
    assert await time_out(store, at(5)) == TimedOut(1, (fence,))
    found = await job(store, fence)
    assert (found.state, found.reason) == (State.STOPPING, Reason.TOTAL_TIMEOUT)
    event = (await changes(store))[-1].event
    assert (event.kind, event.attempt) == (EventKind.STOPPING, 1)
    assert await store.next_time_out_at() is None
    assert await time_out(store, at(6)) == NONE
    [settled] = await finish(store, end(fence, None, cause=_STOP))
    assert settled is not None
    found = await job(store, fence)
    assert (found.state, found.reason) == OVER
    assert found.attempts[0].state is AttemptState.FAILED
    assert await time_out(store, at(99)) == NONE


async def test_what_asked_for_the_stop_first_decides(store: Store) -> None:
    [first, second] = await run(store, 2, total_timeout=seconds(5))
    await store.request_stop([StopRequest(first.tenant, first.job_id)], now=at(4))
    assert await time_out(store, at(5.5)) == TimedOut(1, (second,))
    await store.request_stop([StopRequest(second.tenant, second.job_id, delete=True)], now=at(6))
    await finish(store, *[end(each, None, cause=_STOP) for each in (first, second)])
    assert await where(store, first) == (State.CANCELLED, Reason.USER)
    assert await where(store, second) == OVER
    assert [each.key for each in await store.list_deletable(limit=9)] == [key_of(second)]


async def test_the_total_time_counts_from_the_first_start(store: Store) -> None:
    [new] = await insert_some(store, start_delay=seconds(50), total_timeout=seconds(5))
    assert await store.next_time_out_at() == at(55)
    await store.update_job(key_of(new), {"start_after": at(20)}, edit_version=None, now=at(1))
    assert await store.next_time_out_at() == at(25)
    await store.release_due(now=at(20), limit=9)
    assert await time_out(store, at(25)) == TimedOut(1, ())
    assert await where(store, new) == OVER


async def test_the_earlier_of_the_two_counts(store: Store) -> None:
    [new] = await insert_some(store, total_timeout=seconds(5), deadline=at(4))
    assert await store.next_time_out_at() == at(4)
    await store.update_job(key_of(new), {"deadline": None}, edit_version=None, now=at(1))
    assert await store.next_time_out_at() == at(5)


async def test_the_time_of_a_job_that_runs_can_be_prolonged(store: Store) -> None:
    [fence] = await run(store, total_timeout=seconds(5))
    edits = {"total_timeout": seconds(60)}
    await store.update_job(key_of(fence), edits, edit_version=None, now=at(4))
    assert await time_out(store, at(5)) == NONE
    assert await store.next_time_out_at() == at(60)


async def test_a_retry_starts_the_clock_anew(store: Store) -> None:
    [new] = await insert_some(store, total_timeout=seconds(5))
    await time_out(store, at(5))
    revived = await store.retry_job(key_of(new), now=at(100))
    assert isinstance(revived, Job)
    assert await store.next_time_out_at() == at(105)
    edits = {"total_timeout": seconds(7)}
    await store.update_job(key_of(new), edits, edit_version=None, now=at(101))
    assert await store.next_time_out_at() == at(107)


async def test_a_job_cannot_be_retried_beyond_its_deadline(store: Store) -> None:
    [new] = await insert_some(store, deadline=at(5))
    await store.request_stop([StopRequest(new.tenant, new.job_id)], now=at(1))
    assert isinstance(await store.retry_job(key_of(new), now=at(4)), Job)
    assert await store.next_time_out_at() == at(5)
    await time_out(store, at(5))
    assert await store.retry_job(key_of(new), now=at(5)) is Refusal.WRONG_STATE
    assert await where(store, new) == OVER


async def test_final_jobs_are_left_alone(store: Store) -> None:
    [fence] = await run(store, total_timeout=seconds(5), queue_timeout=seconds(5))
    await finish(store, end(fence), now=at(1))
    assert await store.next_time_out_at() is None
    assert await time_out(store, at(99)) == NONE
    assert (await job(store, fence)).state is State.SUCCEEDED


async def test_no_more_than_the_limit_are_ended_at_once(store: Store) -> None:
    waiting = await insert_some(store, 3, queue_timeout=seconds(2))
    all_in_all = await insert_some(store, 3, total_timeout=seconds(3))
    assert await time_out(store, at(5), 4) == TimedOut(4, ())
    reasons = [(await job(store, each)).reason for each in waiting]
    assert reasons == [Reason.QUEUE_TIMEOUT] * 3
    assert await where(store, all_in_all[0]) == OVER
    assert (await time_out(store, at(5), 4)).count == 2
    assert await time_out(store, at(5)) == NONE


async def test_a_job_that_is_over_in_both_ways_ends_once(store: Store) -> None:
    [new] = await insert_some(store, total_timeout=seconds(3), queue_timeout=seconds(2))
    assert await time_out(store, at(9)) == TimedOut(1, ())
    assert await where(store, new) == (State.FAILED, Reason.QUEUE_TIMEOUT)


async def test_who_was_woken_for_a_key_and_times_out_wakes_the_next(store: Store) -> None:
    key = ConcurrencyKey("k")
    [holder] = await insert_some(store, concurrency_keys=(key,))
    [claimed] = await claim(store)
    [second] = await insert_some(store, concurrency_keys=(key,), queue_timeout=seconds(5))
    [third] = await insert_some(store, concurrency_keys=(key,))
    assert await claim(store, 9) == []
    await start(store, claimed.fence)
    await finish(store, end(claimed.fence), now=at(4))
    assert await time_out(store, at(5)) == TimedOut(1, ())
    assert await where(store, second) == (State.FAILED, Reason.QUEUE_TIMEOUT)
    assert [each.fence.job_id for each in await claim(store, 9, now=at(5))] == [third.job_id]
    assert holder.job_id == claimed.fence.job_id


async def test_the_end_of_a_wait_is_known_to_those_that_depend_on_it(store: Store) -> None:
    [parent] = await insert_some(store, queue_timeout=seconds(5))
    failed = Dependency(parent.job_id, Condition.FAILED)
    [child] = await insert_some(store, dependencies=(failed,), queue_timeout=seconds(7))
    assert (await job(store, child)).state is State.BLOCKED
    assert await store.next_time_out_at() == at(5)
    assert await time_out(store, at(6)) == TimedOut(1, ())
    assert (await job(store, child)).state is State.QUEUED
    assert await store.next_time_out_at() == at(13)


async def test_a_job_that_waits_for_others_is_over_too(store: Store) -> None:
    [parent] = await insert_some(store)
    needed = Dependency(parent.job_id)
    [child] = await insert_some(store, dependencies=(needed,), total_timeout=seconds(5))
    assert await time_out(store, at(5)) == TimedOut(1, ())
    assert await where(store, child) == OVER


async def test_a_job_that_is_opened_again_has_all_of_its_time(store: Store) -> None:
    [parent] = await insert_some(store)
    needed = Dependency(parent.job_id)
    [child] = await insert_some(store, dependencies=(needed,), total_timeout=seconds(5))
    await store.request_stop([StopRequest(parent.tenant, parent.job_id)], now=at(1))
    assert (await job(store, child)).state is State.SKIPPED
    assert await store.next_time_out_at() is None
    await store.retry_job(key_of(parent), now=at(50))
    assert (await job(store, child)).state is State.BLOCKED
    assert await store.next_time_out_at() == at(55)
