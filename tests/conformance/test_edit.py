"""Edit and retry: what users change of a job after its creation."""

import datetime as dt
from typing import Any

import pytest

from jobservice.model.attempt import Cause
from jobservice.model.event import EventKind
from jobservice.model.job import EDITABLE, EDITABLE_ALWAYS, EDITABLE_BEFORE_START, Job
from jobservice.model.lifecycle import Reason, State
from jobservice.model.spec import Command, RetryPolicy
from jobservice.store.port import JobKey, Refusal, RequestKey, StopRequest, Store
from tests.conformance.values import (
    TENANT,
    at,
    changes,
    claim,
    end,
    ended,
    finish,
    insert,
    insert_some,
    job,
    key_of,
    new_job,
    run,
)

EDITS: dict[str, Any] = {
    "name": "new",
    "labels": {"a": "b"},
    "priority": 20,
    "queue": "bulk",
    "timeout": dt.timedelta(seconds=5),
    "retry_policy": RetryPolicy(max_attempts=9),
    "stop_grace": dt.timedelta(seconds=1),
    "queue_timeout": dt.timedelta(seconds=11),
    "total_timeout": dt.timedelta(seconds=12),
    "deadline": at(13),
    "idle_timeout": dt.timedelta(seconds=14),
}


async def update(
    store: Store, key: JobKey, edit_version: int | None = None, **edits: Any
) -> Job | Refusal:
    return await store.update_job(key, edits, edit_version=edit_version, now=at(7))


def test_every_editable_field_is_tried() -> None:
    assert set(EDITS) == EDITABLE - EDITABLE_BEFORE_START  # see test_start.py


async def test_every_field_can_be_edited(store: Store) -> None:
    [new] = await insert_some(store)
    edited = await update(store, key_of(new), **EDITS)
    assert isinstance(edited, Job)
    assert edited == await job(store, new)
    spec = edited.spec
    assert (spec.name, spec.labels, spec.priority, spec.queue) == ("new", {"a": "b"}, 20, "bulk")
    assert (spec.timeout, spec.stop_grace) == (dt.timedelta(seconds=5), dt.timedelta(seconds=1))
    assert spec.idle_timeout == dt.timedelta(seconds=14)
    assert spec.retry == RetryPolicy(max_attempts=9)
    assert spec.command == new.spec.command
    assert (edited.edit_version, edited.revision, edited.updated_at) == (2, 2, at(7))
    event = (await changes(store))[-1].event
    assert (event.kind, event.state, event.previous_state) == (
        EventKind.UPDATED,
        State.QUEUED,
        State.QUEUED,
    )


async def test_an_edit_leaves_the_rest_alone(store: Store) -> None:
    [new] = await insert_some(
        store, name="old", labels={"k": "v"}, timeout=dt.timedelta(seconds=9), priority=3
    )
    edited = await update(store, key_of(new), queue="other")
    assert isinstance(edited, Job)
    assert edited.spec.queue == "other"
    assert (edited.spec.name, edited.spec.labels) == ("old", {"k": "v"})
    assert (edited.spec.timeout, edited.spec.priority) == (dt.timedelta(seconds=9), 3)
    unlimited = await update(store, key_of(new), timeout=None)
    assert isinstance(unlimited, Job)
    assert unlimited.spec.timeout is None


async def test_a_new_priority_is_a_new_place(store: Store) -> None:
    first, second = await insert_some(store, 2)
    await update(store, key_of(second), priority=1)
    assert [each.fence.job_id for each in await claim(store, 2)] == [second.job_id, first.job_id]


async def test_an_edit_of_an_old_version_is_refused(store: Store) -> None:
    [new] = await insert_some(store)
    assert isinstance(await update(store, key_of(new), 1, name="a"), Job)
    assert await update(store, key_of(new), 1, name="b") is Refusal.STALE
    assert (await job(store, new)).spec.name == "a"
    assert isinstance(await update(store, key_of(new), 2, name="c"), Job)


async def test_state_and_progress_do_not_count_as_edits(store: Store) -> None:
    [fence] = await ended(store)
    assert isinstance(await update(store, key_of(fence), 1, name="still the first"), Job)


@pytest.mark.parametrize("field", sorted(EDITS))
async def test_of_a_final_job_little_can_be_edited(store: Store, field: str) -> None:
    [fence] = await ended(store)
    answer = await update(store, key_of(fence), **{field: EDITS[field]})
    assert isinstance(answer, Job) == (field in EDITABLE_ALWAYS)
    if field not in EDITABLE_ALWAYS:
        assert answer is Refusal.WRONG_STATE


@pytest.mark.parametrize("field", sorted(EDITS))
async def test_of_a_running_job_all_can_be_edited(store: Store, field: str) -> None:
    [fence] = await run(store)
    assert isinstance(await update(store, key_of(fence), **{field: EDITS[field]}), Job)


async def test_nobodys_job_cannot_be_edited_or_retried(store: Store) -> None:
    [fence] = await ended(store)
    foreign = JobKey("other", fence.job_id)
    assert await update(store, foreign, name="x") is Refusal.NOT_FOUND
    assert await store.retry_job(foreign, now=at(9)) is Refusal.NOT_FOUND


async def test_a_job_that_is_to_be_deleted_is_left_alone(store: Store) -> None:
    [fence] = await ended(store)
    request = StopRequest(fence.tenant, fence.job_id, delete=True)
    await store.request_stop([request], now=at(20))
    assert await update(store, key_of(fence), name="x") is Refusal.WRONG_STATE
    assert await store.retry_job(key_of(fence), now=at(21)) is Refusal.WRONG_STATE


async def test_what_was_submitted_can_be_told_after_edits(store: Store) -> None:
    command = Command(("a",), {"K": "v"}, b"in", "/tmp")
    edited = new_job(command=command, name="first", labels={"k": "v"}, priority=3)
    plain = new_job(timeout=dt.timedelta(seconds=9))
    await store.insert_jobs([edited, plain])
    await update(store, key_of(edited), **EDITS)
    await update(store, key_of(edited), name="second edit")
    nobody = JobKey("other", plain.job_id)
    keys = [key_of(plain), nobody, key_of(edited)]
    assert await store.find_submitted(keys) == [plain.spec, None, edited.spec]


async def test_an_edit_does_not_change_what_a_request_id_made(store: Store) -> None:
    request, new = RequestKey("r", b"digest"), new_job(name="as submitted")
    await store.insert_jobs([new], request=request)
    await update(store, key_of(new), name="edited")
    again = await store.insert_jobs([new_job(name="as submitted")], request=request)
    assert again.job_ids == (new.job_id,)


async def test_a_running_attempt_keeps_its_command(store: Store) -> None:
    [fence] = await run(store)
    edited = await update(store, key_of(fence), priority=5)
    assert isinstance(edited, Job)
    assert edited.state is State.RUNNING
    [settlement] = await finish(store, end(fence))
    assert settlement is not None


# --- retry ------------------------------------------------------------------------------------


@pytest.mark.parametrize("exit_code", [0, 1])
async def test_a_final_job_can_be_retried(store: Store, exit_code: int) -> None:
    [fence] = await ended(store, exit_code=exit_code)
    revived = await store.retry_job(key_of(fence), now=at(50))
    assert isinstance(revived, Job)
    assert revived == await job(store, fence)
    assert (revived.state, revived.reason, revived.message) == (State.QUEUED, Reason.NONE, "")
    assert (revived.failure_count, revived.lost_count, revived.attempt_count) == (0, 0, 1)
    assert (revived.ended_at, revived.updated_at) == (None, at(50))
    assert len(revived.attempts) == 1
    event = (await changes(store))[-1].event
    assert (event.kind, event.state) == (EventKind.RETRIED, State.QUEUED)
    [again] = await claim(store, now=at(51))
    assert (again.fence.attempt, again.fence.epoch) == (2, 2)


async def test_a_retry_forgets_losses_and_failures(store: Store) -> None:
    [fence] = await run(store, retry=RetryPolicy(max_attempts=1, max_lost=3))
    await finish(store, end(fence, cause=Cause.LOST))
    [again] = await claim(store, now=at(20))
    await finish(store, end(again.fence, 1))
    found = await job(store, fence)
    assert (found.state, found.failure_count, found.lost_count) == (State.FAILED, 1, 1)
    revived = await store.retry_job(key_of(fence), now=at(50))
    assert isinstance(revived, Job)
    assert (revived.failure_count, revived.lost_count, revived.attempt_count) == (0, 0, 2)


async def test_a_retried_job_waits_behind_those_who_wait(store: Store) -> None:
    [fence] = await ended(store)
    [waiting] = await insert_some(store)
    await store.retry_job(key_of(fence), now=at(50))
    assert [each.fence.job_id for each in await claim(store, 2)] == [waiting.job_id, fence.job_id]


async def test_a_cancelled_job_can_be_retried(store: Store) -> None:
    [new] = await insert_some(store)
    await store.request_stop([StopRequest(new.tenant, new.job_id)], now=at(1))
    revived = await store.retry_job(key_of(new), now=at(2))
    assert isinstance(revived, Job)
    assert revived.state is State.QUEUED


async def test_only_final_jobs_can_be_retried(store: Store) -> None:
    [running] = await run(store)
    [queued] = await insert_some(store)
    for each in (key_of(running), key_of(queued)):
        assert await store.retry_job(each, now=at(2)) is Refusal.WRONG_STATE


# --- hold, release ----------------------------------------------------------------------------


async def test_a_held_job_is_not_claimed_and_keeps_its_place(store: Store) -> None:
    first, second = new_job(created_at=at(0)), new_job(created_at=at(1))
    await insert(store, first, second)
    held = await store.hold_job(key_of(first), now=at(2))
    assert isinstance(held, Job)
    assert (held.state, held.reason, held.updated_at) == (State.HELD, Reason.USER, at(2))
    assert await store.hold_job(key_of(first), now=at(3)) == held
    assert await store.queue_position(key_of(first), limit=9) is None
    assert [each.fence.job_id for each in await claim(store, 9)] == [second.job_id]
    third = new_job(created_at=at(4))
    await insert(store, third)
    released = await store.release_job(key_of(first), now=at(5))
    assert isinstance(released, Job)
    assert (released.state, released.reason, released.message) == (State.QUEUED, Reason.NONE, "")
    assert await store.release_job(key_of(first), now=at(6)) == released
    assert [each.fence.job_id for each in await claim(store, 9)] == [first.job_id, third.job_id]
    kinds = [each.event.kind for each in await changes(store) if each.event.job_id == first.job_id]
    assert kinds[1:3] == [EventKind.HELD, EventKind.RELEASED]


@pytest.mark.parametrize(("released_at", "state"), [(10, State.SCHEDULED), (12, State.QUEUED)])
async def test_a_hold_does_not_shorten_a_wait(store: Store, released_at: int, state: State) -> None:
    [fence] = await run(store, retry=RetryPolicy(max_attempts=2))
    await finish(store, end(fence, 1))
    due_at = await store.next_due_at()
    assert due_at == at(11)
    await store.hold_job(key_of(fence), now=at(10))
    assert await store.next_due_at() is None
    assert await store.release_due(now=at(20), limit=9) == 0
    released = await store.release_job(key_of(fence), now=at(released_at))
    assert isinstance(released, Job)
    assert released.state is state
    assert released.start_at == (due_at if state is State.SCHEDULED else None)
    assert await store.next_due_at() == released.start_at


async def test_only_jobs_that_wait_can_be_held(store: Store) -> None:
    [running] = await run(store)
    [done] = await ended(store)
    for each in (running, done):
        assert await store.hold_job(key_of(each), now=at(2)) is Refusal.WRONG_STATE
    assert await store.release_job(key_of(done), now=at(2)) is Refusal.WRONG_STATE
    still = await store.release_job(key_of(running), now=at(2))
    assert isinstance(still, Job)
    assert still.state is State.RUNNING
    nobody = JobKey(TENANT, "j")
    assert await store.hold_job(nobody, now=at(2)) is Refusal.NOT_FOUND
    assert await store.release_job(nobody, now=at(2)) is Refusal.NOT_FOUND


async def test_a_held_job_can_be_cancelled(store: Store) -> None:
    [new] = await insert_some(store)
    await store.hold_job(key_of(new), now=at(1))
    await store.request_stop([StopRequest(new.tenant, new.job_id)], now=at(2))
    assert (await job(store, new)).state is State.CANCELLED
