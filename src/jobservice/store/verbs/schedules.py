"""Schedules: made, changed, and fired. A fire and its job are one transaction.

A schedule that is due is locked, what its decision rests on is read, and what was decided is written
with the jobs. The key of the runs is what a second server would run into, were it to make a job for the
same nominal time: then its transaction is undone and run again, and finds the schedule decided.
"""

import dataclasses
import datetime as dt
import itertools
from collections.abc import Sequence

from jobservice.clock import to_us
from jobservice.errors import Internal, JobServiceError, QueueDrained, QueueFull
from jobservice.model.attempt import Fence
from jobservice.model.firing import RELEASED_AT_ONCE, Seen
from jobservice.model.lifecycle import State
from jobservice.model.schedule import BackfillState, Outcome, Schedule
from jobservice.store.port import Inserted, Insertion, Stopped, StopRequest
from jobservice.store.rows import Columns
from jobservice.store.schedule_port import (
    RUNS_BETWEEN,
    RUNS_KEPT,
    Change,
    Check,
    Decide,
    Fired,
    Plan,
    ScheduleKey,
)
from jobservice.store.schedule_rows import (
    NO_JOB,
    OF_ITS_TIME,
    TRIGGERED,
    edited_row,
    instants,
    moved_row,
    run_row,
    schedule_of,
    slot_of,
)
from jobservice.store.verbs.jobs import StopCall, request_stop
from jobservice.store.verbs.submit import insert_call, insert_jobs
from jobservice.store.verbs.transaction import Row, Transaction, change

STOPPED_AT_ONCE = 1_000
"""How many jobs of a schedule CANCEL_OTHER ends at a time."""
JUDGED = 200
"""How many of the newest runs are looked at for failures in a row."""
MOST_TRIGGERED = 1_000
"""How many triggers of one instant are told apart."""


@dataclasses.dataclass(frozen=True, slots=True)
class ChangeCall:
    """One call of `change_schedule`."""

    key: ScheduleKey
    change: Change


@dataclasses.dataclass(frozen=True, slots=True)
class DropCall:
    """One call of `delete_schedule`."""

    key: ScheduleKey
    check: Check


@dataclasses.dataclass(frozen=True, slots=True)
class DueCall:
    """One call of `fire_due`."""

    decide: Decide
    now_us: int
    limit: int


@dataclasses.dataclass(frozen=True, slots=True)
class FireCall:
    """One call of `fire_schedule`."""

    key: ScheduleKey
    decide: Decide
    now_us: int


# --- make, change, delete ---------------------------------------------------------------------


async def insert_schedule(tx: Transaction, calls: Sequence[Schedule]) -> list[Schedule | None]:
    """Store new schedules, unless there are such."""
    return [await _insert(tx, new) for new in calls]


async def _insert(tx: Transaction, new: Schedule) -> Schedule | None:
    found = await _find(tx, ScheduleKey(new.tenant, new.schedule_id))
    if found is None:
        row = (*edited_row(new), to_us(new.created_at), *moved_row(new))
        await change(tx, "insert_schedules", [row])
    return found


async def change_schedule(tx: Transaction, calls: Sequence[ChangeCall]) -> list[Schedule | None]:
    """Replace schedules."""
    return [await _change(tx, call) for call in calls]


async def _change(tx: Transaction, call: ChangeCall) -> Schedule | None:
    found = await _find(tx, call.key)
    if found is None:
        return None
    changed = call.change(found)
    await change(tx, "edit_schedules", [edited_row(changed)])
    await _move(tx, [(changed, 0)])
    return changed


async def delete_schedule(tx: Transaction, calls: Sequence[DropCall]) -> list[bool]:
    """Remove schedules with their runs."""
    return [await _delete(tx, call) for call in calls]


async def _delete(tx: Transaction, call: DropCall) -> bool:
    found = await _find(tx, call.key)
    if found is None:
        return False
    call.check(found)
    key = found.tenant, found.schedule_id
    await change(tx, "delete_schedules", [key])
    await tx.write("delete_runs", [key])
    return True


async def _find(tx: Transaction, key: ScheduleKey) -> Schedule | None:
    """The schedule as it stands in this transaction, locked."""
    rows = await tx.read("find_schedules", [(key.tenant, key.schedule_id)])
    return schedule_of(rows[0][:-1]) if rows else None


async def _move(tx: Transaction, moved: Sequence[tuple[Schedule, int]]) -> None:
    """Write what was decided of schedules, with how many runs were recorded."""
    rows = [
        (schedule.tenant, schedule.schedule_id, *moved_row(schedule), runs)
        for schedule, runs in moved
    ]
    await change(tx, "move_schedules", rows)


# --- fire -------------------------------------------------------------------------------------


@dataclasses.dataclass(slots=True)
class _Due:
    """A schedule that is decided about."""

    schedule: Schedule
    run_count: int

    @property
    def key(self) -> tuple[str, str]:
        return self.schedule.tenant, self.schedule.schedule_id


async def fire_due(tx: Transaction, calls: Sequence[DueCall]) -> list[list[Fired]]:
    """Fire the schedules that are due, each call in turn."""
    return [await _fire_due(tx, call) for call in calls]


async def _fire_due(tx: Transaction, call: DueCall) -> list[Fired]:
    rows = await tx.read_all("find_due_schedules", call.now_us, call.limit)
    due = [_due_of(row) for row in rows]
    active = await _active(tx, due)
    plans = []
    for n, each in enumerate(due):
        backfill = each.schedule.backfill
        made: tuple[dt.datetime, ...] = ()
        if backfill is not None and backfill.state is BackfillState.ACTIVE:
            begin = backfill.cursor_at or backfill.start_at
            made = await _made(tx, each, OF_ITS_TIME, to_us(begin), 2 * RELEASED_AT_ONCE)
        seen = await _seen(tx, each, active=n in active, made=made)
        plans.append(call.decide(seen))
    return await _carry_out(tx, due, plans, call.now_us)


async def fire_schedule(tx: Transaction, calls: Sequence[FireCall]) -> list[Fired | None]:
    """Fire schedules that are named."""
    return [await _fire(tx, call) for call in calls]


async def _fire(tx: Transaction, call: FireCall) -> Fired | None:
    rows = await tx.read("find_schedules", [(call.key.tenant, call.key.schedule_id)])
    due = [_due_of(row) for row in rows]
    if not due:
        return None
    made = await _made(tx, due[0], TRIGGERED, call.now_us, MOST_TRIGGERED)
    plan = call.decide(await _seen(tx, due[0], active=False, made=made))
    [fired] = await _carry_out(tx, due, [plan], call.now_us)
    return fired


def _due_of(row: Columns) -> _Due:
    *columns, run_count = row
    return _Due(schedule_of(columns), run_count)


async def _active(tx: Transaction, due: Sequence[_Due]) -> set[int]:
    """The places of those that have a job that is not final."""
    rows = await tx.read("find_active", [(n, *each.key) for n, each in enumerate(due)])
    return {n for [n] in rows}


async def _seen(tx: Transaction, due: _Due, *, active: bool, made: Sequence[dt.datetime]) -> Seen:
    schedule = due.schedule
    buffered: tuple[dt.datetime, ...] = ()
    if schedule.buffered_count:
        rows = await tx.read_all("find_buffered", *due.key, RELEASED_AT_ONCE)
        buffered = instants(rows)
    return Seen(schedule, active, await _failures(tx, due), buffered, frozenset(made))


async def _failures(tx: Transaction, due: _Due) -> int:
    """How many jobs in a row ended FAILED, no further than it matters."""
    schedule = due.schedule
    limit = schedule.spec.pause_after_failures
    if not limit:
        return 0
    judged_us = 0 if schedule.judged_from is None else to_us(schedule.judged_from)
    rows = await tx.read_all("find_ends", *due.key, JUDGED, judged_us, limit)
    return sum(1 for _ in itertools.takewhile(lambda row: row[0] == State.FAILED, rows))


async def _made(
    tx: Transaction, due: _Due, slot: int, from_us: int, limit: int
) -> tuple[dt.datetime, ...]:
    return instants(await tx.read_all("find_made", *due.key, from_us, slot, limit))


async def _carry_out(
    tx: Transaction, due: Sequence[_Due], plans: Sequence[Plan], now_us: int
) -> list[Fired]:
    """Write what was decided, all of it together."""
    stopping = [
        await _stop_others(tx, each, plan, now_us) for each, plan in zip(due, plans, strict=True)
    ]
    new = [job for plan in plans for job in plan.jobs]
    calls = [insert_call([job], None, has_waiting_keys=True) for job in new]
    for answer in await insert_jobs(tx, calls):
        if answer.insertion is not Insertion.CREATED:
            raise _refusal(answer)
    released: list[Row] = []
    made: list[Row] = []
    noted: list[Row] = []
    for each, plan in zip(due, plans, strict=True):
        job_ids = iter([job.job_id for job in plan.jobs])
        for nominal_at in plan.decision.released:
            outcomes = Outcome.BUFFERED, Outcome.FIRED
            place = to_us(nominal_at), OF_ITS_TIME
            released += [(*each.key, *place, *outcomes, next(job_ids), now_us)]
        for run in plan.decision.runs:
            fired = run.outcome is Outcome.FIRED
            recorded = dataclasses.replace(run, job_id=next(job_ids)) if fired else run
            rows = noted if slot_of(run) == NO_JOB else made
            rows += [run_row(each.key, recorded)]
    await change(tx, "release_runs", released)
    await change(tx, "insert_runs", made)
    await change(tx, "note_runs", noted)
    await _move(tx, [(plan.decision.schedule, len(plan.decision.runs)) for plan in plans])
    await _prune(tx, due, plans)
    return [
        Fired(ScheduleKey(*each.key), tuple(job.job_id for job in plan.jobs), fences)
        for each, plan, fences in zip(due, plans, stopping, strict=True)
    ]


def _refusal(answer: Inserted) -> JobServiceError:
    """Why a job cannot be made; what is raised undoes all that was decided with it."""
    queue = answer.queue
    if answer.insertion is Insertion.DRAINED:
        return QueueDrained(f"The queue {queue} is being drained.", queue=queue)
    if answer.insertion in {Insertion.QUEUE_FULL, Insertion.STOOD_FOR}:
        why = f": {answer.bound}" if answer.bound else ""
        return QueueFull(f"The queue {queue} is full{why}.", queue=queue)
    return Internal(f"A schedule cannot make its job: {answer.insertion.name}.")


async def _stop_others(tx: Transaction, due: _Due, plan: Plan, now_us: int) -> tuple[Fence, ...]:
    """Have the jobs that were active end, before the new one is there."""
    if not plan.decision.cancel_others:
        return ()
    rows = await tx.read_all("find_active_of", *due.key, STOPPED_AT_ONCE)
    stops = [StopRequest(due.schedule.tenant, job_id) for [job_id] in rows]
    [answers] = await request_stop(tx, [StopCall(stops, now_us)])
    return tuple(answer.fence for answer in answers if isinstance(answer, Stopped) and answer.fence)


async def _prune(tx: Transaction, due: Sequence[_Due], plans: Sequence[Plan]) -> None:
    """Now and then drop the oldest runs."""
    full: list[Row] = [
        (*each.key, RUNS_KEPT)
        for each, plan in zip(due, plans, strict=True)
        if _passes(each.run_count, len(plan.decision.runs))
    ]
    for row in full:
        await tx.write("prune_runs", [row])


def _passes(before: int, added: int) -> bool:
    return (before + added) // RUNS_BETWEEN > before // RUNS_BETWEEN
