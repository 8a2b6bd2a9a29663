"""Edit: what a user changes of a job after its creation, and its revival after its end."""

from jobservice.clock import rfc3339
from jobservice.engine.cancel import not_found, stale
from jobservice.engine.parts import Parts
from jobservice.errors import InvalidTransition
from jobservice.model.job import EDITABLE_ALWAYS, Edits, Job
from jobservice.model.lifecycle import FINAL, State
from jobservice.store.port import JobKey, Refusal


async def update(parts: Parts, key: JobKey, edits: Edits, *, edit_version: int | None) -> Job:
    """Change fields of a job; a running attempt keeps what it began with.

    Raises:
        NotFound, EtagMismatch: as they say.
        InvalidTransition: one of the fields may not be changed any more.
    """
    answer = await parts.store.update_job(
        key, edits, edit_version=edit_version, now=parts.clock.now()
    )
    if isinstance(answer, Refusal):
        raise await _refused(parts, key, answer, sorted(set(edits) - EDITABLE_ALWAYS))
    parts.signals.work.ring()
    parts.signals.timers.ring()
    return answer


async def retry(parts: Parts, key: JobKey) -> Job:
    """Queue a final job again, with a fresh budget of attempts and of time.

    Raises:
        NotFound: there is no such job.
        InvalidTransition: it is not final, is being deleted, or its deadline has passed; it is an array
            that succeeded, or an index of one that does not go on.
    """
    answer = await parts.store.retry_job(key, now=parts.clock.now())
    if isinstance(answer, Refusal):
        raise await _refused(parts, key, answer, [])
    parts.signals.children_moved()
    return answer


async def _refused(parts: Parts, key: JobKey, refusal: Refusal, fields: list[str]) -> Exception:
    if refusal is Refusal.STALE:
        return stale(key.job_id)
    job = await parts.store.find_job(key)
    if refusal is Refusal.NOT_FOUND or job is None:
        return not_found(key.job_id)
    if job.delete_requested:
        message = f"Job {key.job_id} is being deleted."
    elif fields:
        listed = ", ".join(fields)
        message = f"Job {key.job_id} is {job.state.name}: {listed} cannot be changed now."
    elif job.state in FINAL and job.spec.array is not None and job.state is State.SUCCEEDED:
        message = f"All of array {key.job_id} succeeded; submit it anew to have it run again."
    elif job.state in FINAL and job.index is not None:
        message = (
            f"Job {key.job_id} is an index of array {job.index.array_job_id}, which is not RUNNING: "
            "retry the array, and what did not succeed of it runs again."
        )
    elif job.state in FINAL:
        until = rfc3339(job.spec.deadline)
        message = f"Job {key.job_id} had until {until}; submit it anew to have it run again."
    else:
        final = ", ".join(state.name for state in sorted(FINAL))
        message = (
            f"Job {key.job_id} is {job.state.name}; only a job that is final ({final}) can be "
            "retried. Cancel it first."
        )
    return InvalidTransition(
        message,
        state=job.state.name,
        trigger="update" if fields else "revive",
        job_id=key.job_id,
    )
