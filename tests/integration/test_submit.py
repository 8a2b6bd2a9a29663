"""Jobs come to be: once, as a whole, with their defaults, and start in order."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from jobservice import Client
from jobservice.errors import AlreadyExists
from jobservice.model.lifecycle import State
from jobservice.testing.wait import wait_until
from jobservice.wire import messages as pb
from jobservice.wire.stubs import JobServiceStub
from tests.integration.bare import create, job, refused, running

MIB = 1 << 20


@pytest.fixture
def once() -> str:
    """A request_id of the test's own."""
    return uuid.uuid4().hex


def batch(*jobs: pb.Job, **fields: Any) -> pb.BatchCreateJobsRequest:
    requests = [pb.CreateJobRequest(job=each) for each in jobs]
    return pb.BatchCreateJobsRequest(requests=requests, **fields)


def count(stub: JobServiceStub) -> int:
    request = pb.ListJobsRequest(page_size=1000, view=3)  # type: ignore[arg-type]  # ID
    page = stub.ListJobs(request)
    assert not page.next_page_token
    return len(page.jobs)


# --- once -----------------------------------------------------------------------------------------


def test_a_repeated_create_returns_the_same_job(idle_stub: JobServiceStub, once: str) -> None:
    first = idle_stub.CreateJob(create("true", "x", request_id=once, labels={"a": "1"})).job
    again = idle_stub.CreateJob(create("true", "x", request_id=once, labels={"a": "1"})).job
    assert again == first
    written_out = create("true", "x", request_id=once, labels={"a": "1"}, queue="default")
    written_out.job.state = 9  # type: ignore[assignment]  # what the service sets is not compared
    assert idle_stub.CreateJob(written_out).job == first
    assert count(idle_stub) == 1


def test_a_repeated_create_finds_the_job_after_its_end(client: Client, once: str) -> None:
    first = client.create(["true"], request_id=once)
    done = client.wait(first, timeout=20)
    again = client.create(["true"], request_id=once)
    assert (again.job_id, again.state) == (first.job_id, State.SUCCEEDED)
    assert client.get(first).revision == done.revision
    client.update(done, name="renamed")
    assert client.create(["true"], request_id=once).job_id == first.job_id


def test_another_body_is_refused_and_its_differences_are_named(
    idle_stub: JobServiceStub, once: str
) -> None:
    first = idle_stub.CreateJob(create("true", request_id=once)).job
    other = create("false", request_id=once, name="n", priority=5)
    other.job.command.stdin = b"x"
    found = refused(idle_stub.CreateJob, other)
    assert (found.code, found.reason) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
    assert found.metadata["job_id"] == first.job_id
    assert found.metadata["fields"].split(",") == [
        "name", "priority", "command.argv", "command.stdin",
    ]  # fmt: skip
    assert found.details["ResourceInfo"].resource_name == first.job_id
    assert count(idle_stub) == 1


def test_the_id_of_a_deleted_job_stays_used(idle_stub: JobServiceStub, once: str) -> None:
    first = idle_stub.CreateJob(create("true", request_id=once)).job
    idle_stub.DeleteJob(pb.DeleteJobRequest(job_id=first.job_id))
    for request in (create("true", request_id=once), create("false", request_id=once)):
        found = refused(idle_stub.CreateJob, request)
        assert (found.code, found.reason) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
        assert found.metadata["job_id"] == first.job_id
    assert count(idle_stub) == 0


def test_fifty_creates_at_once_with_one_id_are_one_job(parked: Client, once: str) -> None:
    with ThreadPoolExecutor(50) as threads:
        made = list(threads.map(lambda _: parked.create(["true"], request_id=once), range(50)))
    assert len({each.job_id for each in made}) == 1
    assert [each.job_id for each in parked.list()] == [made[0].job_id]


def test_fifty_creates_at_once_with_bodies_of_their_own_have_one_winner(
    parked: Client, once: str
) -> None:
    def attempt(number: int) -> str:
        try:
            return parked.create(["echo", str(number)], request_id=once).spec.command.argv[1]
        except AlreadyExists as error:
            return f"refused {error.metadata['fields']}"

    with ThreadPoolExecutor(50) as threads:
        answers = sorted(threads.map(attempt, range(50)))
    [winner] = parked.list()
    assert answers == [winner.spec.command.argv[1], *["refused command.argv"] * 49]


# --- batches --------------------------------------------------------------------------------------


def test_a_batch_of_a_thousand_is_created_in_order(idle_stub: JobServiceStub, once: str) -> None:
    jobs = [job("echo", str(number)) for number in range(1000)]
    made = idle_stub.BatchCreateJobs(batch(*jobs, request_id=once)).jobs
    assert [each.command.argv[1] for each in made] == [str(number) for number in range(1000)]
    ids = [each.job_id for each in made]
    assert ids == sorted(set(ids))
    again = idle_stub.BatchCreateJobs(batch(*jobs, request_id=once, view=3)).jobs  # ID
    assert [each.job_id for each in again] == ids
    assert not again[0].HasField("command")
    assert count(idle_stub) == 1000


def test_a_batch_is_compared_as_a_whole(idle_stub: JobServiceStub, once: str) -> None:
    first = idle_stub.BatchCreateJobs(batch(job(), job(), request_id=once)).jobs
    fewer = refused(idle_stub.BatchCreateJobs, batch(job(), request_id=once))
    assert (fewer.code, fewer.metadata["fields"]) == ("ALREADY_EXISTS", "requests")
    other = refused(idle_stub.BatchCreateJobs, batch(job(), job("false"), request_id=once))
    assert (other.code, other.metadata["fields"]) == ("ALREADY_EXISTS", "command.argv")
    assert other.metadata["job_id"] == first[0].job_id
    assert count(idle_stub) == 2


def test_a_batch_that_is_too_large_or_empty_creates_nothing(idle_stub: JobServiceStub) -> None:
    for jobs, rule in ([job()] * 1001, "REPEATED_MAX_ITEMS"), ([], "REPEATED_MIN_ITEMS"):
        found = refused(idle_stub.BatchCreateJobs, batch(*jobs))
        assert (found.code, found.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
        assert found.violations == [("requests", rule)]
    assert count(idle_stub) == 0


def test_a_batch_with_invalid_jobs_creates_none_and_names_all(idle_stub: JobServiceStub) -> None:
    request = batch(job(), job(priority=101), job(cluster="mars"), job(labels={"A": "b"}))
    request.requests[2].job.command.work_dir = "here"
    request.requests[3].request_id = "mine"
    request.requests.add()
    found = refused(idle_stub.BatchCreateJobs, request)
    assert (found.code, found.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert sorted(found.fields) == [
        "requests[1].job.priority",
        "requests[2].job.command.work_dir",
        'requests[3].job.labels["A"]',
        "requests[3].request_id",
        "requests[4].job",
    ]
    assert count(idle_stub) == 0


def test_an_unknown_cluster_is_refused(idle_stub: JobServiceStub) -> None:
    one = refused(idle_stub.CreateJob, create(cluster="mars"))
    assert one.violations == [("job.cluster", "CLUSTER_UNKNOWN")]
    jobs = [job(cluster=cluster) for cluster in ("local", "mars", "", "venus")]
    many = refused(idle_stub.BatchCreateJobs, batch(*jobs))
    assert many.fields == ["requests[1].job.cluster", "requests[3].job.cluster"]
    assert count(idle_stub) == 0


# --- what is stored -------------------------------------------------------------------------------


def test_defaults_are_filled_in(idle_stub: JobServiceStub) -> None:
    before = time.time()
    made = idle_stub.CreateJob(create("echo", "x")).job
    assert (made.tenant, made.queue, made.cluster, made.priority) == (
        "default", "default", "local", 0,
    )  # fmt: skip
    policy = made.retry_policy
    assert (policy.max_attempts, policy.multiplier, policy.max_lost) == (1, 2.0, 5)
    assert (policy.initial_backoff.seconds, policy.max_backoff.seconds) == (1, 600)
    assert (made.stop_grace.seconds, made.output_limit_bytes) == (10, 1 << 30)
    assert not made.HasField("timeout")
    assert (State(made.state), made.revision, made.attempt_count) == (State.QUEUED, 1, 0)
    assert before - 1 < made.create_time.ToNanoseconds() / 1e9 < time.time() + 1
    assert made.update_time == made.create_time
    assert idle_stub.GetJob(pb.GetJobRequest(job_id=made.job_id)).job == made


def test_what_the_service_sets_is_ignored(idle_stub: JobServiceStub) -> None:
    request = create("true", tenant="other", job_id="j" + "1" * 26, revision=77, etag="e99")
    request.job.exit_code = 3
    request.job.attempts.add(attempt=4)
    made = idle_stub.CreateJob(request).job
    assert made.job_id != request.job.job_id
    assert (made.tenant, made.revision, len(made.attempts)) == ("default", 1, 0)
    assert not made.HasField("exit_code")


def test_validate_only_creates_nothing(idle_stub: JobServiceStub, once: str) -> None:
    request = create("true", name="preview", request_id=once)
    request.validate_only = True
    preview = idle_stub.CreateJob(request).job
    assert (preview.job_id, preview.name, preview.queue) == ("", "preview", "default")
    assert count(idle_stub) == 0
    request.job.priority, request.job.cluster = 101, "-"
    assert sorted(refused(idle_stub.CreateJob, request).fields) == ["job.cluster", "job.priority"]
    made = idle_stub.CreateJob(create("false", request_id=once)).job
    assert made.command.argv == ["false"], "a preview uses no request_id"


@pytest.mark.parametrize("nanos", [1, 999, 1_500])
def test_a_timeout_below_a_microsecond_is_still_one(idle_stub: JobServiceStub, nanos: int) -> None:
    request = create("true")
    request.job.timeout.nanos = nanos
    made = idle_stub.CreateJob(request).job
    assert made.timeout.nanos > 0


# --- size and order -------------------------------------------------------------------------------


def test_a_message_may_have_sixteen_mebibytes(idle_stub: JobServiceStub) -> None:
    jobs = [job(command=pb.Command(argv=["cat"], stdin=bytes(MIB))) for _ in range(16)]
    assert batch(*jobs).ByteSize() > 16 * MIB
    with pytest.raises(grpc.RpcError) as caught:
        idle_stub.BatchCreateJobs(batch(*jobs))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert count(idle_stub) == 0
    jobs[-1].command.stdin = bytes(MIB - 1000)
    assert len(idle_stub.BatchCreateJobs(batch(*jobs, view=3)).jobs) == 16
    assert count(idle_stub) == 16


def test_priorities_order_the_starts(local: Client, tmp_path: Path) -> None:
    """Three of the four slots are taken, so what is queued starts one after the other."""
    gate = tmp_path / "gate"
    for _ in range(3):
        running(local, local.create(["sleep", "600"]))
    opening = local.create(["sh", "-c", f"until test -e {gate}; do sleep 0.05; done"])
    running(local, opening)
    levels: list[int | str] = ["low", 0, 7, "high", 100, -100, 0, "high"]
    jobs = [local.create(["true"], priority=level) for level in levels]
    raised = local.create(["true"], priority=-100)
    local.update(raised, priority=99)
    expected = [7, 5, 4, 2, 0, 8, 6, 3]  # once leases that were taken ahead are handed back
    wait_until(lambda: [local.status(each).queue_position for each in jobs] == expected)
    gate.touch()
    done = [local.wait(each, timeout=30) for each in (*jobs, raised)]
    started = sorted(range(len(done)), key=lambda i: (done[i].started_at, done[i].ended_at))
    assert started == [4, 8, 3, 7, 2, 1, 6, 0, 5]


def test_a_job_that_is_created_starts_at_once(client: Client) -> None:
    job = client.create(["sleep", "600"])
    found = wait_until(lambda: running(client, job), timeout_s=5)
    assert found.started_at is not None
    assert (found.started_at - found.created_at).total_seconds() < 3
