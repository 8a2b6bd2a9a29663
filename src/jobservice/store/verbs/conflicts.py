"""Conflicts: what a new job does that cannot have its concurrency keys at once.

Most jobs wait (`keys.py`). One that says otherwise looks at the jobs that name its key and are not
final, whether they run or not: their weights and its own are more than the limit allows, or not. It is
decided in the transaction of the insert; nobody else adds to the key until the commit. Others give way
only once all of its keys are judged: a job that is refused changes nothing.
"""

import dataclasses
from collections.abc import Collection, Sequence
from typing import NamedTuple

from jobservice.model.attempt import Fence
from jobservice.model.job import NewJob
from jobservice.model.lifecycle import LIVE, Reason, State
from jobservice.model.limit import ConcurrencyKey, OnConflict, most_running
from jobservice.store.port import Inserted, Insertion, JobKey
from jobservice.store.rows import keys_of
from jobservice.store.verbs.keys import Key, rules
from jobservice.store.verbs.transaction import Transaction
from jobservice.store.verbs.yielding import end_waiting, stop_for, supersede

HOLDERS = 10
"""How many jobs that have a key are named to one that is refused."""
STOPPED_MESSAGE = "its key {} is wanted by {}"


class _Yielding(NamedTuple):
    """Jobs that give way at a key."""

    key: ConcurrencyKey
    jobs: list[JobKey]


@dataclasses.dataclass(slots=True)
class Place:
    """What the keys of a new job mean for it and for others."""

    refusal: Inserted | None = None
    claim_key: int | None = None
    """Of the job whose place it takes."""
    yielding: list[_Yielding] = dataclasses.field(default_factory=list)


class _Member(NamedTuple):
    """A job that names a key: the columns of `find_members`, without the number of the row."""

    job_id: str
    state: int
    keys: str
    claim_key: int

    def weight(self, key: str) -> int:
        """What it takes of the limit of a key."""
        return sum(each.weight for each in keys_of(self.keys) if each.key == key)


def has_policy(job: NewJob) -> bool:
    """Whether a job does something else than to wait for its keys."""
    return any(key.on_conflict is not OnConflict.QUEUE for key in job.spec.concurrency_keys)


async def resolve(tx: Transaction, job: NewJob, leaving: Collection[str]) -> Place:
    """Who makes room for a job at its keys; jobs that are `leaving` hold none any more.

    Nothing is written. Everything that was accepted before must be written.
    """
    place, gone = Place(), set(leaving)
    keys = [key for key in job.spec.concurrency_keys if key.on_conflict is not OnConflict.QUEUE]
    known = await rules(tx, [(job.tenant, key.key) for key in keys])
    for key in keys:
        name = job.tenant, key.key
        most = most_running(key, known.get(name))
        members = [each for each in await _members(tx, name) if each.job_id not in gone]
        surplus = sum(each.weight(key.key) for each in members) + key.weight
        if most is None or surplus <= most:
            continue
        if key.on_conflict is OnConflict.REJECT:
            ids = tuple(each.job_id for each in members[:HOLDERS])
            return Place(Inserted(Insertion.KEY_TAKEN, ids, key=key.key))
        if key.on_conflict is not OnConflict.RETURN_EXISTING:
            _give_way(job.tenant, key, members, surplus - most, place)
            gone.update(each.job_id for each in place.yielding[-1].jobs if not _runs(key))
        elif members:  # else nobody has the key, and it waits
            newest = max(members, key=lambda each: each.job_id)
            return Place(Inserted(Insertion.STOOD_FOR, (newest.job_id,), key=key.key))
    return place


async def _members(tx: Transaction, name: Key) -> list[_Member]:
    rows = await tx.read("find_members", [(0, *name)])
    return [_Member._make(row) for _, *row in rows]


def _runs(key: ConcurrencyKey) -> bool:
    """Whether those that give way at a key run: then they hold their keys until they have stopped."""
    return key.on_conflict is OnConflict.CANCEL_RUNNING


def _give_way(
    tenant: str, key: ConcurrencyKey, members: Sequence[_Member], surplus: int, place: Place
) -> None:
    if _runs(key):
        live = sorted((each for each in members if each.state in LIVE), key=lambda m: m.job_id)
        wanted = []
        for each in live:
            if surplus <= 0:
                break
            surplus -= each.weight(key.key)
            wanted.append(each)
    else:
        wanted = [each for each in members if each.state in {State.QUEUED, State.SCHEDULED}]
    if key.on_conflict is OnConflict.REPLACE_QUEUED:
        queued = [each.claim_key for each in wanted if each.state == State.QUEUED]
        queued += [] if place.claim_key is None else [place.claim_key]
        place.claim_key = min(queued, default=None)
    place.yielding.append(_Yielding(key, [JobKey(tenant, each.job_id) for each in wanted]))


async def give_way(tx: Transaction, place: Place, job: NewJob, now_us: int) -> tuple[Fence, ...]:
    """Have others make room for a job; returns the attempts that are to end."""
    stopped: list[Fence] = []
    for key, jobs in place.yielding:
        message = STOPPED_MESSAGE.format(key.key, f"job {job.job_id}")
        if key.on_conflict is OnConflict.CANCEL_QUEUED:
            await end_waiting(tx, jobs, Reason.SUPERSEDED, message, now_us)
        elif key.on_conflict is OnConflict.REPLACE_QUEUED:
            await supersede(tx, jobs, message, now_us)
        else:
            stopped += await stop_for(tx, jobs, Reason.SUPERSEDED, message, now_us)
    return tuple(stopped)
