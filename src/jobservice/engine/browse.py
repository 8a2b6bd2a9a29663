"""Browse: where a job is, and what it waits for. Reads only."""

import dataclasses

from jobservice.engine.cancel import get_job
from jobservice.engine.parts import Parts
from jobservice.model.job import Job
from jobservice.model.lifecycle import State
from jobservice.store.port import JobKey

COUNTED_POSITIONS = 10_000
"""A place in the queue beyond this is given as this."""


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
    return Status(job, _waiting_reason(job, position), position)


def _waiting_reason(job: Job, position: int | None) -> str:
    match job.state:
        case State.QUEUED if position:
            jobs = "1 job" if position == 1 else f"{position} jobs"
            return f"waits for a free slot, behind {jobs} of queue order"
        case State.QUEUED:
            return "waits for a free slot, first in order"
        case State.SCHEDULED if job.failure_count:
            return f"waits to be tried again after {job.failure_count} failed attempts"
        case State.SCHEDULED:
            return "waits for its start time"
        case State.BLOCKED:
            return "waits for jobs it depends on"
        case State.HELD:
            return "is on hold until it is released"
        case _:
            return ""
