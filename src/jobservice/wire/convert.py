"""Between the messages of the wire and the values of the model.

Messages come in checked (`wire/validate.py`), so nothing here refuses anything. On the wire
"unset" is allowed and means a default; in the model defaults are filled in. Submits and lists run
through here once per job, so instants go by seconds and nanoseconds and a message is one call.

| of the wire | of the model |
|---|---|
| `Job` of a create | `JobSpec` (`to_spec`) |
| `Job` | `Job` (`job_message`, `to_job`) |
| `JobStatus` | `Job`, its place and what it waits for (`status_message`) |
| `JobEvent` | `Event` (`event_message`, `to_event`) |
| `UpdateJobRequest` | `Edits` (`to_edits`) |
"""

import datetime as dt
import enum
import operator
from collections.abc import Sequence
from typing import Any

from google.protobuf.duration_pb2 import Duration

from jobservice.model.event import Event, EventKind
from jobservice.model.graph import Condition, OnUnmet, Rule, Verdict
from jobservice.model.job import Attempt, AttemptState, Edits, Job, Progress
from jobservice.model.lifecycle import LIVE, Reason, State
from jobservice.model.limit import NORMAL_WEIGHT, ConcurrencyKey, OnConflict
from jobservice.model.spec import (
    DEFAULT_CLUSTER,
    DEFAULT_OUTPUT_LIMIT_BYTES,
    DEFAULT_QUEUE,
    DEFAULT_STOP_GRACE,
    Command,
    Dependency,
    DependencyPolicy,
    JobSpec,
    RetryPolicy,
)
from jobservice.model.unique import OnDuplicate, UniqueKey, UniqueScope
from jobservice.model.worker import ANYWHERE
from jobservice.wire._gen.v1 import job_pb2, job_service_pb2
from jobservice.wire.arrays import array_fields, array_message, array_values, to_array
from jobservice.wire.times import (
    duration,
    maybe_instant,
    maybe_length,
    maybe_timeout,
    maybe_timestamp,
    maybe_value,
    timestamp,
    to_instant,
    to_timedelta,
)
from jobservice.wire.workers import placement_fields, to_placement

_DEFAULT_RETRY = RetryPolicy()
_DEFAULT_DEPENDENCY_POLICY = DependencyPolicy()


class View(enum.IntEnum):
    """Which fields of a job a message has. The numbers are those of the wire."""

    BASIC = 1
    """Without environment, standard input and attempts."""
    FULL = 2
    """All of what is known: of attempts, those that the job was read with."""
    ID = 3
    """The id alone."""


def view(number: int) -> View:
    """The view that a request asks for; unset is BASIC."""
    return View(number or 1)


# --- what a user asks for ---------------------------------------------------------------------


def to_spec(job: job_pb2.Job) -> JobSpec:
    """What a user asks for, with the defaults filled in; what the service sets is ignored."""
    command = job.command
    return JobSpec(
        command=Command(tuple(command.argv), dict(command.env), command.stdin, command.work_dir),
        name=job.name,
        job_type=job.job_type,
        labels=dict(job.labels),
        queue=job.queue or DEFAULT_QUEUE,
        priority=job.priority,
        cluster=job.cluster or DEFAULT_CLUSTER,
        timeout=maybe_timeout(job, "timeout"),
        retry=to_retry(job.retry_policy) if job.HasField("retry_policy") else _DEFAULT_RETRY,
        stop_grace=(
            to_timedelta(job.stop_grace) if job.HasField("stop_grace") else DEFAULT_STOP_GRACE
        ),
        output_limit_bytes=job.output_limit_bytes or DEFAULT_OUTPUT_LIMIT_BYTES,
        start_after=maybe_instant(job, "start_after"),
        start_delay=maybe_length(job, "start_delay"),
        queue_timeout=maybe_timeout(job, "queue_timeout"),
        total_timeout=maybe_timeout(job, "total_timeout"),
        idle_timeout=maybe_timeout(job, "idle_timeout"),
        deadline=maybe_instant(job, "deadline"),
        dependencies=tuple(map(_to_dependency, job.dependencies)) if job.dependencies else (),
        dependency_policy=(
            _to_dependency_policy(job.dependency_policy)
            if job.HasField("dependency_policy")
            else _DEFAULT_DEPENDENCY_POLICY
        ),
        concurrency_keys=tuple(map(to_key, job.concurrency_keys)) if job.concurrency_keys else (),
        unique_key=_to_unique(job.unique_key) if job.HasField("unique_key") else None,
        fairness_key=job.fairness_key,
        fairness_weight=to_weight(job.fairness_weight),
        placement=to_placement(job),
        array=to_array(job),
    )


def _to_dependency(message: job_pb2.Dependency) -> Dependency:
    return Dependency(
        job_id=message.job_id,
        condition=Condition(message.condition or Condition.SUCCEEDED),
        delay=to_timedelta(message.delay),
        request_index=maybe_value(message, "request_index"),
    )


def _to_dependency_policy(message: job_pb2.DependencyPolicy) -> DependencyPolicy:
    return DependencyPolicy(
        Rule(message.rule or Rule.ALL),
        message.at_least,
        OnUnmet(message.on_unmet or OnUnmet.SKIP),
    )


def to_key(key: job_pb2.ConcurrencyKey) -> ConcurrencyKey:
    """A concurrency key, with the defaults filled in."""
    conflict = OnConflict(key.on_conflict or OnConflict.QUEUE)
    return ConcurrencyKey(key.key, key.limit, key.weight or 1, conflict)


def key_message(key: ConcurrencyKey) -> job_pb2.ConcurrencyKey:
    """A concurrency key, every part of it written out."""
    return job_pb2.ConcurrencyKey(
        key=key.key,
        limit=key.limit,
        weight=key.weight,
        on_conflict=int(key.on_conflict),  # type: ignore[arg-type]  # the numbers are the same
    )


def _to_unique(message: job_pb2.UniqueKey) -> UniqueKey:
    return UniqueKey(
        message.key,
        UniqueScope(message.scope or UniqueScope.TENANT),
        maybe_timeout(message, "window"),
        tuple(map(State, sorted(message.states))),
        OnDuplicate(message.on_duplicate or OnDuplicate.RETURN_EXISTING),
    )


def unique_message(key: UniqueKey) -> job_pb2.UniqueKey:
    """A unique key as the wire has it, its rules written out."""
    return job_pb2.UniqueKey(
        key=key.key,
        scope=int(key.scope),  # type: ignore[arg-type]  # the numbers are the same
        window=None if key.window is None else duration(key.window),
        states=list(map(int, key.states)),  # type: ignore[arg-type]
        on_duplicate=int(key.on_duplicate),  # type: ignore[arg-type]
    )


def to_weight(share: float) -> int:
    """A share in thousandths; unset is the normal one."""
    return round(share * NORMAL_WEIGHT) if share else NORMAL_WEIGHT


def to_retry(policy: job_pb2.RetryPolicy) -> RetryPolicy:
    """The rules of retries, with the defaults filled in."""
    default = _DEFAULT_RETRY
    first, longest = default.initial_backoff, default.max_backoff
    if policy.HasField("initial_backoff"):
        first = to_timedelta(policy.initial_backoff)
    if policy.HasField("max_backoff"):
        longest = to_timedelta(policy.max_backoff)
    return RetryPolicy(
        max_attempts=policy.max_attempts or default.max_attempts,
        initial_backoff=first,
        multiplier=policy.multiplier or default.multiplier,
        max_backoff=longest,
        max_lost=policy.max_lost or default.max_lost,
    )


def _spec_fields(spec: JobSpec) -> dict[str, Any]:
    """What is at its zero is left out: each field given costs as much as the rest of its line."""
    fields: dict[str, Any] = {
        "queue": spec.queue,
        "cluster": spec.cluster,
        "retry_policy": retry_message(spec.retry),
        "stop_grace": _grace_message(spec.stop_grace),
        "output_limit_bytes": spec.output_limit_bytes,
    }
    for name in ("name", "job_type", "labels", "priority", "fairness_key"):
        given = getattr(spec, name)
        if given:
            fields[name] = given
    if spec.concurrency_keys:
        fields["concurrency_keys"] = [key_message(key) for key in spec.concurrency_keys]
    if spec.unique_key is not None:
        fields["unique_key"] = unique_message(spec.unique_key)
    if spec.fairness_weight != NORMAL_WEIGHT:
        fields["fairness_weight"] = spec.fairness_weight / NORMAL_WEIGHT
    if spec.array is not None:
        fields["array"] = array_message(spec.array)
    if spec.placement is not ANYWHERE:
        fields |= placement_fields(spec.placement)
    if _TIMING(spec) != _NO_TIMING:
        fields |= _timing_fields(spec)
    return fields


_TIMING = operator.attrgetter(
    "timeout", "start_after", "start_delay", "queue_timeout", "total_timeout", "deadline",
    "idle_timeout",
)  # fmt: skip
_NO_TIMING = (None,) * 7


def _timing_fields(spec: JobSpec) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name in ("timeout", "start_delay", "queue_timeout", "total_timeout", "idle_timeout"):
        length = getattr(spec, name)
        if length is not None:
            fields[name] = duration(length)
    for name in ("start_after", "deadline"):
        at = getattr(spec, name)
        if at is not None:
            fields[name] = timestamp(at)
    return fields


def _dependency_fields(job: Job) -> dict[str, Any]:
    """What a job depends on; one that was only submitted has no verdicts."""
    spec = job.spec
    verdicts: Sequence[int] = job.verdicts or [0] * len(spec.dependencies)
    return {
        "dependencies": list(map(dependency_message, spec.dependencies, verdicts)),
        "dependency_policy": dependency_policy_message(spec.dependency_policy),
    }


def dependency_message(dependency: Dependency, verdict: int = 0) -> job_pb2.Dependency:
    """A dependency as the wire has it."""
    parent: dict[str, Any] = {"job_id": dependency.job_id}
    if dependency.request_index is not None:
        parent = {"request_index": dependency.request_index}
    return job_pb2.Dependency(
        condition=int(dependency.condition),  # type: ignore[arg-type]  # the numbers are the same
        delay=duration(dependency.delay) if dependency.delay else None,
        verdict=int(verdict),  # type: ignore[arg-type]
        **parent,
    )


def dependency_policy_message(policy: DependencyPolicy) -> job_pb2.DependencyPolicy:
    """When a job with dependencies runs, every rule written out."""
    return job_pb2.DependencyPolicy(
        rule=int(policy.rule),  # type: ignore[arg-type]  # the numbers are the same
        at_least=policy.at_least,
        on_unmet=int(policy.on_unmet),  # type: ignore[arg-type]
    )


def _grace_message(grace: dt.timedelta) -> Duration:
    return _DEFAULT_GRACE_MESSAGE if grace == DEFAULT_STOP_GRACE else duration(grace)


_DEFAULT_GRACE_MESSAGE = duration(DEFAULT_STOP_GRACE)


def _command(command: Command, *, full: bool) -> job_pb2.Command:
    if full:
        return job_pb2.Command(
            argv=command.argv, env=command.env, stdin=command.stdin, work_dir=command.work_dir
        )
    return job_pb2.Command(argv=command.argv, work_dir=command.work_dir)


def retry_message(policy: RetryPolicy) -> job_pb2.RetryPolicy:
    """The rules of retries, every one written out."""
    if policy == _DEFAULT_RETRY:
        return _DEFAULT_RETRY_MESSAGE
    return job_pb2.RetryPolicy(
        max_attempts=policy.max_attempts,
        initial_backoff=duration(policy.initial_backoff),
        multiplier=policy.multiplier,
        max_backoff=duration(policy.max_backoff),
        max_lost=policy.max_lost,
    )


_DEFAULT_RETRY_MESSAGE = job_pb2.RetryPolicy(
    max_attempts=_DEFAULT_RETRY.max_attempts,
    initial_backoff=duration(_DEFAULT_RETRY.initial_backoff),
    multiplier=_DEFAULT_RETRY.multiplier,
    max_backoff=duration(_DEFAULT_RETRY.max_backoff),
    max_lost=_DEFAULT_RETRY.max_lost,
)
"""Nearly every job has it, and messages are copied into the one that holds them."""


# --- edits ------------------------------------------------------------------------------------


def to_edits(request: job_service_pb2.UpdateJobRequest) -> Edits:
    """The new value of each field in the mask, as `JobSpec` holds it; unset means the default."""
    spec = to_spec(request.job)
    fields = {"retry_policy": "retry"}
    return {path: getattr(spec, fields.get(path, path)) for path in request.update_mask.paths}


# --- jobs -------------------------------------------------------------------------------------


def spec_message(spec: JobSpec) -> job_pb2.Job:
    """What a user asks for as the wire has it, without what the service sets."""
    return job_pb2.Job(command=_command(spec.command, full=True), **_spec_fields(spec))


def job_message(job: Job, view: View) -> job_pb2.Job:
    """A job as the wire has it."""
    if view is View.ID:
        return job_pb2.Job(job_id=job.job_id)
    full = view is View.FULL
    fields = _spec_fields(job.spec)
    fields["command"] = _command(job.spec.command, full=full)
    if full and job.attempts:
        fields["attempts"] = [attempt_message(each) for each in job.attempts]
    if job.attempt_count or job.spec.array is not None:
        fields |= _attempt_fields(job)
    if job.index is not None or job.array_counts is not None:
        fields |= array_fields(job)
    if job.spec.dependencies:
        fields |= _dependency_fields(job)
    if job.ended_at is not None:
        fields["end_time"] = timestamp(job.ended_at)
    if job.start_at is not None:
        fields["next_attempt_time"] = timestamp(job.start_at)
    if job.schedule_at is not None:
        fields["schedule"] = job.schedule
        fields["schedule_time"] = timestamp(job.schedule_at)
    created = updated = timestamp(job.created_at)
    if job.updated_at != job.created_at:
        updated = timestamp(job.updated_at)
    return job_pb2.Job(
        job_id=job.job_id,
        tenant=job.tenant,
        state=int(job.state),  # type: ignore[arg-type]  # the numbers are the same
        reason=int(job.reason),  # type: ignore[arg-type]
        reason_message=job.message,
        cause_job_id=job.cause_job_id,
        create_time=created,
        update_time=updated,
        etag=job.etag,
        revision=job.revision,
        **fields,
    )


def _attempt_fields(job: Job) -> dict[str, Any]:
    """What a job has only once an attempt began."""
    fields: dict[str, Any] = {
        "attempt_count": job.attempt_count,
        "failure_count": job.failure_count,
        "lost_count": job.lost_count,
        "exit_code": job.exit_code,
        "signal": job.signal,
        "start_time": maybe_timestamp(job.started_at),
    }
    if job.progress is not None:
        fields |= _progress_fields(job.progress, alive=job.state in LIVE)
    return fields


def attempt_message(attempt: Attempt) -> job_pb2.Attempt:
    """An attempt as the wire has it."""
    return job_pb2.Attempt(
        attempt=attempt.attempt,
        state=int(attempt.state),  # type: ignore[arg-type]  # the numbers are the same
        reason=int(attempt.reason),  # type: ignore[arg-type]
        reason_message=attempt.message,
        worker_id=attempt.worker_id,
        claim_time=timestamp(attempt.claimed_at),
        start_time=maybe_timestamp(attempt.started_at),
        end_time=maybe_timestamp(attempt.ended_at),
        exit_code=attempt.exit_code,
        signal=attempt.signal,
        stdout_bytes=attempt.stdout_bytes,
        stderr_bytes=attempt.stderr_bytes,
        dropped_bytes=attempt.dropped_bytes,
        cpu_time=duration(dt.timedelta(seconds=attempt.cpu_s)) if attempt.ended_at else None,
        max_rss_bytes=attempt.max_rss_bytes,
    )


def status_message(
    job: Job, *, waiting_reason: str = "", queue_position: int | None = None
) -> job_service_pb2.JobStatus:
    """Where a job is, as the wire has it; the newest of its attempts is part of it."""
    progress: dict[str, Any] = {}
    if job.progress is not None:
        progress = _progress_fields(job.progress, alive=job.state in LIVE)
    return job_service_pb2.JobStatus(
        job_id=job.job_id,
        state=int(job.state),  # type: ignore[arg-type]
        reason=int(job.reason),  # type: ignore[arg-type]
        reason_message=job.message,
        waiting_reason=waiting_reason,
        queue_position=queue_position,
        attempt=attempt_message(job.attempts[-1]) if job.attempts else None,
        failure_count=job.failure_count,
        lost_count=job.lost_count,
        next_attempt_time=maybe_timestamp(job.start_at),
        create_time=timestamp(job.created_at),
        start_time=maybe_timestamp(job.started_at),
        end_time=maybe_timestamp(job.ended_at),
        revision=job.revision,
        **progress,
    )


def event_message(event: Event) -> job_service_pb2.JobEvent:
    """An event as the wire has it."""
    progress = _progress_fields(event.progress, alive=True) if event.progress else {}
    return job_service_pb2.JobEvent(
        job_id=event.job_id,
        revision=event.revision,
        kind=int(event.kind),  # type: ignore[arg-type]
        previous_state=int(event.previous_state or 0),  # type: ignore[arg-type]
        state=int(event.state),  # type: ignore[arg-type]
        reason=int(event.reason),  # type: ignore[arg-type]
        reason_message=event.message,
        attempt=event.attempt,
        event_time=timestamp(event.at),
        exit_code=event.exit_code,
        signal=event.signal,
        next_attempt_time=maybe_timestamp(event.start_at),
        **progress,
    )


def _progress_fields(progress: Progress, *, alive: bool) -> dict[str, Any]:
    """How far an attempt is or was; one that has ended has no time to come."""
    estimated = progress.estimated_completion if alive else None
    return {
        "progress_percent": progress.percent,
        "current_step": progress.step,
        "estimated_completion": maybe_timestamp(estimated),
    }


# --- jobs, as a client reads them -------------------------------------------------------------


def to_job(message: job_pb2.Job) -> Job:
    """The job of a message; what the message's view leaves out is empty.

    The wire does not say when progress was reported: `update_time` stands for it. Nor does it say
    that a delete was asked for.
    """
    created_at = to_instant(message.create_time)
    updated_at = to_instant(message.update_time)
    return Job(
        tenant=message.tenant,
        job_id=message.job_id,
        spec=to_spec(message),
        state=State(message.state),
        created_at=created_at,
        updated_at=updated_at,
        edit_version=int(message.etag.removeprefix("e") or "0", 16),
        revision=message.revision,
        reason=Reason(message.reason),
        message=message.reason_message,
        attempt_count=message.attempt_count,
        failure_count=message.failure_count,
        lost_count=message.lost_count,
        exit_code=maybe_value(message, "exit_code"),
        signal=maybe_value(message, "signal"),
        start_at=maybe_instant(message, "next_attempt_time"),
        started_at=maybe_instant(message, "start_time"),
        ended_at=maybe_instant(message, "end_time"),
        progress=_to_progress(message, updated_at),
        attempts=tuple(to_attempt(each) for each in message.attempts),
        schedule=message.schedule,
        schedule_at=maybe_instant(message, "schedule_time"),
        cause_job_id=message.cause_job_id,
        verdicts=tuple(Verdict(each.verdict) for each in message.dependencies if each.verdict),
        **array_values(message),
    )


def to_attempt(message: job_pb2.Attempt) -> Attempt:
    """The attempt of a message."""
    return Attempt(
        attempt=message.attempt,
        state=AttemptState(message.state),
        worker_id=message.worker_id,
        claimed_at=to_instant(message.claim_time),
        reason=Reason(message.reason),
        message=message.reason_message,
        started_at=maybe_instant(message, "start_time"),
        ended_at=maybe_instant(message, "end_time"),
        exit_code=maybe_value(message, "exit_code"),
        signal=maybe_value(message, "signal"),
        stdout_bytes=message.stdout_bytes,
        stderr_bytes=message.stderr_bytes,
        dropped_bytes=message.dropped_bytes,
        cpu_s=to_timedelta(message.cpu_time).total_seconds(),
        max_rss_bytes=message.max_rss_bytes,
    )


def to_event(message: job_service_pb2.JobEvent, tenant: str = "") -> Event:
    """The event of a message. The wire leaves out the tenant: a caller sees its own alone."""
    at = to_instant(message.event_time)
    return Event(
        tenant=tenant,
        job_id=message.job_id,
        revision=message.revision,
        kind=EventKind(message.kind),
        state=State(message.state),
        at=at,
        previous_state=State(message.previous_state) if message.previous_state else None,
        reason=Reason(message.reason),
        message=message.reason_message,
        attempt=message.attempt,
        exit_code=maybe_value(message, "exit_code"),
        signal=maybe_value(message, "signal"),
        start_at=maybe_instant(message, "next_attempt_time"),
        progress=_to_progress(message, at),
    )


def _to_progress(
    message: job_pb2.Job | job_service_pb2.JobEvent | job_service_pb2.JobStatus,
    reported_at: dt.datetime,
) -> Progress | None:
    if not message.HasField("progress_percent"):
        return None
    return Progress(
        percent=message.progress_percent,
        step=message.current_step,
        estimated_completion=maybe_instant(message, "estimated_completion"),
        reported_at=reported_at,
    )
