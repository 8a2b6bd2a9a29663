"""Unique keys over the wire: of all that come, one is created; and what is said of the others."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from jobservice import Client, OnDuplicate, UniqueKey
from jobservice.errors import DuplicateJob
from jobservice.model.lifecycle import Reason, State
from jobservice.wire import messages as pb
from jobservice.wire.stubs import JobServiceStub
from tests.integration.bare import SLEEP, create, refused, running


@pytest.fixture
def key() -> str:
    """A key of the test's own."""
    return uuid.uuid4().hex


def batch(*jobs: pb.CreateJobRequest, **fields: Any) -> pb.BatchCreateJobsRequest:
    return pb.BatchCreateJobsRequest(requests=jobs, **fields)


def test_a_key_is_free_once_its_job_has_ended(client: Client, key: str) -> None:
    first = client.create(["true"], unique=key, start_delay=3600)
    again = client.create(["false"], unique=key)
    assert (again.job_id, again.existing) == (first.job_id, True)
    assert (first.existing, client.get(first).existing) == (False, False)
    client.cancel(first, wait=True)
    second = client.create(["true"], unique=key)
    assert (second.existing, client.wait(second, timeout=20).state) == (False, State.SUCCEEDED)


def test_a_repeated_request_is_answered_as_the_first(client: Client, key: str) -> None:
    first = client.create(["true"], unique=key, start_delay=3600, request_id=key)
    again = client.create(["true"], unique=key, start_delay=3600, request_id=key)
    assert (again.job_id, again.existing) == (first.job_id, False)
    other = client.create(["true"], unique=key, request_id=f"{key}-2")
    repeated = client.create(["true"], unique=key, request_id=f"{key}-2")
    assert other == repeated
    assert (other.job_id, other.existing) == (first.job_id, True)
    client.cancel(first)


def test_a_job_that_runs_is_not_replaced(local: Client, key: str) -> None:
    replacing = UniqueKey(key, on_duplicate=OnDuplicate.REPLACE)
    waiting = local.create(SLEEP, unique=replacing, start_delay=3600)
    runs = running(local, local.create(SLEEP, unique=replacing))
    found = local.get(waiting)
    assert (found.state, found.reason) == (State.SKIPPED, Reason.SUPERSEDED)
    with pytest.raises(DuplicateJob, match=runs.job_id) as caught:
        local.create(SLEEP, unique=replacing)
    expected = {"job_id": runs.job_id, "key": key, "field": "job.unique_key"}
    assert caught.value.metadata == expected
    local.cancel(runs, wait=True)


def test_of_many_clients_one_creates_the_job(idle_stub: JobServiceStub, key: str) -> None:
    def one(_: int) -> pb.CreateJobResponse:
        return idle_stub.CreateJob(create("true", unique_key=pb.UniqueKey(key=key)))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(one, range(40)))
    assert len({each.job.job_id for each in answers}) == 1
    assert sorted(each.existing for each in answers) == [False, *[True] * 39]
    request = create("true", unique_key=pb.UniqueKey(key=key))
    request.validate_only = True
    checked = idle_stub.CreateJob(request)
    assert (checked.existing, checked.job.job_id) == (True, answers[0].job.job_id)


def test_a_batch_has_a_job_for_each_place(client: Client, key: str) -> None:
    existing = client.create(["true"], unique=key, start_delay=3600)
    jobs = client.create_many([["true"], ["false"]], unique=key)
    assert [(each.job_id, each.existing) for each in jobs] == [(existing.job_id, True)] * 2
    client.cancel(existing, wait=True)
    jobs = client.create_many([["true"], ["false"]], unique=key, start_delay=3600)
    assert [each.existing for each in jobs] == [False, True]
    assert jobs[0].job_id == jobs[1].job_id
    client.cancel(jobs[0])


def test_what_is_refused_in_a_batch_says_where(idle_stub: JobServiceStub, key: str) -> None:
    reject = pb.UniqueKey(key=key, on_duplicate=2)  # type: ignore[arg-type]
    once = create("true", unique_key=reject)
    error = refused(idle_stub.BatchCreateJobs, batch(create("true"), once, once))
    assert (error.code, error.reason) == ("ALREADY_EXISTS", "DUPLICATE_JOB")
    assert error.metadata == {"key": key, "field": "requests[2].job.unique_key"}
    assert "is that of requests[1]" in error.message

    replace = pb.UniqueKey(key=key, on_duplicate=3)  # type: ignore[arg-type]
    child = create("true", dependencies=[pb.Dependency(request_index=0)])
    unique = create("true", unique_key=pb.UniqueKey(key=key))
    request = batch(unique, child, create("true", unique_key=replace))
    error = refused(idle_stub.BatchCreateJobs, request)
    assert error.violations == [
        ("requests[1].job.dependencies[0].request_index", "UNIQUE_PARENT"),
        ("requests[2].job.unique_key.on_duplicate", "ON_DUPLICATE_IN_BATCH"),
    ]

    answer = idle_stub.BatchCreateJobs(batch(create("true", unique_key=reject), child))
    assert answer.jobs[1].dependencies[0].job_id == answer.jobs[0].job_id
    assert list(answer.existing) == []


def test_the_key_cannot_be_changed(idle_stub: JobServiceStub, key: str) -> None:
    made = idle_stub.CreateJob(create("true", unique_key=pb.UniqueKey(key=key))).job
    request = pb.UpdateJobRequest(job=made)
    request.update_mask.paths.append("unique_key")
    assert refused(idle_stub.UpdateJob, request).violations == [("update_mask", "IMMUTABLE_FIELD")]
