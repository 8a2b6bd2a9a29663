"""Arrays: opened, made, counted, revived, stopped, deleted."""

import random
from collections.abc import Sequence
from typing import Any

import pytest

from jobservice.model.array import AHEAD, ArrayCounts, ArraySpec
from jobservice.model.attempt import Fence
from jobservice.model.event import EventKind
from jobservice.model.ids import RANDOM_BITS
from jobservice.model.job import Job, NewJob
from jobservice.model.lifecycle import FINAL, Reason, State
from jobservice.model.limit import ConcurrencyKey
from jobservice.model.spec import Command, RetryPolicy
from jobservice.store.port import JobKey, JobQuery, Order, Refusal, StopRequest, Store
from jobservice.store.verbs import arrays as verbs
from jobservice.testing.invariants import check_invariants
from tests.conformance.families import after
from tests.conformance.values import (
    BEGINNING,
    NOW,
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
    start,
)

RANDOM = random.Random(7)


def array(size: int, **more: Any) -> NewJob:
    rules = {key: more.pop(key) for key in ("items", "max_parallel", "max_failures") if key in more}
    return new_job(array=ArraySpec(size, **rules), **more)


async def settle(store: Store, now: float = 10) -> list[Fence]:
    """Move arrays on until there is nothing left to do; returns the attempts that have to end."""
    fences: list[Fence] = []
    position, last = ("", ""), None
    while last is None or last.again or last.after is not None:
        bits = RANDOM.getrandbits(RANDOM_BITS - 1)
        last = await store.settle_arrays(position, now=at(now), randomness=bits)
        fences += last.stopping
        position = last.after or ("", "")
    await check_invariants(store, beginning=BEGINNING)
    return fences


async def opened(store: Store, size: int, **more: Any) -> NewJob:
    """An array whose first indices are QUEUED."""
    new = array(size, **more)
    await insert(store, new)
    claimed = await store.claim_jobs(worker_id="w1", limit=5, lease_until=at(30), now=NOW)
    assert (claimed.claims, claimed.opened) == ([], True)
    await settle(store)
    return new


async def indices(store: Store, which: NewJob) -> list[Job]:
    """The jobs of the indices of an array, in order."""
    query = JobQuery(TENANT, Order.CREATED_ASC, frozenset(State))
    page = await store.list_jobs(query, limit=10_000, cursor=None)
    found = [each for each in page.jobs if each.index is not None]
    found = [each for each in found if each.index and each.index.array_job_id == which.job_id]
    return sorted(found, key=lambda each: each.index.index if each.index else 0)


async def run_indices(store: Store, count: int, codes: Sequence[int] = (), now: float = 10) -> None:
    """Have the next indices run to their ends."""
    claims = await claim(store, count, now=at(now))
    assert len(claims) == count
    await start(store, *[each.fence for each in claims])
    left = [*codes, *[0] * (count - len(codes))]
    ends = [end(each.fence, code) for each, code in zip(claims, left, strict=True)]
    assert None not in await finish(store, *ends, now=at(now))


async def counts(store: Store, which: NewJob) -> ArrayCounts | None:
    return (await job(store, which)).array_counts


async def cancel(store: Store, which: Any, *, delete: bool = False) -> None:
    stop = StopRequest(which.tenant, which.job_id, delete)
    [answer] = await store.request_stop([stop], now=at(10))
    assert not isinstance(answer, Refusal)
    assert answer.fence is None


async def test_an_array_is_one_row_until_its_turn_comes(store: Store) -> None:
    new = array(1_000_000, name="big")
    await insert(store, new)
    found = await job(store, new)
    assert (found.state, found.spec.array) == (State.QUEUED, ArraySpec(1_000_000))
    await settle(store)
    assert await indices(store, new) == []


async def test_the_turn_of_an_array_takes_no_lease(store: Store) -> None:
    new = await opened(store, 3)
    found = await job(store, new)
    assert (found.state, found.attempts, found.started_at) == (State.RUNNING, (), NOW)
    kinds = [each.event.kind for each in await changes(store) if each.event.job_id == new.job_id]
    assert kinds == [EventKind.CREATED, EventKind.OPENED]


async def test_an_index_is_told_which_it_is(store: Store) -> None:
    command = Command(("/bin/sh",), {"A": "b"}, b"in", "/tmp")
    new = await opened(store, 2, command=command, items=("x y", "é\n"), name="n", labels={"l": "v"})
    first, second = await claim(store, 5)
    own = {"A": "b", "JOBSERVICE_ARRAY_JOB_ID": new.job_id, "JOBSERVICE_ARRAY_SIZE": "2"}
    assert first.command == Command(
        ("/bin/sh",),
        {**own, "JOBSERVICE_ARRAY_INDEX": "0", "JOBSERVICE_ARRAY_ITEM": "x y"},
        b"in",
        "/tmp",
    )
    assert second.command.env["JOBSERVICE_ARRAY_ITEM"] == "é\n"
    found = await job(store, first.fence)
    assert (found.spec.name, found.spec.labels) == ("n[0]", {"l": "v"})
    assert found.spec.command == command
    assert found.index is not None
    assert (found.index.array_job_id, found.index.index) == (new.job_id, 0)
    [basic] = await store.find_jobs([key_of(found)])
    assert basic is not None
    assert basic.index == found.index


async def test_it_ends_with_its_last_index(store: Store) -> None:
    new = await opened(store, 3)
    await run_indices(store, 2)
    await settle(store)
    found = await job(store, new)
    assert (found.state, found.array_counts) == (State.RUNNING, ArrayCounts(3, 2, 0, 0))
    assert found.progress is not None
    assert found.progress.percent == pytest.approx(200 / 3)
    assert found.progress.step == "2 of 3 indices are done"
    await run_indices(store, 1)
    await settle(store)
    found = await job(store, new)
    assert (found.state, found.reason, found.ended_at) == (State.SUCCEEDED, Reason.NONE, at(10))


@pytest.mark.slow
async def test_items_come_in_pieces_and_in_order(store: Store) -> None:
    items = tuple(f"item {n}" for n in range(1_150))
    new = await opened(store, len(items), items=items)
    seen: list[str | None] = []
    while not (found := await job(store, new)).ended_at:
        claims = await claim(store, 1_000)
        seen += [each.command.env["JOBSERVICE_ARRAY_ITEM"] for each in claims]
        await start(store, *[each.fence for each in claims])
        await finish(store, *[end(each.fence) for each in claims])
        await settle(store)
    assert tuple(seen) == items
    assert found.array_counts == ArrayCounts(1_150, 1_150, 0, 0)


async def test_only_a_few_indices_are_made_ahead(store: Store) -> None:
    new = await opened(store, 10 * AHEAD)
    assert len(await indices(store, new)) == AHEAD
    await run_indices(store, AHEAD // 4)
    await settle(store)
    assert await counts(store, new) == ArrayCounts(AHEAD, AHEAD // 4, 0, 0)
    await run_indices(store, AHEAD // 2)
    await settle(store)
    waiting = [each for each in await indices(store, new) if each.state is State.QUEUED]
    assert len(waiting) == AHEAD


async def test_indices_that_wait_for_a_retry_hold_up_no_others(store: Store) -> None:
    new = await opened(store, 2 * AHEAD, retry=RetryPolicy(max_attempts=2))
    await run_indices(store, AHEAD, [1] * AHEAD)
    await settle(store)
    found = await indices(store, new)
    assert len(found) == 2 * AHEAD
    assert {each.state for each in found[:AHEAD]} == {State.SCHEDULED}
    assert {each.state for each in found[AHEAD:]} == {State.QUEUED}


async def test_one_fails_and_the_others_go_on(store: Store) -> None:
    new = await opened(store, 4)
    await run_indices(store, 2, [3, 0])
    await settle(store)
    assert (await job(store, new)).state is State.RUNNING
    await run_indices(store, 2, [0, 4])
    await settle(store)
    found = await job(store, new)
    assert (found.state, found.reason) == (State.FAILED, Reason.EXIT_CODE)
    assert found.message == "2 of 4 indices did not succeed: 0, 3"


async def test_too_many_failures_stop_it(store: Store) -> None:
    new = await opened(store, 6, max_failures=1)
    running = [each.fence for each in await claim(store, 3)]
    await start(store, *running)
    await finish(store, *[end(fence, 1) for fence in running[:2]])
    assert await settle(store) == running[2:]
    found = await job(store, new)
    assert (found.state, found.reason) == (State.STOPPING, Reason.POLICY)
    assert [each.state for each in await indices(store, new)] == [
        State.FAILED,
        State.FAILED,
        State.STOPPING,
        *[State.CANCELLED] * 3,
    ]
    await finish(store, end(running[2], None, signal=15))
    await settle(store)
    found = await job(store, new)
    assert (found.state, found.message) == (State.FAILED, "more than 1 index failed")


async def test_as_many_failures_as_are_allowed_do_not_stop_it(store: Store) -> None:
    new = await opened(store, 3, max_failures=1)
    await run_indices(store, 1, [1])
    await settle(store)
    assert (await job(store, new)).state is State.RUNNING


async def test_no_more_run_at_once_than_may(store: Store) -> None:
    other = ConcurrencyKey("k", 10)
    new = await opened(store, 9, max_parallel=2, concurrency_keys=(other,))
    for _ in range(4):
        claims = await claim(store, 9)
        assert len(claims) == 2
        assert await claim(store, 9) == []
        await start(store, *[each.fence for each in claims])
        await finish(store, *[end(each.fence) for each in claims])
        await settle(store)
    assert (await job(store, new)).spec.concurrency_keys == (other,)


async def test_it_is_cancelled_before_its_turn(store: Store) -> None:
    new = array(5)
    await insert(store, new)
    await cancel(store, new)
    assert (await job(store, new)).state is State.CANCELLED
    assert await claim(store) == []


async def test_a_cancel_ends_all_that_is_left_of_it(store: Store) -> None:
    new = await opened(store, 1_000_000)
    await run_indices(store, 2, [0, 1])
    [running] = await claim(store, 1)
    await start(store, running.fence)
    await cancel(store, new)
    assert (await job(store, new)).state is State.STOPPING
    assert await settle(store) == [running.fence]
    assert (await job(store, new)).state is State.STOPPING
    assert await claim(store, 10) == []
    await finish(store, end(running.fence, None, signal=15))
    await settle(store)
    found = await job(store, new)
    assert (found.state, found.reason) == (State.CANCELLED, Reason.USER)
    assert found.array_counts == ArrayCounts(AHEAD, 1, 1, AHEAD - 2)


async def test_what_ends_while_it_is_stopped_may_be_all(store: Store) -> None:
    new = await opened(store, 1)
    [running] = await claim(store, 1)
    await start(store, running.fence)
    await cancel(store, new)
    await finish(store, end(running.fence))
    await settle(store)
    assert (await job(store, new)).state is State.SUCCEEDED


async def test_its_time_is_over(store: Store) -> None:
    new = await opened(store, 3, total_timeout=at(60) - NOW)
    [running] = await claim(store, 1)
    await start(store, running.fence)
    timed_out = await store.time_out_jobs(now=at(61), limit=10)
    assert (timed_out.count, timed_out.stopping) == (1, ())
    assert await settle(store, 61) == [running.fence]
    await finish(store, end(running.fence, None, signal=15), now=at(62))
    await settle(store, 62)
    found = await job(store, new)
    assert (found.state, found.reason) == (State.FAILED, Reason.TOTAL_TIMEOUT)


async def test_a_retry_runs_again_what_did_not_succeed(store: Store) -> None:
    new = await opened(store, 4)
    await run_indices(store, 4, [0, 1, 0, 2])
    await settle(store)
    assert isinstance(await store.retry_job(key_of(new), now=at(20)), Job)
    assert (await job(store, new)).state is State.QUEUED
    await settle(store, 20)
    assert [each.state for each in await indices(store, new) if each.state in FINAL] != []
    assert await claim(store, now=at(20)) == []
    await settle(store, 20)
    again = [each.index.index for each in await indices(store, new) if each.state is State.QUEUED]  # type: ignore[union-attr]
    assert again == [1, 3]
    assert await counts(store, new) == ArrayCounts(4, 2, 0, 0)
    await run_indices(store, 2, now=20)
    await settle(store, 20)
    assert (await job(store, new)).state is State.SUCCEEDED


async def test_an_end_counts_while_others_are_still_to_be_run_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verbs, "PIECE", 2)
    new = await opened(store, 5)
    await run_indices(store, 5, [1] * 5)
    await settle(store)
    await store.retry_job(key_of(new), now=at(20))
    assert await claim(store, now=at(20)) == []
    await store.settle_arrays(("", ""), now=at(20), randomness=1)
    await run_indices(store, 2, now=20)
    await settle(store, 20)
    await run_indices(store, 3, now=20)
    await settle(store, 20)
    found = await job(store, new)
    assert (found.state, found.array_counts) == (State.SUCCEEDED, ArrayCounts(5, 5, 0, 0))


async def test_a_retry_goes_on_where_a_cancel_stopped_it(store: Store) -> None:
    new = await opened(store, AHEAD + 10)
    await run_indices(store, 5)
    await cancel(store, new)
    await settle(store)
    assert (await job(store, new)).state is State.CANCELLED
    await store.retry_job(key_of(new), now=at(20))
    assert await claim(store, now=at(20)) == []
    await settle(store, 20)
    await run_indices(store, AHEAD - 5, now=20)
    await settle(store, 20)
    await run_indices(store, 10, now=20)
    await settle(store, 20)
    found = await job(store, new)
    assert found.state is State.SUCCEEDED
    assert {each.attempt_count for each in await indices(store, new)} == {1}


async def test_a_retry_after_too_many_failures_begins_to_count_anew(store: Store) -> None:
    new = await opened(store, 3, max_failures=0)
    await run_indices(store, 1, [1])
    await settle(store)
    assert (await job(store, new)).state is State.FAILED
    await store.retry_job(key_of(new), now=at(20))
    await claim(store, now=at(20))
    await settle(store, 20)
    assert (await job(store, new)).state is State.RUNNING
    await run_indices(store, 3, now=20)
    await settle(store, 20)
    assert (await job(store, new)).state is State.SUCCEEDED


async def test_one_that_succeeded_is_not_run_again(store: Store) -> None:
    new = await opened(store, 1)
    await run_indices(store, 1)
    await settle(store)
    assert await store.retry_job(key_of(new), now=at(20)) is Refusal.WRONG_STATE


async def test_an_index_is_run_again_while_its_array_goes_on(store: Store) -> None:
    new = await opened(store, 2)
    await run_indices(store, 1, [1])
    await settle(store)
    first, _ = await indices(store, new)
    assert isinstance(await store.retry_job(key_of(first), now=at(20)), Job)
    assert await counts(store, new) == ArrayCounts(2, 0, 0, 0)
    await run_indices(store, 2, now=20)
    await settle(store, 20)
    assert (await job(store, new)).state is State.SUCCEEDED
    assert await store.retry_job(key_of(first), now=at(30)) is Refusal.WRONG_STATE


async def test_an_index_that_is_retried_before_it_was_counted(store: Store) -> None:
    new = await opened(store, 2)
    await run_indices(store, 1, [1])
    first, _ = await indices(store, new)
    assert isinstance(await store.retry_job(key_of(first), now=at(20)), Job)
    await settle(store, 20)
    assert await counts(store, new) == ArrayCounts(2, 0, 0, 0)


async def test_a_cancelled_index_fails_its_array(store: Store) -> None:
    new = await opened(store, 2)
    _, second = await indices(store, new)
    await cancel(store, second)
    await run_indices(store, 1)
    await settle(store)
    found = await job(store, new)
    assert (found.state, found.reason) == (State.FAILED, Reason.USER)
    assert found.message == "1 of 2 indices did not succeed: 1"


async def delete_all(store: Store) -> int:
    """What the collector does, until nothing is left to delete."""
    count = 0
    while found := await store.list_deletable(limit=100):
        count += sum(await store.delete_jobs([each.key for each in found], now=at(40)))
        await settle(store, 40)
    return count


async def test_a_delete_leaves_no_index(store: Store) -> None:
    new = await opened(store, 5)
    await run_indices(store, 2)
    await cancel(store, new, delete=True)
    assert await store.list_deletable(limit=10) == []
    await settle(store)
    assert await delete_all(store) == 6
    assert await store.find_job(key_of(new)) is None
    assert await indices(store, new) == []


async def test_an_index_is_not_deleted_before_it_was_counted(store: Store) -> None:
    new = await opened(store, 2)
    await run_indices(store, 1)
    first, _ = await indices(store, new)
    await cancel(store, first, delete=True)
    assert await store.list_deletable(limit=10) == []
    await settle(store)
    assert await delete_all(store) == 1
    await run_indices(store, 1)
    await settle(store)
    assert (await job(store, new)).state is State.SUCCEEDED


async def test_an_index_that_failed_and_was_deleted_is_not_named(store: Store) -> None:
    new = await opened(store, 3)
    await run_indices(store, 2, [1, 1])
    await settle(store)
    first, second, _ = await indices(store, new)
    await cancel(store, first, delete=True)
    assert await delete_all(store) == 1
    await run_indices(store, 1)
    await settle(store)
    assert (await job(store, new)).message == "2 of 3 indices did not succeed: 1 and 1 more"
    await cancel(store, second, delete=True)
    assert await delete_all(store) == 1
    await store.retry_job(key_of(new), now=at(50))
    assert await claim(store, now=at(50)) == []
    await settle(store, 50)
    found = await job(store, new)
    assert (found.state, found.message) == (State.FAILED, "2 of 3 indices did not succeed")


async def test_jobs_that_depend_on_it_wait_for_its_end(store: Store) -> None:
    new = await opened(store, 2)
    child = after(new)
    await insert(store, child)
    await run_indices(store, 1)
    await settle(store)
    assert (await job(store, child)).state is State.BLOCKED
    await run_indices(store, 1)
    await settle(store)
    assert (await job(store, child)).state is State.QUEUED


async def test_arrays_wait_for_their_turn(store: Store) -> None:
    first, second = array(2, priority=50), array(2)
    await insert(store, second)
    await insert(store, first)
    before = await insert_some(store, 1, priority=100)
    claimed = await store.claim_jobs(worker_id="w1", limit=1, lease_until=at(30), now=NOW)
    assert [each.fence.job_id for each in claimed.claims] == [before[0].job_id]
    assert not claimed.opened


async def test_no_job_behind_an_array_starts_before_its_indices(store: Store) -> None:
    [behind] = await insert_some(store, 1, priority=-1)
    await insert(store, new := array(2))
    claimed = await store.claim_jobs(worker_id="w1", limit=2, lease_until=at(30), now=NOW)
    assert (claimed.claims, claimed.opened) == ([], True)
    await settle(store)
    first, second, third = [each.fence.job_id for each in await claim(store, 3)]
    assert [first, second] == [each.job_id for each in await indices(store, new)]
    assert third == behind.job_id


async def test_no_more_arrays_are_opened_than_have_indices_to_start(store: Store) -> None:
    arrays = [array(n, priority=-n) for n in (1, 2, 3, 4)]
    await insert(store, *arrays)
    [behind] = await insert_some(store, 1, priority=-5)
    claimed = await store.claim_jobs(worker_id="w1", limit=4, lease_until=at(30), now=NOW)
    assert (claimed.claims, claimed.opened) == ([], True)
    found = [(await job(store, each)).state for each in [*arrays, behind]]
    assert found == [State.RUNNING] * 3 + [State.QUEUED] * 2


async def test_more_arrays_than_one_look_is_about(store: Store) -> None:
    arrays = [array(1) for _ in range(120)]
    await insert(store, *arrays)
    while (await store.claim_jobs(worker_id="w", limit=5, lease_until=at(30), now=NOW)).opened:
        pass
    await settle(store)
    await run_indices(store, 120)
    await settle(store)
    assert {(await job(store, each)).state for each in arrays} == {State.SUCCEEDED}


async def test_what_is_no_array_is_left_alone(store: Store) -> None:
    await ended(store, 2)
    await run(store)
    settled = await store.settle_arrays(("", ""), now=at(10), randomness=1)
    flags = settled.again, settled.queued, settled.ended, settled.deletable, settled.stopping
    assert not any(flags)
    assert await store.find_job(JobKey(TENANT, "j" + "0" * 26)) is None
