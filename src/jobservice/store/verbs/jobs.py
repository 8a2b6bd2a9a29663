"""Jobs: what timers and users do to them outside of an attempt."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from jobservice.clock import from_us
from jobservice.model.attempt import Fence
from jobservice.model.bounds import expires_at
from jobservice.model.event import EventKind
from jobservice.model.job import (
    EDITABLE_ALWAYS,
    EDITABLE_BEFORE_START,
    EDITABLE_UNTIL_FINAL,
    Edits,
    Job,
)
from jobservice.model.lifecycle import FINAL, WAITING, Reason, State
from jobservice.model.queue import claim_key
from jobservice.model.spec import JobSpec
from jobservice.mutants import mutant
from jobservice.store.port import JobKey, Refusal, Stopped, StopRequest
from jobservice.store.rows import editable_row, us_or_none
from jobservice.store.verbs.children import DELAYED, FREED, GOVERNED, decide_children
from jobservice.store.verbs.ends import Ended, after_ends
from jobservice.store.verbs.keys import free, leave
from jobservice.store.verbs.transaction import EventRow, Row, Transaction, change

CANCELLED_MESSAGE = "cancelled on request"
STOPPING_MESSAGE = "its stop was asked for"
HELD_MESSAGE = "held on request"
_STOP_MESSAGES = {State.CANCELLED: CANCELLED_MESSAGE, State.STOPPING: STOPPING_MESSAGE}
_MOVING = frozenset({"priority", "queue"})
"""Edits that give a job another place: those behind it need not wait with it any more."""
_MAY_BE_HELD = WAITING - {State.HELD}
_BELONGINGS = (
    "delete_specs",
    "delete_progress",
    "delete_dependents",
    "delete_dependencies",
    "delete_arrays",
    "delete_array_items",
    "delete_logs",
)

_T = TypeVar("_T")
Ids = tuple[str, str]
"""A tenant and a job id."""
Effect = Refusal | bool
"""What became of one of several jobs: why nothing was changed, or whether something was: a job may
have been so already."""


@dataclasses.dataclass(slots=True)
class Asked:
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
    reason: int
    dependent: int
    has_children: bool
    keys: str
    counted_us: int
    deadline_us: int | None
    is_of_schedule: bool
    is_array: bool
    array_id: str | None
    """The array that it is an index of."""
    array_told: int
    """The final state that its array has counted; 0 is none."""

    def fence(self, key: Ids) -> Fence | None:
        """Of the attempt that has to end, where it is STOPPING; an array has none."""
        if self.state is not State.STOPPING or self.is_array:
            return None
        return Fence(*key, self.attempt_count, self.epoch)

    def tell(
        self,
        tx: Transaction,
        key: Ids,
        kind: EventKind,
        state: State,
        now_us: int,
        reason: Reason = Reason.NONE,
        message: str = "",
        start_us: int | None = None,
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
                start_us=start_us,
            )
        )
        self.state = state
        return self.last_position


async def asked(tx: Transaction, keys: Sequence[Ids]) -> dict[Ids, Asked]:
    """Jobs as they stand, those that there are; on PostgreSQL they are locked."""
    unique = list(dict.fromkeys(keys))
    rows = await tx.read("find_asked", [(n, *key) for n, key in enumerate(unique)])
    return {unique[n]: Asked(State(state), *columns) for n, state, *columns in rows}


async def tell_asked(tx: Transaction, key: JobKey, kind: EventKind, now_us: int) -> tuple[int, str]:
    """Record an event of a job that leaves its state as it is.

    Returns:
        The position of the event, and the text of the job's concurrency keys.
    """
    ids = key.tenant, key.job_id
    job = (await asked(tx, [ids]))[ids]
    return job.tell(tx, ids, kind, job.state, now_us), job.keys


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
        place = claim_key(priority, start_us)
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
    jobs = await asked(tx, [(stop.tenant, stop.job_id) for call in calls for stop in call.stops])
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
    await leave(tx, [(*ids, jobs[ids].keys) for ids in changes.cancelled])
    ended = by_instant(
        (Ended(*key, State.CANCELLED, jobs[key].has_children, jobs[key].is_of_schedule), now_us)
        for key, (*_, now_us) in changes.cancelled.items()
    )
    for now_us, finals in ended.items():
        await after_ends(tx, finals, now_us)
    return answers


@dataclasses.dataclass(frozen=True, slots=True)
class _Stops:
    """The rows to be written, by job."""

    cancelled: dict[Ids, Sequence[Any]]
    stopping: dict[Ids, Sequence[Any]]
    unwanted: dict[Ids, None]


def _stop(
    tx: Transaction, stop: StopRequest, job: Asked | None, now_us: int, changes: _Stops
) -> Stopped | Refusal:
    if job is None:
        return Refusal.NOT_FOUND
    if stop.edit_version not in (None, job.edit_version):
        return Refusal.STALE
    key = stop.tenant, stop.job_id
    if stop.delete:
        changes.unwanted[key] = None
    if job.state in WAITING:
        changes.cancelled[key] = _ended(
            tx,
            key,
            job,
            EventKind.CANCELLED,
            State.CANCELLED,
            stop,
            now_us,
        )
    elif job.state is State.RUNNING:
        changes.stopping[key] = _ended(
            tx,
            key,
            job,
            EventKind.STOPPING,
            State.STOPPING,
            stop,
            now_us,
        )
    return Stopped(job.state, job.fence(key))


def _ended(
    tx: Transaction,
    key: Ids,
    job: Asked,
    kind: EventKind,
    state: State,
    stop: StopRequest,
    now_us: int,
) -> tuple[Any, ...]:
    message = stop.message or _STOP_MESSAGES[state]
    position = job.tell(tx, key, kind, state, now_us, stop.reason, message)
    return (*key, position, stop.reason, message, now_us)


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
    ids = call.key.tenant, call.key.job_id
    job = (await asked(tx, [ids])).get(ids)
    if job is None:
        return Refusal.NOT_FOUND
    if call.edit_version not in (None, job.edit_version):
        return Refusal.STALE
    if job.delete_requested or not set(call.edits) <= _editable(job):
        return Refusal.WRONG_STATE
    before = await read_job(tx, call.key)
    await _write_edits(tx, [_Edit(ids, job, before.spec, call.edits)], call.now_us)
    return await read_job(tx, call.key)


async def update_all(
    tx: Transaction, jobs: Sequence[Job], edits: Edits, now_us: int
) -> list[Effect]:
    """Change the same fields of several jobs, which were read in this transaction."""
    found = await asked(tx, [(job.tenant, job.job_id) for job in jobs])
    effects: list[Effect] = []
    changes = []
    for job in jobs:
        now = found.get((job.tenant, job.job_id))
        if now is None:
            effects.append(Refusal.NOT_FOUND)
        elif now.delete_requested or not set(edits) <= _editable(now):
            effects.append(Refusal.WRONG_STATE)
        else:
            edit = _Edit((job.tenant, job.job_id), now, job.spec, edits)
            effects.append(edit.spec != job.spec)
            changes += [edit] if edit.spec != job.spec else []
    await _write_edits(tx, changes, now_us)
    return effects


@dataclasses.dataclass(frozen=True, slots=True)
class _Edit:
    """An edit that is allowed."""

    ids: Ids
    job: Asked
    before: JobSpec
    edits: Edits

    @property
    def spec(self) -> JobSpec:
        """What the job is asked for from now on."""
        return dataclasses.replace(self.before, **_spec_fields(self.edits))


async def _write_edits(tx: Transaction, changes: Sequence[_Edit], now_us: int) -> None:
    await tx.write("keep_submitted", [each.ids for each in changes])
    rows = []
    for each in changes:
        spec, job = each.spec, each.job
        place = claim_key(spec.priority, job.queued_us)
        start_us, told_us, counted_us = job.start_us, None, job.counted_us
        if "start_after" in each.edits:
            start_us = told_us = counted_us = max(now_us, us_or_none(spec.start_after) or 0)
        expires_us = us_or_none(expires_at(spec, from_us(counted_us)))
        position = job.tell(tx, each.ids, EventKind.UPDATED, job.state, now_us, start_us=told_us)
        timing = start_us, counted_us, expires_us, now_us
        rows.append((*each.ids, position, job.edit_version, place, *timing, *editable_row(spec)))
    await change(tx, "update_jobs", rows)
    moved = [each for each in changes if not _MOVING.isdisjoint(each.edits)]
    await free(tx, [(each.ids[0], each.job.keys) for each in moved])


def _editable(job: Asked) -> frozenset[str]:
    if job.state in FINAL:
        return EDITABLE_ALWAYS
    if job.state is State.SCHEDULED and job.attempt_count == 0:
        return EDITABLE_ALWAYS | EDITABLE_UNTIL_FINAL | EDITABLE_BEFORE_START
    return EDITABLE_ALWAYS | EDITABLE_UNTIL_FINAL


def _spec_fields(edits: Edits) -> Mapping[str, Any]:
    fields = {("retry" if name == "retry_policy" else name): new for name, new in edits.items()}
    return {**fields, "start_delay": None} if "start_after" in fields else fields


async def read_job(tx: Transaction, key: JobKey) -> Job:
    """A job that was found before in the same transaction."""
    job = await tx.find_job(key)
    assert job is not None  # found before in the same transaction
    return job


async def read_each(
    tx: Transaction, calls: Sequence[tuple[JobKey, int]], effects: Sequence[Effect]
) -> list[Job | Refusal]:
    """The answers of a verb about single jobs: the job as it is then, or why nothing was changed."""
    return [
        effect if isinstance(effect, Refusal) else await read_job(tx, key)
        for (key, _), effect in zip(calls, effects, strict=True)
    ]


# --- common -----------------------------------------------------------------------------------


def by_instant(pairs: Iterable[tuple[_T, int]]) -> Mapping[int, Sequence[_T]]:
    """What belongs to each instant; calls that are run together have nearly the same."""
    found: dict[int, list[_T]] = {}
    for each, now_us in pairs:
        found.setdefault(now_us, []).append(each)
    return found


def effect(
    decide: Callable[[Ids, Asked | None, int], Effect],
    jobs: Mapping[Ids, Asked],
    key: JobKey,
    now_us: int,
) -> Effect:
    """What a decision about a job, as it stands, comes to."""
    ids = key.tenant, key.job_id
    return decide(ids, jobs.get(ids), now_us)


# --- hold, release ----------------------------------------------------------------------------


async def hold_job(tx: Transaction, calls: Sequence[tuple[JobKey, int]]) -> list[Job | Refusal]:
    """Keep waiting jobs from starting; calls are pairs of job and instant."""
    return await read_each(tx, calls, await hold_all(tx, calls))


async def hold_all(
    tx: Transaction, calls: Sequence[tuple[JobKey, int]], message: str = ""
) -> list[Effect]:
    """As `hold_job`, without reading the jobs."""
    message = message or HELD_MESSAGE
    jobs = await asked(tx, [(key.tenant, key.job_id) for key, _ in calls])
    rows: list[Row] = []

    def hold(ids: Ids, job: Asked | None, now_us: int) -> Effect:
        if job is None:
            return Refusal.NOT_FOUND
        if job.state not in _MAY_BE_HELD or job.delete_requested:
            return False if job.state is State.HELD else Refusal.WRONG_STATE
        position = job.tell(tx, ids, EventKind.HELD, State.HELD, now_us, Reason.USER, message)
        rows.append((*ids, position, Reason.USER, message, now_us))
        return True

    effects = [effect(hold, jobs, key, now_us) for key, now_us in calls]
    if not mutant("event.without_move"):
        await change(tx, "hold_jobs", rows)
    await free(tx, [(row[0], jobs[row[0], row[1]].keys) for row in rows])
    return effects


async def release_job(tx: Transaction, calls: Sequence[tuple[JobKey, int]]) -> list[Job | Refusal]:
    """Let held jobs go on; calls are pairs of job and instant."""
    return await read_each(tx, calls, await release_all(tx, calls))


async def release_all(tx: Transaction, calls: Sequence[tuple[JobKey, int]]) -> list[Effect]:
    """As `release_job`, without reading the jobs."""
    jobs = await asked(tx, [(key.tenant, key.job_id) for key, _ in calls])
    rows: list[Row] = []
    blocked: list[tuple[Ids, int]] = []

    def release(ids: Ids, job: Asked | None, now_us: int) -> Effect:
        if job is None:
            return Refusal.NOT_FOUND
        if job.state is not State.HELD:
            return Refusal.WRONG_STATE if job.state in FINAL else False
        if job.dependent == GOVERNED and job.reason != Reason.DEPENDENCY:
            blocked.append((ids, now_us))
            rows.append(_released_to_blocked(tx, ids, job, now_us))
        else:
            rows.append(_released(tx, ids, job, now_us))
        return True

    effects = [effect(release, jobs, key, now_us) for key, now_us in calls]
    await change(tx, "release_jobs", rows)
    for now_us, keys in by_instant(blocked).items():
        await decide_children(tx, keys, now_us)
    return effects


def _released(tx: Transaction, ids: Ids, job: Asked, now_us: int) -> Row:
    start_us = job.start_us if job.start_us is not None and job.start_us > now_us else None
    queued_us = job.queued_us if job.start_us is None else job.start_us
    if job.dependent == DELAYED:  # a person has a say in it now: its start stays what it is
        job.dependent = FREED
    if job.dependent == GOVERNED:  # held for what it depends on: it may run from now on, regardless
        job.dependent, queued_us = FREED, now_us
    place = claim_key(job.priority, queued_us)
    state = State.QUEUED if start_us is None else State.SCHEDULED
    position = job.tell(tx, ids, EventKind.RELEASED, state, now_us)
    return (*ids, position, state, job.dependent, place, queued_us, start_us, now_us)


def _released_to_blocked(tx: Transaction, ids: Ids, job: Asked, now_us: int) -> Row:
    state, place = State.BLOCKED, claim_key(job.priority, job.queued_us)
    position = job.tell(tx, ids, EventKind.RELEASED, state, now_us)
    return (*ids, position, state, GOVERNED, place, job.queued_us, job.start_us, now_us)


# --- delete, forget ---------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class DeleteCall:
    """One call of `delete_jobs`."""

    keys: Sequence[JobKey]
    now_us: int
    server: str = ""
    """Who has removed their files, as far as they are with it."""


async def delete_jobs(tx: Transaction, calls: Sequence[DeleteCall]) -> list[list[bool]]:
    """Remove every row of unwanted final jobs, and leave tombstones."""
    jobs = await asked(tx, [(key.tenant, key.job_id) for call in calls for key in call.keys])
    parents = [key for key, job in jobs.items() if job.has_children]
    for n, *_ in await tx.read("find_marks", [(n, *key) for n, key in enumerate(parents)]):
        del jobs[parents[n]]
    tombstones: list[Sequence[Any]] = []
    chains: list[Sequence[Any]] = []
    ran: list[Sequence[Any]] = []
    told = tx.told()  # what is not written yet would be written behind the delete

    def delete(key: JobKey, call: DeleteCall) -> bool:
        ids = key.tenant, key.job_id
        job = None if ids in told else jobs.pop(ids, None)
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
                call.now_us,
            )
        )
        ran.append((key.tenant, key.job_id, call.server))
        chains.append((key.tenant, key.job_id, job.last_position))
        return True

    answers = [[delete(key, call) for key in call.keys] for call in calls]
    gone = [(row[1], row[2]) for row in tombstones]
    await change(tx, "delete_jobs", gone)
    for name in () if mutant("delete.leaves_rows") else _BELONGINGS:
        await tx.write(name, gone)
    await tx.write("delete_attempts", ran)
    await tx.write("delete_events", chains)
    await tx.write("insert_tombstones", tombstones)
    return answers


async def forget(tx: Transaction, calls: Sequence[tuple[int, int]]) -> list[int]:
    """Drop old request ids and tombstones; calls are pairs of instant and limit."""
    return [await _forget(tx, before_us, limit) for before_us, limit in calls]


async def _forget(tx: Transaction, before_us: int, limit: int) -> int:
    await tx.write("forget_shares", [()])
    count = await tx.write("forget_requests", [(before_us, limit)])
    old = await tx.read_all("find_forgettable", before_us, limit - count)
    await tx.write("forget_tombstones", old)
    if old:
        newest = max(position for [position] in old)
        await tx.write("raise_forgotten", [(newest,)])
    return count + len(old)
