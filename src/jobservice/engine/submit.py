"""Submit: jobs come to be. The only place that gives ids."""

import dataclasses
import datetime as dt
from collections.abc import Iterator, Mapping, Sequence

from jobservice.engine.parts import Parts
from jobservice.errors import (
    AlreadyExists,
    DuplicateJob,
    InvalidRequest,
    JobServiceError,
    KeyTaken,
    QueueDrained,
    QueueFull,
    Violation,
)
from jobservice.model.bounds import starts_at
from jobservice.model.ids import RANDOM_BITS, job_id
from jobservice.model.job import Job, NewJob
from jobservice.model.lifecycle import State
from jobservice.model.limit import OnConflict
from jobservice.model.spec import JobSpec
from jobservice.model.unique import OnDuplicate
from jobservice.store.port import Arrival, Inserted, Insertion, JobKey, RequestKey

_COMPARED = (
    "name",
    "job_type",
    "labels",
    "queue",
    "priority",
    "cluster",
    "timeout",
    "retry",
    "stop_grace",
    "output_limit_bytes",
    "start_after",
    "start_delay",
    "dependencies",
    "dependency_policy",
    "concurrency_keys",
    "unique_key",
    "fairness_key",
    "fairness_weight",
    "queue_timeout",
    "total_timeout",
    "deadline",
    "idle_timeout",
    "placement",
    "array",
)
_COMPARED_COMMAND = ("argv", "env", "stdin", "work_dir")


async def submit(
    parts: Parts,
    tenant: str,
    specs: Sequence[JobSpec],
    request: RequestKey | None,
    *,
    path: str = "job",
    validate_only: bool = False,
) -> list[Job]:
    """Store new jobs, all or none, and return them in order; durable on return.

    The ids of a batch count up, so that its jobs stand and start in the order of the request. With
    `validate_only` nothing is stored, and the jobs have ids that nobody ever sees again. `path` is
    where a job stands in the request, with `{}` for its place in a batch.

    Raises:
        InvalidRequest: a dependency names a job that there is not, a batch has what only a job alone
            may have, or a deadline has passed.
        AlreadyExists: the request_id was used with another body, or for jobs deleted since.
        QueueFull, QueueDrained: a queue does not take the jobs.
        KeyTaken, DuplicateJob: the key of a job is that of another, and the job says to be refused then.
    """
    _check_alone(specs, path)
    now = parts.clock.now()
    unix_ms = int(now.timestamp() * 1000)
    first = parts.random.getrandbits(RANDOM_BITS - 1)
    ids = [job_id(unix_ms, first + index) for index in range(len(specs))]
    new_jobs = [
        new_job(tenant, identity, _named_by_id(spec, ids), now)
        for identity, spec in zip(ids, specs, strict=True)
    ]
    late = list(_late(specs, path, now))
    inserted = await parts.store.insert_jobs(
        new_jobs, request=request, validate_only=validate_only or bool(late)
    )
    if late and inserted.insertion not in {Insertion.REPEATED, Insertion.CONFLICT}:
        raise InvalidRequest(late)
    if inserted.insertion in _REFUSALS:
        raise _refused(inserted, specs, path)
    if inserted.insertion is Insertion.CONFLICT:
        keys = [JobKey(tenant, each) for each in inserted.job_ids]
        submitted = await parts.store.find_submitted(keys)
        raise _conflict(inserted.job_ids, submitted, specs)
    if inserted.insertion is Insertion.REPEATED:
        return await _repeated(parts, tenant, inserted)
    created: Mapping[str, Job] = {}
    if inserted.insertion is Insertion.CREATED:
        parts.signals.stop(inserted.stopped)
        parts.signals.work.ring()
        if inserted.replaces:
            parts.signals.children_moved()
        if any(_has_instants(new) or new.job_id in inserted.arrivals for new in new_jobs):
            parts.signals.timers.ring()
        created = {
            new.job_id: _as_inserted(new, inserted.arrivals.get(new.job_id)) for new in new_jobs
        }
    if inserted.job_ids == tuple(ids):
        return list(created.values())
    found = await parts.store.find_jobs([JobKey(tenant, each) for each in inserted.standing])
    known = {**created, **inserted.standing} | {job.job_id: job for job in found if job is not None}
    return [
        dataclasses.replace(known[each], existing=each != own_id)
        for own_id, each in zip(ids, inserted.job_ids, strict=True)
    ]


def _late(specs: Sequence[JobSpec], path: str, now: dt.datetime) -> Iterator[Violation]:
    """New jobs that could only fail; the repeat of a request is answered as before all the same."""
    for n, spec in enumerate(specs):
        if spec.deadline is not None and spec.deadline <= now:
            text = (
                f"must be in the future, or left out; it is {now:%Y-%m-%dT%H:%M:%SZ} now, "
                f"got {spec.deadline:%Y-%m-%dT%H:%M:%SZ}"
            )
            yield Violation(f"{path.format(n)}.deadline", text, "NO_TIME_LEFT")


async def _repeated(parts: Parts, tenant: str, inserted: Inserted) -> list[Job]:
    """What a request was answered before, with the jobs as they are now."""
    found = await parts.store.find_jobs([JobKey(tenant, each) for each in inserted.job_ids])
    jobs = [job for job in found if job is not None]
    if len(jobs) != len(found):
        raise AlreadyExists(
            f"The request_id was used to create {_named(inserted.job_ids)}, which was deleted "
            "since; use another request_id to create it again.",
            job_id=inserted.job_ids[0],
        )
    return [
        dataclasses.replace(
            job,
            existing=job.created_at != inserted.requested_at
            or job.job_id in inserted.job_ids[:place],
        )
        for place, job in enumerate(jobs)
    ]


def new_job(tenant: str, job_id: str, spec: JobSpec, now: dt.datetime) -> NewJob:
    """A job that comes to be now: SCHEDULED where its start is ahead, else QUEUED."""
    start_at = starts_at(spec, now)
    state = State.QUEUED if start_at is None else State.SCHEDULED
    return NewJob(tenant, job_id, spec, now, state, start_at)


def _has_instants(new: NewJob) -> bool:
    """Whether something happens to a job by itself at an instant that is known from its beginning."""
    spec = new.spec
    return any(
        each is not None
        for each in (new.start_at, spec.queue_timeout, spec.total_timeout, spec.deadline)
    )


def as_submitted(new: NewJob) -> Job:
    """A job as it stands right after its insert."""
    return Job(
        tenant=new.tenant,
        job_id=new.job_id,
        spec=new.spec,
        state=new.state,
        created_at=new.created_at,
        updated_at=new.created_at,
        edit_version=1,
        revision=1,
        start_at=new.start_at,
    )


def _as_inserted(new: NewJob, arrival: Arrival | None) -> Job:
    job = as_submitted(new)
    if arrival is None:
        return job
    return dataclasses.replace(
        job, **{field.name: getattr(arrival, field.name) for field in dataclasses.fields(arrival)}
    )


def _named_by_id(spec: JobSpec, ids: Sequence[str]) -> JobSpec:
    """With the ids of jobs that are depended on by their place in the batch, as far as there are ids."""
    if not any(each.request_index is not None for each in spec.dependencies):
        return spec
    dependencies = tuple(
        dataclasses.replace(each, job_id=ids[each.request_index], request_index=None)
        if each.request_index is not None and each.request_index < len(ids)
        else each
        for each in spec.dependencies
    )
    return dataclasses.replace(spec, dependencies=dependencies)


def _check_alone(specs: Sequence[JobSpec], path: str) -> None:
    """What a job does about others with its keys may be about its batch: then it has to come alone."""
    if len(specs) == 1:
        return
    violations = [
        each
        for place, spec in enumerate(specs)
        for each in (*_conflicting(spec, path.format(place)), *_unique_parents(place, specs, path))
    ]
    if violations:
        raise InvalidRequest(violations)


def _conflicting(spec: JobSpec, path: str) -> Iterator[Violation]:
    for number, key in enumerate(spec.concurrency_keys):
        if key.on_conflict is not OnConflict.QUEUE:
            yield Violation(
                f"{path}.concurrency_keys[{number}].on_conflict",
                f"{key.on_conflict.name} is for a job that is created alone; in a batch it is QUEUE",
                "ON_CONFLICT_IN_BATCH",
            )
    if spec.unique_key is not None and spec.unique_key.on_duplicate is OnDuplicate.REPLACE:
        yield Violation(
            f"{path}.unique_key.on_duplicate",
            "REPLACE is for a job that is created alone; in a batch it is RETURN_EXISTING or REJECT",
            "ON_DUPLICATE_IN_BATCH",
        )


def _unique_parents(place: int, specs: Sequence[JobSpec], path: str) -> Iterator[Violation]:
    """The dependencies of a job on others of its batch for which jobs from elsewhere may stand."""
    for number, each in enumerate(specs[place].dependencies):
        index = each.request_index
        parent = specs[index] if index is not None and index < len(specs) else None
        key = None if parent is None else parent.unique_key
        if key is not None and key.on_duplicate is OnDuplicate.RETURN_EXISTING:
            yield Violation(
                f"{path.format(place)}.dependencies[{number}].request_index",
                f"another job may stand for requests[{index}], which has a unique key; have it REJECT, "
                "or create it first and give its job_id",
                "UNIQUE_PARENT",
            )


_REFUSALS = frozenset(
    {
        Insertion.NO_PARENT,
        Insertion.DRAINED,
        Insertion.QUEUE_FULL,
        Insertion.KEY_TAKEN,
        Insertion.DUPLICATE,
    }
)


def _refused(inserted: Inserted, specs: Sequence[JobSpec], path: str) -> JobServiceError:
    """What to say where nothing was created."""
    queue = inserted.queue
    if inserted.insertion is Insertion.DRAINED:
        message = (
            f"The queue {queue} is being drained and takes no new jobs; resume it, or use another."
        )
        return QueueDrained(message, queue=queue)
    if inserted.insertion is Insertion.QUEUE_FULL:
        message = f"The queue {queue} is full: {inserted.bound}; try again later."
        return QueueFull(message, queue=queue)
    if inserted.insertion is Insertion.KEY_TAKEN:
        message = (
            f"The key {inserted.key!r} is taken by {_named(inserted.job_ids)}; try again later."
        )
        return KeyTaken(message, key=inserted.key, job_id=inserted.job_ids[0])
    if inserted.insertion is Insertion.DUPLICATE:
        return _duplicate(inserted, path)
    return _no_parents(specs, inserted.missing, path)


def _duplicate(inserted: Inserted, path: str) -> DuplicateJob:
    field = f"{path.format(inserted.place)}.unique_key"
    found = {"job_id": inserted.job_ids[0]} if inserted.job_ids else {}
    other = f"requests[{inserted.twin}]" if inserted.twin is not None else _named(inserted.job_ids)
    message = f"{field}: the unique key {inserted.key!r} is that of {other}; nothing was created."
    return DuplicateJob(message, key=inserted.key, field=field, **found)


def _no_parents(
    specs: Sequence[JobSpec], missing: Sequence[tuple[int, int]], path: str
) -> InvalidRequest:
    """What to say of dependencies on jobs that are nobody's, or another tenant's."""
    return InvalidRequest(
        [
            Violation(
                f"{path.format(place)}.dependencies[{number}].job_id",
                f"there is no job {specs[place].dependencies[number].job_id}; name one of this "
                "tenant that was not deleted more than seven days ago",
                "JOB_NOT_FOUND",
            )
            for place, number in missing
        ]
    )


def _conflict(
    job_ids: Sequence[str], submitted: Sequence[JobSpec | None], specs: Sequence[JobSpec]
) -> AlreadyExists:
    fields = [] if len(submitted) == len(specs) else ["requests"]
    for old, new in zip(submitted, specs, strict=False):
        if old is not None:
            found = _differences(old, _named_by_id(new, job_ids))
            fields += [each for each in found if each not in fields]
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
