"""What tests say over the bare API, and what a foreign client sees of a refusal."""

import dataclasses
import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as details_pb2  # type: ignore[import-untyped]
from google.rpc import status_pb2

from jobservice import Client, RetryPolicy, State
from jobservice.errors import NotFound
from jobservice.model.job import Job
from jobservice.testing.wait import wait_until
from jobservice.wire import messages as pb

SLEEP = ["sleep", "600"]
UNKNOWN_ID = "j" + "0" * 26
STUBBORN = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"]
_DAY = dt.timedelta(days=1)
LATER = RetryPolicy(max_attempts=2, initial_backoff=_DAY, max_backoff=_DAY)
"""The one retry is at a random time of the next day."""

_INNARDS = re.compile(
    r"Traceback|File \"|\.py\b|apsw|sqlite|SELECT |INSERT |UPDATE |DELETE FROM|object at 0x|js-\w{8}"
)
"""What no message may hold: a stack trace, SQL, a path of the service."""


@dataclasses.dataclass(frozen=True)
class Refusal:
    """An error as the wire carries it."""

    code: str
    reason: str
    message: str
    metadata: Mapping[str, str]
    violations: Sequence[tuple[str, str]]
    """Field and rule, in order."""
    details: Mapping[str, Any]
    """By the name of the message."""

    @property
    def fields(self) -> list[str]:
        return [field for field, _ in self.violations]


def refused(call: Callable[..., Any], request: Message) -> Refusal:
    """The error that a call ends with; there must be one, and it must give nothing away."""
    with pytest.raises(grpc.RpcError) as caught:
        answered(call, request)
    return refusal(caught.value)


def answered(call: Callable[..., Any], request: Message) -> list[Message]:
    """The response of a call, or all of a stream."""
    answer = call(request, timeout=30)
    return [answer] if isinstance(answer, Message) else list(answer)


def refusal(error: grpc.RpcError) -> Refusal:
    """An error with its details, read as any client would."""
    trailers: dict[str, Any] = dict(error.trailing_metadata() or ())  # type: ignore[arg-type]
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    found: dict[str, Any] = {}
    for packed in status.details:
        name = packed.type_url.rpartition(".")[2]
        found[name] = getattr(details_pb2, name).FromString(packed.value)
    assert found["ErrorInfo"].domain == "jobservice"
    broken = found["BadRequest"].field_violations if "BadRequest" in found else ()
    assert not _INNARDS.search(str(status)), status
    assert all(each.field and each.description and each.reason for each in broken)
    return Refusal(
        code=error.code().name,
        reason=found["ErrorInfo"].reason,
        message=status.message,
        metadata=dict(found["ErrorInfo"].metadata),
        violations=[(each.field, each.reason) for each in broken],
        details=found,
    )


def job(*argv: str, **fields: Any) -> pb.Job:
    """What a create asks for; `true` where nothing else is said."""
    command = fields.pop("command", None) or pb.Command(argv=argv or ("true",))
    return pb.Job(command=command, **fields)


def create(*argv: str, request_id: str = "", **fields: Any) -> pb.CreateJobRequest:
    """A request for one job."""
    return pb.CreateJobRequest(job=job(*argv, **fields), request_id=request_id)


def running(client: Client, job: Job) -> Job:
    """The job once a process of its newest attempt lives."""

    def look() -> Job | None:
        found = client.get(job)
        return found if found.attempts and found.attempts[-1].started_at else None

    found = wait_until(look, what="a process of the job")
    assert found is not None
    return found


def output(client: Client, job: Job, stream: str = "stdout", attempt: int = 0) -> bytes:
    """All that an attempt wrote to a stream."""
    return b"".join(chunk.data for chunk in client.logs(job, attempt, stream=stream))


def stubborn(client: Client, stop_grace: float) -> Job:
    """A running job that takes its whole grace to stop."""
    job = client.create(STUBBORN, stop_grace=stop_grace)
    wait_until(lambda: output(client, job))
    return job


def scheduled(client: Client) -> Job:
    """A job that failed and waits for its next attempt."""
    job = client.create(["false"], retry_policy=LATER)
    wait_until(lambda: client.get(job).state is State.SCHEDULED)
    return client.get(job)


def gone(client: Client, job: Job) -> bool:
    try:
        client.get(job)
    except NotFound:
        return True
    return False
