"""Whether a request is valid: every violation at once, each with its field, its value and a remedy.

The rules stand in the proto files and are evaluated by protovalidate. It needs messages that carry
the rules, which the generated code does not, so a request is parsed again with the classes of a
private pool, made from `_gen/rules.binpb`. What rules cannot say is checked here: totals over
several values, what a batch may not repeat, and what a field mask may name.

Whether a queue, cluster or job exists is not asked here. Server side only.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

import protovalidate
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

from jobservice.errors import InvalidRequest, Violation
from jobservice.model.ids import is_job_id
from jobservice.model.job import EDITABLE_ALWAYS, EDITABLE_UNTIL_FINAL
from jobservice.wire._gen.v1 import job_pb2, job_service_pb2
from jobservice.wire.plain import is_plain_batch, is_plain_create
from jobservice.wire.remedies import REMEDIES

ARGV_BYTES = 1 << 20
PIECE_BYTES = (128 << 10) - 1
"""Of one argument, or of one variable with its name and `=`: MAX_ARG_STRLEN without the NUL."""
"""All arguments of a command together, each with its closing NUL (what execve(2) counts)."""
ENV_BYTES = 256 << 10
"""All variables together, each as `NAME=value` with its closing NUL."""
LABELS_BYTES = 16 << 10
"""All keys and values together."""
RESERVED_ENV = "JOBSERVICE_"
EDITABLE = sorted(EDITABLE_ALWAYS | EDITABLE_UNTIL_FINAL)
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
            return f"{value.seconds + value.nanos / 1e9:g} s"  # type: ignore[attr-defined]
        case _:
            return str(value)


def _shown_key(value: int | str) -> str:
    """An index, or text in quotes, cut where it is long."""
    if isinstance(value, str) and len(value) > _SHOWN_CHARACTERS:
        value = value[:_SHOWN_CHARACTERS] + "…"
    return json.dumps(value, ensure_ascii=False)


# --- what rules cannot say --------------------------------------------------------------------


def _check_create(request: job_service_pb2.CreateJobRequest) -> list[Violation]:
    return _check_job(request.job, "job")


def _check_batch(request: job_service_pb2.BatchCreateJobsRequest) -> list[Violation]:
    found: list[Violation] = []
    for index, each in enumerate(request.requests):
        if each.request_id:
            found.append(_not_in_a_batch(index, "request_id", "give it to the batch as a whole"))
        if each.validate_only:
            found.append(_not_in_a_batch(index, "validate_only", "check the jobs one by one"))
        found += _check_job(each.job, f"requests[{index}].job")
    return found


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
    reserved = [name for name in env if name.startswith(RESERVED_ENV)]
    found += [_reserved(f"{path}.command.env", name) for name in sorted(reserved)]
    if job.ByteSize() > LABELS_BYTES:  # else no total can be above its limit, the smallest of all
        found += _check_pieces(command, f"{path}.command")
        found += _check_total(f"{path}.command.argv", argv, ARGV_BYTES, overhead=1)
        found += _check_total(
            f"{path}.command.env", [*env.keys(), *env.values()], ENV_BYTES, overhead=1
        )
        found += _check_labels(job.labels, f"{path}.labels")
    return found


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
    return [*found, *_check_mask(paths), *_check_masked(request.job, set(paths))]


def _check_mask(paths: Sequence[str]) -> Iterator[Violation]:
    fields = job_pb2.Job.DESCRIPTOR.fields_by_name
    for path in paths:
        if path in EDITABLE:
            continue
        known = path in fields
        what = "cannot be changed" if known else "is no field of a job"
        yield Violation(
            "update_mask",
            f"{_shown(path)} {what}; name any of {', '.join(EDITABLE)}",
            "IMMUTABLE_FIELD" if known else "UNKNOWN_FIELD",
        )


def _check_masked(job: job_pb2.Job, paths: set[str]) -> Iterator[Violation]:
    for violation in _broken_rules(job):
        if violation.field.partition(".")[0].partition("[")[0] in paths:
            yield Violation(f"job.{violation.field}", violation.message, violation.rule)
    if "labels" in paths:
        yield from _check_labels(job.labels, "job.labels")


_CHECKS: Mapping[type[Message], Callable[[Any], list[Violation]]] = {
    job_service_pb2.CreateJobRequest: _check_create,
    job_service_pb2.BatchCreateJobsRequest: _check_batch,
    job_service_pb2.UpdateJobRequest: _check_update,
}
