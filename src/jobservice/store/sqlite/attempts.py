"""Attempts: claimed, started, prolonged, ended. Each function runs calls of one kind together.

A fence is checked against the job: its newest attempt and lease are the live ones while the job is
RUNNING or STOPPING. Within a call a fence may come twice; the second is treated as if it came later.
"""

import dataclasses
import datetime as dt
import itertools
from collections.abc import Sequence
from typing import Any, TypeVar

from jobservice.clock import from_us, to_us
from jobservice.errors import InvalidTransition
from jobservice.model.attempt import Cause, Fence, Outcome
from jobservice.model.event import EventKind
from jobservice.model.job import AttemptState
from jobservice.model.lifecycle import FINAL, TRANSITIONS, State, Trigger
from jobservice.store.port import (
    AttemptEnd,
    AttemptStart,
    Claim,
    LeaseAnswer,
    LiveJob,
    ProgressReport,
    Settle,
    Settlement,
)
from jobservice.store.rows import (
    command_of,
    fence_of,
    retry_policy,
    span_or_none,
    us_or_none,
)
from jobservice.store.sqlfile import Query
from jobservice.store.sqlite.queries import QUERIES
from jobservice.store.sqlite.transaction import EventRow, Transaction

_END_EVENTS = {
    Trigger.SUCCEED: EventKind.SUCCEEDED,
    Trigger.FAIL: EventKind.FAILED,
    Trigger.CANCEL: EventKind.CANCELLED,
    Trigger.RETRY_LATER: EventKind.RETRYING,
    Trigger.LOSE: EventKind.LOST,
}
_LOST_MESSAGE = "its lease ran out"

_T = TypeVar("_T")


# --- claim ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class ClaimCall:
    """One call of `claim_jobs`."""

    worker_id: str
    limit: int
    lease_until_us: int
    now_us: int


def claim_jobs(tx: Transaction, calls: Sequence[ClaimCall]) -> list[list[Claim]]:
    """Lease jobs to each caller in turn."""
    return [_claim(tx, call) for call in calls]


def _claim(tx: Transaction, call: ClaimCall) -> list[Claim]:
    found = tx.read_all(QUERIES["find_claimable"], call.limit)
    now_us, lease_us, worker_id = call.now_us, call.lease_until_us, call.worker_id
    tx.change(QUERIES["claim_jobs"], [(row[0], row[1], now_us) for row in found])
    tx.write(QUERIES["insert_attempts"], [
        (row[0], row[1], row[2] + 1, row[3] + 1, worker_id, lease_us, now_us) for row in found
    ])
    for row in found:
        tx.record(EventRow(
            row[0], row[1], row[4] + 1, EventKind.CLAIMED, State.RUNNING, State.QUEUED, now_us,
            row[2] + 1,
        ))
    return [_claim_of(row) for row in found]


def _claim_of(row: Sequence[Any]) -> Claim:
    (
        tenant, job_id, attempt_count, epoch, _, timeout_us, stop_grace_us, output_limit_bytes,
        argv, work_dir, env, stdin,
    ) = row
    return Claim(
        fence=Fence(tenant, job_id, attempt_count + 1, epoch + 1),
        command=command_of(argv, work_dir, env, bytes.fromhex(stdin)),
        timeout=span_or_none(timeout_us),
        stop_grace=dt.timedelta(microseconds=stop_grace_us),
        output_limit_bytes=output_limit_bytes,
    )


# --- start ------------------------------------------------------------------------------------


def start_attempts(
    tx: Transaction, calls: Sequence[Sequence[AttemptStart]]
) -> list[list[bool]]:
    """Record processes; a start that is recorded already is True and tells nothing."""
    starts = [start for call in calls for start in call]
    live = _live(tx, QUERIES["find_live_attempts"], [start.fence for start in starts])
    attempts, jobs, seen = [], [], set()
    for n, start in enumerate(starts):
        fence, row = start.fence, live.get(n)
        if row is None or row[2] != AttemptState.STARTING or fence in seen:
            continue
        seen.add(fence)
        state, revision, _ = row
        started_us = to_us(start.started_at)
        attempts.append((fence.tenant, fence.job_id, fence.attempt, fence.epoch, started_us))
        jobs.append((fence.tenant, fence.job_id, started_us))
        tx.record(EventRow(
            fence.tenant, fence.job_id, revision + 1, EventKind.STARTED, state, state,
            started_us, fence.attempt,
        ))
    tx.change(QUERIES["start_attempts"], attempts)
    tx.change(QUERIES["note_start"], jobs)
    return _by_call(calls, [n in live for n in range(len(starts))])


# --- finish -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class FinishCall:
    """One call of `finish_attempts`."""

    ends: Sequence[AttemptEnd]
    settle: Settle
    now_us: int


def finish_attempts(
    tx: Transaction, calls: Sequence[FinishCall]
) -> list[list[Settlement | None]]:
    """Close attempts and move their jobs on."""
    ends = [end for call in calls for end in call.ends]
    context = [(call.settle, call.now_us) for call in calls for _ in call.ends]
    live = _live(tx, QUERIES["find_live"], [end.fence for end in ends])
    settled: list[Settlement | None] = [None] * len(ends)
    attempts, jobs, seen = [], [], set()
    for n, row in live.items():
        end, (settle, now_us) = ends[n], context[n]
        if end.fence in seen:
            continue
        seen.add(end.fence)
        settlement = settled[n] = _settled(settle, end, row)
        attempts.append(_attempt_row(end, settlement))
        jobs.append(_job_row(end, settlement, now_us))
        _tell_end(tx, end, settlement, row, now_us)
    tx.change(QUERIES["finish_attempts"], attempts)
    tx.change(QUERIES["settle_jobs"], jobs)
    return _by_call([call.ends for call in calls], settled)


def _settled(settle: Settle, end: AttemptEnd, row: Sequence[Any]) -> Settlement:
    state, _, failure_count, lost_count, delete_requested, retry = row
    fence = end.fence
    live = LiveJob(
        fence.tenant, fence.job_id, State(state), retry_policy(retry), failure_count, lost_count,
        bool(delete_requested),
    )
    settlement = settle(live, end)
    if TRANSITIONS.get((live.state, settlement.trigger)) is not settlement.state:
        raise InvalidTransition(state=live.state.name, trigger=settlement.trigger.value)
    return settlement


def _attempt_row(end: AttemptEnd, settlement: Settlement) -> tuple[Any, ...]:
    fence, outcome = end.fence, end.outcome
    return (
        fence.tenant, fence.job_id, fence.attempt, fence.epoch, settlement.attempt_state,
        settlement.reason, settlement.message, us_or_none(outcome.started_at),
        to_us(outcome.ended_at), outcome.exit_code, outcome.signal,
        round(outcome.cpu_s * 1_000_000), outcome.max_rss_bytes, outcome.stdout_bytes,
        outcome.stderr_bytes, outcome.dropped_bytes,
    )


def _job_row(end: AttemptEnd, settlement: Settlement, now_us: int) -> tuple[Any, ...]:
    fence, outcome = end.fence, end.outcome
    return (
        fence.tenant, fence.job_id, settlement.state, settlement.reason, settlement.message,
        settlement.failures, settlement.losses, now_us, us_or_none(settlement.start_at),
        us_or_none(outcome.started_at), now_us if settlement.state in FINAL else None,
        outcome.exit_code, outcome.signal,
    )


def _tell_end(
    tx: Transaction, end: AttemptEnd, settlement: Settlement, row: Sequence[Any], now_us: int
) -> None:
    fence, outcome = end.fence, end.outcome
    tx.record(EventRow(
        fence.tenant, fence.job_id, row[1] + 1, _END_EVENTS[settlement.trigger],
        settlement.state, row[0], now_us, fence.attempt, settlement.reason, settlement.message,
        outcome.exit_code, outcome.signal, us_or_none(settlement.start_at),
    ))


# --- leases -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class ExpireCall:
    """One call of `expire_leases`."""

    settle: Settle
    now_us: int
    limit: int


def expire_leases(tx: Transaction, calls: Sequence[ExpireCall]) -> list[list[Fence]]:
    """End attempts whose lease is over as lost."""
    return [_expire(tx, call) for call in calls]


def _expire(tx: Transaction, call: ExpireCall) -> list[Fence]:
    rows = tx.read_all(QUERIES["find_expired"], call.now_us, call.limit)
    fences = [fence_of(row) for row in rows]
    outcome = Outcome(Cause.LOST, ended_at=from_us(call.now_us), message=_LOST_MESSAGE)
    ends = [AttemptEnd(fence, outcome) for fence in fences]
    finish_attempts(tx, [FinishCall(ends, call.settle, call.now_us)])
    return fences


@dataclasses.dataclass(frozen=True, slots=True)
class FencesCall:
    """One call about fences, with an instant: of the call, or when the new lease is over."""

    fences: Sequence[Fence]
    at_us: int


def unclaim_attempts(tx: Transaction, calls: Sequence[FencesCall]) -> list[list[bool]]:
    """Hand back leases of RUNNING jobs whose attempts have no process."""
    fences = [(fence, call.at_us) for call in calls for fence in call.fences]
    live = _live(tx, QUERIES["find_live_attempts"], [fence for fence, _ in fences])
    answers, attempts, jobs, seen = [False] * len(fences), [], [], set()
    for n, (state, revision, attempt_state) in live.items():
        fence, now_us = fences[n]
        waiting = state == State.RUNNING and attempt_state == AttemptState.STARTING
        if not waiting or fence in seen:
            continue
        seen.add(fence)
        answers[n] = True
        attempts.append((fence.tenant, fence.job_id, fence.attempt, fence.epoch))
        jobs.append((fence.tenant, fence.job_id, now_us))
        tx.record(EventRow(
            fence.tenant, fence.job_id, revision + 1, EventKind.UNCLAIMED, State.QUEUED,
            State.RUNNING, now_us, fence.attempt,
        ))
    tx.change(QUERIES["delete_unclaimed"], attempts)
    tx.change(QUERIES["unclaim_jobs"], jobs)
    return _by_call([call.fences for call in calls], answers)


def extend_leases(tx: Transaction, calls: Sequence[FencesCall]) -> list[list[LeaseAnswer]]:
    """Prolong leases, and tell what became of their jobs."""
    fences = [(fence, call.at_us) for call in calls for fence in call.fences]
    live = _live(tx, QUERIES["find_live"], [fence for fence, _ in fences])
    answers = [LeaseAnswer.REFUSED] * len(fences)
    until: dict[Fence, int] = {}
    for n, row in live.items():
        answers[n] = LeaseAnswer.KEPT if row[0] == State.RUNNING else LeaseAnswer.STOP
        fence, at_us = fences[n]
        until[fence] = at_us
    tx.change(QUERIES["extend_leases"], [
        (fence.tenant, fence.job_id, fence.attempt, fence.epoch, at_us)
        for fence, at_us in until.items()
    ])
    return _by_call([call.fences for call in calls], answers)


# --- progress ---------------------------------------------------------------------------------


def record_progress(
    tx: Transaction, calls: Sequence[Sequence[ProgressReport]]
) -> list[list[bool]]:
    """Keep the newest progress of live attempts."""
    reports = [report for call in calls for report in call]
    live = _live(tx, QUERIES["find_live"], [report.fence for report in reports])
    rows = []
    for n, row in live.items():
        fence, progress = reports[n].fence, reports[n].progress
        rows.append((
            fence.tenant, fence.job_id, tx.next_position(), row[1], row[0], fence.attempt,
            progress.percent, progress.step, us_or_none(progress.estimated_completion),
            to_us(progress.reported_at),
        ))
    tx.write(QUERIES["record_progress"], rows)
    return _by_call(calls, [n in live for n in range(len(reports))])


# --- common -----------------------------------------------------------------------------------


def _live(tx: Transaction, query: Query, fences: Sequence[Fence]) -> dict[int, list[Any]]:
    """What is known of the fences that are not stale, by their places, in order."""
    rows = tx.read(query, [
        (n, fence.tenant, fence.job_id, fence.attempt, fence.epoch)
        for n, fence in enumerate(fences)
    ])
    return {row[0]: row[1:] for row in rows}


def _by_call(calls: Sequence[Sequence[Any]], answers: Sequence[_T]) -> list[list[_T]]:
    """Answers to all items of all calls, given back to each call."""
    ends = list(itertools.accumulate(len(call) for call in calls))
    return [
        list(answers[end - len(call):end]) for call, end in zip(calls, ends, strict=True)
    ]
