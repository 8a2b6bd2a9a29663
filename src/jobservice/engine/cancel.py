"""Cancel and delete: the end of a job on request.

The wish is recorded in one transaction, which ends a job that does not run at once. The tree of one
that runs is stopped by its worker; `finish` then makes it CANCELLED. A delete goes on from there:
files first, then the rows (`engine/sweep.py`), so a crash at any point leaves a job that is final,
marked, and deleted by the next sweep.
"""

import re

from jobservice.engine.parts import Parts
from jobservice.engine.watch import ChangeFeed, Subscription
from jobservice.errors import EtagMismatch, NotFound
from jobservice.model.event import EventKind
from jobservice.model.job import Job
from jobservice.model.lifecycle import FINAL, State
from jobservice.mutants import mutant
from jobservice.store.port import JobKey, Refusal, Stopped, StopRequest

_ETAG = re.compile(r"e[1-9a-f][0-9a-f]{0,14}")
_NO_VERSION = 0


async def cancel(parts: Parts, key: JobKey) -> Job:
    """Ask for the end of a job; returns it as it is right after.

    Raises:
        NotFound: there is no such job.
    """
    await _stop(parts, StopRequest(key.tenant, key.job_id))
    return await get_job(parts, key)


async def wait_until_final(parts: Parts, feed: ChangeFeed, key: JobKey) -> Job:
    """The job once it is final, so that no process of it lives.

    Raises:
        NotFound: it was deleted meanwhile.
    """
    async with feed.subscribe() as subscription:
        job = await get_job(parts, key)
        while job.state not in FINAL and not mutant("cancel.answered_early"):
            changes = await subscription.next()
            if any(change.event.job_id == key.job_id for change in changes):
                job = await get_job(parts, key)
        return job


async def delete(
    parts: Parts, feed: ChangeFeed, key: JobKey, *, etag: str, allow_missing: bool
) -> None:
    """Delete a job with all that belongs to it; returns when it is gone.

    Raises:
        NotFound: there is no such job, and `allow_missing` is not set.
        EtagMismatch: `etag` is given and the job was edited since.
    """
    async with feed.subscribe() as subscription:
        request = StopRequest(key.tenant, key.job_id, delete=True, edit_version=edit_version(etag))
        try:
            await _stop(parts, request)
        except NotFound:
            if allow_missing:
                return
            raise
        parts.signals.arrays.ring()
        parts.signals.deletions.ring()
        while await parts.store.find_job(key) is not None:
            await _until_deleted(subscription, key)


async def get_job(parts: Parts, key: JobKey) -> Job:
    """A job with its attempts.

    Raises:
        NotFound: there is no such job.
    """
    job = await parts.store.find_job(key)
    if job is None:
        raise not_found(key.job_id)
    return job


def not_found(job_id: str) -> NotFound:
    """What to say of an id that is nobody's, or another tenant's."""
    return NotFound(f"There is no job {job_id}.", job_id=job_id)


def edit_version(etag: str) -> int | None:
    """The version that an etag stands for; None for an empty one.

    What is no etag of ours stands for a version that no job has.
    """
    if not etag:
        return None
    return int(etag[1:], 16) if _ETAG.fullmatch(etag) else _NO_VERSION


def stale(job_id: str) -> EtagMismatch:
    """What to say of an etag that is not the job's."""
    return EtagMismatch(
        f"Job {job_id} was edited since it was read; read it again and repeat the change.",
        job_id=job_id,
    )


async def _stop(parts: Parts, request: StopRequest) -> Stopped:
    [answer] = await parts.store.request_stop([request], now=parts.clock.now())
    if answer is Refusal.NOT_FOUND:
        raise not_found(request.job_id)
    if isinstance(answer, Refusal):
        raise stale(request.job_id)
    if answer.fence is not None:
        parts.signals.stop([answer.fence])
    elif answer.state is State.STOPPING:
        parts.signals.arrays.ring()
    elif answer.state in FINAL:
        parts.signals.children_moved()
        parts.signals.schedules.ring()
    return answer


async def _until_deleted(subscription: Subscription, key: JobKey) -> None:
    while True:
        for change in await subscription.next():
            if change.event.job_id == key.job_id and change.event.kind is EventKind.DELETED:
                return
