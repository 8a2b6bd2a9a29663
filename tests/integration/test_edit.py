"""What is changed of a job after its creation: edits, retries, cancels and deletes."""

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from jobservice import Client, State
from jobservice.errors import EtagMismatch, InvalidTransition
from jobservice.model.lifecycle import Reason
from jobservice.testing.server import Server
from jobservice.testing.wait import wait_until
from jobservice.wire import messages as pb
from jobservice.wire.stubs import JobServiceStub
from tests.integration.bare import LATER, SLEEP, create, output, running, scheduled, stubborn

# --- update ---------------------------------------------------------------------------------------


def test_only_the_fields_in_the_mask_change(idle_stub: JobServiceStub) -> None:
    made = idle_stub.CreateJob(create(name="old", priority=3, labels={"a": "1", "b": "2"})).job
    asked = pb.Job(job_id=made.job_id, name="new", priority=9, labels={"c": "3"}, queue="other")
    mask = FieldMask(paths=["labels", "name", "name"])
    changed = idle_stub.UpdateJob(pb.UpdateJobRequest(job=asked, update_mask=mask)).job
    assert (changed.name, dict(changed.labels)) == ("new", {"c": "3"})
    assert (changed.priority, changed.queue) == (3, "default")
    assert (changed.etag != made.etag, changed.revision) == (True, made.revision + 1)
    assert changed.update_time.ToNanoseconds() > made.update_time.ToNanoseconds()
    assert idle_stub.GetJob(pb.GetJobRequest(job_id=made.job_id)).job == changed


def test_every_editable_field_can_be_changed_and_unset(idle_stub: JobServiceStub) -> None:
    made = idle_stub.CreateJob(create(timeout=Duration(seconds=5), name="n")).job
    paths = ["name", "labels", "priority", "queue", "timeout", "retry_policy", "stop_grace"]
    asked = pb.Job(
        job_id=made.job_id, name="new", labels={"k": "v"}, priority=50, queue="fast",
        timeout=Duration(seconds=60), stop_grace=Duration(seconds=1),
        retry_policy=pb.RetryPolicy(max_attempts=4),
    )  # fmt: skip
    request = pb.UpdateJobRequest(job=asked, update_mask=FieldMask(paths=paths))
    changed = idle_stub.UpdateJob(request).job
    for path in paths:
        if path != "retry_policy":
            assert getattr(changed, path) == getattr(asked, path), path
    assert (changed.retry_policy.max_attempts, changed.retry_policy.max_lost) == (4, 5)
    unset = pb.UpdateJobRequest(job=pb.Job(job_id=made.job_id), update_mask=FieldMask(paths=paths))
    bare = idle_stub.UpdateJob(unset).job
    plain = idle_stub.CreateJob(create()).job
    for path in paths:
        assert getattr(bare, path) == getattr(plain, path), path
    assert not bare.HasField("timeout")


def test_an_etag_keeps_one_edit_from_overwriting_another(client: Client) -> None:
    made = client.create(SLEEP)
    found = running(client, made)
    assert found.etag == made.etag, "an etag is of what a user edits, not of the state"
    first = client.update(made, etag=made.etag, name="first")
    with pytest.raises(EtagMismatch):
        client.update(made, etag=made.etag, name="second")
    assert client.get(made).spec.name == "first"
    client.update(made, etag=first.etag, name="second")
    client.update(made, name="third")
    assert client.get(made).spec.name == "third"


def test_fifty_edits_at_once_with_one_etag_have_one_winner(parked: Client) -> None:
    made = parked.create(["true"])

    def edit(number: int) -> bool:
        try:
            parked.update(made, etag=made.etag, name=str(number))
        except EtagMismatch:
            return False
        return True

    with ThreadPoolExecutor(50) as threads:
        won = list(threads.map(edit, range(50)))
    assert sum(won) == 1
    assert parked.get(made).spec.name == str(won.index(True))
    assert parked.get(made).revision == 2


def test_a_final_job_keeps_what_it_ran_with(client: Client) -> None:
    done = client.wait(client.create(["true"]), timeout=20)
    assert client.update(done, name="later", labels={"k": "v"}).spec.name == "later"
    with pytest.raises(InvalidTransition) as caught:
        client.update(done, name="no", priority=1, queue="q")
    assert caught.value.message.endswith("is SUCCEEDED: priority, queue cannot be changed now.")
    found = client.get(done)
    assert (found.spec.name, found.spec.priority) == ("later", 0)
    running_job = running(client, client.create(SLEEP))
    assert client.update(running_job, priority=5, timeout=9).spec.priority == 5
    waiting = scheduled(client)
    assert client.update(waiting, stop_grace=3).spec.stop_grace == dt.timedelta(seconds=3)


def test_a_running_attempt_keeps_what_it_began_with(local: Client, tmp_path: Path) -> None:
    script = f"until test -e {tmp_path}/gate; do echo tick; sleep 0.1; done; exit 3"
    job = running(local, local.create(["sh", "-c", script]))
    local.update(job, timeout=0.2, retry_policy=LATER)
    begun = len(output(local, job))
    wait_until(lambda: len(output(local, job)) > begun + 6 * len("tick\n"))
    (tmp_path / "gate").touch()
    wait_until(lambda: local.get(job).state is not State.RUNNING)
    found = local.get(job)
    assert (found.state, found.attempts[0].exit_code) == (State.SCHEDULED, 3)


# --- retry ----------------------------------------------------------------------------------------


def test_each_final_state_can_be_run_again(client: Client) -> None:
    ends = [
        client.wait(client.create(["true"]), timeout=20),
        client.wait(client.create(["sh", "-c", "exit 3"], max_attempts=1), timeout=20),
        client.cancel(running(client, client.create(SLEEP)), wait=True),
    ]
    assert [each.state for each in ends] == [State.SUCCEEDED, State.FAILED, State.CANCELLED]
    for end in ends:
        again = client.retry(end)
        assert (again.job_id, again.state) == (end.job_id, State.QUEUED)
        assert (again.reason, again.message, again.ended_at) == (Reason.NONE, "", None)
        assert again.failure_count == 0, "a fresh budget of attempts"
    assert client.wait(ends[0], timeout=20).attempt_count == 2
    failed = client.wait(ends[1], timeout=20)
    assert (failed.state, [each.exit_code for each in failed.attempts]) == (State.FAILED, [3, 3])
    assert running(client, ends[2]).state is State.RUNNING


def test_what_is_not_final_cannot_be_run_again(client: Client) -> None:
    for job in running(client, client.create(SLEEP)), scheduled(client):
        with pytest.raises(InvalidTransition) as caught:
            client.retry(job)
        assert caught.value.metadata["state"] == client.get(job).state.name
        assert client.get(job).revision == job.revision


def test_a_cancelled_job_that_never_ran_can_run(local: Client) -> None:
    sleepers = [local.create(SLEEP) for _ in range(4)]
    for each in sleepers:
        running(local, each)
    job = local.cancel(local.create(["true"]), wait=True)  # it may be leased ahead of a free slot
    assert (job.state, job.started_at) == (State.CANCELLED, None)
    assert local.retry(job).state is State.QUEUED
    local.cancel(sleepers[0])
    assert local.wait(job, timeout=20).state is State.SUCCEEDED


# --- cancel ---------------------------------------------------------------------------------------


def test_a_cancel_can_be_repeated(client: Client) -> None:
    job = stubborn(client, stop_grace=0.5)
    first, second = client.cancel(job), client.cancel(job)
    assert first.state is second.state is State.STOPPING
    assert second.revision == first.revision, "asked twice is asked once"
    final = client.cancel(job, wait=True)
    assert (final.state, final.reason, final.signal) == (State.CANCELLED, Reason.USER, 9)
    assert client.cancel(job).revision == client.cancel(job, wait=True).revision == final.revision


def test_a_cancel_of_what_waits_is_done_at_once(client: Client) -> None:
    job = client.cancel(scheduled(client))
    assert (job.state, job.reason, job.attempt_count) == (State.CANCELLED, Reason.USER, 1)
    assert job.start_at is None
    assert job.ended_at is not None


@pytest.mark.parametrize(("argv", "state"), [("true", State.SUCCEEDED), ("false", State.FAILED)])
def test_a_cancel_of_a_final_job_changes_nothing(client: Client, argv: str, state: State) -> None:
    done = client.wait(client.create([argv]), timeout=20)
    assert client.cancel(done, wait=True) == client.cancel(done) == client.get(done)
    assert client.get(done).state is state


def test_a_cancel_that_waits_returns_when_no_process_lives(service: Server, local: Client) -> None:
    job = stubborn(local, stop_grace=0.3)
    assert any(job.job_id in each or "trap" in each for each in service.job_processes())
    assert local.cancel(job, wait=True).state is State.CANCELLED
    assert service.job_processes() == []
