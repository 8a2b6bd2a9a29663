"""What must hold of a store at every instant, checked through the port alone.

To be called while nothing writes, after each step of a randomised test: the checks read the store
several times and compare what they read. Jobs that depend on others must have been told of all ends
(`settle_children`).
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence

from jobservice.model.event import Change, Event, EventKind
from jobservice.model.graph import Verdict, needed, rule_verdict, verdict
from jobservice.model.job import AttemptState, Job
from jobservice.model.lifecycle import FINAL, LIVE, TRANSITIONS, Reason, State, Trigger
from jobservice.store.port import JobKey, JobQuery, Order, Store

PAGE = 1_000
LIVE_ATTEMPTS = frozenset({AttemptState.STARTING, AttemptState.RUNNING})

_KINDS = {
    EventKind.DUE: {Trigger.DUE},
    EventKind.CLAIMED: {Trigger.CLAIM},
    EventKind.OPENED: {Trigger.OPEN},
    EventKind.UNCLAIMED: {Trigger.UNCLAIM},
    EventKind.RETRYING: {Trigger.RETRY_LATER},
    EventKind.LOST: {Trigger.LOSE},
    EventKind.STOPPING: {Trigger.STOP},
    EventKind.SUCCEEDED: {Trigger.SUCCEED},
    EventKind.FAILED: {Trigger.FAIL},
    EventKind.CANCELLED: {Trigger.CANCEL},
    EventKind.RETRIED: {Trigger.REVIVE},
    EventKind.HELD: {Trigger.HOLD},
    EventKind.RELEASED: {
        Trigger.RELEASE_TO_BLOCKED,
        Trigger.RELEASE_TO_SCHEDULED,
        Trigger.RELEASE_TO_QUEUED,
    },
    EventKind.SKIPPED: {Trigger.SKIP},
    EventKind.UNBLOCKED: {Trigger.UNBLOCK, Trigger.UNBLOCK_LATER},
    EventKind.REOPENED: {Trigger.REOPEN, Trigger.RELEASE_TO_BLOCKED},
}
"""What each kind of event that changes a state may stand for."""
_STILL = {EventKind.STARTED, EventKind.UPDATED, EventKind.MOVED}
"""Kinds that leave the state as it is."""
OUTSIDE = {EventKind.PROGRESS, EventKind.DELETED}
"""Kinds that use no revision."""


async def check_invariants(
    store: Store, *, beginning: str, tenants: Sequence[str] = ("default",)
) -> None:
    """Fail where a promise is broken.

    Args:
        store: While nothing writes to it.
        beginning: The `head_position` of the store when it was empty; nothing was forgotten since.
        tenants: All that have jobs.

    Raises:
        AssertionError: naming the job and what is wrong with it.
    """
    jobs = {(job.tenant, job.job_id): job for job in await _all_jobs(store, tenants)}
    events = await _all_events(store, beginning)
    told: dict[tuple[str, str], list[Event]] = {}
    for event in events:
        told.setdefault((event.tenant, event.job_id), []).append(event)
    deleted = {(event.tenant, event.job_id) for event in events if event.kind is EventKind.DELETED}
    assert jobs.keys() == told.keys() - deleted, "a job without events, or events without a job"
    for (tenant, job_id), listed in jobs.items():
        job = await store.find_job(JobKey(tenant, job_id))
        assert job is not None, f"{job_id} is in a list and cannot be found"
        assert job.state is listed.state, (
            f"{job_id} is {listed.state!r} in a list and {job.state!r}"
        )
        check_job(job, told[tenant, job_id])
        check_dependencies(job)
        _check_verdicts(job, jobs)
    check_arrays(jobs.values())


def check_job(job: Job, events: Sequence[Event]) -> None:
    """Fail where a job does not agree with itself or with its events.

    Raises:
        AssertionError: naming the job and what is wrong with it.
    """
    _check_history(job, [event for event in events if event.kind not in OUTSIDE])
    _check_attempts(job)
    final = job.state in FINAL
    assert (job.ended_at is not None) == final, f"{job.job_id} is {job.state!r}: {job.ended_at=}"
    assert job.state is State.QUEUED or not job.blocked_key, (
        f"{job.job_id} is {job.state!r} and parked for {job.blocked_key}"
    )
    scheduled, may_be = job.state is State.SCHEDULED, {State.BLOCKED, State.HELD}
    assert (job.start_at is not None) == scheduled or job.state in may_be, (
        f"{job.job_id} is {job.state!r}: {job.start_at=}"
    )


def check_arrays(jobs: Iterable[Job]) -> None:
    """Fail where an array does not agree with its indices.

    Raises:
        AssertionError: naming the array and what is wrong with it.
    """
    arrays: dict[str, list[Job]] = {}
    for job in jobs:
        if job.spec.array is not None:
            arrays.setdefault(job.job_id, []).insert(0, job)
        elif job.index is not None:
            arrays.setdefault(job.index.array_job_id, []).append(job)
    for array_id, [array, *indices] in arrays.items():
        assert array.job_id == array_id, f"{array.job_id} outlives its array {array_id}"
        assert array.spec.array is not None
        assert array.array_counts is not None
        counts, size = array.array_counts, array.spec.array.size
        numbers = [each.index.index for each in indices if each.index is not None]
        assert len(set(numbers)) == len(numbers), f"{array_id} has an index twice: {numbers}"
        assert all(number < counts.made for number in numbers), f"{array_id}: {counts}, {numbers}"
        assert counts.ended <= counts.made <= size, f"{array_id} of {size}: {counts}"
        active = [each.job_id for each in indices if each.state not in FINAL]
        assert len(active) <= counts.active, f"{array_id}: {counts} with the active {active}"
        if array.state in FINAL:
            assert not counts.active, f"{array_id} is {array.state!r}: {counts}"
        succeeded = array.state is State.SUCCEEDED
        assert not succeeded or counts.succeeded == size, f"{array_id} succeeded: {counts}"


def check_dependencies(job: Job) -> None:
    """Fail where the state of a job does not agree with the verdicts of its dependencies.

    Raises:
        AssertionError: naming the job and what is wrong with it.
    """
    spec, policy = job.spec, job.spec.dependency_policy
    assert len(job.verdicts) == len(spec.dependencies), f"{job.job_id}: {job.verdicts}"
    by_dependency = job.reason is Reason.DEPENDENCY
    assert (job.cause_job_id != "") == by_dependency, f"{job.job_id}: {job.cause_job_id!r}"
    if not spec.dependencies:
        assert job.state is not State.BLOCKED, f"{job.job_id} waits for no job"
        return
    total, met = len(job.verdicts), job.verdicts.count(Verdict.MET)
    need = needed(policy.rule, policy.at_least, total)
    found = rule_verdict(policy.rule, need, total, met, job.verdicts.count(Verdict.UNMET))
    if job.state is State.BLOCKED:
        assert found is Verdict.PENDING, f"{job.job_id} is BLOCKED, though decided: {job.verdicts}"
    if by_dependency and not job.delete_requested:  # else it is not opened again
        assert found is Verdict.UNMET, f"{job.job_id} is {job.state!r}: {job.verdicts}"


def _check_verdicts(job: Job, jobs: Mapping[tuple[str, str], Job]) -> None:
    """While they decide over a job, its verdicts follow from where the others are."""
    if job.state is not State.BLOCKED and job.reason is not Reason.DEPENDENCY:
        return
    if job.state is State.FAILED:  # for good
        return
    for each, found in zip(job.spec.dependencies, job.verdicts, strict=True):
        parent = jobs.get((job.tenant, each.job_id))
        if parent is not None:
            expected = verdict(each.condition, parent.state)
            assert found is expected, f"{job.job_id} has {found!r} of {parent.job_id}, {expected!r}"


def _check_history(job: Job, events: Sequence[Event]) -> None:
    """The events replay to the state, without a gap, along moves of the table."""
    revisions = [event.revision for event in events]
    assert revisions == list(range(1, len(events) + 1)), f"{job.job_id} has a gap: {revisions}"
    first, last = events[0], events[-1]
    assert (first.kind, first.previous_state) == (EventKind.CREATED, None), f"{first}"
    for before, after in itertools.pairwise(events):
        assert after.previous_state is before.state, f"{before} is not followed by {after}"
        _check_move(after)
    assert (last.state, last.revision) == (job.state, job.revision), f"{last} is not {job}"


def _check_move(event: Event) -> None:
    assert event.previous_state is not None, f"{event}"
    assert is_move(event.kind, event.previous_state, event.state), (
        f"{event} is no move of the table"
    )


def is_move(kind: EventKind, source: State, target: State) -> bool:
    """Whether an event of a kind may lead from one state to another, by the table."""
    if kind in _STILL:
        return source is target
    return target in [TRANSITIONS.get((source, each)) for each in _KINDS.get(kind, ())]


def _check_attempts(job: Job) -> None:
    """They are numbered through, and exactly a live job has exactly one that lives: the newest."""
    numbers = [attempt.attempt for attempt in job.attempts]
    assert numbers == list(range(1, job.attempt_count + 1)), f"{job.job_id} has attempts {numbers}"
    live = [attempt for attempt in job.attempts if attempt.state in LIVE_ATTEMPTS]
    runs = job.state in LIVE and job.spec.array is None
    newest = list(job.attempts[-1:]) if runs else []
    assert live == newest, f"{job.job_id} is {job.state!r} with the live attempts {live}"
    for attempt in job.attempts:
        ended = attempt.state not in LIVE_ATTEMPTS
        assert (attempt.ended_at is not None) == ended, f"{job.job_id}: {attempt}"


async def _all_jobs(store: Store, tenants: Iterable[str]) -> list[Job]:
    jobs: list[Job] = []
    for tenant in tenants:
        query, cursor = JobQuery(tenant, Order.CREATED_ASC, frozenset(State)), None
        while True:
            page = await store.list_jobs(query, limit=PAGE, cursor=cursor)
            jobs += page.jobs
            cursor = page.cursor
            if cursor is None:
                break
    return jobs


async def _all_events(store: Store, beginning: str) -> list[Event]:
    changes: list[Change] = []
    position = beginning
    while True:
        page = await store.list_changes(position, limit=PAGE)
        if not page.changes:
            break
        changes += page.changes
        position = page.position
    positions = [change.position for change in changes]
    assert len(set(positions)) == len(positions), "a position was given twice"
    return [change.event for change in changes]
