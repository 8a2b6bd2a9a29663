"""Operations: each job changed once and in its turn, whatever dies between two batches."""

import dataclasses
import itertools
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobservice.model.filter import matches, parse
from jobservice.model.ids import operation_id
from jobservice.model.job import Job, NewJob
from jobservice.model.lifecycle import FINAL, WAITING, Reason, State
from jobservice.model.operation import Action, BulkChange, Operation, OperationState, Place
from jobservice.store.operation_port import OperationKey, OperationStep, Stepped
from jobservice.store.port import JobQuery, Order, Store, TargetPage
from jobservice.testing.invariants import check_invariants
from tests.conformance.test_filters import LIVES, Life, live, park
from tests.conformance.values import (
    BEGINNING,
    TENANT,
    at,
    changes,
    claim,
    ended,
    insert,
    insert_some,
    job,
    key_of,
    new_job,
    run,
)
from tests.examples import examples

EVERY = frozenset(State)
_numbers = itertools.count(1)


def new_key(tenant: str = TENANT) -> OperationKey:
    return OperationKey(tenant, operation_id(next(_numbers), next(_numbers)))


async def begin(
    store: Store, filter_: str, action: Action, tenant: str = TENANT, **more: object
) -> Operation:
    asked = BulkChange(filter_, action, **more)  # type: ignore[arg-type]
    begun = await store.begin_operation(
        new_key(tenant), asked, request_id="", limit=10_000, now=at(50)
    )
    assert begun is not None
    return begun


def key(operation: Operation) -> OperationKey:
    return OperationKey(operation.tenant, operation.operation_id)


async def targets(store: Store, operation: Operation, limit: int) -> TargetPage:
    query = JobQuery(
        operation.tenant,
        Order.CREATED_ASC,
        EVERY,
        created_before=operation.created_at,
        filter=parse(operation.change.filter),
    )
    return await store.find_targets(query, behind=operation.place, limit=limit)


async def step_of(store: Store, operation: Operation, limit: int = 3) -> OperationStep:
    """The next step, as the engine reads it."""
    page = await targets(store, operation, limit)
    filter_ = parse(operation.change.filter)
    return OperationStep(
        key=key(operation),
        behind=operation.place,
        job_ids=[each.job_id for each in page.jobs],
        place=page.place,
        matches=lambda job: matches(filter_, job),
    )


async def carry_out(store: Store, operation: Operation, limit: int = 3) -> Operation:
    for _ in range(100):
        stepped = await store.step_operation(await step_of(store, operation, limit), now=at(60))
        assert stepped is not None
        operation = stepped.operation
        assert await store.find_operation(key(operation)) == operation
        if operation.state is not OperationState.RUNNING:
            return operation
    raise AssertionError("the operation does not end")


def counts(operation: Operation) -> tuple[int, int, int]:
    return operation.done_count, operation.skipped_count, operation.failed_count


async def some(store: Store) -> dict[str, NewJob | Job]:
    """A job in each of some states, by its name."""
    [running] = await run(store, name="running")
    [failed] = await ended(store, exit_code=1, name="failed")
    [queued] = await insert_some(store, name="queued")
    [held] = await insert_some(store, name="held")
    await store.hold_job(key_of(held), now=at(1))
    return {
        "running": await job(store, running),
        "failed": await job(store, failed),
        "queued": queued,
        "held": held,
    }


AFTERWARDS = {
    Action.CANCEL: ((3, 1), ["CANCELLED", "CANCELLED", "FAILED", "STOPPING"]),
    Action.HOLD: ((1, 3), ["FAILED", "HELD", "HELD", "RUNNING"]),
    Action.RELEASE: ((1, 3), ["FAILED", "QUEUED", "QUEUED", "RUNNING"]),
    Action.RETRY: ((1, 3), ["HELD", "QUEUED", "QUEUED", "RUNNING"]),
    Action.DELETE: ((4, 0), ["CANCELLED", "CANCELLED", "FAILED", "STOPPING"]),
    Action.SET_PRIORITY: ((3, 1), ["FAILED", "HELD", "QUEUED", "RUNNING"]),
}


@pytest.mark.parametrize("action", Action)
async def test_an_action_does_what_the_verb_about_one_job_does(
    store: Store, action: Action
) -> None:
    jobs = await some(store)
    priority = 7 if action is Action.SET_PRIORITY else None
    begun = await begin(store, "*", action, priority=priority, reason="in the way")
    done = await carry_out(store, begun)
    (changed, skipped), states = AFTERWARDS[action]
    assert counts(done) == (changed, skipped, 0)
    assert (done.matched_count, done.state, done.ended_at) == (4, OperationState.DONE, at(60))
    now = {name: await job(store, each) for name, each in jobs.items()}
    assert sorted(each.state.name for each in now.values()) == states
    match action:
        case Action.CANCEL:
            assert (now["queued"].reason, now["queued"].message) == (Reason.USER, "in the way")
        case Action.HOLD:
            assert (now["queued"].message, now["held"].message) == ("in the way", "held on request")
        case Action.DELETE:
            assert all(each.delete_requested for each in now.values())
        case Action.SET_PRIORITY:
            priorities = {name: each.spec.priority for name, each in now.items()}
            assert priorities == {"running": 7, "failed": 0, "queued": 7, "held": 7}
            assert now["queued"].edit_version == 2
            [submitted] = await store.find_submitted([key_of(now["queued"])])
            assert submitted is not None
            assert submitted.priority == 0
        case _:
            pass
    again = await carry_out(store, await begin(store, "*", action, priority=priority))
    assert again.done_count == 0
    await check_invariants(store, beginning=BEGINNING)


async def test_attempts_that_have_to_end_are_told(store: Store) -> None:
    fences = await run(store, 2)
    await insert_some(store, 1)
    begun = await begin(store, "*", Action.CANCEL)
    stepped = await store.step_operation(await step_of(store, begun, 10), now=at(60))
    assert stepped is not None
    assert sorted(stepped.fences) == sorted(fences)


async def test_what_an_action_does_shows_to_claims(store: Store) -> None:
    first, second = await insert_some(store, 2)
    await carry_out(
        store, await begin(store, f"job_id = {second.job_id}", Action.SET_PRIORITY, priority=50)
    )
    assert [each.fence.job_id for each in await claim(store, 2, now=at(70))] == [
        second.job_id,
        first.job_id,
    ]


async def test_only_jobs_that_were_there_before_are_changed(store: Store) -> None:
    old = await insert_some(store, 4)
    new = new_job(created_at=at(50))
    await insert(store, new)
    await insert(store, new_job("other"))
    done = await carry_out(store, await begin(store, "state = QUEUED", Action.HOLD))
    assert counts(done) == (4, 0, 0)
    assert (await job(store, old[0])).state is State.HELD
    assert (await job(store, new)).state is State.QUEUED


async def test_a_job_that_does_not_match_any_more_is_left_alone(store: Store) -> None:
    jobs = await insert_some(store, 3, labels={"a": "1"})
    begun = await begin(store, "labels.a = 1", Action.CANCEL)
    step = await step_of(store, begun, 10)
    await store.update_job(key_of(jobs[1]), {"labels": {}}, edit_version=None, now=at(55))
    stepped = await store.step_operation(step, now=at(60))
    assert stepped is not None
    assert counts(stepped.operation) == (2, 0, 0)
    assert (await job(store, jobs[1])).state is State.QUEUED


async def test_a_step_is_done_once(store: Store) -> None:
    await insert_some(store, 4)
    begun = await begin(store, "*", Action.HOLD)
    step = await step_of(store, begun, 2)
    assert await store.step_operation(step, now=at(60)) is not None
    seen = await changes(store)
    assert await store.step_operation(step, now=at(61)) is None
    elsewhere = dataclasses.replace(step, behind=Place(at(0), "j"))
    assert await store.step_operation(elsewhere, now=at(61)) is None
    unknown = dataclasses.replace(step, key=new_key())
    assert await store.step_operation(unknown, now=at(61)) is None
    assert await changes(store) == seen


async def test_an_operation_that_was_cancelled_goes_on_no_more(store: Store) -> None:
    await insert_some(store, 4)
    begun = await begin(store, "*", Action.HOLD)
    stepped = await store.step_operation(await step_of(store, begun, 2), now=at(60))
    assert stepped is not None
    ended = await store.cancel_operation(key(begun), now=at(61))
    assert ended is not None
    assert (ended.state, ended.ended_at, counts(ended)) == (
        OperationState.CANCELLED,
        at(61),
        (2, 0, 0),
    )
    assert await store.step_operation(await step_of(store, ended), now=at(62)) is None
    assert await store.cancel_operation(key(begun), now=at(63)) == ended
    assert await store.cancel_operation(new_key(), now=at(63)) is None
    assert await store.list_running_operations(limit=10) == []


async def test_a_job_at_fault_is_counted_and_left(store: Store) -> None:
    jobs = await insert_some(store, 2)
    begun = await begin(store, "*", Action.HOLD)
    step = dataclasses.replace(await step_of(store, begun, 1), give_up=True)
    stepped = await store.step_operation(step, now=at(60))
    assert stepped is not None
    assert counts(await carry_out(store, stepped.operation)) == (1, 0, 1)
    assert (await job(store, jobs[0])).state is State.QUEUED


async def test_a_rate_says_when_it_goes_on(store: Store) -> None:
    await insert_some(store, 6)
    slow = await begin(store, "*", Action.HOLD, max_per_second=2)
    fast = await begin(store, "*", Action.HOLD)
    stepped = await store.step_operation(await step_of(store, slow, 3), now=at(60))
    assert stepped is not None
    assert stepped.operation.due_at == at(61.5)
    running = await store.list_running_operations(limit=10)
    assert [each.operation_id for each in running] == [fast.operation_id, slow.operation_id]
    assert [each.due_at for each in running] == [at(50), at(61.5)]


async def test_a_request_id_begins_one_operation(store: Store) -> None:
    asked = BulkChange("*", Action.HOLD)
    first = await store.begin_operation(new_key(), asked, request_id="r", limit=2, now=at(50))
    again = await store.begin_operation(
        new_key(), BulkChange("*", Action.CANCEL), request_id="r", limit=1, now=at(51)
    )
    assert first is not None
    assert again == first
    other = await store.begin_operation(new_key(), asked, request_id="", limit=2, now=at(51))
    assert other is not None
    assert await store.begin_operation(new_key(), asked, request_id="", limit=2, now=at(51)) is None
    elsewhere = new_key("t")
    assert await store.begin_operation(elsewhere, asked, request_id="r", limit=1, now=at(51))


async def test_operations_are_listed_and_forgotten(store: Store) -> None:
    made = [await begin(store, "*", Action.HOLD) for _ in range(5)]
    await begin(store, "*", Action.HOLD, "other")
    newest = [each.operation_id for each in reversed(made)]
    page = await store.list_operations(TENANT, behind=None, limit=3)
    assert [each.operation_id for each in page.operations] == newest[:3]
    assert page.behind == newest[2]
    page = await store.list_operations(TENANT, behind=page.behind, limit=3)
    assert [each.operation_id for each in page.operations] == newest[3:]
    assert page.behind is None
    for n, each in enumerate(made[:3]):
        await store.cancel_operation(key(each), now=at(100 + n))
    assert await store.forget_operations(before=at(102), limit=1) == 1
    assert await store.forget_operations(before=at(102), limit=10) == 1
    assert await store.forget_operations(before=at(102), limit=10) == 0
    assert await store.find_operation(key(made[0])) is None
    assert len((await store.list_operations(TENANT, behind=None, limit=9)).operations) == 3


# --- crashes ----------------------------------------------------------------------------------

FILTERS = ["*", "state = QUEUED", "NOT state = QUEUED", "labels:a OR name = a*", "priority > 0"]


def expected(action: Action, job: Job) -> bool:
    """Whether a job is changed, by what it is."""
    match action:
        case Action.CANCEL:
            return job.state in WAITING or job.state is State.RUNNING
        case Action.HOLD:
            return job.state in WAITING - {State.HELD}
        case Action.RELEASE:
            return job.state is State.HELD
        case Action.RETRY:
            return job.state in FINAL
        case Action.DELETE:
            return True
        case Action.SET_PRIORITY:
            return job.state not in FINAL and job.spec.priority != 1


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
    max_examples=examples(50),
)
@given(
    lives=st.lists(LIVES, min_size=1, max_size=10),
    filter_=st.sampled_from(FILTERS),
    action=st.sampled_from(Action),
    steps=st.lists(
        st.tuples(st.integers(1, 4), st.sampled_from(["", "lost", "twice"])), min_size=1
    ),
)
async def test_crashes_between_batches_neither_leave_out_nor_repeat(
    store: Store,
    lives: list[Life],
    filter_: str,
    action: Action,
    steps: Sequence[tuple[int, str]],
) -> None:
    """A step may die before its commit ("lost"), or its answer may, so that it comes "twice"."""
    tenant, jobs = await live(store, lives)
    priority = 1 if action is Action.SET_PRIORITY else None
    begun = await begin(store, filter_, action, tenant, priority=priority)
    matched = [job for job in jobs if matches(parse(filter_), job)]
    for limit, fate in itertools.cycle([*steps, (2, "")]):
        [known] = [
            each
            for each in await store.list_running_operations(limit=10_000)
            if each.operation_id == begun.operation_id
        ]
        step = await step_of(store, known, limit)
        if fate == "lost":
            continue
        stepped: Stepped | None = await store.step_operation(step, now=at(60))
        assert stepped is not None
        if fate == "twice":
            assert await store.step_operation(step, now=at(60)) is None
        if stepped.operation.state is OperationState.DONE:
            break
    done = await store.find_operation(key(begun))
    assert done is not None
    changed = {each.job_id for each in matched if expected(action, each)}
    assert counts(done) == (len(changed), len(matched) - len(changed), 0)
    for before in jobs:
        after = await job(store, before)
        if action is Action.DELETE:
            assert after.delete_requested is (before.job_id in changed)
        else:
            assert after.revision == before.revision + (before.job_id in changed)
    await park(store, jobs)
