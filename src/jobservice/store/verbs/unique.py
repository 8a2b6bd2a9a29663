"""Uniqueness: which other jobs are in the way of new ones, judged in the transaction of their insert.

What counts is read from the rows of the other jobs: their key, state, queue and creation. No other
submit adds a job with the same key until the commit (on PostgreSQL by a lock, `lock_first`): of many
that come at once the first is created, and the others find it. Other servers may move jobs on
meanwhile; those that are to end for a new one are therefore locked and looked at again.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jobservice.clock import to_us
from jobservice.model.job import NewJob
from jobservice.model.lifecycle import WAITING, State
from jobservice.model.unique import OnDuplicate, UniqueKey, UniqueScope
from jobservice.store.port import Inserted, Insertion, JobKey
from jobservice.store.rows import span_us
from jobservice.store.verbs.jobs import asked
from jobservice.store.verbs.transaction import Row, Transaction
from jobservice.store.verbs.yielding import supersede

MOST_REPLACED = 1_000
"""Where as many count, a new one is refused rather than replace them; the LIMIT of `find_duplicates`.
There is one, unless others were created by other rules, or retried."""
REPLACED_MESSAGE = "its unique key {} is that of {}"


@dataclasses.dataclass(slots=True)
class Uniqueness:
    """What the unique keys of the jobs of a call mean for them."""

    refusal: Inserted | None = None
    standing: dict[int, str] = dataclasses.field(default_factory=dict)
    """By place in the call: the ids of jobs that stand for new ones."""
    replaced: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """The jobs that are to end, by id; and the queues of those that are QUEUED, else nothing."""


class _Found(NamedTuple):
    """The columns of `find_duplicate`, without the number of the row."""

    job_id: str
    state: int
    queue: str
    created_us: int


async def judge_unique(
    tx: Transaction, jobs: Sequence[NewJob], states: Mapping[int, State]
) -> Uniqueness:
    """What stands in the way of new jobs; nothing is written.

    Everything that was accepted before must be written, as far as it has keys of these. `states` are
    those in which jobs begin that depend on others, by their place.
    """
    given = [(n, job, key) for n, job in enumerate(jobs) if (key := job.spec.unique_key)]
    replacing = [key for _, _, key in given if key.on_duplicate is OnDuplicate.REPLACE]
    name = "find_duplicates" if replacing else "find_duplicate"
    found: dict[int, list[_Found]] = {}
    wanted = [row for n, job, _ in given for row in wanted_rows(n, job)]
    for n, *columns in await tx.read(name, wanted):
        found.setdefault(n, []).append(_Found._make(columns))
    if replacing:  # it is alone
        [(n, job, key)] = given
        return await _replace(tx, job, key, found.get(n, []))
    answer = Uniqueness()
    accepted: dict[str, list[int]] = {}
    for n, job, key in given:
        of_batch = [
            place
            for place in accepted.get(key.key, ())
            if states.get(place, jobs[place].state) in key.counted
            and (key.scope is UniqueScope.TENANT or jobs[place].spec.queue == job.spec.queue)
        ]
        rejects = key.on_duplicate is OnDuplicate.REJECT
        if of_batch:  # newer than any other
            if rejects:
                answer.refusal = dataclasses.replace(_refusal(n, key), twin=of_batch[-1])
                return answer
            answer.standing[n] = jobs[of_batch[-1]].job_id
        elif n in found:
            newest = max(found[n], key=lambda each: (each.created_us, each.job_id))
            if rejects:
                answer.refusal = _refusal(n, key, newest.job_id)
                return answer
            answer.standing[n] = newest.job_id
        else:
            accepted.setdefault(key.key, []).append(n)
    return answer


def replaces(job: NewJob) -> bool:
    """Whether others may have to end for it."""
    key = job.spec.unique_key
    return key is not None and key.on_duplicate is OnDuplicate.REPLACE


def wanted_rows(number: int, job: NewJob) -> list[Row]:
    """Rows of `find_duplicates`: one for each state, as jobs of others are not to be walked over."""
    key = job.spec.unique_key
    if key is None:
        return []
    queue = job.spec.queue if key.scope is UniqueScope.QUEUE else None
    since_us = None if key.window is None else to_us(job.created_at) - span_us(key.window)
    return [(number, job.tenant, key.key, state, queue, since_us) for state in sorted(key.counted)]


async def _replace(
    tx: Transaction, job: NewJob, key: UniqueKey, others: Sequence[_Found]
) -> Uniqueness:
    """All of the others wait, and are to end; or it is refused."""
    if len(others) >= MOST_REPLACED:
        return Uniqueness(_refusal(0, key, max(others).job_id))
    queues = {each.job_id: each.queue for each in others}
    now = await asked(tx, [(job.tenant, each) for each in sorted(queues)])
    counted = {job_id: each.state for (_, job_id), each in now.items() if each.state in key.counted}
    staying = [job_id for job_id, state in counted.items() if state not in WAITING]
    if staying:
        return Uniqueness(_refusal(0, key, max(staying)))
    return Uniqueness(
        replaced={
            job_id: queues[job_id] if state is State.QUEUED else ""
            for job_id, state in counted.items()
        }
    )


def _refusal(place: int, key: UniqueKey, *job_ids: str) -> Inserted:
    return Inserted(Insertion.DUPLICATE, job_ids, key=key.key, place=place)


async def replace(tx: Transaction, job: NewJob, replaced: Mapping[str, str], now_us: int) -> None:
    """End the jobs whose place a new one takes."""
    key = job.spec.unique_key
    if key is not None and replaced:
        message = REPLACED_MESSAGE.format(key.key, f"job {job.job_id}")
        keys = [JobKey(job.tenant, each) for each in replaced]
        await supersede(tx, keys, message, now_us, among=WAITING)
