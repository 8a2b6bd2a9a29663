"""Submit: jobs come to be. The only place that gives ids."""

from collections.abc import Sequence

from jobservice.engine.parts import Parts
from jobservice.errors import AlreadyExists
from jobservice.model.ids import RANDOM_BITS, job_id
from jobservice.model.job import Job, NewJob
from jobservice.model.lifecycle import State
from jobservice.model.spec import JobSpec
from jobservice.store.port import Insertion, JobKey, RequestKey

_COMPARED = (
    "name",
    "labels",
    "queue",
    "priority",
    "cluster",
    "timeout",
    "retry",
    "stop_grace",
    "output_limit_bytes",
)
_COMPARED_COMMAND = ("argv", "env", "stdin", "work_dir")


async def submit(
    parts: Parts, tenant: str, specs: Sequence[JobSpec], request: RequestKey | None
) -> list[Job]:
    """Store new jobs, all or none, and return them in order; durable on return.

    The ids of a batch count up, so that its jobs stand and start in the order of the request.

    Raises:
        AlreadyExists: the request_id was used with another body, or for jobs deleted since.
    """
    now = parts.clock.now()
    unix_ms = int(now.timestamp() * 1000)
    first = parts.random.getrandbits(RANDOM_BITS - 1)
    new_jobs = [
        NewJob(tenant, job_id(unix_ms, first + index), spec, now)
        for index, spec in enumerate(specs)
    ]
    inserted = await parts.store.insert_jobs(new_jobs, request=request)
    if inserted.insertion is Insertion.CREATED:
        parts.signals.work.ring()
        return [as_submitted(new) for new in new_jobs]
    keys = [JobKey(tenant, each) for each in inserted.job_ids]
    if inserted.insertion is Insertion.CONFLICT:
        submitted = await parts.store.find_submitted(keys)
        raise _conflict(inserted.job_ids, submitted, specs)
    found = await parts.store.find_jobs(keys)
    jobs = [job for job in found if job is not None]
    if len(jobs) != len(found):
        raise AlreadyExists(
            f"The request_id was used to create {_named(inserted.job_ids)}, which was deleted "
            "since; use another request_id to create it again.",
            job_id=inserted.job_ids[0],
        )
    return jobs


def as_submitted(new: NewJob) -> Job:
    """A job as it stands right after its insert."""
    return Job(
        tenant=new.tenant,
        job_id=new.job_id,
        spec=new.spec,
        state=State.QUEUED,
        created_at=new.created_at,
        updated_at=new.created_at,
        edit_version=1,
        revision=1,
    )


def _conflict(
    job_ids: Sequence[str], submitted: Sequence[JobSpec | None], specs: Sequence[JobSpec]
) -> AlreadyExists:
    fields = [] if len(submitted) == len(specs) else ["requests"]
    for old, new in zip(submitted, specs, strict=False):
        if old is not None:
            fields += [each for each in _differences(old, new) if each not in fields]
    differs = f" with another {', '.join(fields)}" if fields else " with another body"
    return AlreadyExists(
        f"The request_id was used to create {_named(job_ids)}{differs}; use another request_id "
        "for another job.",
        job_id=job_ids[0],
        fields=",".join(fields),
    )


def _differences(old: JobSpec, new: JobSpec) -> list[str]:
    fields = [name for name in _COMPARED if getattr(old, name) != getattr(new, name)]
    return fields + [
        f"command.{name}"
        for name in _COMPARED_COMMAND
        if getattr(old.command, name) != getattr(new.command, name)
    ]


def _named(job_ids: Sequence[str]) -> str:
    more = f" and {len(job_ids) - 1} more" if len(job_ids) > 1 else ""
    return f"job {job_ids[0]}{more}"
