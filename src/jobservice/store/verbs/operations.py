"""Operations: begun, moved on by a batch of jobs, ended, forgotten.

A step changes its jobs and moves its operation on in one transaction. It names the place that it was
read from: when the operation is elsewhere by then, by another server or by this very step whose answer
was lost, nothing is changed. So each job is changed once, whatever dies when.
"""

import dataclasses
from collections.abc import Sequence

from jobservice.clock import from_us, to_us
from jobservice.model.attempt import Fence
from jobservice.model.job import Job
from jobservice.model.lifecycle import WAITING, State
from jobservice.model.operation import Action, BulkChange, Operation, OperationState
from jobservice.store.operation_port import OperationKey, OperationStep, Stepped
from jobservice.store.operation_rows import operation_of
from jobservice.store.port import JobKey, Refusal, StopRequest
from jobservice.store.verbs import jobs as job_verbs
from jobservice.store.verbs.jobs import Effect, StopCall, asked
from jobservice.store.verbs.retry import arrays_of, retry_all
from jobservice.store.verbs.transaction import Transaction, change

_SECOND_US = 1_000_000


# --- begin ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class BeginCall:
    """One call of `begin_operation`."""

    key: OperationKey
    change: BulkChange
    request_id: str
    limit: int
    now_us: int


async def begin_operation(tx: Transaction, calls: Sequence[BeginCall]) -> list[Operation | None]:
    """Remember operations, once for each request id."""
    return [await _begin(tx, call) for call in calls]


async def _begin(tx: Transaction, call: BeginCall) -> Operation | None:
    tenant = call.key.tenant
    if call.request_id:
        known = await tx.read_all("find_operation_of_request", tenant, call.request_id)
        if known:
            return operation_of(known[0])
    [[running]] = await tx.read_all("count_running", tenant)
    if running >= call.limit:
        return None
    asked, now_us = call.change, call.now_us
    row = (
        tenant,
        call.key.operation_id,
        asked.filter,
        asked.action,
        asked.priority,
        asked.reason,
        asked.max_per_second,
        call.request_id or None,
        now_us,
        now_us,
        now_us,
    )
    if not await tx.write("insert_operations", [row]):
        return await _begin(tx, call)  # another server had the same request id at the same time
    now = from_us(now_us)
    return Operation(tenant, call.key.operation_id, asked, now, now, now)


# --- step -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class StepCall:
    """One call of `step_operation`."""

    step: OperationStep
    now_us: int


async def step_operation(tx: Transaction, calls: Sequence[StepCall]) -> list[Stepped | None]:
    """Change the jobs of a batch, and move the operation on behind them."""
    return [await _step(tx, call.step, call.now_us) for call in calls]


async def _step(tx: Transaction, step: OperationStep, now_us: int) -> Stepped | None:
    # The jobs first, with their arrays in the order of all, then the operation: as every server locks.
    keys = [JobKey(step.key.tenant, job_id) for job_id in step.job_ids]
    ids = [(key.tenant, key.job_id) for key in keys]
    await asked(tx, [*ids, *await arrays_of(tx, ids)])
    operation = await _locked(tx, step.key)
    if (
        operation is None
        or operation.state is not OperationState.RUNNING
        or operation.place != step.behind
    ):
        return None
    found = await tx.find_jobs(keys)
    matched = [job for job in found if job is not None and step.matches(job)]
    done = failed = 0
    fences: list[Fence] = []
    if step.give_up:
        failed = len(matched)
    else:
        effects, fences = await _act(tx, operation.change, matched, now_us)
        done = sum(effect is True for effect in effects)
    rate = operation.change.max_per_second
    stepped = dataclasses.replace(
        operation,
        updated_at=from_us(now_us),
        due_at=from_us(now_us + (done * _SECOND_US // rate if rate else 0)),
        state=OperationState.DONE if step.place is None else OperationState.RUNNING,
        place=step.place or operation.place,
        done_count=operation.done_count + done,
        skipped_count=operation.skipped_count + len(matched) - done - failed,
        failed_count=operation.failed_count + failed,
        ended_at=from_us(now_us) if step.place is None else None,
    )
    await _move(tx, operation, stepped)
    return Stepped(stepped, tuple(fences))


async def _act(
    tx: Transaction, asked: BulkChange, jobs: Sequence[Job], now_us: int
) -> tuple[Sequence[Effect], list[Fence]]:
    """What became of each job, and the attempts that have to end."""
    if asked.action in {Action.CANCEL, Action.DELETE}:
        return await _stop(tx, asked, jobs, now_us)
    calls = [(JobKey(job.tenant, job.job_id), now_us) for job in jobs]
    match asked.action:
        case Action.HOLD:
            return await job_verbs.hold_all(tx, calls, asked.reason), []
        case Action.RELEASE:
            return await job_verbs.release_all(tx, calls), []
        case Action.RETRY:
            return await retry_all(tx, calls), []
        case _:
            edits = {"priority": asked.priority}
            return await job_verbs.update_all(tx, jobs, edits, now_us), []


async def _stop(
    tx: Transaction, asked: BulkChange, jobs: Sequence[Job], now_us: int
) -> tuple[Sequence[Effect], list[Fence]]:
    delete = asked.action is Action.DELETE
    stops = [
        StopRequest(job.tenant, job.job_id, delete=delete, message=asked.reason) for job in jobs
    ]
    [answers] = await job_verbs.request_stop(tx, [StopCall(stops, now_us)])
    fences = [
        answer.fence for answer in answers if not isinstance(answer, Refusal) and answer.fence
    ]
    if delete:
        return [not job.delete_requested for job in jobs], fences
    return [job.state in WAITING or job.state is State.RUNNING for job in jobs], fences


# --- end, forget ------------------------------------------------------------------------------


async def cancel_operation(
    tx: Transaction, calls: Sequence[tuple[OperationKey, int]]
) -> list[Operation | None]:
    """End operations where they are; calls are pairs of operation and instant."""
    return [await _cancel(tx, key, now_us) for key, now_us in calls]


async def _cancel(tx: Transaction, key: OperationKey, now_us: int) -> Operation | None:
    operation = await _locked(tx, key)
    if operation is None or operation.state is not OperationState.RUNNING:
        return operation
    now = from_us(now_us)
    ended = dataclasses.replace(
        operation, state=OperationState.CANCELLED, updated_at=now, ended_at=now
    )
    await _move(tx, operation, ended)
    return ended


async def forget_operations(tx: Transaction, calls: Sequence[tuple[int, int]]) -> list[int]:
    """Drop operations that ended before an instant; calls are pairs of it and a limit."""
    return [await tx.write("forget_operations", [call]) for call in calls]


# --- common -----------------------------------------------------------------------------------


async def _locked(tx: Transaction, key: OperationKey) -> Operation | None:
    rows = await tx.read_all("lock_operation", key.tenant, key.operation_id)
    return operation_of(rows[0]) if rows else None


async def _move(tx: Transaction, before: Operation, after: Operation) -> None:
    place, ended_at = after.place, after.ended_at
    row = (
        after.tenant,
        after.operation_id,
        after.done_count - before.done_count,
        after.skipped_count - before.skipped_count,
        after.failed_count - before.failed_count,
        None if place is None else to_us(place.created_at),
        None if place is None else place.job_id,
        to_us(after.due_at),
        after.state,
        None if ended_at is None else to_us(ended_at),
        to_us(after.updated_at),
    )
    await change(tx, "step_operation", [row])
