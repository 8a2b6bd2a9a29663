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
| the three requests for pages | `JobFilter` (`to_filter`) |
| `UpdateJobRequest` | `Edits` (`to_edits`) |
"""

import dataclasses
import datetime as dt
import enum
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from jobservice.clock import EPOCH
from jobservice.model.event import Event, EventKind
from jobservice.model.job import Attempt, AttemptState, Edits, Job, Progress
from jobservice.model.lifecycle import ACTIVE, FINAL, LIVE, Reason, State
from jobservice.model.spec import (
    DEFAULT_CLUSTER,
    DEFAULT_OUTPUT_LIMIT_BYTES,
    DEFAULT_QUEUE,
    DEFAULT_STOP_GRACE,
    Command,
    JobSpec,
    RetryPolicy,
)
from jobservice.wire._gen.v1 import job_pb2, job_service_pb2

_DEFAULT_RETRY = RetryPolicy()
_DAY_S = 86_400
_SHORTEST = dt.timedelta.resolution
"""A timeout below it is this: none of zero length exists."""


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


# --- instants and durations -------------------------------------------------------------------


def timestamp(instant: dt.datetime) -> Timestamp:
    """An aware UTC instant, to the microsecond."""
    since = instant - EPOCH
    return Timestamp(seconds=since.days * _DAY_S + since.seconds, nanos=since.microseconds * 1000)


def to_instant(message: Timestamp) -> dt.datetime:
    """The aware UTC instant; nanoseconds below a microsecond are dropped."""
    return EPOCH + dt.timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)


def duration(length: dt.timedelta) -> Duration:
    """A length of time, to the microsecond."""
    seconds, nanos = length.days * _DAY_S + length.seconds, length.microseconds * 1000
    if seconds < 0 < nanos:  # both parts have the same sign (google.protobuf.Duration)
        seconds, nanos = seconds + 1, nanos - 1_000_000_000
    return Duration(seconds=seconds, nanos=nanos)


def to_timedelta(message: Duration) -> dt.timedelta:
    """The length of time; nanoseconds below a microsecond are dropped."""
    return dt.timedelta(seconds=message.seconds, microseconds=int(message.nanos / 1000))


# --- what a user asks for ---------------------------------------------------------------------


def to_spec(job: job_pb2.Job) -> JobSpec:
    """What a user asks for, with the defaults filled in; what the service sets is ignored."""
    command = job.command
    return JobSpec(
        command=Command(tuple(command.argv), dict(command.env), command.stdin, command.work_dir),
        name=job.name,
        labels=dict(job.labels),
        queue=job.queue or DEFAULT_QUEUE,
        priority=job.priority,
        cluster=job.cluster or DEFAULT_CLUSTER,
        timeout=max(to_timedelta(job.timeout), _SHORTEST) if job.HasField("timeout") else None,
        retry=to_retry(job.retry_policy) if job.HasField("retry_policy") else _DEFAULT_RETRY,
        stop_grace=(
            to_timedelta(job.stop_grace) if job.HasField("stop_grace") else DEFAULT_STOP_GRACE
        ),
        output_limit_bytes=job.output_limit_bytes or DEFAULT_OUTPUT_LIMIT_BYTES,
    )


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


def request_digest(specs: Sequence[JobSpec]) -> bytes:
    """What a repeated create is compared by: equal for equal jobs, whatever was left unset.

    A release that gives jobs a new field changes the digests: a request that is repeated across
    that upgrade looks like another one.
    """
    digest = hashlib.blake2b(digest_size=16)
    for spec in specs:
        command, retry = spec.command, spec.retry
        policy = None if retry == _DEFAULT_RETRY else retry
        rest = (
            command.argv, sorted(command.env.items()), command.work_dir, len(command.stdin),
            spec.name, sorted(spec.labels.items()), spec.queue, spec.priority, spec.cluster,
            spec.timeout, policy, spec.stop_grace, spec.output_limit_bytes,
        )  # fmt: skip
        digest.update(repr(rest).encode())
        digest.update(command.stdin)
    return digest.digest()


def _spec_fields(spec: JobSpec) -> dict[str, Any]:
    """What is at its zero is left out: each field given costs as much as the rest of its line."""
    fields: dict[str, Any] = {
        "queue": spec.queue,
        "cluster": spec.cluster,
        "retry_policy": retry_message(spec.retry),
        "stop_grace": _grace_message(spec.stop_grace),
        "output_limit_bytes": spec.output_limit_bytes,
    }
    if spec.name:
        fields["name"] = spec.name
    if spec.labels:
        fields["labels"] = spec.labels
    if spec.priority:
        fields["priority"] = spec.priority
    if spec.timeout is not None:
        fields["timeout"] = duration(spec.timeout)
    return fields


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


def job_message(job: Job, view: View) -> job_pb2.Job:
    """A job as the wire has it."""
    if view is View.ID:
        return job_pb2.Job(job_id=job.job_id)
    full = view is View.FULL
    fields = _spec_fields(job.spec)
    fields["command"] = _command(job.spec.command, full=full)
    if full and job.attempts:
        fields["attempts"] = [attempt_message(each) for each in job.attempts]
    if job.attempt_count:
        fields |= _attempt_fields(job)
    if job.ended_at is not None:
        fields["end_time"] = timestamp(job.ended_at)
    if job.start_at is not None:
        fields["next_attempt_time"] = timestamp(job.start_at)
    created = updated = timestamp(job.created_at)
    if job.updated_at != job.created_at:
        updated = timestamp(job.updated_at)
    return job_pb2.Job(
        job_id=job.job_id,
        tenant=job.tenant,
        state=int(job.state),  # type: ignore[arg-type]  # the numbers are the same
        reason=int(job.reason),  # type: ignore[arg-type]
        reason_message=job.message,
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


def maybe_timestamp(instant: dt.datetime | None) -> Timestamp | None:
    """The message of an instant that may be unknown."""
    return None if instant is None else timestamp(instant)


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


def maybe_instant(message: Any, field: str) -> dt.datetime | None:
    """The instant in a field; None where it is unset."""
    return to_instant(getattr(message, field)) if message.HasField(field) else None


def maybe_value(message: Any, field: str) -> Any:
    """The value of a field that may be unset; None where it is."""
    return getattr(message, field) if message.HasField(field) else None


# --- pages ------------------------------------------------------------------------------------

ListRequest = (
    job_service_pb2.ListJobsRequest
    | job_service_pb2.ListActiveJobsRequest
    | job_service_pb2.GetJobHistoryRequest
)


@dataclasses.dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs a request for a page asks for; named as the fields of a store's query."""

    states: frozenset[State]
    queue: str
    name: str
    """The whole name, or with `name_is_prefix` how it begins; empty is any."""
    name_is_prefix: bool
    labels: Mapping[str, str]
    ended_from: dt.datetime | None = None
    ended_before: dt.datetime | None = None


def to_filter(request: ListRequest) -> JobFilter:
    """The filter of a request for a page. States are spelled out, never empty."""
    name = request.name
    after = before = None
    if isinstance(request, job_service_pb2.GetJobHistoryRequest):
        after, before = (
            maybe_instant(request, "ended_after"),
            maybe_instant(request, "ended_before"),
        )
    return JobFilter(
        states=_states(request),
        queue=request.queue,
        name=name.removesuffix("*"),
        name_is_prefix=name.endswith("*"),
        labels=dict(request.labels),
        ended_from=after,
        ended_before=before,
    )


def _states(request: ListRequest) -> frozenset[State]:
    if isinstance(request, job_service_pb2.ListActiveJobsRequest):
        return ACTIVE
    given = frozenset(State(number) for number in request.states)
    if isinstance(request, job_service_pb2.GetJobHistoryRequest):
        return given or FINAL
    return given or frozenset(State)
