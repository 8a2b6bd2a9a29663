"""Browse: where a job is, and what it waits for. Reads only."""

import dataclasses

from jobservice.clock import rfc3339
from jobservice.engine.cancel import get_job
from jobservice.engine.limits import find_blocking_key
from jobservice.engine.parts import Parts
from jobservice.engine.queues import find_obstacle
from jobservice.engine.workers import find_misfit
from jobservice.model.graph import Verdict
from jobservice.model.job import Job
from jobservice.model.lifecycle import Reason, State
from jobservice.store.port import JobKey

COUNTED_POSITIONS = 10_000
"""A place in the queue beyond this is given as this."""
NAMED_JOBS = 3
"""How many of the jobs that one waits for are named."""


@dataclasses.dataclass(frozen=True, slots=True)
class Status:
    """A job, and what it waits for."""

    job: Job
    waiting_reason: str = ""
    queue_position: int | None = None


async def status(parts: Parts, key: JobKey) -> Status:
    """Where a job is right now.

    Raises:
        NotFound: there is no such job.
    """
    job = await get_job(parts, key)
    position = None
    if job.state is State.QUEUED:
        position = await parts.store.queue_position(key, limit=COUNTED_POSITIONS)
        if reason := await _obstacle(parts, job):
            return Status(job, reason, position)
    return Status(job, _waiting_reason(job, position), position)


async def _obstacle(parts: Parts, job: Job) -> str | None:
    """What keeps a QUEUED job from starting besides the number of slots, where anything does."""
    found = await find_obstacle(parts, job.tenant, job.spec.queue)
    if found is not None:
        _, sentence = found
        return f"waits because {sentence}"
    return await find_blocking_key(parts, job) or await find_misfit(parts, job.spec.placement)


def _waiting_reason(job: Job, position: int | None) -> str:
    match job.state:
        case State.QUEUED if position:
            jobs = "1 job" if position == 1 else f"{position} jobs"
            return f"waits for a free slot, behind {jobs} of queue order"
        case State.QUEUED:
            return "waits for a free slot, first in order"
        case State.SCHEDULED if job.failure_count:
            failed = (
                "1 failed attempt"
                if job.failure_count == 1
                else f"{job.failure_count} failed attempts"
            )
            return f"waits until {rfc3339(job.start_at)} to be tried again after {failed}"
        case State.SCHEDULED:
            return f"waits for its start time, {rfc3339(job.start_at)}"
        case State.BLOCKED:
            return _awaited(job)
        case State.HELD if job.reason is Reason.DEPENDENCY:
            return "is on hold because of what it depends on, until it is released"
        case State.HELD:
            return "is on hold until it is released"
        case _:
            return ""


def _awaited(job: Job) -> str:
    """The jobs that a BLOCKED one waits for, the first by name."""
    asked = zip(job.spec.dependencies, job.verdicts, strict=True)
    ids = [each.job_id for each, verdict in asked if verdict is Verdict.PENDING]
    more = f" and {len(ids) - NAMED_JOBS} more" if len(ids) > NAMED_JOBS else ""
    return f"waits for {len(ids)} of {len(job.verdicts)} jobs: {', '.join(ids[:NAMED_JOBS])}{more}"
