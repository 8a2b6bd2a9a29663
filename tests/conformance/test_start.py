"""Start times: a job waits for its own, may be given another before its first start, and is told so."""

import datetime as dt
from typing import Any

import pytest

from jobservice.engine.submit import as_submitted
from jobservice.errors import InvalidTransition
from jobservice.model.event import EventKind
from jobservice.model.job import Job
from jobservice.model.lifecycle import FIRST, State
from jobservice.model.spec import RetryPolicy
from jobservice.store.port import JobKey, Refusal, StopRequest, Store
from tests.conformance.values import (
    at,
    changes,
    claim,
    end,
    finish,
    insert,
    insert_some,
    job,
    key_of,
    new_job,
    run,
    seconds,
)


async def move(
    store: Store, key: JobKey, to: dt.datetime | None, now: dt.datetime
) -> Job | Refusal:
    return await store.update_job(key, {"start_after": to}, edit_version=None, now=now)


@pytest.mark.parametrize("spec", [{"start_after": at(30)}, {"start_delay": seconds(30)}])
async def test_a_job_waits_for_its_start(store: Store, spec: dict[str, Any]) -> None:
    [new] = await insert_some(store, **spec)
    found = await job(store, new)
    assert (found.state, found.start_at) == (State.SCHEDULED, at(30))
    assert found == as_submitted(new)
    [change] = await changes(store)
    event = change.event
    assert (event.kind, event.state) == (EventKind.CREATED, State.SCHEDULED)
    assert event.start_at == at(30)
    assert await store.next_due_at() == at(30)
    assert await store.release_due(now=at(29.9), limit=9) == 0
    assert await claim(store, now=at(29.9)) == []
    assert await store.release_due(now=at(31), limit=9) == 1
    found = await job(store, new)
    assert (found.state, found.start_at) == (State.QUEUED, None)
    assert found.spec == new.spec
    assert [each.fence.job_id for each in await claim(store, now=at(31))] == [new.job_id]


@pytest.mark.parametrize("spec", [{"start_after": at(0)}, {"start_delay": seconds(0)}])
async def test_a_start_that_is_not_ahead_is_at_once(store: Store, spec: dict[str, Any]) -> None:
    [new] = await insert_some(store, **spec)
    found = await job(store, new)
    assert (found.state, found.start_at) == (State.QUEUED, None)
    assert found == as_submitted(new)


async def test_a_job_waits_in_the_queue_from_its_start_on(store: Store) -> None:
    later = new_job(start_after=at(30))
    before, behind = new_job(created_at=at(29)), new_job(created_at=at(31))
    await insert(store, later)
    await insert(store, before)
    await insert(store, behind)
    await store.release_due(now=at(40), limit=9)
    claimed = [each.fence.job_id for each in await claim(store, 9, now=at(40))]
    assert claimed == [before.job_id, later.job_id, behind.job_id]


async def test_no_job_comes_to_be_in_another_state(store: Store) -> None:
    for state in set(State) - FIRST:
        new = new_job()._replace(state=state)
        with pytest.raises(InvalidTransition):
            await store.insert_jobs([new])


async def test_the_start_can_be_moved(store: Store) -> None:
    [new] = await insert_some(store, start_delay=seconds(30))
    moved = await move(store, key_of(new), at(60), at(1))
    assert isinstance(moved, Job)
    assert (moved.start_at, moved.spec.start_after) == (at(60), at(60))
    assert moved.spec.start_delay is None
    assert moved == await job(store, new)
    event = (await changes(store))[-1].event
    assert (event.kind, event.state, event.start_at) == (
        EventKind.UPDATED,
        State.SCHEDULED,
        at(60),
    )
    assert await store.next_due_at() == at(60)
    assert await store.find_submitted([key_of(new)]) == [new.spec]
    assert await store.release_due(now=at(31), limit=9) == 0


@pytest.mark.parametrize("to", [None, at(-100), at(5)])
async def test_the_start_can_be_moved_to_now(store: Store, to: dt.datetime | None) -> None:
    [new] = await insert_some(store, start_after=at(30))
    moved = await move(store, key_of(new), to, at(5))
    assert isinstance(moved, Job)
    assert (moved.state, moved.start_at, moved.spec.start_after) == (State.SCHEDULED, at(5), to)
    assert await store.release_due(now=at(5), limit=9) == 1


async def test_another_edit_leaves_the_start_alone(store: Store) -> None:
    [new] = await insert_some(store, start_delay=seconds(30))
    edited = await store.update_job(key_of(new), {"priority": 9}, edit_version=None, now=at(1))
    assert isinstance(edited, Job)
    assert (edited.start_at, edited.spec.start_delay) == (at(30), seconds(30))
    assert (await changes(store))[-1].event.start_at is None


async def test_only_the_first_start_can_be_moved(store: Store) -> None:
    [queued] = await insert_some(store)
    assert await move(store, key_of(queued), at(60), at(1)) is Refusal.WRONG_STATE
    await store.request_stop([StopRequest(queued.tenant, queued.job_id)], now=at(1))
    assert await move(store, key_of(queued), at(60), at(1)) is Refusal.WRONG_STATE
    [fence] = await run(store, retry=RetryPolicy(max_attempts=2))
    assert await move(store, key_of(fence), at(60), at(1)) is Refusal.WRONG_STATE
    await finish(store, end(fence, 1))
    assert (await job(store, fence)).state is State.SCHEDULED
    assert await move(store, key_of(fence), at(60), at(10)) is Refusal.WRONG_STATE


async def test_a_hold_does_not_shorten_the_wait_for_the_start(store: Store) -> None:
    [new] = await insert_some(store, start_after=at(30))
    await store.hold_job(key_of(new), now=at(1))
    assert await store.next_due_at() is None
    released = await store.release_job(key_of(new), now=at(2))
    assert isinstance(released, Job)
    assert (released.state, released.start_at) == (State.SCHEDULED, at(30))


async def test_a_retry_does_not_wait_for_the_start_again(store: Store) -> None:
    [new] = await insert_some(store, start_after=at(30))
    await store.request_stop([StopRequest(new.tenant, new.job_id)], now=at(1))
    revived = await store.retry_job(key_of(new), now=at(2))
    assert isinstance(revived, Job)
    assert (revived.state, revived.start_at) == (State.QUEUED, None)
