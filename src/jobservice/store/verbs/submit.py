"""Submit: jobs come to be, once for each request id."""

import dataclasses
from collections.abc import Mapping, Sequence

from jobservice.clock import to_us
from jobservice.errors import InvalidTransition
from jobservice.model.attempt import Fence
from jobservice.model.event import EventKind
from jobservice.model.job import NewJob
from jobservice.model.lifecycle import FIRST, State
from jobservice.store.port import Inserted, Insertion, RequestKey
from jobservice.store.rows import Columns, dump_json, job_row, keys_of, parse_json, spec_row
from jobservice.store.verbs.admission import Arriving, admit, arriving, find_bounded
from jobservice.store.verbs.arrivals import (
    Family,
    Judged,
    family_of,
    insert_newcomers,
    judge,
    missing,
)
from jobservice.store.verbs.children import INDEPENDENT, find_parents
from jobservice.store.verbs.conflicts import has_policy, resolve
from jobservice.store.verbs.keys import first_places, join
from jobservice.store.verbs.transaction import EventRow, Row, Transaction, change

_Known = dict[tuple[str, str], tuple[bytes, tuple[str, ...]]]
"""What request ids made: digest and job ids by tenant and request id."""
_Created = tuple["InsertCall", Mapping[int, Judged]]
"""A call that creates, with those of its jobs that depend on others."""


_STATE, _CLAIM_KEY, _QUEUE, _KEYS = 2, 5, 15, -1
"""Where the state, the place, the queue and the concurrency keys are in the row of a job."""


@dataclasses.dataclass(frozen=True, slots=True)
class InsertCall:
    """One call of `insert_jobs`, with its rows made in the caller's thread."""

    tenant: str
    job_ids: tuple[str, ...]
    created_us: int
    jobs: Sequence[Columns]
    specs: Sequence[Columns]
    request: RequestKey | None
    family: Family
    coming: Sequence[Arriving]
    """What has to be let in."""
    has_policy: bool
    """Whether its job, which is alone, does something else than to wait for its keys."""
    new: Sequence[NewJob]
    validate_only: bool


def insert_call(
    jobs: Sequence[NewJob],
    request: RequestKey | None,
    *,
    validate_only: bool = False,
    has_waiting_keys: bool = False,
) -> InsertCall:
    """The rows of new jobs; there is at least one, and all are of one tenant.

    With `has_waiting_keys` they wait for their keys whatever else they say.
    """
    return InsertCall(
        tenant=jobs[0].tenant,
        job_ids=tuple(job.job_id for job in jobs),
        created_us=to_us(jobs[0].created_at),
        jobs=[job_row(job) for job in jobs],
        specs=[spec_row(job) for job in jobs],
        request=request,
        family=family_of(jobs),
        coming=arriving(jobs),
        has_policy=not has_waiting_keys and len(jobs) == 1 and has_policy(jobs[0]),
        new=jobs,
        validate_only=validate_only,
    )


async def insert_jobs(tx: Transaction, calls: Sequence[InsertCall]) -> list[Inserted]:
    """Store the jobs of calls that are not repeats."""
    known = await _known_requests(tx, calls)
    found = await find_parents(tx, {key for call in calls for key in call.family.outside})
    parents = {key: parent for key, (parent, _) in found.items()}
    bounded = await _bounded(tx, calls)
    answers: list[Inserted] = []
    created: list[_Created] = []
    written = 0
    for call in calls:
        answer = _repeat(call, known)
        absent = missing(call.family, parents)
        if answer is None and absent:
            answer = Inserted(Insertion.NO_PARENT, (), missing=absent)
        if answer is None and any((call.tenant, each.queue) in bounded for each in call.coming):
            await _write(tx, created[written:])
            written = len(created)
            answer = await _admit(tx, call, known)
        stopped: tuple[Fence, ...] = ()
        if answer is None and call.has_policy:
            await _write(tx, created[written:])
            written = len(created)
            call, answer, stopped = await _resolve(tx, call, known)  # noqa: PLW2901 - its place may be another
        if answer is None:
            judged = judge(call.family, parents)
            arrivals = {call.job_ids[index]: each.arrival for index, each in judged.items()}
            answer = Inserted(Insertion.CREATED, call.job_ids, arrivals, stopped=stopped)
            if not call.validate_only:
                created.append((call, judged))
                _remember(call, known, call.job_ids)
        answers.append(answer)
    await _write(tx, created[written:])
    unmarked = {key for key, (_, needs_mark) in found.items() if needs_mark}
    named = {key for call, _ in created for key in call.family.outside}
    await change(tx, "mark_parents", sorted(unmarked & named))
    return answers


async def _bounded(tx: Transaction, calls: Sequence[InsertCall]) -> set[tuple[str, str]]:
    """The queues of the calls that may refuse jobs; nobody else adds to them until the commit."""
    bounded = await find_bounded(
        tx, [(call.tenant, each.queue) for call in calls for each in call.coming]
    )
    if bounded:
        await tx.alone()
    return bounded


async def _admit(tx: Transaction, call: InsertCall, known: _Known) -> Inserted | None:
    """What a call is answered that its queues do not let in."""
    write = not call.validate_only
    answer = await admit(tx, call.tenant, call.coming, call.new, call.created_us, write=write)
    await _remember_stand_in(tx, call, answer, known)
    return answer


async def _resolve(
    tx: Transaction, call: InsertCall, known: _Known
) -> tuple[InsertCall, Inserted | None, tuple[Fence, ...]]:
    """What the keys of a call's job mean for it.

    Returns:
        The call with the place that its job takes, what it is answered where it does not come in, and
        the attempts that have to end for it.
    """
    await tx.alone()
    [job] = call.new
    place = await resolve(tx, job, call.created_us, write=not call.validate_only)
    await _remember_stand_in(tx, call, place.refusal, known)
    if place.claim_key is not None:
        [row] = call.jobs
        row = (*row[:_CLAIM_KEY], place.claim_key, *row[_CLAIM_KEY + 1 :])
        call = dataclasses.replace(call, jobs=[row])
    return call, place.refusal, tuple(place.stopped)


async def _remember_stand_in(
    tx: Transaction, call: InsertCall, answer: Inserted | None, known: _Known
) -> None:
    """A repeated request gets the same job that stood for its own."""
    if answer is None or answer.insertion is not Insertion.STOOD_FOR or call.validate_only:
        return
    _remember(call, known, answer.job_ids)
    if call.request is not None:
        await tx.write("insert_requests", [_request_row(call, call.request, answer.job_ids)])


async def _known_requests(tx: Transaction, calls: Sequence[InsertCall]) -> _Known:
    wanted = [(call.tenant, call.request.request_id) for call in calls if call.request]
    return {
        (tenant, request_id): (bytes.fromhex(digest), tuple(parse_json(job_ids)))
        for tenant, request_id, digest, job_ids in await tx.read("find_requests", wanted)
    }


def _repeat(call: InsertCall, known: _Known) -> Inserted | None:
    """The answer to a call whose request id is known."""
    if call.request is None:
        return None
    found = known.get((call.tenant, call.request.request_id))
    if found is None:
        return None
    digest, job_ids = found
    same = digest == call.request.digest
    return Inserted(Insertion.REPEATED if same else Insertion.CONFLICT, job_ids)


def _remember(call: InsertCall, known: _Known, job_ids: tuple[str, ...]) -> None:
    if call.request is not None:
        known[call.tenant, call.request.request_id] = call.request.digest, job_ids


def _request_row(call: InsertCall, request: RequestKey, job_ids: Sequence[str]) -> Row:
    return call.tenant, request.request_id, request.digest, dump_json(job_ids), call.created_us


async def _write(tx: Transaction, created: Sequence[_Created]) -> None:
    calls = [call for call, _ in created]
    rows = [
        (_begun(row, judged.get(index)), judged.get(index), row[1] in call.family.inside)
        for call, judged in created
        for index, row in enumerate(call.jobs)
    ]
    blocked = await _blocked(tx, [row for row, _, _ in rows])
    await tx.write(
        "insert_jobs",
        [
            _created(tx, row, judged, blocked.get(row[1], ""), is_parent=is_parent)
            for row, judged, is_parent in rows
        ],
    )
    await tx.write("insert_specs", [row for call in calls for row in call.specs])
    await join(tx, [(row[0], row[1], row[_KEYS]) for row, _, _ in rows if row[_KEYS]])
    await tx.write(
        "insert_requests",
        [
            _request_row(call, call.request, call.job_ids)
            for call in calls
            if call.request is not None
        ],
    )
    for call, judged in created:
        await insert_newcomers(tx, list(judged.values()), call.created_us)


def _begun(row: Columns, judged: Judged | None) -> Columns:
    """A row with the state in which the jobs that it depends on have it begin."""
    if judged is None:
        return row
    tenant, job_id, _, _, *rest = row
    return (tenant, job_id, judged.begun.state, judged.begun.start_us, *rest)


def _created(
    tx: Transaction, row: Columns, judged: Judged | None, blocked_key: str, *, is_parent: bool
) -> Columns:
    """A row with the position of its event, which is told here."""
    tenant, job_id, state, start_us, created_us, *rest = row
    if state not in FIRST:
        raise InvalidTransition(state=state.name, trigger="create")
    told_us = start_us if state is State.SCHEDULED else None
    kind = EventKind.CREATED
    event = EventRow(None, tenant, job_id, 1, kind, state, None, created_us, start_us=told_us)
    position, dependent = tx.record(event), INDEPENDENT
    if judged is not None:
        judged.begun.last_position, dependent = position, judged.begun.dependent
    begun = (tenant, job_id, state, start_us, created_us, position, *rest)
    return (*begun, blocked_key, dependent, is_parent)


async def _blocked(tx: Transaction, jobs: Sequence[Columns]) -> dict[str, str]:
    """Jobs with a key for which others of their queue are parked: they line up behind them at once."""
    queued = [job for job in jobs if job[_KEYS] and job[_STATE] == State.QUEUED]
    wanted = {(job[0], key.key, job[_QUEUE]): None for job in queued for key in keys_of(job[_KEYS])}
    if not wanted:
        return {}
    first = await first_places(tx, list(wanted))
    blocked: dict[str, str] = {}
    for job in queued:
        place = job[_CLAIM_KEY], 0, job[1]
        for key in keys_of(job[_KEYS]):
            before = first.get((job[0], key.key, job[_QUEUE]))
            if before is not None and before < place:
                blocked.setdefault(job[1], key.key)
    return blocked
