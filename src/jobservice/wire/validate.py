"""Whether a request is valid: every violation at once, each with its field, its value and a remedy.

The rules stand in the proto files and are evaluated by protovalidate. It needs messages that carry
the rules, which the generated code does not, so a request is parsed again with the classes of a
private pool, made from `_gen/rules.binpb`. What rules cannot say is checked here: totals over
several values, what a batch may not repeat, and what a field mask may name.

Whether a queue, cluster or job exists is not asked here. Server side only.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

import protovalidate
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from jobservice.errors import InvalidRequest, Violation
from jobservice.model import job as jobs
from jobservice.model import schedule as schedule_values
from jobservice.model.filter import LONGEST as LONGEST_FILTER
from jobservice.model.filter import FilterInvalid, parse
from jobservice.model.ids import is_job_id
from jobservice.model.placements import placement_text
from jobservice.model.queue import RULES
from jobservice.model.timing import problems
from jobservice.wire._gen.v1 import (
    job_pb2,
    job_service_pb2,
    limit_pb2,
    limit_service_pb2,
    operation_service_pb2,
    queue_pb2,
    queue_service_pb2,
    schedule_pb2,
    schedule_service_pb2,
)
from jobservice.wire.check_array import check_array
from jobservice.wire.check_graph import check_dependencies, check_graph
from jobservice.wire.plain import is_plain_batch, is_plain_create
from jobservice.wire.remedies import REMEDIES
from jobservice.wire.schedules import TIMING_FIELDS, to_timing
from jobservice.wire.workers import to_placement

ARGV_BYTES = 1 << 20
PIECE_BYTES = (128 << 10) - 1
"""Of one argument, or of one variable with its name and `=`: MAX_ARG_STRLEN without the NUL."""
"""All arguments of a command together, each with its closing NUL (what execve(2) counts)."""
ENV_BYTES = 256 << 10
"""All variables together, each as `NAME=value` with its closing NUL."""
LABELS_BYTES = 16 << 10
"""All keys and values together."""
PLACEMENT_BYTES = 1 << 10
"""What is asked of the worker, as the JSON that is kept of it."""
RESERVED_ENV = "JOBSERVICE_"
EDITABLE = sorted(jobs.EDITABLE)
SCHEDULED_ITEMS = 10_000
"""Of an array that a schedule makes: it keeps them, and reads them at each fire."""
_SHOWN_CHARACTERS = 60


def validate(request: Message) -> None:
    """Refuse a request that is not valid.

    Raises:
        InvalidRequest: with every violation.
    """
    is_plain = _PLAIN.get(type(request))
    if is_plain is not None and is_plain(request):
        return
    found = violations(request)
    if found:
        raise InvalidRequest(found)


_PLAIN: dict[type[Message], Callable[[Any], bool]] = {
    job_service_pb2.CreateJobRequest: is_plain_create,
    job_service_pb2.BatchCreateJobsRequest: is_plain_batch,
}


def violations(request: Message) -> list[Violation]:
    """Everything that is wrong with a request, rules first; empty when it is valid."""
    found = list(_broken_rules(request))
    check = _CHECKS.get(type(request))
    if check is not None:
        found += check(request)
    return found


# --- rules of the proto files -----------------------------------------------------------------


def _private_pool() -> descriptor_pool.DescriptorPool:
    """Descriptors with rules, apart from those of the generated code."""
    pool = descriptor_pool.DescriptorPool()
    data = resources.files("jobservice.wire._gen").joinpath("rules.binpb").read_bytes()
    for file in descriptor_pb2.FileDescriptorSet.FromString(data).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


POOL = _private_pool()
_VALIDATOR = protovalidate.Validator()
_CLASSES: dict[str, type[Message]] = {}


def _with_rules(message: Message) -> Message:
    """The same message, as one that carries the rules."""
    name = message.DESCRIPTOR.full_name
    found = _CLASSES.get(name)
    if found is None:
        found = message_factory.GetMessageClass(POOL.FindMessageTypeByName(name))
        _CLASSES[name] = found
    return found.FromString(message.SerializeToString())


def _broken_rules(message: Message) -> Iterator[Violation]:
    """One violation a place that breaks rules: its sentence covers all rules of the place."""
    copy = _with_rules(message)
    seen: set[tuple[str, bool]] = set()
    for each in _VALIDATOR.collect_violations(copy):
        elements = each.proto.field.elements if each.proto.field is not None else []
        path = _path(elements)
        place = (path, each.proto.for_key)
        if place not in seen:
            seen.add(place)
            yield _violation(copy.DESCRIPTOR, path, each)


def _violation(descriptor: Any, path: str, broken: Any) -> Violation:
    rule = broken.proto.rule_id
    key = remedy_key(descriptor, broken.proto.field.elements, for_key=broken.proto.for_key)
    text = REMEDIES.get(key, broken.proto.message)
    if rule not in {"required", "repeated.min_items"}:
        text = f"{text}; got {_shown(broken.field_value)}"
    return Violation(path, text, rule.upper().replace(".", "_"))


def _path(elements: Sequence[Any]) -> str:
    """Such as `requests[3].job.labels["team"]`."""
    parts = []
    for element in elements:
        subscript = ""
        if element.subscript is not None:
            subscript = f"[{_shown_key(element.subscript.value)}]"
        parts.append(f"{element.field_name}{subscript}")
    return ".".join(parts)


def remedy_key(descriptor: Any, elements: Sequence[Any], *, for_key: bool) -> str:
    """The key of a place in `REMEDIES`, such as `Job.labels{key}`."""
    for element in elements[:-1]:
        descriptor = descriptor.fields_by_name[element.field_name].message_type
    last = elements[-1]
    key = f"{descriptor.name}.{last.field_name}"
    if last.subscript is None:
        return key
    if last.subscript.field == "index":
        return f"{key}[]"
    return f"{key}{{key}}" if for_key else f"{key}{{value}}"


def _shown(value: Any) -> str:
    """A value for a person, in a line of bounded length."""
    match value:
        case str():
            return _shown_key(value)
        case bytes():
            return f"{len(value):,} bytes"
        case Mapping() | Sequence():
            return f"{len(value):,}"
        case Message() if hasattr(value, "nanos"):
            return f"{value.seconds + value.nanos / 1e9:,.15g} s"  # type: ignore[attr-defined]
        case _:
            return str(value)


def _shown_key(value: int | str) -> str:
    """An index, or text in quotes, cut where it is long."""
    if isinstance(value, str) and len(value) > _SHOWN_CHARACTERS:
        value = value[:_SHOWN_CHARACTERS] + "…"
    return json.dumps(value, ensure_ascii=False)


# --- what rules cannot say --------------------------------------------------------------------


def _check_create(request: job_service_pb2.CreateJobRequest) -> list[Violation]:
    found = _check_job(request.job, "job")
    for number, each in enumerate(request.job.dependencies):
        if each.HasField("request_index"):
            field = f"job.dependencies[{number}].request_index"
            found.append(
                Violation(field, "must be a `job_id` outside of a batch", "NOT_IN_A_BATCH")
            )
    return found


def _check_batch(request: job_service_pb2.BatchCreateJobsRequest) -> list[Violation]:
    found: list[Violation] = []
    for index, each in enumerate(request.requests):
        if each.request_id:
            found.append(_not_in_a_batch(index, "request_id", "give it to the batch as a whole"))
        if each.validate_only:
            found.append(_not_in_a_batch(index, "validate_only", "check the jobs one by one"))
        found += _check_job(each.job, f"requests[{index}].job")
    return found + check_graph([each.job for each in request.requests])


def _not_in_a_batch(index: int, field: str, remedy: str) -> Violation:
    return Violation(
        f"requests[{index}].{field}", f"must be left out of a batch; {remedy}", "NOT_IN_A_BATCH"
    )


def _check_job(job: job_pb2.Job, path: str) -> list[Violation]:
    found: list[Violation] = []
    command = job.command
    argv, env = command.argv, command.env
    if argv and not argv[0]:
        found.append(
            Violation(f"{path}.command.argv[0]", "must name the program to run", "NO_PROGRAM")
        )
    if job.HasField("start_after") and job.HasField("start_delay"):
        found.append(
            Violation(f"{path}.start_delay", "must be left out beside start_after", "ONE_START")
        )
    found += _check_keys(job.concurrency_keys, f"{path}.concurrency_keys")
    if job.HasField("deadline") and job.HasField("start_after"):
        found += _check_deadline(job, path)
    reserved = [name for name in env if name.startswith(RESERVED_ENV)]
    found += [_reserved(f"{path}.command.env", name) for name in sorted(reserved)]
    found += check_dependencies(job, path)
    found += check_array(job, path)
    found += _check_placement(job, path)
    if job.ByteSize() > LABELS_BYTES:  # else no total can be above its limit, the smallest of all
        found += _check_pieces(command, f"{path}.command")
        found += _check_total(f"{path}.command.argv", argv, ARGV_BYTES, overhead=1)
        found += _check_total(
            f"{path}.command.env", [*env.keys(), *env.values()], ENV_BYTES, overhead=1
        )
        found += _check_labels(job.labels, f"{path}.labels")
    return found


def _check_placement(job: job_pb2.Job, path: str) -> Iterator[Violation]:
    """Whether what is asked of the worker is short: it is in the key of an index."""
    size = len(placement_text(to_placement(job)).encode())
    if size > PLACEMENT_BYTES:
        text = f"must be at most {PLACEMENT_BYTES:,} bytes as JSON together with resources; got {size:,}"
        yield Violation(f"{path}.required_labels", text, "TOO_LARGE")


def _check_keys(keys: Sequence[job_pb2.ConcurrencyKey], path: str) -> Iterator[Violation]:
    """Whether each key is named once, and fits into its own limit."""
    first: dict[str, int] = {}
    for n, each in enumerate(keys):
        before = first.setdefault(each.key, n)
        if before != n and each.key:
            text = f"must be named once; [{before}] and [{n}] are both {_shown(each.key)}"
            yield Violation(f"{path}[{n}].key", text, "NAMED_TWICE")
        if 0 < each.limit < each.weight:
            text = f"must be at most the limit beside it, {each.limit:,}; got {each.weight:,}"
            yield Violation(f"{path}[{n}].weight", text, "ABOVE_LIMIT")


def _check_deadline(job: job_pb2.Job, path: str) -> Iterator[Violation]:
    start, end = job.start_after, job.deadline
    if (end.seconds, end.nanos) <= (start.seconds, start.nanos):
        yield Violation(f"{path}.deadline", "must be later than start_after", "NO_TIME_LEFT")


def _check_pieces(command: job_pb2.Command, path: str) -> Iterator[Violation]:
    """Whether the system could pass each argument and variable on at all: execve(2), E2BIG."""
    pieces = [(f"argv[{n}]", len(text.encode())) for n, text in enumerate(command.argv)]
    for name, value in sorted(command.env.items()):
        pieces.append((f"env[{_shown_key(name)}]", len(f"{name}={value}".encode())))
    for field, size in pieces:
        if size > PIECE_BYTES:
            text = (
                f"must be at most {PIECE_BYTES:,} bytes, the most that Linux passes to a program in "
                f"one piece; got {size:,}. Pass more by a file or as standard input"
            )
            yield Violation(f"{path}.{field}", text, "TOO_LARGE")


def _reserved(path: str, name: str) -> Violation:
    return Violation(
        f"{path}[{_shown_key(name)}]",
        f"a name must not begin with {RESERVED_ENV}: the service sets those",
        "RESERVED_NAME",
    )


def _check_labels(labels: Mapping[str, str], path: str) -> list[Violation]:
    return _check_total(path, [*labels.keys(), *labels.values()], LABELS_BYTES, overhead=0)


def _check_total(path: str, texts: Sequence[str], limit: int, *, overhead: int) -> list[Violation]:
    """Whether the bytes of all texts, with `overhead` each, are within the limit."""
    size = sum(len(text.encode()) for text in texts) + overhead * len(texts)
    if size <= limit:
        return []
    text = f"must be at most {limit:,} bytes together; got {size:,}"
    return [Violation(path, text, "TOO_LARGE")]


# --- updates ----------------------------------------------------------------------------------


def _check_update(request: job_service_pb2.UpdateJobRequest) -> list[Violation]:
    """Only the fields in the mask are checked: the rest of the job is not looked at."""
    found: list[Violation] = []
    if not request.HasField("job"):
        found.append(Violation("job", "must be given", "REQUIRED"))
    elif not is_job_id(request.job.job_id):
        text = f"{REMEDIES['job_id']}; got {_shown(request.job.job_id)}"
        found.append(Violation("job.job_id", text, "STRING_PATTERN"))
    paths = list(request.update_mask.paths)
    if request.HasField("update_mask") and not paths:
        text = f"must name at least one of {', '.join(EDITABLE)}"
        found.append(Violation("update_mask", text, "REQUIRED"))
    mask = _check_mask(paths, EDITABLE, job_pb2.Job.DESCRIPTOR, "a job")
    return [*found, *mask, *_check_masked(request.job, set(paths))]


def _check_mask(
    paths: Sequence[str], editable: Sequence[str], descriptor: Descriptor, what_it_is: str
) -> Iterator[Violation]:
    for path in paths:
        if path in editable:
            continue
        known = path in descriptor.fields_by_name
        what = "cannot be changed" if known else f"is no field of {what_it_is}"
        yield Violation(
            "update_mask",
            f"{_shown(path)} {what}; name any of {', '.join(editable)}",
            "IMMUTABLE_FIELD" if known else "UNKNOWN_FIELD",
        )


def _check_masked(job: job_pb2.Job, paths: set[str]) -> Iterator[Violation]:
    for violation in _broken_rules(job):
        if violation.field.partition(".")[0].partition("[")[0] in paths:
            yield Violation(f"job.{violation.field}", violation.message, violation.rule)
    if "labels" in paths:
        yield from _check_labels(job.labels, "job.labels")


# --- filters ----------------------------------------------------------------------------------


def _check_filter(request: Any) -> list[Violation]:
    """Everything that is wrong with the words of a filter; without one there is nothing to say."""
    if not request.filter or len(request.filter) > LONGEST_FILTER:
        return []
    try:
        parse(request.filter)
    except FilterInvalid as invalid:
        return [
            Violation("filter", f"at character {each.position}: {each.text}", "FILTER")
            for each in invalid.problems
        ]
    return []


# --- schedules --------------------------------------------------------------------------------


def _check_create_schedule(request: schedule_service_pb2.CreateScheduleRequest) -> list[Violation]:
    schedule = request.schedule
    found = _check_template(schedule.job)
    if schedule.HasField("timing"):
        found += _check_timing(schedule.timing, schedule.schedule_id, "schedule.timing")
    return found


def _check_update_schedule(request: schedule_service_pb2.UpdateScheduleRequest) -> list[Violation]:
    """Only the fields in the mask are checked, as for a job."""
    found: list[Violation] = []
    schedule, paths = request.schedule, list(request.update_mask.paths)
    if not request.HasField("schedule"):
        found.append(Violation("schedule", "must be given", "REQUIRED"))
    if request.HasField("update_mask") and not paths:
        text = f"must name at least one of {', '.join(sorted(schedule_values.EDITABLE))}"
        found.append(Violation("update_mask", text, "REQUIRED"))
    found += _check_mask(
        paths, sorted(schedule_values.EDITABLE), schedule_pb2.Schedule.DESCRIPTOR, "a schedule"
    )
    checked = {*paths, "schedule_id"} if request.HasField("schedule") else set()
    for violation in _broken_rules(schedule):
        if violation.field.partition(".")[0].partition("[")[0] in checked:
            path = f"schedule.{violation.field}"
            found.append(Violation(path, violation.message, violation.rule))
    if "job" in paths:
        found += _check_template(schedule.job)
    if "timing" in paths and schedule.HasField("timing"):
        found += _check_timing(schedule.timing, schedule.schedule_id, "schedule.timing")
    return found


def _check_template(job: job_pb2.Job) -> list[Violation]:
    found = _check_job(job, "schedule.job")
    if job.HasField("start_after"):
        text = "must be left out of a schedule, whose timing says when"
        found.append(Violation("schedule.job.start_after", text, "NOT_IN_A_SCHEDULE"))
    if job.dependencies:
        text = "must be left out of a schedule, whose jobs wait for nobody"
        found.append(Violation("schedule.job.dependencies", text, "NOT_IN_A_SCHEDULE"))
    if len(job.array.items) > SCHEDULED_ITEMS:
        text = f"must be at most {SCHEDULED_ITEMS:,} in a schedule; got {len(job.array.items):,}"
        found.append(Violation("schedule.job.array.items", text, "TOO_MANY_ITEMS"))
    return found


def _check_preview(request: schedule_service_pb2.PreviewScheduleRequest) -> list[Violation]:
    if request.HasField("timing"):
        return _check_timing(request.timing, request.schedule_id, "timing")
    if not request.schedule_id:
        return [Violation("schedule_id", "must be given, or a timing instead", "REQUIRED")]
    return []


def _check_timing(
    message: schedule_pb2.ScheduleTiming, schedule_id: str, path: str
) -> list[Violation]:
    """What is wrong with a timing besides the rules of the proto that it breaks.

    What breaks one is left out here; nothing is said where that is when it fires.
    """
    broken = {each.field.partition(".")[0] for each in _broken_rules(message)}
    if broken - _BESIDE:
        return []
    if broken:
        message = schedule_pb2.ScheduleTiming.FromString(message.SerializeToString())
        for field in broken:
            message.ClearField(field)  # type: ignore[arg-type]  # they are fields of it
    seed = schedule_values.seed_of("", schedule_id)
    return [
        Violation(f"{path}.{TIMING_FIELDS.get(field, field)}", _renamed(text), "TIMING_INVALID")
        for field, text in problems(to_timing(message), seed)
    ]


_BESIDE = frozenset({"phase", "time_zone", "start_time", "end_time", "jitter"})
"""The fields of a timing that may be left out."""


def _renamed(text: str) -> str:
    """A sentence with the names that the wire has for fields."""
    for ours, wire in TIMING_FIELDS.items():
        text = text.replace(f"`{ours}`", f"`{wire}`")
    return text


# --- operations -------------------------------------------------------------------------------


def _check_operation(request: operation_service_pb2.CreateOperationRequest) -> list[Violation]:
    found = _check_filter(request)
    sets = request.action == operation_service_pb2.OPERATION_ACTION_SET_PRIORITY
    if sets and not request.HasField("priority"):
        found.append(Violation("priority", "must be given with SET_PRIORITY", "REQUIRED"))
    if request.HasField("priority") and not sets:
        text = f"must be left out of all actions but SET_PRIORITY; got {request.priority}"
        found.append(Violation("priority", text, "NOT_OF_THE_ACTION"))
    return found


# --- queues and limits ------------------------------------------------------------------------


def _check_update_queue(request: queue_service_pb2.UpdateQueueRequest) -> list[Violation]:
    """Only the fields in the mask are checked, as for a job."""
    found: list[Violation] = []
    paths, given = list(request.update_mask.paths), request.HasField("queue")
    if not given:
        found.append(Violation("queue", "must be given", "REQUIRED"))
    if request.HasField("update_mask") and not paths:
        text = f"must name at least one of {', '.join(sorted(RULES))}"
        found.append(Violation("update_mask", text, "REQUIRED"))
    found += _check_mask(paths, sorted(RULES), queue_pb2.Queue.DESCRIPTOR, "a queue")
    checked = {*paths, "name"} if given else set()
    found += [
        Violation(f"queue.{each.field}", each.message, each.rule)
        for each in _broken_rules(request.queue)
        if each.field in checked
    ]
    return found


_NAMED_LIMITS = {limit_pb2.LIMIT_KIND_KEY, limit_pb2.LIMIT_KIND_JOB_TYPE}


def _check_set_limit(request: limit_service_pb2.SetLimitRequest) -> list[Violation]:
    limit = request.limit
    found = _check_limit_name(limit.kind, limit.name, "limit.name")
    if limit.HasField("rate") and limit.kind not in _NAMED_LIMITS:
        text = "must be left out; only a KEY or a JOB_TYPE has a rate"
        found.append(Violation("limit.rate", text, "NOT_OF_THIS_KIND"))
    if limit.weight and limit.kind != limit_pb2.LIMIT_KIND_TENANT:
        text = f"must be left out; only a TENANT has a share; got {limit.weight:g}"
        found.append(Violation("limit.weight", text, "NOT_OF_THIS_KIND"))
    return found


def _check_named_limit(
    request: limit_service_pb2.GetLimitRequest | limit_service_pb2.DeleteLimitRequest,
) -> list[Violation]:
    return _check_limit_name(request.kind, request.name, "name")


def _check_limit_name(kind: int, name: str, path: str) -> list[Violation]:
    if kind in _NAMED_LIMITS and not name:
        return [Violation(path, "must be the key or type that the limit is about", "REQUIRED")]
    if kind == limit_pb2.LIMIT_KIND_JOB_TYPE:
        broken = _broken_rules(job_pb2.Job(job_type=name))
        return [
            dataclasses.replace(each, field=path) for each in broken if each.field == "job_type"
        ]
    if kind in {limit_pb2.LIMIT_KIND_SERVICE, limit_pb2.LIMIT_KIND_TENANT} and name:
        text = f"must be empty; only a KEY or a JOB_TYPE has a name; got {_shown(name)}"
        return [Violation(path, text, "NOT_OF_THIS_KIND")]
    return []


_CHECKS: Mapping[type[Message], Callable[[Any], list[Violation]]] = {
    job_service_pb2.CreateJobRequest: _check_create,
    job_service_pb2.BatchCreateJobsRequest: _check_batch,
    job_service_pb2.UpdateJobRequest: _check_update,
    job_service_pb2.ListJobsRequest: _check_filter,
    job_service_pb2.ListActiveJobsRequest: _check_filter,
    job_service_pb2.GetJobHistoryRequest: _check_filter,
    schedule_service_pb2.CreateScheduleRequest: _check_create_schedule,
    schedule_service_pb2.UpdateScheduleRequest: _check_update_schedule,
    schedule_service_pb2.PreviewScheduleRequest: _check_preview,
    operation_service_pb2.CreateOperationRequest: _check_operation,
    queue_service_pb2.UpdateQueueRequest: _check_update_queue,
    limit_service_pb2.SetLimitRequest: _check_set_limit,
    limit_service_pb2.GetLimitRequest: _check_named_limit,
    limit_service_pb2.DeleteLimitRequest: _check_named_limit,
}
