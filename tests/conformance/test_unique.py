"""Uniqueness: what becomes of a new job when there is another with its unique key."""

import asyncio
import dataclasses
import datetime as dt
from typing import Any

import pytest

from jobservice.model.job import NewJob
from jobservice.model.lifecycle import FINAL, Reason, State
from jobservice.model.limit import ConcurrencyKey, OnConflict
from jobservice.model.queue import OnFull
from jobservice.model.spec import Dependency, JobSpec
from jobservice.model.unique import OnDuplicate, UniqueKey, UniqueScope
from jobservice.store.port import Inserted, Insertion, RequestKey, StopRequest, Store
from jobservice.testing.invariants import check_invariants
from tests.conformance.schedules import Engine
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
    seconds,
)

REJECT, REPLACE = OnDuplicate.REJECT, OnDuplicate.REPLACE


def unique(
    on_duplicate: OnDuplicate = OnDuplicate.RETURN_EXISTING,
    key: str = "u",
    scope: UniqueScope = UniqueScope.TENANT,
    window: dt.timedelta | None = None,
    states: tuple[State, ...] = (),
    **spec: Any,
) -> NewJob:
    return new_job(unique_key=UniqueKey(key, scope, window, states, on_duplicate), **spec)


async def submit(store: Store, *new: NewJob, **more: Any) -> Inserted:
    return await store.insert_jobs(new, **more)


async def stands(store: Store, existing: NewJob, new: NewJob) -> None:
    """The existing job stands for the new one."""
    answer = await submit(store, new)
    assert (answer.insertion, answer.job_ids) == (Insertion.STOOD_FOR, (existing.job_id,))
    assert answer.standing[existing.job_id].job_id == existing.job_id
    assert await store.find_job(key_of(new)) is None


async def in_state(store: Store, state: State, **spec: Any) -> NewJob:
    """A job with the key in a state."""
    if state is State.BLOCKED:
        parent = new_job(start_delay=seconds(3600))
        await insert(store, parent)
        spec["dependencies"] = (Dependency(parent.job_id),)
    if state is State.SCHEDULED:
        spec["start_delay"] = seconds(3600)
    new = unique(**spec)
    await insert(store, new)
    if state is State.HELD:
        await store.hold_job(key_of(new), now=NOW)
    if state is State.CANCELLED:
        await store.request_stop([StopRequest(new.tenant, new.job_id)], now=NOW)
    if state in {State.RUNNING, State.STOPPING, State.SUCCEEDED, State.FAILED}:
        [claimed] = await claim(store)
        assert claimed.fence.job_id == new.job_id
        if state is State.STOPPING:
            await store.request_stop([StopRequest(new.tenant, new.job_id)], now=NOW)
        if state in FINAL:
            await finish(store, end(claimed.fence, 0 if state is State.SUCCEEDED else 1))
    if state is State.SKIPPED:
        newest = unique(REPLACE)
        await insert(store, newest)
        await store.request_stop([StopRequest(newest.tenant, newest.job_id)], now=NOW)
    assert (await job(store, new)).state is state
    return new


# --- what counts --------------------------------------------------------------------------------


@pytest.mark.parametrize("state", State)
async def test_a_job_counts_unless_it_is_final(store: Store, state: State) -> None:
    existing = await in_state(store, state)
    new = unique()
    if state in FINAL:
        await insert(store, new)
    else:
        await stands(store, existing, new)
    await check_invariants(store, beginning=BEGINNING)


@pytest.mark.parametrize("state", State)
async def test_or_in_the_states_that_the_new_one_names(store: Store, state: State) -> None:
    existing = await in_state(store, state)
    others = tuple(each for each in State if each is not state)
    await stands(store, existing, unique(states=(state,)))
    if state is not State.SKIPPED:  # there is another then, which is CANCELLED
        await insert(store, unique(states=others))


async def test_without_a_key_or_with_another_nobody_is_in_the_way(store: Store) -> None:
    await insert(store, new_job(), new_job(), unique())
    await insert(store, unique(key="U"))
    await insert(store, unique(tenant="other"))
    await insert(store, new_job(concurrency_keys=(ConcurrencyKey("u"),)))


async def test_the_newest_stands(store: Store) -> None:
    await insert(store, unique(created_at=at(0)))
    newest = unique(created_at=at(2), states=(State.RUNNING,))
    await insert(store, newest)
    await insert(store, unique(created_at=at(1), states=(State.RUNNING,), start_delay=seconds(9)))
    await stands(store, newest, unique(created_at=at(3)))


async def test_a_window_ends_with_the_age_of_the_other(store: Store) -> None:
    existing = unique()
    await insert(store, existing)
    minute = seconds(60)
    await stands(store, existing, unique(window=minute, created_at=at(59.999999)))
    await stands(store, existing, unique(created_at=at(60)))
    await insert(store, unique(window=minute, created_at=at(60)))
    final = (State.SUCCEEDED,)
    await finish(store, end((await claim(store))[0].fence))
    await stands(store, existing, unique(states=final, window=minute, created_at=at(30)))
    await insert(store, unique(states=final, window=minute, created_at=at(60)))


async def test_the_scope_is_the_tenant_or_the_queue(store: Store) -> None:
    elsewhere = unique(queue="a")
    await insert(store, elsewhere)
    here = unique(scope=UniqueScope.QUEUE, queue="b", created_at=at(1))
    await insert(store, here)
    await stands(store, elsewhere, unique(scope=UniqueScope.QUEUE, queue="a"))
    await stands(store, here, unique(scope=UniqueScope.QUEUE, queue="b"))
    await stands(store, here, unique(queue="c"))
    await store.update_job(key_of(here), {"queue": "c"}, edit_version=None, now=at(2))
    await stands(store, here, unique(scope=UniqueScope.QUEUE, queue="c"))


async def test_a_deleted_job_does_not_count(store: Store) -> None:
    existing = await in_state(store, State.SUCCEEDED)
    await stands(store, existing, unique(states=(State.SUCCEEDED,)))
    await store.request_stop([StopRequest(TENANT, existing.job_id, delete=True)], now=at(20))
    assert await store.delete_jobs([key_of(existing)], now=at(20)) == [True]
    await insert(store, unique(states=(State.SUCCEEDED,)))


async def test_one_that_is_retried_counts_again(store: Store) -> None:
    existing = await in_state(store, State.FAILED)
    await store.retry_job(key_of(existing), now=at(20))
    await stands(store, existing, unique())


async def test_the_key_is_read_back(store: Store) -> None:
    states = State.QUEUED, State.SUCCEEDED
    new = unique(REJECT, "ü", UniqueScope.QUEUE, seconds(0.000001), states)
    await insert(store, new)
    assert (await job(store, new)).spec == new.spec
    assert await store.find_submitted([key_of(new)]) == [new.spec]


# --- what becomes of the new one ----------------------------------------------------------------


async def test_a_repeated_request_gets_the_job_of_then(store: Store) -> None:
    existing = unique()
    await insert(store, existing)
    once = RequestKey("once", b"")
    assert (await submit(store, unique(), request=once)).job_ids == (existing.job_id,)
    await finish(store, end((await claim(store))[0].fence))
    again = await submit(store, unique(), request=once)
    assert (again.insertion, again.job_ids) == (Insertion.REPEATED, (existing.job_id,))
    await insert(store, unique())


async def test_reject(store: Store) -> None:
    existing = await in_state(store, State.RUNNING)
    once = RequestKey("once", b"")
    refused = await submit(store, unique(REJECT), request=once)
    assert (refused.insertion, refused.key) == (Insertion.DUPLICATE, "u")
    assert refused.job_ids == (existing.job_id,)
    [live] = await store.list_live("w1")
    await finish(store, end(live.fence))
    new = unique(REJECT)
    assert (await submit(store, new, request=once)).job_ids == (new.job_id,)


@pytest.mark.parametrize("state", [State.BLOCKED, State.SCHEDULED, State.HELD, State.QUEUED])
async def test_replace_ends_one_that_waits(store: Store, state: State) -> None:
    existing = await in_state(store, state)
    new = unique(REPLACE, created_at=at(1))
    await insert(store, new)
    found = await job(store, existing)
    assert (found.state, found.reason) == (State.SKIPPED, Reason.SUPERSEDED)
    assert new.job_id in found.message
    await stands(store, new, unique())
    await check_invariants(store, beginning=BEGINNING)


async def test_replace_ends_all_that_wait(store: Store) -> None:
    jobs = [unique(states=(State.RUNNING,), start_delay=delay) for delay in (None, seconds(9))]
    for each in jobs:
        await insert(store, each)
    await insert(store, unique(REPLACE))
    assert {(await job(store, each)).state for each in jobs} == {State.SKIPPED}


@pytest.mark.parametrize("state", [State.RUNNING, State.STOPPING, State.SUCCEEDED, State.FAILED])
async def test_replace_refuses_where_one_does_not_wait(store: Store, state: State) -> None:
    existing = await in_state(store, state)
    waiting = unique(states=(State.BLOCKED,))
    await insert(store, waiting)
    refused = await submit(store, unique(REPLACE, states=(state, State.QUEUED)))
    assert (refused.insertion, refused.job_ids) == (Insertion.DUPLICATE, (existing.job_id,))
    assert (await job(store, waiting)).state is State.QUEUED, "nothing was changed"


async def test_the_parents_of_one_that_was_replaced_do_not_call_it_back(store: Store) -> None:
    parent = new_job()
    await insert(store, parent)
    child = unique(dependencies=(Dependency(parent.job_id),), created_at=at(1))
    await insert(store, child)
    await insert(store, unique(REPLACE, start_delay=seconds(60), created_at=at(2)))
    await finish(store, end((await claim(store))[0].fence))
    await store.retry_job(key_of(parent), now=at(20))
    assert (await job(store, child)).state is State.SKIPPED
    await check_invariants(store, beginning=BEGINNING)


async def test_one_may_depend_on_the_one_that_it_replaces(store: Store) -> None:
    first = unique()
    await insert(store, first)
    second = unique(REPLACE, dependencies=(Dependency(first.job_id),))
    answer = await submit(store, second)
    assert answer.arrivals[second.job_id].state is State.SKIPPED, "the other did not succeed"
    assert (await job(store, second)).state is State.SKIPPED
    await check_invariants(store, beginning=BEGINNING)


async def test_validate_only_changes_nothing(store: Store) -> None:
    existing = unique()
    await insert(store, existing)
    returned = await submit(store, unique(), validate_only=True)
    assert (returned.insertion, returned.job_ids) == (Insertion.STOOD_FOR, (existing.job_id,))
    refused = await submit(store, unique(REJECT), validate_only=True)
    assert refused.insertion is Insertion.DUPLICATE
    replaced = await submit(store, unique(REPLACE), validate_only=True)
    assert replaced.insertion is Insertion.CREATED
    assert (await job(store, existing)).state is State.QUEUED


# --- with other rules ---------------------------------------------------------------------------


async def bound(store: Store, on_full: OnFull, depth: int) -> None:
    edits = {"max_depth": depth, "on_full": on_full}
    await store.save_queue(TENANT, "default", edits, create=True, edit_version=None, now=NOW)


async def test_one_that_stands_needs_no_room_in_a_full_queue(store: Store) -> None:
    existing = unique()
    await insert(store, existing)
    await bound(store, OnFull.REJECT, 1)
    await stands(store, existing, unique())
    assert (await submit(store, unique(key="v"))).insertion is Insertion.QUEUE_FULL


@pytest.mark.parametrize("on_full", [OnFull.REJECT, OnFull.REPLACE_OLDEST])
async def test_one_that_is_replaced_leaves_its_room(store: Store, on_full: OnFull) -> None:
    other, existing = new_job(), unique(created_at=at(1))
    await insert(store, other, existing)
    await bound(store, on_full, 2)
    await insert(store, unique(REPLACE, created_at=at(2)))
    assert (await job(store, other)).state is State.QUEUED
    assert (await job(store, existing)).state is State.SKIPPED


async def test_one_that_the_queue_refuses_replaces_nothing(store: Store) -> None:
    existing = unique(queue="other")
    await insert(store, existing, new_job())
    await bound(store, OnFull.REJECT, 1)
    assert (await submit(store, unique(REPLACE))).insertion is Insertion.QUEUE_FULL
    assert (await job(store, existing)).state is State.QUEUED


async def test_one_that_is_replaced_leaves_its_concurrency_key(store: Store) -> None:
    keys = (ConcurrencyKey("k", on_conflict=OnConflict.REJECT),)
    await insert(store, unique(concurrency_keys=keys))
    await insert(store, unique(REPLACE, concurrency_keys=keys))
    taken = await submit(store, unique(REPLACE, key="v", concurrency_keys=keys))
    assert taken.insertion is Insertion.KEY_TAKEN


async def test_a_schedule_makes_its_jobs_all_the_same_and_they_count(store: Store) -> None:
    engine = Engine(store)
    spec = JobSpec(new_job().spec.command, unique_key=UniqueKey("u", on_duplicate=REJECT))
    await insert(store, unique(states=(State.FAILED,)))
    await engine.create(job=spec)
    await engine.after(1)
    [made] = [each for each in await engine.jobs() if each.schedule]
    answer = await submit(store, unique(created_at=made.created_at))
    assert answer.job_ids == (made.job_id,)


# --- batches ------------------------------------------------------------------------------------


async def test_each_place_of_a_batch_has_its_job(store: Store) -> None:
    existing = unique(key="a")
    await insert(store, existing)
    jobs = [new_job(), unique(key="a"), unique(key="b"), unique(key="b"), unique(key="c")]
    once = RequestKey("once", b"")
    answer = await submit(store, *jobs, request=once)
    ids = (jobs[0].job_id, existing.job_id, jobs[2].job_id, jobs[2].job_id, jobs[4].job_id)
    assert (answer.insertion, answer.job_ids) == (Insertion.CREATED, ids)
    assert set(answer.standing) == {existing.job_id}
    found = await store.find_jobs([key_of(each) for each in jobs])
    assert [each is not None for each in found] == [True, False, True, False, True]
    again = await submit(store, *jobs, request=once)
    assert (again.insertion, again.job_ids) == (Insertion.REPEATED, ids)
    await check_invariants(store, beginning=BEGINNING)


async def test_a_batch_for_which_others_stand_creates_nothing(store: Store) -> None:
    existing = unique()
    await insert(store, existing)
    answer = await submit(store, unique(), unique())
    assert (answer.insertion, answer.job_ids) == (Insertion.STOOD_FOR, (existing.job_id,) * 2)


async def test_reject_refuses_a_batch_as_a_whole(store: Store) -> None:
    existing = unique()
    await insert(store, existing)
    first = new_job()
    refused = await submit(store, first, unique(REJECT))
    assert (refused.insertion, refused.place) == (Insertion.DUPLICATE, 1)
    assert (refused.job_ids, refused.twin) == ((existing.job_id,), None)
    twins = await submit(store, first, unique(REJECT, "v"), unique(REJECT, "v"))
    assert (twins.insertion, twins.place, twins.twin) == (Insertion.DUPLICATE, 2, 1)
    assert await store.find_job(key_of(first)) is None


async def test_the_rules_of_a_key_hold_within_a_batch(store: Store) -> None:
    by_queue = [unique(scope=UniqueScope.QUEUE, queue=queue) for queue in "aba"]
    answer = await submit(store, *by_queue)
    ids = [each.job_id for each in by_queue]
    assert answer.job_ids == (ids[0], ids[1], ids[0])
    running = [unique(key="r", states=(State.RUNNING,)) for _ in range(2)]
    await insert(store, *running)
    later = [unique(key="s", states=(State.SCHEDULED,), start_delay=seconds(1)) for _ in range(2)]
    assert (await submit(store, *later)).job_ids == (later[0].job_id,) * 2


async def test_a_job_of_a_batch_counts_where_its_dependencies_put_it(store: Store) -> None:
    parent = await in_state(store, State.SUCCEEDED, key="p")
    waiting = new_job()
    await insert(store, waiting)
    ended, open_ = (Dependency(parent.job_id),), (Dependency(waiting.job_id),)
    queued = State.QUEUED
    jobs = [
        unique(key="a", states=(queued,), dependencies=ended),
        unique(key="a", states=(queued,)),
        unique(key="b", states=(queued,), dependencies=open_),
        unique(key="b", states=(queued,)),
    ]
    answer = await submit(store, *jobs)
    ids = [each.job_id for each in jobs]
    assert answer.job_ids == (ids[0], ids[0], ids[2], ids[3])
    await check_invariants(store, beginning=BEGINNING)


# --- many at once -------------------------------------------------------------------------------


@pytest.mark.parametrize("on_duplicate", [OnDuplicate.RETURN_EXISTING, REJECT])
async def test_of_many_that_come_together_one_is_created(
    store: Store, on_duplicate: OnDuplicate
) -> None:
    answers = await asyncio.gather(*[submit(store, unique(on_duplicate)) for _ in range(30)])
    [created] = [each for each in answers if each.insertion is Insertion.CREATED]
    assert {each.job_ids for each in answers} == {created.job_ids}


async def test_of_many_that_replace_one_another_the_last_is_left(store: Store) -> None:
    jobs = [unique(REPLACE, created_at=at(n)) for n in range(30)]
    answers = await asyncio.gather(*[submit(store, each) for each in jobs])
    assert {each.insertion for each in answers} == {Insertion.CREATED}
    states = [(await job(store, each)).state for each in jobs]
    assert states.count(State.QUEUED) == 1
    assert states.count(State.SKIPPED) == 29
    await check_invariants(store, beginning=BEGINNING)


@pytest.mark.parametrize("first", [True, False])
async def test_a_child_of_the_replaced_one_that_comes_together_with_the_new_one(
    store: Store, first: bool
) -> None:
    existing = unique()
    await insert(store, existing)
    child = new_job(dependencies=(Dependency(existing.job_id),))
    both = [submit(store, child), submit(store, unique(REPLACE))]
    await asyncio.gather(*(both if first else both[::-1]))
    assert (await job(store, child)).state is State.SKIPPED
    await check_invariants(store, beginning=BEGINNING)


def test_all_rules_are_about_the_new_job_alone() -> None:
    names = {each.name for each in dataclasses.fields(UniqueKey)}
    assert names == {"key", "scope", "window", "states", "on_duplicate"}
