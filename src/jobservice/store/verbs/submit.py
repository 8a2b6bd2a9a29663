"""Submit: jobs come to be, once for each request id."""

import collections
import dataclasses
from collections.abc import Collection, Mapping, Sequence

from jobservice.clock import from_us, to_us
from jobservice.errors import InvalidTransition
from jobservice.model.attempt import Fence
from jobservice.model.event import EventKind
from jobservice.model.job import NewJob
from jobservice.model.lifecycle import FIRST, State
from jobservice.mutants import mutant
from jobservice.store.port import Inserted, Insertion, JobKey, RequestKey
from jobservice.store.rows import Columns, dump_json, job_row, keys_of, parse_json, spec_row
from jobservice.store.verbs.admission import (
    Arriving,
    Room,
    admit,
    arriving,
    find_bounded,
    make_room,
)
from jobservice.store.verbs.arrivals import (
    Family,
    Judged,
    family_of,
    insert_newcomers,
    judge,
    missing,
)
from jobservice.store.verbs.children import INDEPENDENT, Key, Parent, find_parents
from jobservice.store.verbs.conflicts import Place, give_way, has_policy, resolve
from jobservice.store.verbs.keys import first_places, join
from jobservice.store.verbs.transaction import EventRow, Row, Transaction, change
from jobservice.store.verbs.unique import Uniqueness, judge_unique, replace

_Known = dict[tuple[str, str], tuple[bytes, tuple[str, ...], int]]
"""What request ids made: digest, job ids and instant by tenant and request id."""
_Created = tuple["InsertCall", Mapping[int, Judged]]
"""A call that creates, with those of its jobs that depend on others."""


_NO_NAMES: frozenset[tuple[str, str]] = frozenset()
_STATE, _CLAIM_KEY, _QUEUE, _KEYS = 2, 5, 15, -1
"""Where the state, the place, the queue and the concurrency keys are in the row of a job."""
ITEMS_A_ROW = 1_000
"""How many items of an array are kept together."""


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
    unique_names: frozenset[tuple[str, str]]
    """The unique keys of its jobs, with the tenant."""
    is_unique: bool
    """Whether others may be in the way of its jobs."""
    new: Sequence[NewJob]
    validate_only: bool
    answered: tuple[str, ...]
    """The ids of `job_ids`, and in their places of the jobs that stand for others."""

    @property
    def is_plain(self) -> bool:
        """Whether no other job decides about its jobs, nor one of them about others."""
        is_alone = not (self.family.newcomers or self.has_policy or self.unique_names)
        return is_alone and not any(row[_KEYS] for row in self.jobs)


def insert_call(
    jobs: Sequence[NewJob],
    request: RequestKey | None,
    *,
    validate_only: bool = False,
    has_waiting_keys: bool = False,
) -> InsertCall:
    """The rows of new jobs; there is at least one, and all are of one tenant.

    With `has_waiting_keys` they wait for their keys whatever else they say, and nobody is in the way of
    those with unique keys.
    """
    tenant, job_ids = jobs[0].tenant, tuple(job.job_id for job in jobs)
    names = [job.spec.unique_key.key for job in jobs if job.spec.unique_key is not None]
    return InsertCall(
        tenant=tenant,
        job_ids=job_ids,
        created_us=to_us(jobs[0].created_at),
        jobs=[job_row(job) for job in jobs],
        specs=[spec_row(job) for job in jobs if job.index is None],
        request=request,
        family=family_of(jobs),
        coming=arriving([job for job in jobs if job.index is None]),
        has_policy=not has_waiting_keys and len(jobs) == 1 and has_policy(jobs[0]),
        unique_names=frozenset([(tenant, each) for each in names]) if names else _NO_NAMES,
        is_unique=not has_waiting_keys and bool(names),
        new=jobs,
        validate_only=validate_only,
        answered=job_ids,
    )


async def insert_jobs(tx: Transaction, calls: Sequence[InsertCall]) -> list[Inserted]:
    """Store the jobs of calls that are not repeats."""
    bounded = await _bounded(tx, calls)
    if bounded:
        await tx.alone()
    return await _insert_all(tx, calls, bounded)


async def insert_unbounded(tx: Transaction, calls: Sequence[InsertCall]) -> list[Inserted | None]:
    """What `insert_jobs` does, but for those calls whose queues may refuse them: they have no answer."""
    bounded = await _bounded(tx, calls)
    taken = [
        not any((call.tenant, each.queue) in bounded for each in call.coming) for call in calls
    ]
    done = [call for call, is_taken in zip(calls, taken, strict=True) if is_taken]
    answers = iter(await _insert_all(tx, done, _NO_NAMES))
    return [next(answers) if is_taken else None for is_taken in taken]


async def _insert_all(
    tx: Transaction, calls: Sequence[InsertCall], bounded: Collection[tuple[str, str]]
) -> list[Inserted]:
    known = await _known_requests(tx, calls)
    inserts = _Inserts(tx, await find_parents(tx, {key for c in calls for key in c.family.outside}))
    answers = []
    for call in calls:
        answer = _repeat(call, known)
        if answer is None:
            is_bounded = any((call.tenant, each.queue) in bounded for each in call.coming)
            if is_bounded or call.is_unique or call.has_policy:
                answer = await _insert(tx, call, inserts, known, is_bounded=is_bounded)
            else:  # nearly all
                answer = _no_parent(call, inserts) or _accept(call, inserts, known)
        answers.append(answer)
    await inserts.write()
    return answers


class _Inserts:
    """What calls create, gathered to be written together."""

    def __init__(self, tx: Transaction, found: Mapping[Key, tuple[Parent, bool]]) -> None:
        self._tx = tx
        self._created: list[_Created] = []
        self._names: set[tuple[str, str]] = set()
        self._unmarked = {key for key, (_, needs_mark) in found.items() if needs_mark}
        self.parents = {key: parent for key, (parent, _) in found.items()}
        """Of the jobs of all calls, as they stand."""

    def add(self, call: InsertCall, judged: Mapping[int, Judged]) -> None:
        """One more call."""
        self._created.append((call, judged))
        if call.unique_names:
            self._names |= call.unique_names

    async def write_unique(self, names: frozenset[tuple[str, str]]) -> None:
        """Write what was added, if it has any of these unique keys."""
        if names & self._names:
            await self.write()

    async def write(self) -> None:
        """Write what was added since it was written last."""
        created, self._created, self._names = self._created, [], set()
        await _write(self._tx, created)
        named = {key for call, _ in created for key in call.family.outside} & self._unmarked
        await change(self._tx, "mark_parents", sorted(named))
        self._unmarked -= named

    async def look_again(self) -> None:
        """Jobs may have ended for a new one that others, or it, depend on."""
        found = await find_parents(self._tx, self.parents)
        self.parents |= {key: parent for key, (parent, _) in found.items()}


async def _insert(
    tx: Transaction, call: InsertCall, inserts: _Inserts, known: _Known, *, is_bounded: bool
) -> Inserted:
    """The answer to a call that is no repeat, where others may be in its way."""
    absent = _no_parent(call, inserts)
    if absent is not None:
        return absent
    unique = Uniqueness()
    if call.is_unique and not mutant("unique.ignored"):
        await inserts.write_unique(call.unique_names)
        states = {n: each.settled.state for n, each in judge(call.family, inserts.parents).items()}
        unique = await judge_unique(tx, call.new, states)
        if unique.refusal is not None:
            return unique.refusal
        call = _without(call, unique)
        if not call.new:
            stood_for = await _standing(tx, Inserted(Insertion.STOOD_FOR, call.answered), call)
            await _remember_stand_in(tx, call, stood_for, known)
            return stood_for
    stopped: tuple[Fence, ...] = ()
    replaces = False
    if is_bounded or call.has_policy or unique.replaced:
        await inserts.write()
        room = Room()
        if is_bounded:
            room = await admit(tx, call.tenant, call.coming, call.new, call.created_us)
        leaving = {*unique.replaced, *(each.job_id for each in room.giving_way)}
        judge_keys = call.has_policy and room.refusal is None
        place = await _place(tx, call, leaving) if judge_keys else Place()
        refusal = room.refusal or place.refusal
        if refusal is not None:
            await _remember_stand_in(tx, call, refusal, known)
            return await _standing(tx, refusal, call)
        if not call.validate_only:
            await make_room(tx, room, call.new[0], call.created_us)
            stopped = await give_way(tx, place, call.new[0], call.created_us)
            await replace(tx, call.new[0], unique.replaced, call.created_us)
            replaces = bool(room.giving_way or place.yielding or unique.replaced)
        call = _at(call, place.claim_key)
        await inserts.look_again()
    answer = _accept(call, inserts, known)
    answer = dataclasses.replace(answer, stopped=stopped, replaces=replaces)
    return await _standing(tx, answer, call)


def _no_parent(call: InsertCall, inserts: _Inserts) -> Inserted | None:
    absent = missing(call.family, inserts.parents)
    return Inserted(Insertion.NO_PARENT, (), missing=absent) if absent else None


def _accept(call: InsertCall, inserts: _Inserts, known: _Known) -> Inserted:
    """Have the jobs of a call created, unless they are only to be judged."""
    judged = judge(call.family, inserts.parents)
    if not call.validate_only:
        inserts.add(call, judged)
        _remember(call, known, call.answered)
    arrivals = {call.job_ids[index]: each.arrival for index, each in judged.items()}
    return Inserted(Insertion.CREATED, call.answered, arrivals)


async def _standing(tx: Transaction, answer: Inserted, call: InsertCall) -> Inserted:
    """An answer with the jobs that stand for new ones, as they are now."""
    if answer.insertion not in {Insertion.CREATED, Insertion.STOOD_FOR}:
        return answer
    others = dict.fromkeys(each for each in answer.job_ids if each not in call.job_ids)
    if not others:
        return answer
    found = await tx.find_jobs([JobKey(call.tenant, each) for each in others])
    return dataclasses.replace(answer, standing={job.job_id: job for job in found if job})


def _without(call: InsertCall, unique: Uniqueness) -> InsertCall:
    """A call without the jobs that others stand for, and with the room that others leave."""
    if unique.standing:
        answered = tuple(unique.standing.get(n, each) for n, each in enumerate(call.job_ids))
        left = [job for n, job in enumerate(call.new) if n not in unique.standing]
        if not left:
            return dataclasses.replace(call, job_ids=(), new=(), answered=answered)
        fewer = insert_call(left, call.request, validate_only=call.validate_only)
        return dataclasses.replace(fewer, answered=answered)
    if unique.replaced:
        leaving = collections.Counter(unique.replaced.values())
        coming = [
            each._replace(jobs=max(0, each.jobs - leaving[each.queue])) for each in call.coming
        ]
        return dataclasses.replace(call, coming=coming)
    return call


async def _bounded(tx: Transaction, calls: Sequence[InsertCall]) -> set[tuple[str, str]]:
    """The queues of the calls that may refuse jobs."""
    queues = [(call.tenant, each.queue) for call in calls for each in call.coming]
    return await find_bounded(tx, queues)


async def _place(tx: Transaction, call: InsertCall, leaving: Collection[str]) -> Place:
    """What the keys of a call's job mean for it; nobody else adds to them until the commit."""
    await tx.alone()
    [job] = call.new
    return await resolve(tx, job, leaving)


def _at(call: InsertCall, claim_key: int | None) -> InsertCall:
    """A call whose job takes the place of another, if that is given."""
    if claim_key is None:
        return call
    [row] = call.jobs
    return dataclasses.replace(call, jobs=[(*row[:_CLAIM_KEY], claim_key, *row[_CLAIM_KEY + 1 :])])


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
        (tenant, request_id): (bytes.fromhex(digest), tuple(parse_json(job_ids)), created_us)
        for tenant, request_id, digest, job_ids, created_us in await tx.read(
            "find_requests", wanted
        )
    }


def _repeat(call: InsertCall, known: _Known) -> Inserted | None:
    """The answer to a call whose request id is known."""
    if call.request is None:
        return None
    found = known.get((call.tenant, call.request.request_id))
    if found is None:
        return None
    digest, job_ids, created_us = found
    if digest != call.request.digest and not mutant("request.any_body"):
        return Inserted(Insertion.CONFLICT, job_ids)
    return Inserted(Insertion.REPEATED, job_ids, requested_at=from_us(created_us))


def _remember(call: InsertCall, known: _Known, job_ids: tuple[str, ...]) -> None:
    if call.request is not None:
        known[call.tenant, call.request.request_id] = call.request.digest, job_ids, call.created_us


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
    await _write_arrays(tx, [job for call in calls for job in call.new if job.spec.array])
    await tx.write(
        "insert_requests",
        [
            _request_row(call, call.request, call.answered)
            for call in calls
            if call.request is not None and not mutant("request.forgotten")
        ],
    )
    for call, judged in created:
        await insert_newcomers(tx, list(judged.values()), call.created_us)


async def _write_arrays(tx: Transaction, jobs: Sequence[NewJob]) -> None:
    arrays = [(job.tenant, job.job_id, job.spec.array) for job in jobs if job.spec.array]
    await tx.write(
        "insert_arrays",
        [
            (*ids, array.size, array.max_parallel, array.max_failures, bool(array.items))
            for *ids, array in arrays
        ],
    )
    await tx.write(
        "insert_array_items",
        [
            (*ids, first, dump_json(array.items[first : first + ITEMS_A_ROW]))
            for *ids, array in arrays
            for first in range(0, len(array.items), ITEMS_A_ROW)
        ],
    )


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
    begun = tenant, job_id, state, start_us, created_us, position
    return (*begun, *rest, blocked_key, dependent, is_parent)


async def _blocked(tx: Transaction, jobs: Sequence[Columns]) -> dict[str, str]:
    """Jobs with a key for which others of their queue are parked: they line up behind them at once."""
    queued = [job for job in jobs if job[_KEYS] and job[_STATE] == State.QUEUED]
    same = {(job[0], job[_KEYS], job[_QUEUE]): None for job in queued}
    wanted = {
        (tenant, key.key, queue): None for tenant, text, queue in same for key in keys_of(text)
    }
    first = await first_places(tx, list(wanted))
    blocked: dict[str, str] = {}
    if not first:
        return blocked
    for job in queued:
        place = job[_CLAIM_KEY], 0, job[1]
        for key in keys_of(job[_KEYS]):
            before = first.get((job[0], key.key, job[_QUEUE]))
            if before is not None and before < place:
                blocked.setdefault(job[1], key.key)
    return blocked
