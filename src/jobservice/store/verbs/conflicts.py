"""Conflicts: what a new job does that cannot have its concurrency keys at once.

Most jobs wait (`keys.py`). One that says otherwise looks at the jobs that name its key and are not
final, whether they run or not: their weights and its own are more than the limit allows, or not. It is
decided in the transaction of the insert; nobody else adds to the key until the commit.
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


@dataclasses.dataclass(slots=True)
class Place:
    """What the resolution of conflicts means for the new job."""

    refusal: Inserted | None = None
    claim_key: int | None = None
    """Of the job whose place it takes."""
    stopped: list[Fence] = dataclasses.field(default_factory=list)
    """Attempts that are to end."""


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


async def resolve(
    tx: Transaction, job: NewJob, leaving: Collection[str], now_us: int, *, write: bool
) -> Place:
    """Make room for a job as its keys say; jobs that are `leaving` hold none any more.

    Without `write` nothing is changed.
    Everything that was accepted before must be written.
    """
    place = Place()
    keys = [key for key in job.spec.concurrency_keys if key.on_conflict is not OnConflict.QUEUE]
    known = await rules(tx, [(job.tenant, key.key) for key in keys])
    for key in keys:
        name = job.tenant, key.key
        most = most_running(key, known.get(name))
        members = [each for each in await _members(tx, name) if each.job_id not in leaving]
        surplus = sum(each.weight(key.key) for each in members) + key.weight
        if most is None or surplus <= most:
            continue
        if key.on_conflict is OnConflict.REJECT:
            ids = tuple(each.job_id for each in members[:HOLDERS])
            place.refusal = Inserted(Insertion.KEY_TAKEN, ids, key=key.key)
        elif key.on_conflict is OnConflict.RETURN_EXISTING:
            newest = max(members, key=lambda each: each.job_id)
            place.refusal = Inserted(Insertion.STOOD_FOR, (newest.job_id,), key=key.key)
        elif write:
            await _give_way(tx, job, key, members, surplus - most, place, now_us)
        if place.refusal is not None:
            break
    return place


async def _members(tx: Transaction, name: Key) -> list[_Member]:
    rows = await tx.read("find_members", [(0, *name)])
    return [_Member._make(row) for _, *row in rows]


async def _give_way(
    tx: Transaction,
    job: NewJob,
    key: ConcurrencyKey,
    members: Sequence[_Member],
    surplus: int,
    place: Place,
    now_us: int,
) -> None:
    message = STOPPED_MESSAGE.format(key.key, f"job {job.job_id}")
    waiting = [each for each in members if each.state in {State.QUEUED, State.SCHEDULED}]
    waiting_keys = [JobKey(job.tenant, each.job_id) for each in waiting]
    if key.on_conflict is OnConflict.CANCEL_QUEUED:
        await end_waiting(tx, waiting_keys, Reason.SUPERSEDED, message, now_us)
    elif key.on_conflict is OnConflict.REPLACE_QUEUED:
        await supersede(tx, waiting_keys, message, now_us)
        queued = [each.claim_key for each in waiting if each.state == State.QUEUED]
        place.claim_key = min(queued, default=None)
    else:
        live = sorted((each for each in members if each.state in LIVE), key=lambda m: m.job_id)
        wanted = []
        for each in live:
            if surplus <= 0:
                break
            surplus -= each.weight(key.key)
            wanted.append(JobKey(job.tenant, each.job_id))
        place.stopped += await stop_for(tx, wanted, Reason.SUPERSEDED, message, now_us)
