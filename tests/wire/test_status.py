"""Every error goes over the wire and comes back as itself; what gRPC says by itself has a class too."""

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from jobservice import errors
from jobservice.errors import InvalidRequest, InvalidTransition, JobServiceError, Violation
from jobservice.wire import status

TRAILERS_BYTES = 8192
"""What gRPC core takes in metadata, by default."""
EXPECTED_DETAILS = {
    "QUEUE_NOT_FOUND": {"ResourceInfo"},
    "LIMIT_NOT_FOUND": {"ResourceInfo"},
    "WORKER_NOT_FOUND": {"ResourceInfo"},
    "QUEUE_EXISTS": {"ResourceInfo"},
    "QUEUE_IN_USE": {"PreconditionFailure"},
    "INVALID_REQUEST": {"BadRequest"},
    "INVALID_STATE": {"PreconditionFailure"},
    "SETUP": {"PreconditionFailure"},
    "JOB_NOT_FOUND": {"ResourceInfo"},
    "OPERATION_NOT_FOUND": {"ResourceInfo"},
    "REQUEST_ID_REUSED": {"ResourceInfo"},
    "SCHEDULE_NOT_FOUND": {"ResourceInfo"},
    "SCHEDULE_EXISTS": {"ResourceInfo"},
    "DUPLICATE_JOB": {"ResourceInfo"},
    "WORKER_ELSEWHERE": {"ResourceInfo"},
    "STORE_FULL": {"RetryInfo"},
    "LIMIT_EXCEEDED": {"RetryInfo"},
    "QUEUE_FULL": {"RetryInfo"},
    "KEY_TAKEN": {"RetryInfo"},
    "QUEUE_DRAINED": {"PreconditionFailure"},
    "UNAVAILABLE": {"RetryInfo"},
    "STORE_UNAVAILABLE": {"RetryInfo"},
    "STORE_BUSY": {"RetryInfo"},
    "EXECUTOR_UNAVAILABLE": {"RetryInfo"},
    "DRAINING": {"RetryInfo"},
    "DEPOSED": {"RetryInfo"},
}


class Ended(grpc.RpcError):
    """A call that ended with a status, as grpc raises it."""

    def __init__(self, code: grpc.StatusCode, details: str, trailers: Any = ()) -> None:
        self._code, self._details, self._trailers = code, details, trailers

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> Any:
        return self._trailers


def example(kind: type[JobServiceError]) -> JobServiceError:
    """One error of a class."""
    if issubclass(kind, InvalidRequest):
        return kind([Violation("job.name", "must be shorter", "STRING_MAX_LEN")])
    if issubclass(kind, InvalidTransition):
        return kind(state="RUNNING", trigger="revive", job_id="j1")
    return kind("What happened.", job_id="j1")


def details(message: status_pb2.Status) -> set[str]:
    return {packed.type_url.rpartition(".")[2] for packed in message.details}


@pytest.mark.parametrize("kind", status.error_classes())
def test_an_error_comes_back_as_itself(kind: type[JobServiceError]) -> None:
    error = example(kind)
    sent = status.to_status(error, "r-1")
    ended = Ended(grpc.StatusCode[error.code], sent.message, status.status_trailers(sent))
    back = status.from_rpc_error(ended)
    assert type(back) is kind
    assert (back.message, dict(back.metadata)) == (error.message, dict(error.metadata))
    assert back.__notes__ == ["request id: r-1"]
    assert not status.is_foreign(back)


@pytest.mark.parametrize("kind", status.error_classes())
def test_an_error_has_the_details_that_fit(kind: type[JobServiceError]) -> None:
    sent = status.to_status(example(kind))
    assert details(sent) == {"ErrorInfo"} | EXPECTED_DETAILS.get(kind.reason, set())
    info = error_details_pb2.ErrorInfo()
    sent.details[0].Unpack(info)
    assert (info.domain, info.reason) == ("jobservice", kind.reason)
    assert sent.code == grpc.StatusCode[kind.code].value[0]


def test_violations_come_back_whole() -> None:
    error = InvalidRequest([Violation(f"f[{i}]", f"must be {i}", "R") for i in range(5)])
    back = status.from_status(status.to_status(error))
    assert isinstance(back, InvalidRequest)
    assert back.violations == error.violations


def test_a_status_fits_into_the_trailers_of_any_client() -> None:
    error = InvalidRequest(
        [Violation(f"requests[{i}].job.name", "ü" * 80, "R") for i in range(999)]
    )
    sent = status.to_status(error, "r" * 128)
    on_the_wire = 4 * sent.ByteSize() / 3 + 3 * len(sent.message.encode())
    assert on_the_wire < TRAILERS_BYTES
    back = status.from_status(sent)
    assert isinstance(back, InvalidRequest)
    assert len(back.violations) + int(back.metadata[status.OMITTED]) == 999


def test_reasons_and_the_head_of_the_tree_are_true() -> None:
    reasons = [kind.reason for kind in status.error_classes()]
    assert len(set(reasons)) == len(reasons)
    drawn = {}
    assert errors.__doc__
    for line in errors.__doc__.splitlines():
        words = line.split()
        if words and hasattr(errors, words[0]) and line.startswith("      "):
            drawn[words[0]] = line
    for kind in status.error_classes():
        assert f" {kind.exit_code} " in drawn[kind.__name__]
        assert kind.code in drawn[kind.__name__] or kind is errors.SetupError


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("UNAVAILABLE", errors.Unavailable),
        ("DEADLINE_EXCEEDED", errors.DeadlineExceeded),
        ("RESOURCE_EXHAUSTED", errors.LimitExceeded),
        ("INVALID_ARGUMENT", errors.InvalidRequest),
        ("FAILED_PRECONDITION", errors.InvalidTransition),
        ("NOT_FOUND", errors.NotFound),
        ("INTERNAL", errors.Internal),
        ("UNIMPLEMENTED", JobServiceError),
        ("PERMISSION_DENIED", JobServiceError),
        ("CANCELLED", JobServiceError),
    ],
)
def test_a_status_of_grpc_itself_has_a_class(code: str, kind: type[JobServiceError]) -> None:
    back = status.from_rpc_error(Ended(grpc.StatusCode[code], "from afar", None))
    assert type(back) is kind
    assert "from afar" in back.message


def test_what_the_service_did_is_unknown_when_grpc_ended_the_call() -> None:
    assert status.is_foreign(status.from_rpc_error(Ended(grpc.StatusCode.UNAVAILABLE, "gone")))


def test_details_that_are_no_status_do_no_harm() -> None:
    trailers = ((status.TRAILER, b"\xff\xff"), ("x", "y"))
    back = status.from_rpc_error(Ended(grpc.StatusCode.UNAVAILABLE, "gone", trailers))
    assert type(back) is errors.Unavailable


def test_a_reason_of_a_newer_service_becomes_the_widest_class_of_its_code() -> None:
    sent = status.to_status(errors.NotFound("There is no cluster c."))
    info = error_details_pb2.ErrorInfo(reason="CLUSTER_NOT_FOUND", domain=status.DOMAIN)
    sent.details[0].Pack(info)
    assert type(status.from_status(sent)) is errors.NotFound
