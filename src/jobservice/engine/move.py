"""Move: a queued job gets another place in its queue."""

from jobservice.engine.cancel import not_found
from jobservice.engine.parts import Parts
from jobservice.errors import InvalidRequest, InvalidTransition, Violation
from jobservice.model.job import Job
from jobservice.model.queue import Move
from jobservice.store.port import JobKey, Refusal


async def move(parts: Parts, key: JobKey, where: Move, other: str | None) -> Job:
    """Put a queued job to the top or the bottom of its queue, or next to another job of it.

    Raises:
        NotFound: there is no such job.
        InvalidRequest: there is no such other job, or it is in another queue.
        InvalidTransition: one of the two is not queued.
    """
    answer = await parts.store.move_job(key, where, other, now=parts.clock.now())
    if isinstance(answer, Refusal):
        raise await _refused(parts, key, where, other or "", answer)
    parts.signals.work.ring()
    return answer


async def _refused(
    parts: Parts, key: JobKey, where: Move, other: str, refusal: Refusal
) -> Exception:
    field = where.name.lower()
    if refusal is Refusal.OTHER_NOT_FOUND:
        message = f"there is no job {other}"
        return InvalidRequest([Violation(field, message, "JOB_NOT_FOUND")])
    if refusal is Refusal.ELSEWHERE:
        message = f"{other} has to be another job of the same queue and fairness key"
        return InvalidRequest([Violation(field, message, "ANOTHER_QUEUE")])
    for job_id in (key.job_id, *([other] if other else [])):
        job = await parts.store.find_job(JobKey(key.tenant, job_id))
        if job is None:
            return not_found(job_id)
        if job.state.name != "QUEUED" or job.delete_requested:
            state = "being deleted" if job.delete_requested else job.state.name
            return InvalidTransition(
                f"Job {job_id} is {state}; only a job that is QUEUED has a place in a queue.",
                state=job.state.name,
                trigger="move",
                job_id=job_id,
            )
    return InvalidTransition(state="QUEUED", trigger="move", job_id=key.job_id)
