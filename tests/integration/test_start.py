"""Start times over the wire: a job starts when its time comes, and says until then what it waits for."""

import datetime as dt

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from jobservice import Client
from jobservice.errors import AlreadyExists, InvalidRequest, InvalidTransition
from jobservice.model.lifecycle import State
from jobservice.wire import messages as pb
from jobservice.wire.stubs import JobServiceStub
from tests.integration.bare import create, refused

FAR = dt.datetime(2034, 5, 1, 3, tzinfo=dt.timezone(dt.timedelta(hours=2)))


def test_a_job_starts_after_its_delay(client: Client) -> None:
    job = client.create(["true"], start_delay=0.3)
    assert job.state is State.SCHEDULED
    assert job.start_at == job.created_at + dt.timedelta(seconds=0.3)
    done = client.wait(job)
    assert done.state is State.SUCCEEDED
    assert done.started_at is not None
    assert done.started_at >= job.start_at


def test_a_job_says_until_when_it_waits(parked: Client) -> None:
    job = parked.create(["true"], start_after=FAR)
    status = parked.status(job)
    assert (status.state, status.start_at) == (State.SCHEDULED, FAR)
    assert status.waiting_reason == "waits for its start time, 2034-05-01T01:00:00Z"
    assert [each.job_id for each in parked.active()] == [job.job_id]


def test_the_start_can_be_moved_to_now(local: Client) -> None:
    job = local.create(["true"], start_after=FAR)
    moved = local.update(job, start_after=None)
    assert moved.spec.start_after is None
    done = local.wait(job)
    assert done.state is State.SUCCEEDED
    with pytest.raises(InvalidTransition, match="start_after cannot be changed now"):
        local.update(job, start_after=FAR)


def test_a_start_that_has_passed_is_at_once(local: Client) -> None:
    job = local.create(["true"], start_after=FAR - dt.timedelta(days=9000))
    assert local.wait(job).state is State.SUCCEEDED


def test_a_scheduled_job_can_be_cancelled(parked: Client) -> None:
    job = parked.create(["true"], start_delay=dt.timedelta(days=3650))
    assert parked.cancel(job, wait=True).state is State.CANCELLED
    assert parked.retry(job).state is State.QUEUED


def test_a_request_that_is_sent_again_finds_its_job(parked: Client) -> None:
    first = parked.create(["true"], start_after=FAR, request_id="once")
    assert parked.create(["true"], start_after=FAR, request_id="once") == first
    with pytest.raises(AlreadyExists, match="another start_after"):
        parked.create(["true"], request_id="once")


def test_bad_start_times_are_refused(idle_stub: JobServiceStub) -> None:
    year = {"seconds": int(FAR.timestamp()) + 20 * 366 * 86400}
    found = refused(idle_stub.CreateJob, create(start_after=year))
    assert found.violations == [("job.start_after", "TOO_FAR_AHEAD")]
    both = create(start_after={"seconds": 1}, start_delay={"seconds": 1})
    assert refused(idle_stub.CreateJob, both).violations == [("job.start_delay", "ONE_START")]
    batch = pb.BatchCreateJobsRequest(requests=[create(), create(start_after=year, cluster="x")])
    assert sorted(refused(idle_stub.BatchCreateJobs, batch).fields) == [
        "requests[1].job.cluster",
        "requests[1].job.start_after",
    ]
    bad = create(start_delay={"seconds": 315_360_001})
    assert refused(idle_stub.CreateJob, bad).fields == ["job.start_delay"]
    job = idle_stub.CreateJob(create(start_delay={"seconds": 60})).job
    update = pb.UpdateJobRequest(
        job=pb.Job(job_id=job.job_id, start_after=Timestamp(**year)),
        update_mask=FieldMask(paths=["start_after"]),
    )
    assert refused(idle_stub.UpdateJob, update).violations == [("job.start_after", "TOO_FAR_AHEAD")]


def test_the_sdk_wants_an_instant_with_its_zone(parked: Client) -> None:
    with pytest.raises(InvalidRequest, match="aware"):
        parked.create(["true"], start_after=FAR.replace(tzinfo=None))
