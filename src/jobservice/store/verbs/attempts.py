"""Attempts: started, prolonged, ended. Each function runs calls of one kind together.

Within the calls a fence may come twice; the second is treated as if it came later.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

from jobservice.clock import from_us, to_us
from jobservice.errors import InvalidTransition
from jobservice.model.attempt import Cause, Fence, Outcome
from jobservice.model.event import EventKind
from jobservice.model.lifecycle import FINAL, TRANSITIONS, Reason, State, Trigger
from jobservice.mutants import mutant
from jobservice.store.port import (
    AttemptEnd,
    AttemptStart,
    LeaseAnswer,
    LiveJob,
    ProgressReport,
    Settle,
    Settlement,
)
from jobservice.store.rows import retry_policy, us_or_none
from jobservice.store.verbs.ends import Ended, after_ends
from jobservice.store.verbs.keys import free, leave
from jobservice.store.verbs.transaction import EventRow, Transaction, change

_END_EVENTS = {
    Trigger.SUCCEED: EventKind.SUCCEEDED,
    Trigger.FAIL: EventKind.FAILED,
    Trigger.CANCEL: EventKind.CANCELLED,
    Trigger.RETRY_LATER: EventKind.RETRYING,
    Trigger.LOSE: EventKind.LOST,
}
_LOST_MESSAGE = "its lease ran out"

_T = TypeVar("_T")


class _Live(NamedTuple):
    """What is known of a job whose attempt is live: the columns of `find_live`."""

    state: int
    revision: int
    last_position: int
    worker_id: str
    claimed_us: int
    started_us: int | None
    failure_count: int
    lost_count: int
    delete_requested: bool
    has_children: bool
    retry: str
    keys: str
    reason: int
    message: str
    is_of_schedule: bool
    is_index: bool


# --- start ------------------------------------------------------------------------------------


async def start_attempts(
    tx: Transaction, calls: Sequence[Sequence[AttemptStart]]
) -> list[list[bool]]:
    """Record processes; a start that is recorded already is True and tells nothing."""
    starts = [start for call in calls for start in call]
    answers, rows = [False] * len(starts), []
    for n, live, first in await find_live(tx, [start.fence for start in starts]):
        answers[n] = True
        if not first or live.started_us is not None:
            continue
        fence, started_us = starts[n].fence, to_us(starts[n].started_at)
        position = tx.record(
            EventRow(
                live.last_position,
                fence.tenant,
                fence.job_id,
                live.revision + 1,
                EventKind.STARTED,
                live.state,
                live.state,
                started_us,
                fence.attempt,
            )
        )
        rows.append((fence.tenant, fence.job_id, position, started_us))
    await change(tx, "start_attempts", rows)
    return answers_by_call(calls, answers)


# --- finish -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class FinishCall:
    """One call of `finish_attempts`."""

    ends: Sequence[AttemptEnd]
    settle: Settle
    now_us: int


async def finish_attempts(
    tx: Transaction, calls: Sequence[FinishCall]
) -> list[list[Settlement | None]]:
    """Close attempts and move their jobs on."""
    ends = [(end, call) for call in calls for end in call.ends]
    settled: list[Settlement | None] = [None] * len(ends)
    jobs, attempts, left, released = [], [], [], []
    ended: dict[int, list[Ended]] = {}
    for n, live, first in await find_live(tx, [end.fence for end, _ in ends]):
        if first:
            end, call = ends[n]
            settlement = settled[n] = _settled(call.settle, end, live)
            position = _tell_end(tx, end, settlement, live, call.now_us)
            jobs.append(_job_row(end, settlement, position, call.now_us))
            attempts.append(_attempt_row(end, settlement, live))
            if live.keys and settlement.state in FINAL:
                left.append((end.fence.tenant, end.fence.job_id, live.keys))
            elif live.keys:
                released.append((end.fence.tenant, live.keys))
            if settlement.state in FINAL:
                key = end.fence.tenant, end.fence.job_id
                final = Ended(*key, settlement.state, live.has_children, live.is_of_schedule)
                ended.setdefault(call.now_us, []).append(final)
    await change(tx, "finish_attempts", jobs)
    await tx.write("insert_attempts", attempts)
    await leave(tx, left)
    await free(tx, released)
    for now_us, finals in ended.items():
        await after_ends(tx, finals, now_us)
    return answers_by_call([call.ends for call in calls], settled)


def _settled(settle: Settle, end: AttemptEnd, live: _Live) -> Settlement:
    fence, state = end.fence, State(live.state)
    settlement = settle(
        LiveJob(
            fence.tenant,
            fence.job_id,
            state,
            retry_policy(live.retry),
            live.failure_count,
            live.lost_count,
            bool(live.delete_requested),
            bool(live.has_children),
            bool(live.is_index),
            reason=Reason(live.reason),
            message=live.message,
            is_of_schedule=bool(live.is_of_schedule),
        ),
        end,
    )
    if TRANSITIONS.get((state, settlement.trigger)) is not settlement.state:
        raise InvalidTransition(state=state.name, trigger=settlement.trigger.value)
    return settlement


def _tell_end(
    tx: Transaction, end: AttemptEnd, settlement: Settlement, live: _Live, now_us: int
) -> int:
    fence, outcome = end.fence, end.outcome
    return tx.record(
        EventRow(
            live.last_position,
            fence.tenant,
            fence.job_id,
            live.revision + 1,
            _END_EVENTS[settlement.trigger],
            settlement.state,
            live.state,
            now_us,
            fence.attempt,
            settlement.reason,
            settlement.message,
            outcome.exit_code,
            outcome.signal,
            us_or_none(settlement.start_at),
        )
    )


def _job_row(
    end: AttemptEnd, settlement: Settlement, position: int, now_us: int
) -> tuple[Any, ...]:
    fence, outcome = end.fence, end.outcome
    return (
        fence.tenant,
        fence.job_id,
        position,
        settlement.state,
        settlement.reason,
        settlement.message,
        settlement.failures,
        settlement.losses,
        now_us,
        us_or_none(settlement.start_at),
        us_or_none(outcome.started_at),
        now_us if settlement.state in FINAL else None,
        outcome.exit_code,
        outcome.signal,
    )


def _attempt_row(end: AttemptEnd, settlement: Settlement, live: _Live) -> tuple[Any, ...]:
    fence, outcome = end.fence, end.outcome
    started_us = live.started_us
    if started_us is None:
        started_us = us_or_none(outcome.started_at)
    return (
        fence.tenant,
        fence.job_id,
        fence.attempt,
        settlement.attempt_state,
        live.worker_id,
        live.claimed_us,
        started_us,
        to_us(outcome.ended_at),
        outcome.exit_code,
        outcome.signal,
        settlement.reason,
        settlement.message,
        round(outcome.cpu_s * 1_000_000),
        outcome.max_rss_bytes,
        outcome.stdout_bytes,
        outcome.stderr_bytes,
        outcome.dropped_bytes,
    )


# --- leases -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class ExpireCall:
    """One call of `expire_leases`."""

    settle: Settle
    now_us: int
    limit: int


async def expire_leases(tx: Transaction, calls: Sequence[ExpireCall]) -> list[list[Fence]]:
    """End attempts whose lease is over as lost."""
    return [await _expire(tx, call) for call in calls]


async def _expire(tx: Transaction, call: ExpireCall) -> list[Fence]:
    now_us = call.now_us + (3_600_000_000 if mutant("lease.over_early") else 0)
    rows = await tx.read_all(
        "find_expired", now_us, 0 if mutant("lease.never_over") else call.limit
    )
    fences = [Fence(*row) for row in rows]
    outcome = Outcome(Cause.LOST, ended_at=from_us(call.now_us), message=_LOST_MESSAGE)
    ends = [AttemptEnd(fence, outcome) for fence in fences]
    await finish_attempts(tx, [FinishCall(ends, call.settle, call.now_us)])
    return fences


@dataclasses.dataclass(frozen=True, slots=True)
class FencesCall:
    """One call about fences, with an instant: of the call, or when the new lease is over."""

    fences: Sequence[Fence]
    at_us: int


async def unclaim_attempts(tx: Transaction, calls: Sequence[FencesCall]) -> list[list[bool]]:
    """Hand back leases of RUNNING jobs whose attempts have no process."""
    fences = [(fence, call.at_us) for call in calls for fence in call.fences]
    answers, rows, released = [False] * len(fences), [], []
    for n, live, first in await find_live(tx, [fence for fence, _ in fences]):
        if not first or live.state != State.RUNNING or live.started_us is not None:
            continue
        answers[n] = True
        fence, now_us = fences[n]
        position = tx.record(
            EventRow(
                live.last_position,
                fence.tenant,
                fence.job_id,
                live.revision + 1,
                EventKind.UNCLAIMED,
                State.QUEUED,
                State.RUNNING,
                now_us,
                fence.attempt,
            )
        )
        rows.append((fence.tenant, fence.job_id, position, now_us))
        released.append((fence.tenant, live.keys))
    await change(tx, "unclaim_attempts", rows)
    await free(tx, released)
    return answers_by_call([call.fences for call in calls], answers)


async def extend_leases(tx: Transaction, calls: Sequence[FencesCall]) -> list[list[LeaseAnswer]]:
    """Prolong leases, and tell what became of their jobs."""
    fences = [(fence, call.at_us) for call in calls for fence in call.fences]
    answers = [LeaseAnswer.REFUSED] * len(fences)
    until: dict[Fence, int] = {}
    for n, live, _ in await find_live(tx, [fence for fence, _ in fences]):
        answers[n] = LeaseAnswer.KEPT if live.state == State.RUNNING else LeaseAnswer.STOP
        fence, at_us = fences[n]
        until[fence] = at_us
    await change(
        tx,
        "extend_leases",
        [(fence.tenant, fence.job_id, at_us) for fence, at_us in until.items()],
    )
    return answers_by_call([call.fences for call in calls], answers)


# --- progress ---------------------------------------------------------------------------------


async def record_progress(
    tx: Transaction, calls: Sequence[Sequence[ProgressReport]]
) -> list[list[bool]]:
    """Keep the newest progress of live attempts."""
    reports = [report for call in calls for report in call]
    answers, rows = [False] * len(reports), []
    for n, live, _ in await find_live(tx, [report.fence for report in reports]):
        answers[n] = True
        fence, progress = reports[n].fence, reports[n].progress
        rows.append(
            (
                fence.tenant,
                fence.job_id,
                tx.next_position(),
                live.revision,
                live.state,
                fence.attempt,
                progress.percent,
                progress.step,
                us_or_none(progress.estimated_completion),
                to_us(progress.reported_at),
            )
        )
    await tx.write("record_progress", rows)
    return answers_by_call(calls, answers)


# --- common -----------------------------------------------------------------------------------


async def find_live(tx: Transaction, fences: Sequence[Fence]) -> list[tuple[int, _Live, bool]]:
    """Place, job and whether it is the first of its kind, for each fence that is not stale."""
    if mutant("fence.ignored"):
        asked = await tx.read("find_asked", [(n, *key) for n, key in enumerate(map(_key, fences))])
        fences = [Fence(*_key(fences[n]), row[5], row[6]) for n, *row in asked]
    rows = await tx.read(
        "find_live",
        [
            (n, fence.tenant, fence.job_id, fence.attempt, fence.epoch)
            for n, fence in enumerate(fences)
        ],
    )
    seen: set[tuple[str, str]] = set()
    found = []
    for n, *columns in rows:
        key = _key(fences[n])
        found.append((n, _Live._make(columns), key not in seen))
        seen.add(key)
    return found


def _key(fence: Fence) -> tuple[str, str]:
    return fence.tenant, fence.job_id


def answers_by_call(calls: Sequence[Sequence[Any]], answers: Sequence[_T]) -> list[list[_T]]:
    """Answers to all items of all calls, given back to each call."""
    ends = itertools.accumulate(len(call) for call in calls)
    return [list(answers[end - len(call) : end]) for call, end in zip(calls, ends, strict=True)]
