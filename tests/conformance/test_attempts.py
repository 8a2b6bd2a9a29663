"""Attempts: started, ended, and what their end makes of the job."""

import dataclasses

import pytest

from jobservice.errors import InvalidTransition
from jobservice.model.attempt import Cause
from jobservice.model.event import EventKind
from jobservice.model.job import AttemptState
from jobservice.model.lifecycle import Reason, State, Trigger
from jobservice.model.spec import RetryPolicy
from jobservice.store.port import AttemptEnd, LiveJob, Settlement, StopRequest, Store
from tests.conformance.values import (
    NOW,
    at,
    changes,
    claim,
    end,
    finish,
    insert_some,
    job,
    run,
    settle,
    start,
    states,
)


async def test_a_start_is_kept_and_told(store: Store) -> None:
    [new] = await insert_some(store)
    [given] = await claim(store)
    assert await start(store, given.fence, started_at=at(2)) == [True]
    found = await job(store, new)
    assert (found.started_at, found.updated_at, found.revision) == (at(2), at(2), 3)
    assert found.attempts[0].state is AttemptState.RUNNING
    assert found.attempts[0].started_at == at(2)
    event = (await changes(store))[-1].event
    assert (event.kind, event.state, event.previous_state) == (
        EventKind.STARTED,
        State.RUNNING,
        State.RUNNING,
    )
    assert (event.at, event.attempt) == (at(2), 1)


async def test_a_start_that_is_told_again_changes_nothing(store: Store) -> None:
    [fence] = await run(store)
    before = await changes(store)
    assert await start(store, fence, fence, started_at=at(9)) == [True, True]
    assert await changes(store) == before
    assert (await job(store, fence)).attempts[0].started_at == NOW


async def test_a_success_ends_the_job(store: Store) -> None:
    [fence] = await run(store)
    ending = end(
        fence,
        ended_at=at(9),
        started_at=at(1),
        cpu_s=1.25,
        max_rss_bytes=4096,
        stdout_bytes=10,
        stderr_bytes=20,
        dropped_bytes=3,
    )
    [settlement] = await finish(store, ending, now=at(10))
    assert settlement is not None
    assert settlement.state is State.SUCCEEDED
    found = await job(store, fence)
    assert (found.state, found.exit_code, found.signal) == (State.SUCCEEDED, 0, None)
    assert (found.ended_at, found.updated_at, found.started_at) == (at(10), at(10), NOW)
    [attempt] = found.attempts
    assert (attempt.state, attempt.started_at, attempt.ended_at) == (
        AttemptState.SUCCEEDED,
        NOW,
        at(9),
    )
    assert (attempt.cpu_s, attempt.max_rss_bytes) == (1.25, 4096)
    assert (attempt.stdout_bytes, attempt.stderr_bytes, attempt.dropped_bytes) == (10, 20, 3)
    event = (await changes(store))[-1].event
    assert (event.kind, event.exit_code, event.revision) == (EventKind.SUCCEEDED, 0, 4)
    assert event.at == at(10)


async def test_the_decision_rests_on_the_stored_job(store: Store) -> None:
    [fence] = await run(store, retry=RetryPolicy(max_attempts=7, multiplier=1.5))
    seen: list[tuple[LiveJob, AttemptEnd]] = []

    def look(live: LiveJob, ending: AttemptEnd) -> Settlement:
        seen.append((live, ending))
        return settle(live, ending)

    ending = end(fence, 1)
    await store.finish_attempts([ending], look, now=at(10))
    [(live, given)] = seen
    assert given == ending
    assert live == LiveJob(
        fence.tenant,
        fence.job_id,
        State.RUNNING,
        RetryPolicy(max_attempts=7, multiplier=1.5),
        0,
        0,
        delete_requested=False,
    )


async def test_an_end_without_a_recorded_start_brings_its_own(store: Store) -> None:
    [new] = await insert_some(store)
    [given] = await claim(store)
    await finish(store, end(given.fence, started_at=at(3)))
    found = await job(store, new)
    assert found.started_at == found.attempts[0].started_at == at(3)


async def test_a_launch_that_failed_has_no_start(store: Store) -> None:
    [new] = await insert_some(store)
    [given] = await claim(store)
    await finish(store, end(given.fence, cause=Cause.LAUNCH_FAILED, message="ENOENT"))
    found = await job(store, new)
    assert (found.state, found.started_at, found.exit_code) == (State.FAILED, None, None)
    assert found.attempts[0].started_at is None


async def test_a_failure_is_tried_again_until_the_policy_says_no(store: Store) -> None:
    [fence] = await run(store, retry=RetryPolicy(max_attempts=2))
    await finish(store, end(fence, 3, ended_at=at(10)))
    found = await job(store, fence)
    assert (found.state, found.reason, found.message) == (
        State.SCHEDULED,
        Reason.EXIT_CODE,
        "exit code",
    )
    assert (found.start_at, found.failure_count, found.exit_code) == (at(11), 1, 3)
    assert found.ended_at is None
    event = (await changes(store))[-1].event
    assert (event.kind, event.start_at, event.reason) == (
        EventKind.RETRYING,
        at(11),
        Reason.EXIT_CODE,
    )
    assert await store.next_due_at() == at(11)
    assert await store.release_due(now=at(10.999), limit=10) == 0
    assert await store.release_due(now=at(11), limit=10) == 1
    assert (await job(store, fence)).start_at is None
    [again] = await claim(store, now=at(12))
    assert (again.fence.attempt, again.fence.epoch) == (2, 2)
    await finish(store, end(again.fence, 4, ended_at=at(20)), now=at(20))
    found = await job(store, fence)
    assert (found.state, found.failure_count, found.exit_code) == (State.FAILED, 2, 4)
    assert [each.state for each in found.attempts] == [AttemptState.FAILED] * 2
    assert [each.exit_code for each in found.attempts] == [3, 4]


async def test_a_due_job_waits_since_it_was_due(store: Store) -> None:
    [fence] = await run(store, retry=RetryPolicy(max_attempts=2))
    await finish(store, end(fence, 3, ended_at=at(10)))
    [newer] = await insert_some(store)
    await store.release_due(now=at(60), limit=10)
    assert [each.fence.job_id for each in await claim(store, 2)] == [newer.job_id, fence.job_id]
    due = [each.event for each in await changes(store) if each.event.kind is EventKind.DUE]
    assert [(each.at, each.previous_state, each.state) for each in due] == [
        (at(60), State.SCHEDULED, State.QUEUED)
    ]


async def test_only_so_many_due_jobs_are_released_at_once(store: Store) -> None:
    fences = await run(store, 5, retry=RetryPolicy(max_attempts=2))
    await finish(store, *[end(each, 1, ended_at=at(n)) for n, each in enumerate(fences)])
    assert await store.next_due_at() == at(1)
    assert await store.release_due(now=at(99), limit=3) == 3
    assert await store.next_due_at() == at(4)
    assert await store.release_due(now=at(99), limit=3) == 2
    assert await store.next_due_at() is None


async def test_a_loss_goes_back_to_its_old_place(store: Store) -> None:
    [fence] = await run(store)
    [newer] = await insert_some(store, 1, name="newer")
    await finish(store, end(fence, cause=Cause.LOST))
    found = await job(store, fence)
    assert (found.state, found.lost_count, found.failure_count) == (State.QUEUED, 1, 0)
    assert found.attempts[0].state is AttemptState.LOST
    ids = [each.fence.job_id for each in await claim(store, 2)]
    assert ids == [fence.job_id, newer.job_id]


async def test_the_exit_code_is_that_of_the_newest_end(store: Store) -> None:
    [fence] = await run(store, retry=RetryPolicy(max_attempts=3))
    await finish(store, end(fence, 3))
    await store.release_due(now=at(99), limit=1)
    [again] = await claim(store)
    assert (await job(store, fence)).exit_code == 3
    await finish(store, end(again.fence, exit_code=None, signal=9))
    found = await job(store, fence)
    assert (found.exit_code, found.signal) == (None, 9)


async def test_an_end_told_twice_counts_once(store: Store) -> None:
    [fence] = await run(store)
    first, second = await finish(store, end(fence), end(fence, 1))
    assert first is not None
    assert second is None
    assert (await job(store, fence)).state is State.SUCCEEDED
    assert await finish(store, end(fence)) == [None]


async def test_a_decision_outside_the_table_is_refused_whole(store: Store) -> None:
    fences = await run(store, 3)

    def wrong(live: LiveJob, ending: AttemptEnd) -> Settlement:
        decided = settle(live, ending)
        if ending.fence == fences[1]:
            return dataclasses.replace(decided, trigger=Trigger.CANCEL, state=State.CANCELLED)
        return decided

    before = await changes(store)
    with pytest.raises(InvalidTransition):
        await store.finish_attempts([end(each) for each in fences], wrong, now=at(10))
    assert set((await states(store)).values()) == {State.RUNNING}
    assert await changes(store) == before


async def test_a_stopped_job_that_was_quicker_succeeds(store: Store) -> None:
    [fence] = await run(store)
    await store.request_stop([StopRequest(fence.tenant, fence.job_id)], now=at(5))
    await finish(store, end(fence))
    found = await job(store, fence)
    assert (found.state, found.reason) == (State.SUCCEEDED, Reason.NONE)


async def test_many_attempts_go_through_together(store: Store) -> None:
    fences = await run(store, 300)
    answers = await finish(store, *[end(each, n % 2) for n, each in enumerate(fences)])
    expected = [State.SUCCEEDED, State.FAILED] * 150
    assert [each.state for each in answers if each] == expected
    found = await states(store)
    assert [found[each.job_id] for each in fences] == expected
