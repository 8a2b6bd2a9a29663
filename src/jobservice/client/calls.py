"""Requests out of arguments, values out of answers: all of the SDK that is not transport.

The same code serves a client that blocks and one that awaits. What a caller gives that no message
can hold is refused here with the error that the service would raise.
"""

import contextlib
import datetime as dt
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from jobservice.client.values import JobEdits, JobFilters, JobOptions, JobStatus, Length, Stream
from jobservice.errors import InvalidRequest, Violation
from jobservice.model.graph import OnUnmet, Rule
from jobservice.model.job import Job
from jobservice.model.lifecycle import Reason, State
from jobservice.model.limit import ConcurrencyKey
from jobservice.model.operation import Action
from jobservice.model.placements import resources_of
from jobservice.model.spec import PRIORITIES, Dependency, DependencyPolicy, RetryPolicy
from jobservice.wire import convert, times
from jobservice.wire import messages as pb
from jobservice.wire.workers import resources_message

BATCH_JOBS = 1000
"""What one BatchCreateJobs may hold."""
BATCH_BYTES = 8 << 20
"""Half of what the service receives at most in one message."""
_MOST, _MOST_32 = 1 << 62, 1 << 31
"""What the service refuses by itself may go to it; beyond these a message does not hold it."""
_ARRAY_RULES = ("max_parallel", "max_failures")
_RETRY_OPTIONS = ("retries", "max_attempts", "retry_policy")

JobRef = str | Job | JobStatus
"""A job, or its id."""
_Value = TypeVar("_Value")
_RULES = {each.name.lower(): each for each in Rule if each is not Rule.AT_LEAST}
_ACTIONS = {each.name.lower(): each for each in OnUnmet}


def job_id_of(job: JobRef) -> str:
    """The id of a job, however it is given."""
    return job if isinstance(job, str) else job.job_id


# --- move -------------------------------------------------------------------------------------


def move_request(
    job: JobRef, top: bool, bottom: bool, before: JobRef | None, after: JobRef | None
) -> pb.MoveJobRequest:
    """A request for another place in the queue."""
    given: dict[str, Any] = {"top": top, "bottom": bottom}
    given |= {"before": before and job_id_of(before), "after": after and job_id_of(after)}
    places = {name: value for name, value in given.items() if value}
    if len(places) != 1:
        message = f"exactly one of top, bottom, before and after is wanted, not {len(places)}"
        raise InvalidRequest([Violation("place", message, "PLACE")])
    return pb.MoveJobRequest(job_id=job_id_of(job), **places)


# --- create -----------------------------------------------------------------------------------


def create_request(
    argv: Sequence[str], options: JobOptions, request_id: str
) -> pb.CreateJobRequest:
    """A request for one job."""
    return pb.CreateJobRequest(job=job_message(argv, options), request_id=request_id)


def batch_requests(
    argvs: Iterable[Sequence[str]], options: JobOptions, request_id: str
) -> Iterator[pb.BatchCreateJobsRequest]:
    """Requests for many jobs, in order, each as large as one message may be.

    The request ids are `request_id` with a number, so that all of it can be repeated as it is.
    """
    batch, size, number = pb.BatchCreateJobsRequest(), 0, 0
    common = job_message(["common"], options)
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


def job_message(argv: Sequence[str], options: JobOptions, path: str = "job") -> pb.Job:
    """What is asked for of a job; `path` is where it stands in the request."""
    only_known(options, JobOptions)
    with refusing(path):
        command = pb.Command(
            argv=_argv(argv),
            env=options.get("env"),
            stdin=_bytes(options.get("stdin", b"")),
            work_dir=os.fspath(options.get("work_dir", "")),
        )
        return pb.Job(
            command=command,
            cluster=options.get("cluster", ""),
            job_type=options.get("job_type", ""),
            output_limit_bytes=options.get("output_limit_bytes", 0),
            start_delay=_duration(options, "start_delay"),
            dependencies=[_dependency(each) for each in options.get("after", ())],
            dependency_policy=_dependency_policy(options),
            concurrency_keys=_keys(options.get("keys", ())),
            unique_key=_unique(options),
            fairness_key=options.get("fairness_key", ""),
            fairness_weight=options.get("fairness_weight", 0.0),
            array=_array(options),
            required_labels=options.get("required_labels"),
            resources=_resources(options.get("resources")),
            **_editable_fields(options),
        )


def _resources(given: Mapping[str, float] | None) -> pb.Resources | None:
    """Amounts by name, as the wire has them."""
    if not given:
        return None
    for name, amount in given.items():
        field = f"job.resources.{name}"
        if abs(amount * 1000 if name == "cpu" else amount) > _MOST:
            raise _invalid(field, f"is more than any may be; got {amount!r}")
        if name != "cpu" and amount != int(amount):
            raise _invalid(field, f"must be a whole number; got {amount!r}")
    return resources_message(resources_of(given.items()))


def _dependency(parent: JobRef | Dependency) -> pb.Dependency:
    if not isinstance(parent, Dependency):
        parent = Dependency(job_id_of(parent))
    return convert.dependency_message(parent)


def _dependency_policy(options: JobOptions) -> pb.DependencyPolicy | None:
    if "after_rule" not in options and "after_unmet" not in options:
        return None
    given = options.get("after_rule", "all")
    at_least = given if isinstance(given, int) else 0
    rule = _named(_RULES, given, "a number or one of") if isinstance(given, str) else Rule.AT_LEAST
    on_unmet = _named(_ACTIONS, options.get("after_unmet", "skip"), "one of")
    return convert.dependency_policy_message(DependencyPolicy(rule, at_least, on_unmet))


def _named(values: Mapping[str, _Value], name: str, what: str) -> _Value:
    if name not in values:
        text = f"must be {what} {', '.join(values)}; got {name!r}"
        raise _invalid("job.dependency_policy", text)
    return values[name]


def _editable_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a message that may be given at the creation and changed later."""
    fields = {key: options[key] for key in ("name", "labels", "queue") if key in options}
    if "priority" in options:
        fields["priority"] = _priority(options["priority"])
    for name in ("timeout", "idle_timeout", "stop_grace", "queue_timeout", "total_timeout"):
        if options.get(name) is not None:
            fields[name] = _duration(options, name)
    for name in ("start_after", "deadline"):
        if options.get(name) is not None:
            fields[name] = _timestamp(options, name)
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


def _keys(keys: Sequence[str | ConcurrencyKey]) -> list[pb.ConcurrencyKey]:
    if isinstance(keys, str):
        text = f"must be a list of keys; for one, give [{keys!r}]"
        raise _invalid("job.concurrency_keys", text)
    messages = []
    for n, each in enumerate(keys):
        with refusing(f"job.concurrency_keys[{n}]"):
            key = ConcurrencyKey(each) if isinstance(each, str) else each
            messages.append(convert.key_message(key))
    return messages


def _unique(options: JobOptions) -> pb.UniqueKey | None:
    if "unique" not in options:
        return None
    given = options["unique"]
    return pb.UniqueKey(key=given) if isinstance(given, str) else convert.unique_message(given)


def _array(options: JobOptions) -> pb.Array | None:
    given = options.get("array")
    rules = {key: options[key] for key in _ARRAY_RULES if key in options}  # type: ignore[literal-required]
    if given is None:
        if rules:
            text = f"is about an array: give `array` too, beside {' and '.join(rules)}"
            raise _invalid("job.array", text)
        return None
    if isinstance(given, str):
        text = f"must be how many indices, or a list of items; for one item, give [{given!r}]"
        raise _invalid("job.array", text)
    if isinstance(given, int):
        return pb.Array(size=given, **rules)
    return pb.Array(items=given, **rules)


def _priority(priority: int | str) -> int:
    if isinstance(priority, str) and priority in PRIORITIES:
        return PRIORITIES[priority]
    if isinstance(priority, str) or abs(priority) >= _MOST_32:
        names = ", ".join(PRIORITIES)
        raise _invalid(
            "job.priority", f"must be from -100 to 100, or one of {names}; got {priority!r}"
        )
    return priority


def _duration(options: Mapping[str, Any], name: str) -> Duration | None:
    """The message of a length of time; None where it is not given."""
    length: Length | None = options.get(name)
    return None if length is None else duration_of(length, f"job.{name}")


def duration_of(length: Length, field: str) -> Duration:
    """The message of a length of time, however it is given."""
    if isinstance(length, dt.timedelta):
        return times.duration(length)
    try:
        return times.duration(dt.timedelta(seconds=length))
    except OverflowError:
        raise _invalid(field, f"is longer than any may be; got {length!r}") from None


def _timestamp(options: Mapping[str, Any], name: str) -> Timestamp:
    return timestamp_of(options[name], f"job.{name}")


def timestamp_of(at: dt.datetime, field: str) -> Timestamp:
    """The message of an instant, which must be aware."""
    if at.tzinfo is None:
        raise _invalid(field, f"must be an aware instant, with its time zone; got {at!r}")
    return times.timestamp(at)


def _bytes(data: bytes | str) -> bytes:
    return data.encode() if isinstance(data, str) else data


# --- other requests ---------------------------------------------------------------------------


def update_request(job: JobRef, etag: str, edits: JobEdits) -> pb.UpdateJobRequest:
    """A request to change the fields that are given."""
    only_known(edits, JobEdits)
    paths = {"retry_policy" if key in _RETRY_OPTIONS else key for key in edits}
    with refusing("job"):
        message = pb.Job(job_id=job_id_of(job), etag=etag, **_editable_fields(edits))
    return pb.UpdateJobRequest(job=message, update_mask=FieldMask(paths=sorted(paths)))


def list_request(
    states: Iterable[State], filters: JobFilters, page_size: int
) -> pb.ListJobsRequest:
    """A request for a page of any jobs."""
    only_known(filters, JobFilters)
    with refusing(""):
        return pb.ListJobsRequest(states=_numbers(states), page_size=page_size, **filters)


def active_request(filters: JobFilters, page_size: int) -> pb.ListActiveJobsRequest:
    """A request for a page of the jobs that are not final."""
    only_known(filters, JobFilters)
    with refusing(""):
        return pb.ListActiveJobsRequest(page_size=page_size, **filters)


def history_request(
    states: Iterable[State],
    between: tuple[dt.datetime | None, dt.datetime | None],
    filters: JobFilters,
    page_size: int,
) -> pb.GetJobHistoryRequest:
    """A request for a page of the final jobs that ended between two aware instants."""
    only_known(filters, JobFilters)
    after, before = between
    with refusing(""):
        return pb.GetJobHistoryRequest(
            states=_numbers(states),
            ended_after=None if after is None else times.timestamp(after),
            ended_before=None if before is None else times.timestamp(before),
            page_size=page_size,
            **filters,
        )


def operation_request(
    action: Action | str, filter_: str, priority: int | str | None
) -> pb.CreateOperationRequest:
    """A request for a change of many jobs; `priority` counts for SET_PRIORITY alone."""
    name = action.name if isinstance(action, Action) else action.upper()
    if name not in Action.__members__:
        known = ", ".join(each.name.lower() for each in Action)
        raise _invalid("action", f"must be one of {known}; got {action!r}")
    number = Action[name]
    sets = number is Action.SET_PRIORITY and priority is not None
    with refusing(""):
        return pb.CreateOperationRequest(
            filter=filter_,
            action=pb.OperationAction.ValueType(number),
            priority=_priority(priority) if sets and priority is not None else None,
        )


def seconds_of(length: Length | None) -> float | None:
    """A length of time in seconds."""
    return length.total_seconds() if isinstance(length, dt.timedelta) else length


def _numbers(states: Iterable[State]) -> list[Any]:
    return [int(state) for state in states]


def pages(call: Callable[..., Any], method: Any, request: Any) -> Iterator[Any]:
    """The pages of a list, each asked for once the one before is used up."""
    while True:
        page = call(method, request)
        yield page
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


# --- answers ----------------------------------------------------------------------------------


def to_status(message: pb.JobStatus) -> JobStatus:
    """Where a job is."""
    return JobStatus(
        job_id=message.job_id,
        state=State(message.state),
        revision=message.revision,
        created_at=times.to_instant(message.create_time),
        reason=Reason(message.reason),
        message=message.reason_message,
        waiting_reason=message.waiting_reason,
        queue_position=times.maybe_value(message, "queue_position"),
        attempt=convert.to_attempt(message.attempt) if message.HasField("attempt") else None,
        failure_count=message.failure_count,
        lost_count=message.lost_count,
        progress_percent=times.maybe_value(message, "progress_percent"),
        current_step=message.current_step,
        estimated_completion=times.maybe_instant(message, "estimated_completion"),
        start_at=times.maybe_instant(message, "next_attempt_time"),
        started_at=times.maybe_instant(message, "start_time"),
        ended_at=times.maybe_instant(message, "end_time"),
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


def only_known(given: Mapping[str, Any], kind: Any) -> None:
    """A keyword that does not exist is a mistake of the program, as for any function."""
    unknown = sorted(given.keys() - kind.__annotations__.keys())
    if unknown:
        raise TypeError(f"unexpected keyword argument: {', '.join(unknown)}")


@contextlib.contextmanager
def refusing(field: str) -> Iterator[None]:
    """Values that no message can hold: text that is not Unicode, numbers out of range."""
    try:
        yield
    except (UnicodeError, OverflowError) as error:
        raise _invalid(field, f"cannot be sent: {error}") from error
    except ValueError as error:
        raise _invalid(field, str(error)) from error


def _invalid(field: str, message: str) -> InvalidRequest:
    return InvalidRequest([Violation(field, message, "NOT_SENT")])
