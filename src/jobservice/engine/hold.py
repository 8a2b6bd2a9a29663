"""Hold and release: a job that waits is kept from starting until somebody lets it go."""

from jobservice.engine.cancel import not_found
from jobservice.engine.parts import Parts
from jobservice.errors import InvalidTransition
from jobservice.model.job import Job
from jobservice.model.lifecycle import Trigger
from jobservice.store.port import JobKey, Refusal


async def hold(parts: Parts, key: JobKey) -> Job:
    """Keep a waiting job from starting; one that is on hold stays so.

    Raises:
        NotFound: there is no such job.
        InvalidTransition: it runs, is final or is being deleted.
    """
    answer = await parts.store.hold_job(key, now=parts.clock.now())
    if isinstance(answer, Refusal):
        raise await _refused(parts, key, Trigger.HOLD, "only a job that waits can be held")
    return answer


async def release(parts: Parts, key: JobKey) -> Job:
    """Let a held job go on waiting by priority and age; one that is not on hold stays as it is.

    One that was held while it waited for other jobs waits for them on, and one that was held because of
    how they ended runs regardless.

    Raises:
        NotFound: there is no such job.
        InvalidTransition: it is final.
    """
    answer = await parts.store.release_job(key, now=parts.clock.now())
    if isinstance(answer, Refusal):
        trigger = Trigger.RELEASE_TO_QUEUED
        raise await _refused(parts, key, trigger, "retry it to have it run again")
    parts.signals.children_moved()
    return answer


async def _refused(parts: Parts, key: JobKey, trigger: Trigger, rule: str) -> Exception:
    job = await parts.store.find_job(key)
    if job is None:
        return not_found(key.job_id)
    state = "being deleted" if job.delete_requested else job.state.name
    message = f"Job {key.job_id} is {state}; {rule}."
    return InvalidTransition(
        message, state=job.state.name, trigger=trigger.value, job_id=key.job_id
    )
