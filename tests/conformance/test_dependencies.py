"""Dependencies: what jobs wait for, and what the ends and retries of others make of them."""

import datetime as dt
from typing import Any

import pytest

from jobservice.model.event import EventKind
from jobservice.model.graph import Condition, OnUnmet, Rule, Verdict
from jobservice.model.job import Job
from jobservice.model.lifecycle import Reason, State
from jobservice.model.spec import RetryPolicy
from jobservice.store.port import Inserted, Insertion, RequestKey, StopRequest, Store
from jobservice.store.verbs import children
from tests.conformance.families import (
    FAILED,
    FINISHED,
    STRANGER,
    SUCCEEDED,
    after,
    cancel,
    finished,
    hold,
    kinds,
    on,
    release,
    retry,
    settled,
)
from tests.conformance.values import (
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
    seconds,
    settle,
    starts,
    states,
)

# --- insert -----------------------------------------------------------------------------------


async def test_a_job_waits_for_another_and_is_as_it_was_asked_for(store: Store) -> None:
    [parent] = await insert_some(store)
    child = after(
        on(parent, FINISHED, 3), on(parent, FAILED), rule=Rule.AT_LEAST, at_least=1,
        on_unmet=OnUnmet.FAIL,
    )  # fmt: skip
    inserted = await store.insert_jobs([child])
    arrival = inserted.arrivals[child.job_id]
    assert (arrival.state, arrival.revision) == (State.BLOCKED, 1)
    assert arrival.verdicts == (Verdict.PENDING, Verdict.PENDING)
    found = await job(store, child)
    assert found.spec == child.spec
    assert (found.state, found.verdicts) == (State.BLOCKED, arrival.verdicts)
    assert await store.find_jobs([key_of(child)]) == [found]
    assert await store.find_submitted([key_of(child)]) == [child.spec]
    assert await kinds(store, child) == [EventKind.CREATED]
    assert await claim(store, 5) != []
    assert await claim(store, 5) == []
    await settled(store)


@pytest.mark.parametrize(
    ("condition", "exit_code", "expected"),
    [
        (SUCCEEDED, 0, State.QUEUED),
        (SUCCEEDED, 1, State.SKIPPED),
        (FAILED, 0, State.SKIPPED),
        (FAILED, 1, State.QUEUED),
        (FINISHED, 0, State.QUEUED),
        (FINISHED, 1, State.QUEUED),
    ],
)
@pytest.mark.parametrize("late", [False, True])
async def test_the_end_of_a_job_decides_whenever_it_comes(
    store: Store, condition: Condition, exit_code: int, expected: State, late: bool
) -> None:
    [parent] = await insert_some(store)
    child = after(on(parent, condition))
    if late:
        await finished(store, parent, exit_code)
        inserted = await store.insert_jobs([child])
        assert inserted.arrivals[child.job_id].state is expected
    else:
        await insert(store, child)
        await finished(store, parent, exit_code)
    found = await job(store, child)
    assert found.state is expected
    if expected is State.SKIPPED:
        assert (found.reason, found.cause_job_id) == (Reason.DEPENDENCY, parent.job_id)
        assert parent.job_id in found.message
        assert found.ended_at is not None
        assert await kinds(store, child) == [EventKind.CREATED, EventKind.SKIPPED]
    else:
        first = [EventKind.CREATED] if late else [EventKind.CREATED, EventKind.UNBLOCKED]
        assert await kinds(store, child) == first
        assert [each.fence.job_id for each in await claim(store, 5)] == [child.job_id]
    await settled(store)


@pytest.mark.parametrize(
    ("on_unmet", "expected"),
    [(OnUnmet.SKIP, State.SKIPPED), (OnUnmet.FAIL, State.FAILED), (OnUnmet.HOLD, State.HELD)],
)
@pytest.mark.parametrize("late", [False, True])
async def test_what_becomes_of_a_job_that_cannot_run(
    store: Store, on_unmet: OnUnmet, expected: State, late: bool
) -> None:
    [parent] = await insert_some(store)
    child = after(parent, on_unmet=on_unmet)
    if not late:
        await insert(store, child)
    await cancel(store, parent)
    if late:
        arrival = (await store.insert_jobs([child])).arrivals[child.job_id]
        assert (arrival.state, arrival.revision) == (expected, 2)
        assert (arrival.reason, arrival.cause_job_id) == (Reason.DEPENDENCY, parent.job_id)
    found = await job(store, child)
    assert (found.state, found.reason) == (expected, Reason.DEPENDENCY)
    assert found.cause_job_id == parent.job_id
    assert await claim(store, 5) == []
    await settled(store)


async def test_a_job_that_nobody_knows_is_named(store: Store) -> None:
    [parent] = await insert_some(store)
    theirs = new_job("other")
    await insert(store, theirs)
    bad = after(parent, STRANGER, theirs)
    good = new_job()
    answer = await store.insert_jobs([good, bad], request=RequestKey("r", b""))
    assert answer == Inserted(Insertion.NO_PARENT, (), missing=((1, 1), (1, 2)))
    assert set(await states(store)) == {parent.job_id}
    again = await store.insert_jobs([good], request=RequestKey("r", b""))
    assert again.insertion is Insertion.CREATED


async def test_what_is_only_checked_is_answered_and_not_stored(store: Store) -> None:
    [parent] = await ended(store)
    before = len(await changes(store))
    child = after(parent.job_id)
    answer = await store.insert_jobs([child], validate_only=True)
    assert answer.arrivals[child.job_id].state is State.QUEUED
    refused = await store.insert_jobs([after(STRANGER)], validate_only=True)
    assert refused.insertion is Insertion.NO_PARENT
    assert set(await states(store)) == {parent.job_id}
    assert len(await changes(store)) == before
    await insert(store, child)


@pytest.mark.parametrize("exit_code", [0, 1])
async def test_a_deleted_job_counts_as_it_ended(store: Store, exit_code: int) -> None:
    """A purged parent is answered from what was recorded of it."""
    [parent] = await ended(store, exit_code=exit_code)
    await cancel(store, parent, delete=True)
    assert await store.delete_jobs([key_of(parent)], now=at(12)) == [True]
    child, failed = after(on(parent)), after(on(parent, FAILED, 5))
    answer = await store.insert_jobs([child, failed])
    expected = [State.QUEUED, State.SKIPPED] if exit_code == 0 else [State.SKIPPED, State.SCHEDULED]
    assert [answer.arrivals[each.job_id].state for each in (child, failed)] == expected
    if exit_code:
        assert (await job(store, failed)).start_at == at(17)
        assert (await job(store, child)).cause_job_id == parent.job_id
    await settled(store)
    await store.forget(before=at(1000), limit=100)
    answer = await store.insert_jobs([after(on(parent))])
    assert answer.insertion is Insertion.NO_PARENT


async def test_jobs_of_one_call_depend_on_each_other(store: Store) -> None:
    """The order in the call does not matter, and what is decided goes down at once."""
    [failed] = await ended(store, exit_code=1)
    root = new_job()
    middle = after(root)
    lost = after(failed.job_id)
    below, last, instead = after(lost), after(middle, root), after(on(lost, FINISHED))
    answer = await store.insert_jobs([last, below, instead, lost, middle, root])
    assert await states(store) == {
        failed.job_id: State.FAILED, root.job_id: State.QUEUED, middle.job_id: State.BLOCKED,
        last.job_id: State.BLOCKED, lost.job_id: State.SKIPPED, below.job_id: State.SKIPPED,
        instead.job_id: State.QUEUED,
    }  # fmt: skip
    assert answer.arrivals[below.job_id].cause_job_id == failed.job_id
    await cancel(store, instead)
    await finished(store, root)
    await finished(store, middle)
    await finished(store, last)
    await settled(store)


# --- rules ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "at_least", "ends", "after_each"),
    [
        (Rule.ALL, 0, [0, 0, 0], "BBQ"),
        (Rule.ALL, 0, [0, 1, 0], "BSS"),
        (Rule.ANY, 0, [1, 0, 1], "BQQ"),
        (Rule.ANY, 0, [1, 1, 1], "BBS"),
        (Rule.AT_LEAST, 2, [0, 1, 0], "BBQ"),
        (Rule.AT_LEAST, 2, [1, 1, 0], "BSS"),
        (Rule.AT_LEAST, 2, [0, 0, 1], "BQQ"),
        (Rule.ALWAYS, 0, [1, 0, 1], "BBQ"),
    ],
)
async def test_a_rule_is_decided_as_soon_as_it_can_be(
    store: Store, rule: Rule, at_least: int, ends: list[int], after_each: str
) -> None:
    parents = await insert_some(store, 3)
    child = after(*parents, rule=rule, at_least=at_least, priority=-100)
    await insert(store, child)
    seen = ""
    for parent, exit_code in zip(parents, ends, strict=True):
        await finished(store, parent, exit_code)
        seen += (await job(store, child)).state.name[0]
    assert seen == after_each
    await settled(store)


async def test_ends_that_are_told_together_are_counted_together(store: Store) -> None:
    fences = await run(store, 3)
    child = after(*[each.job_id for each in fences])
    await insert(store, child)
    await finish(store, *[end(each) for each in fences])
    assert (await job(store, child)).verdicts == (Verdict.MET,) * 3
    assert (await job(store, child)).state is State.QUEUED
    await settled(store)


async def test_a_diamond_runs_its_end_once(store: Store) -> None:
    [top] = await insert_some(store)
    left, right = after(top), after(top)
    bottom = after(left, right)
    await insert(store, left, right, bottom)
    await finished(store, top)
    await finished(store, left)
    assert (await job(store, bottom)).state is State.BLOCKED
    await finished(store, right)
    assert (await job(store, bottom)).state is State.QUEUED
    assert (await kinds(store, bottom)).count(EventKind.UNBLOCKED) == 1
    await settled(store)


async def test_an_attempt_that_is_tried_again_is_no_end(store: Store) -> None:
    [parent] = await insert_some(store)
    child = after(on(parent, FINISHED))
    await insert(store, child)
    [claimed] = await claim(store)
    await store.unclaim_attempts([claimed.fence], now=at(2))
    [claimed] = await claim(store)
    await store.expire_leases(settle, now=at(1000), limit=10)
    assert (await job(store, parent)).state is State.QUEUED
    assert (await job(store, child)).state is State.BLOCKED
    await settled(store)


# --- delays -----------------------------------------------------------------------------------


async def test_a_delay_counts_from_the_end(store: Store) -> None:
    parents = await insert_some(store, 2)
    child = after(on(parents[0], delay_s=60), on(parents[1], delay_s=5))
    await insert(store, child)
    await finished(store, parents[0], now=10)
    await finished(store, parents[1], now=20)
    found = await job(store, child)
    assert (found.state, found.start_at) == (State.SCHEDULED, at(70))
    event = (await changes(store))[-1].event
    assert (event.kind, event.start_at) == (EventKind.UNBLOCKED, at(70))
    assert await store.next_due_at() == at(70)
    assert await store.release_due(now=at(69), limit=9) == 0
    assert await store.release_due(now=at(70), limit=9) == 1
    assert (await job(store, child)).state is State.QUEUED
    late = after(on(parents[0], delay_s=60), created_at=at(500))
    await insert(store, late)
    assert (await job(store, late)).state is State.QUEUED
    await settled(store)


async def test_as_many_as_it_takes_have_to_be_ready(store: Store) -> None:
    fences = await run(store, 3)
    slow, quick, other = (on(each, delay_s=n) for each, n in zip(fences, (90, 2, 40), strict=True))
    either = after(slow, quick, other, rule=Rule.ANY)
    two = after(slow, quick, other, rule=Rule.AT_LEAST, at_least=2)
    always = after(on(fences[0], FAILED, 7), quick, rule=Rule.ALWAYS)
    await insert(store, either, two, always)
    await finish(store, *[end(each) for each in fences], now=at(10))
    starts = [(await job(store, each)).start_at for each in (either, two, always)]
    assert starts == [at(12), at(50), at(17)]
    await settled(store)


async def test_a_later_end_brings_the_start_forward(store: Store) -> None:
    """To an earlier instant, to now, and never back; whoever watches hears of it."""
    slow, middle, quick = await run(store, 3)
    delays = on(slow, delay_s=300), on(middle, delay_s=60), on(quick, FAILED)
    either = after(*delays, rule=Rule.ANY)
    two = after(*delays, rule=Rule.AT_LEAST, at_least=2)
    every = after(*delays[:2])
    await insert(store, either, two, every)
    await finish(store, end(slow), now=at(10))
    assert await starts(store, either, two, every) == [at(310), None, None]
    await finish(store, end(middle), now=at(20))
    assert await starts(store, either, two, every) == [at(80), at(310), at(310)]
    assert await store.next_due_at() == at(80)
    [told] = [c.event for c in await changes(store) if c.event.kind is EventKind.UPDATED]
    assert (told.job_id, told.state, told.start_at) == (either.job_id, State.SCHEDULED, at(80))
    await finish(store, end(quick, 1), now=at(30))
    assert await starts(store, either, two, every) == [None, at(80), at(310)]
    assert (await job(store, either)).state is State.QUEUED
    assert await kinds(store, either) == [
        EventKind.CREATED, EventKind.UNBLOCKED, EventKind.UPDATED, EventKind.DUE,
    ]  # fmt: skip
    assert (await job(store, two)).verdicts == (Verdict.MET,) * 3
    await retry(store, middle, now=40)
    assert await starts(store, two) == [at(80)]
    await settled(store)
    assert await store.release_due(now=at(80), limit=9) == 1
    assert [each.fence.job_id for each in await claim(store, 5, now=at(80))] == [
        either.job_id, middle.job_id, two.job_id,
    ]  # fmt: skip


async def test_an_end_that_lets_it_start_no_earlier_changes_nothing(store: Store) -> None:
    first, second, third = await run(store, 3)
    child = after(on(first, delay_s=60), on(second, FAILED), on(third, delay_s=50), rule=Rule.ANY)
    await insert(store, child)
    await finish(store, end(first), now=at(10))
    before = await job(store, child)
    await finish(store, end(second), now=at(11))
    await finish(store, end(third), now=at(30))
    found = await job(store, child)
    assert (found.start_at, found.revision) == (at(70), before.revision)
    assert found.verdicts == (Verdict.MET, Verdict.UNMET, Verdict.MET)
    await settled(store)


@pytest.mark.parametrize("rounds", [1, children.MOST_ROUNDS])
async def test_ends_of_one_cascade_are_taken_together(
    store: Store, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ends for the end of another is told a round later, perhaps in another transaction."""
    monkeypatch.setattr(children, "MOST_ROUNDS", rounds)
    [parent] = await run(store)
    skipped = after(on(parent, FAILED))
    child = after(on(parent, delay_s=60), on(skipped, FINISHED), rule=Rule.ANY)
    soon = after(on(parent, delay_s=60), on(skipped, FINISHED, 5), rule=Rule.ANY)
    await insert(store, skipped, child, soon)
    await finish(store, end(parent), now=at(10))
    if rounds == 1:
        assert await starts(store, child, soon) == [at(70), at(70)]
        assert await store.settle_children(now=at(12), limit=10) == 1
    assert (await job(store, child)).state is State.QUEUED
    assert await starts(store, soon) == [at(15)]
    await settled(store)


async def test_a_job_made_behind_a_delay_is_brought_forward_too(store: Store) -> None:
    """Whatever has become of the job that it has the delay of."""
    ended_before, other = await run(store, 2)
    await finish(store, end(ended_before), now=at(10))
    child = after(on(ended_before, delay_s=60), other.job_id, rule=Rule.ANY, created_at=at(20))
    answer = await store.insert_jobs([child])
    assert answer.arrivals[child.job_id].start_at == at(70)
    await cancel(store, ended_before, delete=True, now=21)
    assert await store.delete_jobs([key_of(ended_before)], now=at(21)) == [True]
    await finish(store, end(other), now=at(30))
    assert (await job(store, child)).state is State.QUEUED
    await settled(store)


@pytest.mark.parametrize("own", [{"start_after": at(40)}, {"start_delay": seconds(40)}])
async def test_a_job_is_not_brought_before_its_own_start(store: Store, own: Any) -> None:
    slow, quick = await run(store, 2)
    child = after(on(slow, delay_s=300), quick.job_id, rule=Rule.ANY, **own)
    await insert(store, child)
    await finish(store, end(slow), now=at(10))
    await finish(store, end(quick), now=at(20))
    found = await job(store, child)
    assert (found.state, found.start_at) == (State.SCHEDULED, at(40))
    await settled(store)


@pytest.mark.parametrize("change", ["hold", "edit", "retry", "backoff"])
async def test_what_was_changed_by_others_is_not_brought_forward(store: Store, change: str) -> None:
    slow, quick = await run(store, 2)
    child = after(
        on(slow, delay_s=90), quick.job_id, rule=Rule.ANY, retry=RetryPolicy(max_attempts=3)
    )
    await insert(store, child)
    await finish(store, end(slow), now=at(10))
    expected: tuple[State, dt.datetime | None] = State.SCHEDULED, at(100)
    now = 20
    match change:
        case "hold":
            await hold(store, child)
            await release(store, child, now=11)
        case "edit":
            edits, expected = {"start_after": at(200)}, (State.SCHEDULED, at(200))
            edited = await store.update_job(key_of(child), edits, edit_version=None, now=at(11))
            assert isinstance(edited, Job)
        case "retry":
            await cancel(store, child, now=11)
            await retry(store, child, now=12)
            expected = State.QUEUED, None
        case _:
            await store.release_due(now=at(100), limit=9)
            [claimed] = await claim(store, now=at(101))
            await finish(store, end(claimed.fence, 1, ended_at=at(150)), now=at(102))
            expected, now = (State.SCHEDULED, at(151)), 103
    await finish(store, end(quick), now=at(now))
    found = await job(store, child)
    assert (found.state, found.start_at) == expected
    await settled(store)


async def test_other_edits_leave_the_start_to_the_jobs_it_depends_on(store: Store) -> None:
    slow, quick = await run(store, 2)
    child = after(on(slow, delay_s=90), quick.job_id, rule=Rule.ANY)
    await insert(store, child)
    await finish(store, end(slow), now=at(10))
    await store.update_job(key_of(child), {"priority": 5}, edit_version=None, now=at(11))
    await finish(store, end(quick), now=at(20))
    assert (await job(store, child)).state is State.QUEUED
    await settled(store)


async def test_an_unblocked_job_stands_behind_those_that_waited_in_the_queue(store: Store) -> None:
    [parent] = await insert_some(store)
    child = after(parent)
    await insert(store, child)
    earlier = new_job(created_at=at(9))
    await insert(store, earlier)
    later = new_job(created_at=at(11))
    await finished(store, parent, now=10)
    await insert(store, later)
    assert [each.fence.job_id for each in await claim(store, 3)] == [
        earlier.job_id, child.job_id, later.job_id,
    ]  # fmt: skip


# --- chains -----------------------------------------------------------------------------------


async def test_the_first_cause_is_carried_down(store: Store) -> None:
    [root] = await insert_some(store)
    first = after(root)
    second = after(first, on_unmet=OnUnmet.FAIL)
    third = after(second)
    fourth = after(on(third, FINISHED))
    await insert(store, first, second, third, fourth)
    await finished(store, root, 1)
    found = [await job(store, each) for each in (first, second, third, fourth)]
    assert [each.state for each in found] == [
        State.SKIPPED, State.FAILED, State.SKIPPED, State.QUEUED,
    ]  # fmt: skip
    assert [each.cause_job_id for each in found] == [root.job_id] * 3 + [""]
    assert all(root.job_id in each.message for each in found[:3])
    await settled(store)


@pytest.mark.slow
async def test_a_long_chain_is_skipped_in_bounded_pieces(store: Store) -> None:
    chain = [new_job(priority=100)]
    for _ in range(300):
        chain.append(after(chain[-1]))
    await insert(store, *chain)
    await finished(store, chain[0], 1)
    skipped = list((await states(store)).values()).count(State.SKIPPED)
    assert 0 < skipped < 300
    await settled(store)
    assert list((await states(store)).values()).count(State.SKIPPED) == 300
    assert (await job(store, chain[-1])).cause_job_id == chain[0].job_id
    await retry(store, chain[0])
    await settled(store)
    assert list((await states(store)).values()).count(State.BLOCKED) == 300


@pytest.mark.slow
async def test_many_children_are_told_in_bounded_pieces(store: Store) -> None:
    [parent] = await insert_some(store)
    for _ in range(3):
        await insert(store, *[after(parent) for _ in range(900)])
    await finished(store, parent)
    queued = list((await states(store)).values()).count(State.QUEUED)
    assert 900 <= queued < 2700
    assert await store.settle_children(now=at(11), limit=10) == 1
    assert list((await states(store)).values()).count(State.QUEUED) > queued
    stop = StopRequest(parent.tenant, parent.job_id, delete=True)
    await store.request_stop([stop], now=at(12))
    assert await store.delete_jobs([key_of(parent)], now=at(12)) == [False]
    while await store.settle_children(now=at(13), limit=10):
        pass
    assert list((await states(store)).values()).count(State.QUEUED) == 2700
    assert await store.delete_jobs([key_of(parent)], now=at(14)) == [True]
