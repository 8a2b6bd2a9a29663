"""Jobs: what timers and users do to them outside of an attempt."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jobservice.clock import from_us
from jobservice.model.attempt import Fence
from jobservice.model.event import EventKind
from jobservice.model.job import (
    EDITABLE_ALWAYS,
    EDITABLE_UNTIL_FINAL,
    Edits,
    Job,
)
from jobservice.model.lifecycle import FINAL, WAITING, Reason, State
from jobservice.model.queue import claim_key
from jobservice.store.port import JobKey, Refusal, Stopped, StopRequest
from jobservice.store.rows import editable_row
from jobservice.store.verbs.transaction import EventRow, Transaction, change

CANCELLED_MESSAGE = "cancelled on request"
STOPPING_MESSAGE = "its stop was asked for"
HELD_MESSAGE = "held on request"
_MAY_BE_HELD = WAITING - {State.HELD}


@dataclasses.dataclass(slots=True)
class _Asked:
    """What a verb about a job decides upon; changed as the verb goes on."""

    state: State
    revision: int
    last_position: int
    edit_version: int
    delete_requested: bool
    attempt_count: int
    epoch: int
    priority: int
    queued_us: int
    start_us: int | None

    def tell(
        self,
        tx: Transaction,
        key: tuple[str, str],
        kind: EventKind,
        state: State,
        now_us: int,
        reason: Reason = Reason.NONE,
        message: str = "",
    ) -> int:
        """Record the job's next event, which leads to `state`; returns its position."""
        self.revision += 1
        self.last_position = tx.record(
            EventRow(
                self.last_position,
                *key,
                self.revision,
                kind,
                state,
                self.state,
                now_us,
                self.attempt_count,
                reason,
                message,
            )
        )
        self.state = state
        return self.last_position


async def _asked(tx: Transaction, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], _Asked]:
    unique = list(dict.fromkeys(keys))
    rows = await tx.read("find_asked", [(n, *key) for n, key in enumerate(unique)])
    return {unique[n]: _Asked(State(state), *columns) for n, state, *columns in rows}


# --- due --------------------------------------------------------------------------------------


async def release_due(tx: Transaction, calls: Sequence[tuple[int, int]]) -> list[int]:
    """Queue the SCHEDULED jobs whose time has come; calls are pairs of instant and limit."""
    return [await _release(tx, now_us, limit) for now_us, limit in calls]


async def _release(tx: Transaction, now_us: int, limit: int) -> int:
    rows = []
    for row in await tx.read_all("find_due", now_us, limit):
        tenant, job_id, revision, last, priority, start_us, attempt_count = row
        position = tx.record(
            EventRow(
                last,
                tenant,
                job_id,
                revision + 1,
                EventKind.DUE,
                State.QUEUED,
                State.SCHEDULED,
                now_us,
                attempt_count,
            )
        )
        place = claim_key(priority, from_us(start_us))
        rows.append((tenant, job_id, position, place, start_us, now_us))
    await change(tx, "release_due", rows)
    return len(rows)


# --- stop -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class StopCall:
    """One call of `request_stop`."""

    stops: Sequence[StopRequest]
    now_us: int


async def request_stop(tx: Transaction, calls: Sequence[StopCall]) -> list[list[Stopped | Refusal]]:
    """End waiting jobs, ask for the end of running ones."""
    jobs = await _asked(tx, [(stop.tenant, stop.job_id) for call in calls for stop in call.stops])
    changes = _Stops({}, {}, {})
    answers = [
        [
            _stop(tx, stop, jobs.get((stop.tenant, stop.job_id)), call.now_us, changes)
            for stop in call.stops
        ]
        for call in calls
    ]
    await change(tx, "cancel_waiting", list(changes.cancelled.values()))
    await change(tx, "stop_running", list(changes.stopping.values()))
    await change(tx, "request_deletion", list(changes.unwanted))
    return answers


@dataclasses.dataclass(frozen=True, slots=True)
class _Stops:
    """The rows to be written, by job."""

    cancelled: dict[tuple[str, str], Sequence[Any]]
    stopping: dict[tuple[str, str], Sequence[Any]]
    unwanted: dict[tuple[str, str], None]


def _stop(
    tx: Transaction, stop: StopRequest, job: _Asked | None, now_us: int, changes: _Stops
) -> Stopped | Refusal:
    if job is None:
        return Refusal.NOT_FOUND
    if stop.edit_version not in (None, job.edit_version):
        return Refusal.STALE
    key = stop.tenant, stop.job_id
    if stop.delete:
        changes.unwanted[key] = None
    if job.state in WAITING:
        changes.cancelled[key] = _ended_by_user(
            tx, key, job, EventKind.CANCELLED, State.CANCELLED, CANCELLED_MESSAGE, now_us
        )
    elif job.state is State.RUNNING:
        changes.stopping[key] = _ended_by_user(
            tx, key, job, EventKind.STOPPING, State.STOPPING, STOPPING_MESSAGE, now_us
        )
    stopping = job.state is State.STOPPING
    return Stopped(job.state, Fence(*key, job.attempt_count, job.epoch) if stopping else None)


def _ended_by_user(
    tx: Transaction,
    key: tuple[str, str],
    job: _Asked,
    kind: EventKind,
    state: State,
    message: str,
    now_us: int,
) -> tuple[Any, ...]:
    position = job.tell(tx, key, kind, state, now_us, Reason.USER, message)
    return (*key, position, Reason.USER, message, now_us)


# --- edit -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class UpdateCall:
    """One call of `update_job`."""

    key: JobKey
    edits: Edits
    edit_version: int | None
    now_us: int


async def update_job(tx: Transaction, calls: Sequence[UpdateCall]) -> list[Job | Refusal]:
    """Change what a user may edit."""
    return [await _update(tx, call) for call in calls]


async def _update(tx: Transaction, call: UpdateCall) -> Job | Refusal:
    key = call.key.tenant, call.key.job_id
    job = (await _asked(tx, [key])).get(key)
    if job is None:
        return Refusal.NOT_FOUND
    if call.edit_version not in (None, job.edit_version):
        return Refusal.STALE
    if job.delete_requested or not set(call.edits) <= _editable(job.state):
        return Refusal.WRONG_STATE
    before = await _read(tx, call.key)
    spec = dataclasses.replace(before.spec, **_spec_fields(call.edits))
    await tx.write("keep_submitted", [key])
    place = claim_key(spec.priority, from_us(job.queued_us))
    position = job.tell(tx, key, EventKind.UPDATED, job.state, call.now_us)
    await change(
        tx,
        "update_jobs",
        [(*key, position, job.edit_version, place, call.now_us, *editable_row(spec))],
    )
    return await _read(tx, call.key)


def _editable(state: State) -> frozenset[str]:
    return EDITABLE_ALWAYS if state in FINAL else EDITABLE_ALWAYS | EDITABLE_UNTIL_FINAL


def _spec_fields(edits: Edits) -> Mapping[str, Any]:
    return {("retry" if name == "retry_policy" else name): new for name, new in edits.items()}


async def _read(tx: Transaction, key: JobKey) -> Job:
    job = await tx.find_job(key)
    assert job is not None  # found before in the same transaction
    return job


# --- retry ------------------------------------------------------------------------------------


async def retry_job(tx: Transaction, calls: Sequence[tuple[JobKey, int]]) -> list[Job | Refusal]:
    """Queue final jobs again; calls are pairs of job and instant."""
    return [await _retry(tx, key, now_us) for key, now_us in calls]


async def _retry(tx: Transaction, key: JobKey, now_us: int) -> Job | Refusal:
    ids = key.tenant, key.job_id
    job = (await _asked(tx, [ids])).get(ids)
    if job is None:
        return Refusal.NOT_FOUND
    if job.state not in FINAL or job.delete_requested:
        return Refusal.WRONG_STATE
    place = claim_key(job.priority, from_us(now_us))
    position = job.tell(tx, ids, EventKind.RETRIED, State.QUEUED, now_us)
    await change(tx, "retry_jobs", [(*ids, position, place, now_us)])
    return await _read(tx, key)


# --- hold, release ----------------------------------------------------------------------------


async def hold_job(tx: Transaction, calls: Sequence[tuple[JobKey, int]]) -> list[Job | Refusal]:
    """Keep waiting jobs from starting; calls are pairs of job and instant."""
    return [await _hold(tx, key, now_us) for key, now_us in calls]


async def _hold(tx: Transaction, key: JobKey, now_us: int) -> Job | Refusal:
    ids = key.tenant, key.job_id
    job = (await _asked(tx, [ids])).get(ids)
    if job is None:
        return Refusal.NOT_FOUND
    if job.state in _MAY_BE_HELD and not job.delete_requested:
        position = job.tell(tx, ids, EventKind.HELD, State.HELD, now_us, Reason.USER, HELD_MESSAGE)
        await change(tx, "hold_jobs", [(*ids, position, Reason.USER, HELD_MESSAGE, now_us)])
    return await _read(tx, key) if job.state is State.HELD else Refusal.WRONG_STATE


async def release_job(tx: Transaction, calls: Sequence[tuple[JobKey, int]]) -> list[Job | Refusal]:
    """Let held jobs go on; calls are pairs of job and instant."""
    return [await _release_held(tx, key, now_us) for key, now_us in calls]


async def _release_held(tx: Transaction, key: JobKey, now_us: int) -> Job | Refusal:
    ids = key.tenant, key.job_id
    job = (await _asked(tx, [ids])).get(ids)
    if job is None:
        return Refusal.NOT_FOUND
    if job.state in FINAL:
        return Refusal.WRONG_STATE
    if job.state is State.HELD:
        start_us = job.start_us if job.start_us is not None and job.start_us > now_us else None
        queued_us = job.queued_us if job.start_us is None else job.start_us
        place = claim_key(job.priority, from_us(queued_us))
        state = State.QUEUED if start_us is None else State.SCHEDULED
        position = job.tell(tx, ids, EventKind.RELEASED, state, now_us)
        row = (*ids, position, state, place, queued_us, start_us, now_us)
        await change(tx, "release_jobs", [row])
    return await _read(tx, key)


# --- delete, forget ---------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class DeleteCall:
    """One call of `delete_jobs`."""

    keys: Sequence[JobKey]
    now_us: int


async def delete_jobs(tx: Transaction, calls: Sequence[DeleteCall]) -> list[list[bool]]:
    """Remove every row of unwanted final jobs, and leave tombstones."""
    jobs = await _asked(tx, [(key.tenant, key.job_id) for call in calls for key in call.keys])
    tombstones: list[Sequence[Any]] = []
    chains: list[Sequence[Any]] = []

    def delete(key: JobKey, now_us: int) -> bool:
        job = jobs.pop((key.tenant, key.job_id), None)
        if job is None or job.state not in FINAL or not job.delete_requested:
            return False
        tombstones.append(
            (
                tx.next_position(),
                key.tenant,
                key.job_id,
                job.revision,
                job.state,
                job.attempt_count,
                now_us,
            )
        )
        chains.append((key.tenant, key.job_id, job.last_position))
        return True

    answers = [[delete(key, call.now_us) for key in call.keys] for call in calls]
    gone = [(row[1], row[2]) for row in tombstones]
    await change(tx, "delete_jobs", gone)
    for name in ("delete_specs", "delete_attempts", "delete_progress"):
        await tx.write(name, gone)
    await tx.write("delete_events", chains)
    await tx.write("insert_tombstones", tombstones)
    return answers


async def forget(tx: Transaction, calls: Sequence[tuple[int, int]]) -> list[int]:
    """Drop old request ids and tombstones; calls are pairs of instant and limit."""
    return [await _forget(tx, before_us, limit) for before_us, limit in calls]


async def _forget(tx: Transaction, before_us: int, limit: int) -> int:
    count = await tx.write("forget_requests", [(before_us, limit)])
    old = await tx.read_all("find_forgettable", before_us, limit - count)
    await tx.write("forget_tombstones", old)
    if old:
        newest = max(position for [position] in old)
        await tx.write("raise_forgotten", [(newest,)])
    return count + len(old)
