"""Retry: final jobs are run again, and what counts on their ends hears of it."""

import collections
from collections.abc import Mapping, Sequence

from jobservice.model.array import COUNTED
from jobservice.model.event import EventKind
from jobservice.model.job import Job
from jobservice.model.lifecycle import FINAL, State
from jobservice.model.queue import claim_key
from jobservice.store.port import JobKey, Refusal
from jobservice.store.verbs.ends import after_revivals
from jobservice.store.verbs.jobs import Asked, Effect, Ids, asked, by_instant, effect, read_each
from jobservice.store.verbs.keys import join
from jobservice.store.verbs.transaction import Row, Transaction, change


async def retry_job(tx: Transaction, calls: Sequence[tuple[JobKey, int]]) -> list[Job | Refusal]:
    """Queue final jobs again; calls are pairs of job and instant."""
    return await read_each(tx, calls, await retry_all(tx, calls))


async def retry_all(tx: Transaction, calls: Sequence[tuple[JobKey, int]]) -> list[Effect]:
    """As `retry_job`, without reading the jobs."""
    keys = [(key.tenant, key.job_id) for key, _ in calls]
    arrays = await arrays_of(tx, keys)
    jobs = await asked(tx, [*keys, *arrays])
    open_arrays = {ids for ids in arrays if ids in jobs and jobs[ids].state is State.RUNNING}
    rows: list[Row] = []
    parents: list[tuple[Ids, int]] = []

    def retry(ids: Ids, job: Asked | None, now_us: int) -> Effect:
        if job is None:
            return Refusal.NOT_FOUND
        too_late = job.deadline_us is not None and job.deadline_us <= now_us
        if job.state not in FINAL or job.delete_requested or too_late:
            return Refusal.WRONG_STATE
        if job.is_array and job.state is State.SUCCEEDED:
            return Refusal.WRONG_STATE
        if job.array_id is not None and (ids[0], job.array_id) not in open_arrays:
            return Refusal.WRONG_STATE
        place = claim_key(job.priority, now_us)
        position = job.tell(tx, ids, EventKind.RETRIED, State.QUEUED, now_us)
        rows.append((*ids, position, place, now_us))
        if job.has_children:
            parents.append((ids, now_us))
        return True

    effects = [effect(retry, jobs, key, now_us) for key, now_us in calls]
    await change(tx, "retry_jobs", rows)
    revived = [(tenant, job_id) for tenant, job_id, *_ in rows if jobs[tenant, job_id].is_array]
    await change(tx, "revive_arrays", revived)
    await _uncount(
        tx, {ids: job for row in rows if (job := jobs[ids := (row[0], row[1])]).array_told}
    )
    await join(tx, [(*row[:2], jobs[row[0], row[1]].keys) for row in rows])
    for now_us, again in by_instant(parents).items():
        await after_revivals(tx, again, now_us)
    return effects


async def arrays_of(tx: Transaction, keys: Sequence[Ids]) -> list[Ids]:
    """The arrays of jobs that are indices: who runs one again locks both, in the order of all jobs."""
    rows = await tx.read("find_arrays_of", keys)
    return sorted({(tenant, array_id) for tenant, array_id in rows})


async def _uncount(tx: Transaction, indices: Mapping[Ids, Asked]) -> None:
    """Have arrays know at once that indices are run again: else they might end without them."""
    counted: dict[Ids, collections.Counter[str]] = {}
    for (tenant, _), job in indices.items():
        assert job.array_id is not None  # only an index is told of
        name = COUNTED[State(job.array_told)]
        counted.setdefault((tenant, job.array_id), collections.Counter())[name] += 1
    rows = [
        (*array, counts["succeeded"], counts["failed"], counts["dropped"])
        for array, counts in sorted(counted.items())
    ]
    await change(tx, "uncount_indices", rows)
    await change(tx, "tell_indices", [(*ids, 0) for ids in sorted(indices)])
