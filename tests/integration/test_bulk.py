"""Changes of many jobs over the wire, with real jobs, and with a server that is killed in the middle."""

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from jobservice import Client
from jobservice.errors import AlreadyExists, DeadlineExceeded, NotFound, Unavailable
from jobservice.model.lifecycle import State
from jobservice.model.operation import OperationState
from jobservice.testing.server import Server
from jobservice.testing.wait import wait_until
from jobservice.wire import messages as pb
from jobservice.wire.stubs import OperationServiceStub
from tests.integration.bare import SLEEP, refused, running
from tests.integration.conftest import Serve
from tests.integration.crash import check_file

VARIABLE = "JOBSERVICE_FAILPOINT"
NOBODY = "o" + "0" * 26


def counts(client: Client, action: str, filter_: str, **more: Any) -> tuple[int, int, int]:
    """What an operation has counted in the end."""
    done = client.wait_operation(client.bulk(action, filter_, **more), 30)
    assert done.state is OperationState.DONE
    return done.done_count, done.skipped_count, done.failed_count


def test_jobs_are_held_released_and_put_in_front(local: Client) -> None:
    gates = [running(local, local.create(SLEEP)) for _ in range(4)]
    local.create_many([["true"]] * 20, name="many")
    assert local.bulk_count("hold", "name = many").count == 20
    assert counts(local, "hold", "name = many", reason="wait for the disk") == (20, 0, 0)
    held = list(local.active(name="many"))
    assert {(job.state, job.message) for job in held} == {(State.HELD, "wait for the disk")}
    assert counts(local, "set_priority", "name = many", priority="high") == (20, 0, 0)
    assert counts(local, "release", "state = HELD OR state = RUNNING") == (20, 4, 0)
    assert {job.spec.priority for job in local.active(name="many")} == {50}
    assert counts(local, "cancel", "state = RUNNING AND priority = 0") == (4, 0, 0)
    for gate in gates:
        assert local.wait(gate, 30).state is State.CANCELLED
    wait_until(lambda: not list(local.active()), what="the end of all jobs")


def test_jobs_are_retried_and_deleted(local: Client) -> None:
    jobs = local.create_many([["sh", "-c", "exit 3"]] * 6, labels={"team": "a"})
    list(local.as_completed(jobs, 30))
    local.wait(local.create(["true"]))
    assert counts(local, "retry", "exit_code = 3") == (6, 0, 0)
    list(local.as_completed(jobs, 30))
    assert {job.attempt_count for job in local.list(filter="labels:team")} == {2}
    local.create(SLEEP, labels={"team": "a"})
    assert counts(local, "delete", "labels.team = a") == (7, 0, 0)
    wait_until(lambda: len(list(local.list())) == 1, what="the deletion of the jobs")


def test_a_change_is_listed_and_can_be_ended(parked: Client) -> None:
    parked.create_many([["true"]] * 50)
    slow = parked.bulk("hold", "*", max_per_second=1, reason="slowly")
    with pytest.raises(DeadlineExceeded, match="goes on still"):
        parked.wait_operation(slow, 0.3)
    ended = parked.cancel_operation(slow)
    assert (ended.state, ended.change.reason) == (OperationState.CANCELLED, "slowly")
    assert 1 <= ended.done_count < 50
    assert parked.operation(slow) == parked.cancel_operation(slow.operation_id) == ended
    assert len(list(parked.list(filter="state = HELD"))) == ended.done_count
    assert next(parked.operations()) == ended


def test_a_change_with_the_same_request_id_begins_once(parked: Client) -> None:
    first = parked.bulk("hold", "name = nobody", request_id="bulk-once")
    again = parked.bulk("hold", '(name="nobody")', request_id="bulk-once")
    assert again.operation_id == first.operation_id
    with pytest.raises(AlreadyExists, match="with another filter, action") as caught:
        parked.bulk("cancel", "*", request_id="bulk-once")
    assert caught.value.metadata["operation_id"] == first.operation_id
    for call in (parked.operation, parked.cancel_operation):
        with pytest.raises(NotFound, match=f"There is no operation {NOBODY}"):
            call(NOBODY)


# --- bad input --------------------------------------------------------------------------------


@pytest.fixture
def operations(idle: Server) -> Iterator[OperationServiceStub]:
    with grpc.insecure_channel(idle.unix_address) as channel:
        yield OperationServiceStub(channel)


def asked(**fields: Any) -> pb.CreateOperationRequest:
    given: dict[str, Any] = {"filter": "*", "action": 2} | fields
    return pb.CreateOperationRequest(**given)


BAD: dict[str, tuple[str, Message, list[str]]] = {
    "no filter": ("CreateOperation", asked(filter=""), ["filter"]),
    "an empty filter": ("CreateOperation", asked(filter="  "), ["filter"]),
    "a wrong filter": (
        "CreateOperation",
        asked(filter="stat = X AND priority = p"),
        ["filter"] * 2,
    ),
    "a long filter": ("CreateOperation", asked(filter="x" * 2_001), ["filter"]),
    "no action": ("CreateOperation", asked(action=0), ["action"]),
    "an unknown action": ("CreateOperation", asked(action=99), ["action"]),
    "no priority": ("CreateOperation", asked(action=6), ["priority"]),
    "a priority of no use": ("CreateOperation", asked(priority=0), ["priority"]),
    "a priority out of range": ("CreateOperation", asked(action=6, priority=101), ["priority"]),
    "all at once": (
        "CreateOperation",
        asked(filter="x", reason="a\nb", max_per_second=-1, request_id="a b"),
        ["filter", "max_per_second", "reason", "request_id"],
    ),
    "a wrong id": (
        "GetOperation",
        pb.GetOperationRequest(operation_id="j" + "0" * 26),
        ["operation_id"],
    ),
    "no id": ("CancelOperation", pb.CancelOperationRequest(), ["operation_id"]),
    "a page size": ("ListOperations", pb.ListOperationsRequest(page_size=-1), ["page_size"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_requests_begin_nothing(operations: OperationServiceStub, case: str) -> None:
    before = operations.ListOperations(pb.ListOperationsRequest())
    rpc, request, fields = BAD[case]
    found = refused(getattr(operations, rpc), request)
    assert (found.code, found.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert sorted(found.fields) == fields
    assert operations.ListOperations(pb.ListOperationsRequest()) == before


def test_unknown_operations_and_foreign_tokens(operations: OperationServiceStub) -> None:
    for rpc, request in (
        ("GetOperation", pb.GetOperationRequest(operation_id=NOBODY)),
        ("CancelOperation", pb.CancelOperationRequest(operation_id=NOBODY)),
    ):
        found = refused(getattr(operations, rpc), request)
        assert (found.code, found.reason) == ("NOT_FOUND", "OPERATION_NOT_FOUND")
        assert found.details["ResourceInfo"].resource_type == "jobservice.v1.Operation"
        assert found.details["ResourceInfo"].resource_name == NOBODY
    for _ in range(3):
        operations.CreateOperation(asked())
    page = operations.ListOperations(pb.ListOperationsRequest(page_size=1))
    behind = pb.ListOperationsRequest(page_size=1, page_token=page.next_page_token)
    [second] = operations.ListOperations(behind).operations
    assert second.operation_id < page.operations[0].operation_id
    for token in ("x", page.next_page_token[:-4], page.next_page_token + "AAAA"):
        found = refused(operations.ListOperations, pb.ListOperationsRequest(page_token=token))
        assert found.reason == "PAGE_TOKEN_INVALID"


def test_only_validated_it_changes_nothing(operations: OperationServiceStub, idle: Server) -> None:
    with Client(idle.unix_address) as client:
        client.create_many([["true"]] * 3, name="n")
        answer = operations.CreateOperation(asked(filter="name = n", validate_only=True))
        assert (answer.operation.matched_count, answer.is_at_least) == (3, False)
        assert answer.operation.filter == 'name = "n"'
        assert (answer.operation.operation_id, answer.operation.state) == ("", 0)
        assert {job.state for job in client.list()} == {State.QUEUED}


# --- crashes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["bulk.batch_read@1", "bulk.batch_read@3", "bulk.batch_done@5"])
def test_a_server_killed_in_the_middle_goes_on_behind_the_last_batch(
    serve: Serve, place: str
) -> None:
    """There are five batches, each of them read and then done."""
    first = serve("--slots", "0").start()
    with Client(first.unix_address) as client:
        client.create_many([["true"]] * 1_000)
        client.create(["true"], queue="other")
    first.stop()
    doomed = serve("--slots", "0", env={VARIABLE: place}).start()
    with Client(doomed.unix_address, patience=0) as client, contextlib.suppress(Unavailable):
        client.bulk("hold", "queue = default", request_id="crash")
    assert doomed.wait() == -signal.SIGKILL
    healthy = serve("--slots", "0").start()
    with Client(healthy.unix_address) as client:
        begun = client.bulk("hold", "queue = default", request_id="crash")
        done = client.wait_operation(begun, 30)
        assert (done.done_count, done.skipped_count, done.failed_count) == (1_000, 0, 0)
        assert done.state is OperationState.DONE
        jobs = list(client.list(filter="state = HELD"))
        assert len(jobs) == 1_000
        assert {job.revision for job in jobs} == {2}
        assert [job.spec.queue for job in client.list(filter="state != HELD")] == ["other"]
        assert len(list(client.operations())) == 1
    healthy.stop()
    check_file(healthy)
