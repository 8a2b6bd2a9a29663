"""Between errors and google.rpc.Status, in both directions (AIP-193).

Every error carries an ErrorInfo (domain, reason, metadata) and, where a request id is known, a
RequestInfo. Beside them, as they fit: BadRequest with every violation, PreconditionFailure where
the state of a job forbids, ResourceInfo where a job is missing or in the way, RetryInfo where
trying again helps. Clients find the class of an error by its reason; a reason that they do not
know, or a status of gRPC's own making, becomes the widest class of its code.

The details travel in the trailer `grpc-status-details-bin`. Clients refuse trailers beyond 8 KiB
(gRPC core's default), so a long list of violations is cut, and the ErrorInfo says by how many.
"""

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2 as details_pb2  # type: ignore[import-untyped]
from google.rpc import status_pb2

from jobservice import errors
from jobservice.errors import InvalidRequest, InvalidTransition, JobServiceError, Violation

DOMAIN = "jobservice"
TRAILER = "grpc-status-details-bin"
RESOURCE_TYPES = {
    "job_id": "jobservice.v1.Job",
    "schedule_id": "jobservice.v1.Schedule",
    "operation_id": "jobservice.v1.Operation",
    "queue": "jobservice.v1.Queue",
    "limit": "jobservice.v1.Limit",
    "worker_id": "jobservice.v1.Worker",
}
"""The types of what errors name in their metadata."""
RETRY_S = {"UNAVAILABLE": 1, "RESOURCE_EXHAUSTED": 5}
"""How long a client should wait before it tries again, in seconds."""
MESSAGE_BYTES = 800
VIOLATIONS_BYTES = 2560
"""Room for the message, which travels twice, and for violations: together well under 8 KiB."""
OMITTED = "violations_omitted"
FOREIGN = "grpc_code"
"""In the metadata of errors that the service did not raise: the code they came with."""


def error_classes() -> list[type[JobServiceError]]:
    """Every class of the tree below `JobServiceError`, parents first."""
    found: list[type[JobServiceError]] = []
    queue = list(JobServiceError.__subclasses__())
    while queue:
        found.append(queue.pop(0))
        queue += found[-1].__subclasses__()
    return found


# --- errors to statuses -----------------------------------------------------------------------


def to_status(error: JobServiceError, request_id: str = "") -> status_pb2.Status:
    """The status of an error, with its details."""
    info = details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=dict(error.metadata))
    found = [info, *_specific(error, info)]
    if request_id:
        found.append(details_pb2.RequestInfo(request_id=request_id))
    return status_pb2.Status(
        code=grpc.StatusCode[error.code].value[0],
        message=_shortened(error.message),
        details=[_packed(each) for each in found],
    )


def status_trailers(status: status_pb2.Status) -> tuple[tuple[str, bytes], ...]:
    """What goes into the trailing metadata of a call that ends with this status."""
    return ((TRAILER, status.SerializeToString()),)


def _specific(error: JobServiceError, info: details_pb2.ErrorInfo) -> list[Message]:
    found: list[Message] = []
    if isinstance(error, InvalidRequest):
        found.append(_bad_request(error, info))
    if error.code == "FAILED_PRECONDITION":
        found.append(_precondition(error))
    if error.code in {"NOT_FOUND", "ALREADY_EXISTS"}:
        found += [
            details_pb2.ResourceInfo(
                resource_type=type_,
                resource_name=error.metadata[key],
                description=_shortened(error.message),
            )
            for key, type_ in RESOURCE_TYPES.items()
            if key in error.metadata
        ]
    if error.code in RETRY_S:
        wait = duration_pb2.Duration(seconds=RETRY_S[error.code])
        found.append(details_pb2.RetryInfo(retry_delay=wait))
    return found


def _bad_request(error: InvalidRequest, info: details_pb2.ErrorInfo) -> Message:
    bad: Any = details_pb2.BadRequest()
    room = VIOLATIONS_BYTES
    for violation in error.violations:
        message = details_pb2.BadRequest.FieldViolation(
            field=violation.field, description=violation.message, reason=violation.rule
        )
        room -= message.ByteSize() + 2
        if room < 0:
            break
        bad.field_violations.append(message)
    omitted = len(error.violations) - len(bad.field_violations)
    if omitted:
        info.metadata[OMITTED] = str(omitted)
    result: Message = bad
    return result


def _precondition(error: JobServiceError) -> Message:
    violation = details_pb2.PreconditionFailure.Violation(
        type=error.reason,
        subject=next((error.metadata[key] for key in RESOURCE_TYPES if key in error.metadata), ""),
        description=_shortened(error.message),
    )
    failure: Message = details_pb2.PreconditionFailure(violations=[violation])
    return failure


def _packed(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def _shortened(text: str) -> str:
    data = text.encode()
    if len(data) <= MESSAGE_BYTES:
        return text
    return data[: MESSAGE_BYTES - 3].decode(errors="ignore") + "…"


# --- statuses to errors -----------------------------------------------------------------------

_BY_REASON = {each.reason: each for each in error_classes()}
_BY_CODE: dict[str, type[JobServiceError]] = {
    "NOT_FOUND": errors.NotFound,
    "ALREADY_EXISTS": errors.AlreadyExists,
    "ABORTED": errors.EtagMismatch,
    "OUT_OF_RANGE": errors.ResumeTokenExpired,
    "RESOURCE_EXHAUSTED": errors.LimitExceeded,
    "UNAVAILABLE": errors.Unavailable,
    "DEADLINE_EXCEEDED": errors.DeadlineExceeded,
    "INTERNAL": errors.Internal,
}


def from_rpc_error(error: grpc.RpcError) -> JobServiceError:
    """The error that the service raised, or the nearest one where gRPC itself ended the call."""
    code: grpc.StatusCode = error.code()
    trailers: Iterable[Any] = error.trailing_metadata() or ()
    for key, value in trailers:
        if key == TRAILER:
            try:
                return from_status(status_pb2.Status.FromString(value))
            except DecodeError:
                break
    return _foreign(code.name, error.details() or code.name)


def from_status(status: status_pb2.Status) -> JobServiceError:
    """The error of a status. What has no ErrorInfo of ours becomes the widest class of its code."""
    info, bad, request = (
        details_pb2.ErrorInfo(), details_pb2.BadRequest(), details_pb2.RequestInfo()
    )  # fmt: skip
    for packed in status.details:
        for message in (info, bad, request):
            if packed.Is(message.DESCRIPTOR):
                packed.Unpack(message)
    found = _BY_REASON.get(info.reason) if info.domain == DOMAIN else None
    if found is None:
        error = _foreign(_code_name(status.code), status.message)
    else:
        error = _raised(found, status.message, dict(info.metadata), bad)
    if request.request_id:
        error.add_note(f"request id: {request.request_id}")
    return error


def _raised(
    found: type[JobServiceError],
    message: str,
    metadata: dict[str, str],
    bad: details_pb2.BadRequest,
) -> JobServiceError:
    if issubclass(found, InvalidRequest):
        error: JobServiceError = found(
            [Violation(v.field, v.description, v.reason) for v in bad.field_violations]
        )
        error.metadata = metadata
        return error
    if issubclass(found, InvalidTransition):
        metadata = {"state": "", "trigger": ""} | metadata
    return found(message, **metadata)


def _foreign(code: str, message: str) -> JobServiceError:
    """An error that does not come from our own code: from gRPC, a proxy, or a newer service."""
    if code == "INVALID_ARGUMENT":
        return InvalidRequest([Violation("", message, "UNKNOWN")])
    if code == "FAILED_PRECONDITION":
        return InvalidTransition(message, state="", trigger="")
    return _BY_CODE.get(code, JobServiceError)(f"{message} ({code})", **{FOREIGN: code})


def is_foreign(error: JobServiceError) -> bool:
    """Whether the error comes from gRPC itself, so that nobody knows what the service did."""
    return FOREIGN in error.metadata


def _code_name(number: int) -> str:
    return next((each.name for each in grpc.StatusCode if each.value[0] == number), "UNKNOWN")
