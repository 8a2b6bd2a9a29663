"""Conflicts: what a new job does that cannot have its concurrency key at once."""

import asyncio
from typing import Any

import pytest

from jobservice.model.job import NewJob
from jobservice.model.lifecycle import Reason, State
from jobservice.model.limit import ConcurrencyKey, Limit, LimitKind, OnConflict
from jobservice.store.port import Inserted, Insertion, RequestKey, Store
from jobservice.testing.invariants import check_invariants
from tests.conformance.values import (
    BEGINNING,
    NOW,
    TENANT,
    at,
    claim,
    end,
    finish,
    insert,
    job,
    key_of,
    new_job,
)


def keyed(policy: OnConflict = OnConflict.QUEUE, weight: int = 1, **spec: Any) -> NewJob:
    key = ConcurrencyKey("k", weight=weight, on_conflict=policy)
    return new_job(concurrency_keys=(key,), **spec)


async def submit(store: Store, new: NewJob, **more: Any) -> Inserted:
    return await store.insert_jobs([new], **more)


async def held_and_waiting(store: Store) -> tuple[NewJob, NewJob, NewJob]:
    """A job that has the key, and two that wait for it."""
    jobs = keyed(created_at=at(0)), keyed(created_at=at(1)), keyed(created_at=at(2))
    await insert(store, *jobs)
    assert [each.fence.job_id for each in await claim(store, 10)] == [jobs[0].job_id]
    return jobs


@pytest.mark.parametrize("policy", OnConflict)
async def test_a_free_key_is_no_conflict(store: Store, policy: OnConflict) -> None:
    new = keyed(policy)
    await insert(store, new)
    assert len(await claim(store, 10)) == 1
    await finish(store, end((await claim_of(store, new)).fence))


async def claim_of(store: Store, which: NewJob) -> Any:
    [live] = [each for each in await store.list_live("w1") if each.fence.job_id == which.job_id]
    return live


async def test_reject(store: Store) -> None:
    running, *waiting = await held_and_waiting(store)
    refused = await submit(store, keyed(OnConflict.REJECT))
    assert (refused.insertion, refused.key) == (Insertion.KEY_TAKEN, "k")
    assert set(refused.job_ids) == {each.job_id for each in (running, *waiting)}
    await insert(store, keyed(OnConflict.REJECT, tenant="other"))


async def test_one_that_waits_is_a_conflict_too(store: Store) -> None:
    await insert(store, keyed())
    assert (await submit(store, keyed(OnConflict.REJECT))).insertion is Insertion.KEY_TAKEN


async def test_limits_and_weights_decide(store: Store) -> None:
    await store.save_limit(Limit(TENANT, LimitKind.KEY, "k", 5), now=NOW)
    await insert(store, keyed(weight=2), keyed(weight=1))
    await insert(store, keyed(OnConflict.REJECT, weight=2))
    assert (await submit(store, keyed(OnConflict.REJECT))).insertion is Insertion.KEY_TAKEN


async def test_the_end_of_the_holder_frees_the_key(store: Store) -> None:
    first = keyed(OnConflict.REJECT)
    await insert(store, first)
    [held] = await claim(store)
    await finish(store, end(held.fence))
    second = keyed(OnConflict.REJECT)
    await insert(store, second)
    await store.retry_job(key_of(first), now=at(20))
    assert (await submit(store, keyed(OnConflict.REJECT))).insertion is Insertion.KEY_TAKEN
    await claim(store, 10)
    taken = await submit(store, keyed(OnConflict.REJECT))
    assert set(taken.job_ids) == {first.job_id, second.job_id}


async def test_return_existing(store: Store) -> None:
    *_, newest = await held_and_waiting(store)
    once = RequestKey("once", b"")
    found = await submit(store, keyed(OnConflict.RETURN_EXISTING), request=once)
    assert (found.insertion, found.job_ids) == (Insertion.STOOD_FOR, (newest.job_id,))
    again = await submit(store, keyed(OnConflict.RETURN_EXISTING), request=once)
    assert (again.insertion, again.job_ids) == (Insertion.REPEATED, (newest.job_id,))


async def test_many_that_come_together_and_return_the_existing_are_one(store: Store) -> None:
    answers = await asyncio.gather(
        *[submit(store, keyed(OnConflict.RETURN_EXISTING)) for _ in range(30)]
    )
    created = [each for each in answers if each.insertion is Insertion.CREATED]
    assert len(created) == 1
    assert {each.job_ids for each in answers} == {created[0].job_ids}


async def test_cancel_running(store: Store) -> None:
    running, waiting, _ = await held_and_waiting(store)
    new = keyed(OnConflict.CANCEL_RUNNING, created_at=at(5))
    made = await submit(store, new)
    assert made.insertion is Insertion.CREATED
    [fence] = made.stopped
    assert fence.job_id == running.job_id
    found = await job(store, running)
    assert (found.state, found.reason) == (State.STOPPING, Reason.SUPERSEDED)
    assert new.job_id in found.message
    assert await claim(store, 10) == [], "its processes may still be there"
    await finish(store, end(fence, exit_code=None, signal=15))
    assert (await job(store, running)).state is State.CANCELLED
    assert [each.fence.job_id for each in await claim(store, 10)] == [waiting.job_id]
    await check_invariants(store, beginning=BEGINNING)


async def test_cancel_queued(store: Store) -> None:
    running, *waiting = await held_and_waiting(store)
    new = keyed(OnConflict.CANCEL_QUEUED, created_at=at(5))
    await insert(store, new)
    for each in waiting:
        found = await job(store, each)
        assert (found.state, found.reason) == (State.CANCELLED, Reason.SUPERSEDED)
    assert (await job(store, running)).state is State.RUNNING
    await finish(store, end((await claim_of(store, running)).fence))
    assert [each.fence.job_id for each in await claim(store, 10)] == [new.job_id]
    await check_invariants(store, beginning=BEGINNING)


async def test_replace_queued_takes_the_first_place(store: Store) -> None:
    running, *waiting = await held_and_waiting(store)
    other = keyed(created_at=at(3))
    new = keyed(OnConflict.REPLACE_QUEUED, created_at=at(50))
    await insert(store, new)
    for each in waiting:
        found = await job(store, each)
        assert (found.state, found.reason) == (State.SKIPPED, Reason.SUPERSEDED)
    await insert(store, other)
    await finish(store, end((await claim_of(store, running)).fence))
    assert [each.fence.job_id for each in await claim(store, 10)] == [new.job_id]
    await check_invariants(store, beginning=BEGINNING)


async def test_who_is_refused_for_one_key_takes_nothing_at_another(store: Store) -> None:
    running, *waiting = await held_and_waiting(store)
    taken = ConcurrencyKey("other", on_conflict=OnConflict.REJECT)
    await insert(store, new_job(concurrency_keys=(taken,)))
    for policy in (OnConflict.CANCEL_RUNNING, OnConflict.CANCEL_QUEUED, OnConflict.REPLACE_QUEUED):
        first = ConcurrencyKey("k", on_conflict=policy)
        refused = await submit(store, new_job(concurrency_keys=(first, taken)))
        assert (refused.insertion, refused.key) == (Insertion.KEY_TAKEN, "other")
    assert (await job(store, running)).state is State.RUNNING
    assert [(await job(store, each)).state for each in waiting] == [State.QUEUED] * 2


async def test_the_first_of_all_places_is_taken(store: Store) -> None:
    running, first, _ = await held_and_waiting(store)
    other = ConcurrencyKey("other", on_conflict=OnConflict.REPLACE_QUEUED)
    await insert(store, new_job(concurrency_keys=(other,), created_at=at(3)))
    key = ConcurrencyKey("k", on_conflict=OnConflict.REPLACE_QUEUED)
    new = new_job(concurrency_keys=(key, other), created_at=at(50))
    await insert(store, new)
    between = keyed(created_at=at(2))
    await insert(store, between)
    await finish(store, end((await claim_of(store, running)).fence))
    assert (await job(store, first)).state is State.SKIPPED
    assert [each.fence.job_id for each in await claim(store, 10)] == [new.job_id]


@pytest.mark.parametrize("policy", OnConflict)
async def test_a_key_that_nobody_has_and_that_is_too_small(
    store: Store, policy: OnConflict
) -> None:
    await store.save_limit(Limit(TENANT, LimitKind.KEY, "k", 0), now=NOW)
    made = await submit(store, new := keyed(policy))
    if policy is OnConflict.REJECT:
        assert (made.insertion, made.job_ids) == (Insertion.KEY_TAKEN, ())
        return
    assert made.insertion is Insertion.CREATED
    assert await claim(store, 10) == []
    await store.save_limit(Limit(TENANT, LimitKind.KEY, "k", 1), now=NOW)
    assert [each.fence.job_id for each in await claim(store, 10)] == [new.job_id]


async def test_nothing_is_changed_by_a_check(store: Store) -> None:
    running, *waiting = await held_and_waiting(store)
    for policy in (OnConflict.CANCEL_RUNNING, OnConflict.CANCEL_QUEUED, OnConflict.REPLACE_QUEUED):
        checked = await submit(store, keyed(policy), validate_only=True)
        assert (checked.insertion, checked.stopped) == (Insertion.CREATED, ())
    assert (await job(store, running)).state is State.RUNNING
    assert [(await job(store, each)).state for each in waiting] == [State.QUEUED] * 2
