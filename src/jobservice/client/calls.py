"""Requests out of arguments, values out of answers: all of the SDK that is not transport.

The same code serves a client that blocks and one that awaits. What a caller gives that no message
can hold is refused here with the error that the service would raise.
"""

import contextlib
import datetime as dt
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from jobservice.client.values import JobEdits, JobFilters, JobOptions, JobStatus, Length, Stream
from jobservice.errors import InvalidRequest, Violation
from jobservice.model.job import Job
from jobservice.model.lifecycle import Reason, State
from jobservice.model.spec import PRIORITIES, RetryPolicy
from jobservice.wire import convert
from jobservice.wire import messages as pb

BATCH_JOBS = 1000
"""What one BatchCreateJobs may hold."""
BATCH_BYTES = 8 << 20
"""Half of what the service receives at most in one message."""
_RETRY_OPTIONS = ("retries", "max_attempts", "retry_policy")

JobRef = str | Job | JobStatus
"""A job, or its id."""


def job_id_of(job: JobRef) -> str:
    """The id of a job, however it is given."""
    return job if isinstance(job, str) else job.job_id


# --- create -----------------------------------------------------------------------------------


def create_request(
    argv: Sequence[str], options: JobOptions, request_id: str
) -> pb.CreateJobRequest:
    """A request for one job."""
    return pb.CreateJobRequest(job=_job_message(argv, options), request_id=request_id)


def batch_requests(
    argvs: Iterable[Sequence[str]], options: JobOptions, request_id: str
) -> Iterator[pb.BatchCreateJobsRequest]:
    """Requests for many jobs, in order, each as large as one message may be.

    The request ids are `request_id` with a number, so that all of it can be repeated as it is.
    """
    batch, size, number = pb.BatchCreateJobsRequest(), 0, 0
    common = _job_message(["common"], options)
    for argv in argvs:
        job = pb.Job()
        job.CopyFrom(common)
        job.command.argv[:] = _argv(argv)
        job_bytes = job.ByteSize() + 16
        if len(batch.requests) == BATCH_JOBS or (batch.requests and size + job_bytes > BATCH_BYTES):
            batch.request_id = f"{request_id}-{number}"
            yield batch
            batch, size, number = pb.BatchCreateJobsRequest(), 0, number + 1
        batch.requests.add(job=job)
        size += job_bytes
    if batch.requests:
        batch.request_id = f"{request_id}-{number}"
        yield batch


def _job_message(argv: Sequence[str], options: JobOptions) -> pb.Job:
    _only_known(options, JobOptions)
    with _refusing("job"):
        command = pb.Command(
            argv=_argv(argv),
            env=options.get("env"),
            stdin=_bytes(options.get("stdin", b"")),
            work_dir=os.fspath(options.get("work_dir", "")),
        )
        return pb.Job(
            command=command,
            cluster=options.get("cluster", ""),
            output_limit_bytes=options.get("output_limit_bytes", 0),
            **_editable_fields(options),
        )


def _editable_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a message that may be given at the creation and changed later."""
    fields = {key: options[key] for key in ("name", "labels", "queue") if key in options}
    if "priority" in options:
        fields["priority"] = _priority(options["priority"])
    if options.get("timeout") is not None:
        fields["timeout"] = convert.duration(_timedelta(options["timeout"]))
    if "stop_grace" in options:
        fields["stop_grace"] = convert.duration(_timedelta(options["stop_grace"]))
    policy = _retry_policy(options)
    if policy is not None:
        fields["retry_policy"] = policy
    return fields


def _retry_policy(options: Mapping[str, Any]) -> pb.RetryPolicy | None:
    given = [name for name in _RETRY_OPTIONS if options.get(name) is not None]
    if len(given) > 1:
        raise TypeError(f"give one of {' and '.join(given)}, not both")
    match given:
        case ["retries"]:
            return pb.RetryPolicy(max_attempts=options["retries"] + 1)
        case ["max_attempts"]:
            return pb.RetryPolicy(max_attempts=options["max_attempts"])
        case ["retry_policy"]:
            policy: RetryPolicy = options["retry_policy"]
            return convert.retry_message(policy)
        case _:
            return None


def _argv(argv: Sequence[str]) -> list[str]:
    if isinstance(argv, str | bytes):
        raise _invalid(
            "job.command.argv",
            "must be a list of the program and its arguments; for a line of shell give "
            f"['/bin/sh', '-c', LINE]; got {argv[:60]!r}",
        )
    return [os.fspath(each) for each in argv]


def _priority(priority: int | str) -> int:
    if isinstance(priority, int):
        return priority
    if priority not in PRIORITIES:
        names = ", ".join(PRIORITIES)
        raise _invalid(
            "job.priority", f"must be from -100 to 100, or one of {names}; got {priority!r}"
        )
    return PRIORITIES[priority]


def _timedelta(length: Length) -> dt.timedelta:
    if isinstance(length, dt.timedelta):
        return length
    try:
        return dt.timedelta(seconds=length)
    except OverflowError:
        raise _invalid("job.timeout", f"must be at most 365 days; got {length!r}") from None


def _bytes(data: bytes | str) -> bytes:
    return data.encode() if isinstance(data, str) else data


# --- other requests ---------------------------------------------------------------------------


def update_request(job: JobRef, etag: str, edits: JobEdits) -> pb.UpdateJobRequest:
    """A request to change the fields that are given."""
    _only_known(edits, JobEdits)
    paths = {"retry_policy" if key in _RETRY_OPTIONS else key for key in edits}
    with _refusing("job"):
        message = pb.Job(job_id=job_id_of(job), etag=etag, **_editable_fields(edits))
    return pb.UpdateJobRequest(job=message, update_mask=FieldMask(paths=sorted(paths)))


def list_request(
    states: Iterable[State], filters: JobFilters, page_size: int
) -> pb.ListJobsRequest:
    """A request for a page of any jobs."""
    _only_known(filters, JobFilters)
    with _refusing(""):
        return pb.ListJobsRequest(states=_numbers(states), page_size=page_size, **filters)


def active_request(filters: JobFilters, page_size: int) -> pb.ListActiveJobsRequest:
    """A request for a page of the jobs that are not final."""
    _only_known(filters, JobFilters)
    with _refusing(""):
        return pb.ListActiveJobsRequest(page_size=page_size, **filters)


def history_request(
    states: Iterable[State],
    between: tuple[dt.datetime | None, dt.datetime | None],
    filters: JobFilters,
    page_size: int,
) -> pb.GetJobHistoryRequest:
    """A request for a page of the final jobs that ended between two aware instants."""
    _only_known(filters, JobFilters)
    after, before = between
    with _refusing(""):
        return pb.GetJobHistoryRequest(
            states=_numbers(states),
            ended_after=None if after is None else convert.timestamp(after),
            ended_before=None if before is None else convert.timestamp(before),
            page_size=page_size,
            **filters,
        )


def _numbers(states: Iterable[State]) -> list[Any]:
    return [int(state) for state in states]


# --- answers ----------------------------------------------------------------------------------


def to_status(message: pb.JobStatus) -> JobStatus:
    """Where a job is."""
    return JobStatus(
        job_id=message.job_id,
        state=State(message.state),
        revision=message.revision,
        created_at=convert.to_instant(message.create_time),
        reason=Reason(message.reason),
        message=message.reason_message,
        waiting_reason=message.waiting_reason,
        queue_position=convert.maybe_value(message, "queue_position"),
        attempt=convert.to_attempt(message.attempt) if message.HasField("attempt") else None,
        failure_count=message.failure_count,
        lost_count=message.lost_count,
        progress_percent=convert.maybe_value(message, "progress_percent"),
        current_step=message.current_step,
        estimated_completion=convert.maybe_instant(message, "estimated_completion"),
        start_at=convert.maybe_instant(message, "next_attempt_time"),
        started_at=convert.maybe_instant(message, "start_time"),
        ended_at=convert.maybe_instant(message, "end_time"),
    )


def stream_number(stream: Stream | str | None) -> Any:
    """The number of a stream on the wire; 0 is both."""
    if stream is None:
        return 0
    try:
        return list(Stream).index(Stream(stream)) + 1
    except ValueError:
        raise _invalid("stream", f"must be stdout or stderr; got {stream!r}") from None


# --- refusals ---------------------------------------------------------------------------------


def _only_known(given: Mapping[str, Any], kind: Any) -> None:
    """A keyword that does not exist is a mistake of the program, as for any function."""
    unknown = sorted(given.keys() - kind.__annotations__.keys())
    if unknown:
        raise TypeError(f"unexpected keyword argument: {', '.join(unknown)}")


@contextlib.contextmanager
def _refusing(field: str) -> Iterator[None]:
    """Values that no message can hold: text that is not Unicode, numbers out of range."""
    try:
        yield
    except (UnicodeError, OverflowError) as error:
        raise _invalid(field, f"cannot be sent: {error}") from error
    except ValueError as error:
        raise _invalid(field, str(error)) from error


def _invalid(field: str, message: str) -> InvalidRequest:
    return InvalidRequest([Violation(field, message, "NOT_SENT")])
