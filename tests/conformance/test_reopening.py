"""Retries, holds, cancels and deletes of jobs that depend on others, and of those depended on."""

import asyncio

import pytest

from jobservice.model.event import EventKind
from jobservice.model.graph import OnUnmet, Rule, Verdict
from jobservice.model.job import Job
from jobservice.model.lifecycle import Reason, State
from jobservice.store.port import StopRequest, Store
from tests.conformance.families import (
    after,
    cancel,
    finished,
    hold,
    kinds,
    release,
    retry,
    settled,
)
from tests.conformance.values import (
    TENANT,
    at,
    claim,
    insert,
    insert_some,
    job,
    key_of,
    new_job,
    states,
)

# --- retries ----------------------------------------------------------------------------------


async def test_a_retry_opens_what_was_skipped_because_of_it(store: Store) -> None:
    [parent, other] = await insert_some(store, 2)
    child = after(parent)
    below = after(child)
    both = after(parent, other)
    held, failed = after(parent, on_unmet=OnUnmet.HOLD), after(parent, on_unmet=OnUnmet.FAIL)
    dropped = after(parent)
    await insert(store, child, below, both, held, failed, dropped)
    await cancel(store, dropped)
    await finished(store, parent, 1)
    await finished(store, other, 1)
    await retry(store, parent)
    found = await states(store)
    assert [found[each.job_id] for each in (child, below, both, held, failed, dropped)] == [
        State.BLOCKED, State.BLOCKED, State.SKIPPED, State.BLOCKED, State.FAILED, State.CANCELLED,
    ]  # fmt: skip
    assert await kinds(store, child) == [EventKind.CREATED, EventKind.SKIPPED, EventKind.REOPENED]
    again = await job(store, child)
    assert (again.reason, again.message, again.ended_at) == (Reason.NONE, "", None)
    await settled(store)
    await finished(store, parent, 0, now=30)
    found = await states(store)
    assert [found[each.job_id] for each in (child, below, both, held)] == [
        State.QUEUED, State.BLOCKED, State.SKIPPED, State.QUEUED,
    ]  # fmt: skip
    await settled(store)


async def test_a_job_that_still_waits_waits_for_the_new_end(store: Store) -> None:
    first, second = await insert_some(store, 2)
    child = after(first, second, priority=-100)
    await insert(store, child)
    await finished(store, first)
    await retry(store, first)
    await finished(store, second)
    assert (await job(store, child)).verdicts == (Verdict.PENDING, Verdict.MET)
    assert (await job(store, child)).state is State.BLOCKED
    await finished(store, first, now=30)
    assert (await job(store, child)).state is State.QUEUED
    await settled(store)


async def test_a_job_that_was_let_go_is_not_called_back(store: Store) -> None:
    [parent] = await insert_some(store)
    child = after(parent)
    await insert(store, child)
    await finished(store, parent)
    await retry(store, parent)
    assert (await job(store, child)).state is State.QUEUED
    assert (await job(store, child)).verdicts == (Verdict.MET,)
    await settled(store)


async def test_a_retry_of_a_skipped_job_runs_it_regardless(store: Store) -> None:
    [parent] = await insert_some(store)
    child = after(parent)
    below = after(child)
    await insert(store, child, below)
    await finished(store, parent, 1)
    assert (await retry(store, child)).state is State.QUEUED
    assert (await job(store, below)).state is State.BLOCKED
    await retry(store, parent, now=21)
    await cancel(store, parent, now=22)
    assert (await job(store, child)).state is State.QUEUED
    await finished(store, child, now=30)
    assert (await job(store, below)).state is State.QUEUED
    await settled(store)


async def test_what_is_to_be_deleted_is_not_opened_again(store: Store) -> None:
    [parent] = await insert_some(store)
    child = after(parent)
    await insert(store, child)
    await finished(store, parent, 1)
    await cancel(store, child, delete=True)
    await retry(store, parent)
    assert (await job(store, child)).state is State.SKIPPED
    assert await store.delete_jobs([key_of(child)], now=at(30)) == [True]
    await finished(store, parent, now=31)
    assert set(await states(store)) == {parent.job_id}


# --- holds, cancels, edits --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exit_code", "expected", "told"),
    [
        (None, State.BLOCKED, []),
        (0, State.QUEUED, [EventKind.UNBLOCKED]),
        (1, State.SKIPPED, [EventKind.SKIPPED]),
    ],
)
async def test_a_hold_of_a_blocked_job_ends_where_it_would_be(
    store: Store, exit_code: int | None, expected: State, told: list[EventKind]
) -> None:
    [parent] = await insert_some(store)
    child = after(parent)
    below = after(child)
    await insert(store, child, below)
    assert (await hold(store, child)).state is State.HELD
    if exit_code is not None:
        await finished(store, parent, exit_code)
    assert (await job(store, child)).state is State.HELD
    assert (await release(store, child)).state is expected
    assert (await job(store, below)).state is (
        State.SKIPPED if expected is State.SKIPPED else State.BLOCKED
    )
    assert await kinds(store, child) == [
        EventKind.CREATED, EventKind.HELD, EventKind.RELEASED, *told,
    ]  # fmt: skip
    await settled(store)


async def test_a_release_of_a_job_held_for_its_dependencies_runs_it(store: Store) -> None:
    [parent] = await insert_some(store)
    child = after(parent, on_unmet=OnUnmet.HOLD)
    await insert(store, child)
    await finished(store, parent, 1)
    assert (await hold(store, child)).reason is Reason.DEPENDENCY
    released = await release(store, child)
    assert (released.state, released.reason) == (State.QUEUED, Reason.NONE)
    await retry(store, parent, now=31)
    assert (await job(store, child)).state is State.QUEUED
    await settled(store)


async def test_a_job_that_was_let_go_can_be_held_and_released(store: Store) -> None:
    [parent] = await insert_some(store)
    child = after(parent)
    await insert(store, child)
    await finished(store, parent)
    await hold(store, child)
    await retry(store, parent)
    assert (await release(store, child)).state is State.QUEUED
    await settled(store)


async def test_a_cancel_of_parent_and_child_together(store: Store) -> None:
    [parent] = await insert_some(store)
    child = after(parent)
    below = after(child)
    await insert(store, child, below)
    stops = [StopRequest(TENANT, each.job_id) for each in (parent, child)]
    await store.request_stop(stops, now=at(1))
    found = await states(store)
    assert [found[each.job_id] for each in (parent, child, below)] == [
        State.CANCELLED, State.CANCELLED, State.SKIPPED,
    ]  # fmt: skip
    await settled(store)


async def test_calls_that_are_run_together_see_one_another(store: Store) -> None:
    parents = await insert_some(store, 20)
    children = [after(each) for each in parents]
    inserts = [store.insert_jobs([each]) for each in children]
    stops = [store.request_stop([StopRequest(TENANT, each.job_id)], now=at(1)) for each in parents]
    await asyncio.gather(*[call for pair in zip(inserts, stops, strict=True) for call in pair])
    found = await states(store)
    assert {found[each.job_id] for each in children} == {State.SKIPPED}
    await settled(store)


async def test_the_verdict_outlives_the_parent(store: Store) -> None:
    first, second = await insert_some(store, 2)
    child = after(first, second, priority=-100)
    await insert(store, child)
    await finished(store, first)
    await cancel(store, first, delete=True)
    assert await store.delete_jobs([key_of(first)], now=at(12)) == [True]
    assert (await job(store, child)).verdicts == (Verdict.MET, Verdict.PENDING)
    await finished(store, second)
    assert (await job(store, child)).state is State.QUEUED
    await settled(store)


async def test_a_deleted_child_leaves_nothing(store: Store) -> None:
    [parent] = await insert_some(store)
    child = after(parent)
    await insert(store, child)
    await cancel(store, child, delete=True)
    assert await store.delete_jobs([key_of(child)], now=at(12)) == [True]
    await finished(store, parent)
    await settled(store)
    assert set(await states(store)) == {parent.job_id}


async def test_an_edit_leaves_the_dependencies(store: Store) -> None:
    [parent] = await insert_some(store)
    child = after(parent, rule=Rule.ANY, on_unmet=OnUnmet.HOLD)
    await insert(store, child)
    edited = await store.update_job(key_of(child), {"priority": 70}, edit_version=None, now=at(3))
    assert isinstance(edited, Job)
    assert edited.spec.dependencies == child.spec.dependencies
    await finished(store, parent)
    other = new_job(created_at=at(0))
    await insert(store, other)
    assert [each.fence.job_id for each in await claim(store, 1)] == [child.job_id]
    assert await store.find_submitted([key_of(child)]) == [child.spec]
    await settled(store)
