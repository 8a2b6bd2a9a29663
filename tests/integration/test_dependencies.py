"""Jobs that wait for others, over the wire, with real processes."""

import datetime as dt
import uuid
from typing import Any

import pytest

from jobservice import Client, Condition, Dependency
from jobservice.errors import AlreadyExists, InvalidRequest
from jobservice.model.event import Event, EventKind
from jobservice.model.graph import Verdict
from jobservice.model.ids import job_id
from jobservice.model.job import Job
from jobservice.model.lifecycle import Reason, State
from jobservice.wire import convert, messages
from jobservice.wire.stubs import JobServiceStub
from tests.integration.bare import running

pb: Any = messages
STRANGER = job_id(1, 1)


def ended_at(client: Client, job: Job) -> dt.datetime:
    end = client.get(job).ended_at
    assert end is not None
    return end


def started_at(client: Client, job: Job) -> dt.datetime:
    start = client.get(job).started_at
    assert start is not None
    return start


def test_a_diamond_runs_in_its_order(local: Client) -> None:
    top = local.create(["sleep", "0.2"])
    sides = [local.create(["true"], after=[top]) for _ in range(2)]
    bottom = local.create(["true"], after=sides)
    assert bottom.state is State.BLOCKED
    status = local.status(bottom)
    assert status.waiting_reason == f"waits for 2 of 2 jobs: {sides[0].job_id}, {sides[1].job_id}"
    done = local.wait(bottom)
    assert (done.state, done.verdicts) == (State.SUCCEEDED, (Verdict.MET, Verdict.MET))
    for each in (top, *sides):
        assert ended_at(local, each) <= started_at(local, bottom)


def test_what_failed_is_told_down_and_a_retry_opens_it_again(local: Client, tmp_path: Any) -> None:
    """A parent that is retried runs what was skipped because of it."""
    flag = tmp_path / "flag"
    build = local.create(["test", "-e", str(flag)])
    test = local.create(["true"], after=[build])
    publish = local.create(["true"], after=[test])
    report = local.create(["true"], after=[Dependency(build.job_id, Condition.FAILED)])
    skipped = local.wait(publish)
    assert (skipped.state, skipped.reason) == (State.SKIPPED, Reason.DEPENDENCY)
    assert skipped.cause_job_id == build.job_id
    assert build.job_id in skipped.message
    assert skipped.spec.dependencies == (Dependency(test.job_id),)
    assert local.wait(report).state is State.SUCCEEDED
    flag.touch()
    local.retry(build)
    assert local.wait(publish).state is State.SUCCEEDED
    assert local.get(publish).cause_job_id == ""


def test_delays_rules_and_actions(local: Client) -> None:
    fails, works = local.create(["false"]), local.create(["true"])
    after: list[Job | Dependency] = [
        fails,
        Dependency(works.job_id, Condition.FINISHED, dt.timedelta(seconds=0.5)),
    ]
    either = local.create(["true"], after=after, after_rule="any")
    always = local.create(["true"], after=[fails], after_rule="always")
    failed = local.create(["true"], after=after, after_rule=2, after_unmet="fail")
    held = local.create(["true"], after=after, after_unmet="hold")
    assert local.wait(either).state is State.SUCCEEDED
    delay = dt.timedelta(seconds=0.5)
    assert started_at(local, either) >= ended_at(local, works) + delay
    assert local.wait(always).state is State.SUCCEEDED
    done = local.wait(failed)
    assert (done.state, done.reason, done.attempts) == (State.FAILED, Reason.DEPENDENCY, ())
    assert local.get(held).state is State.HELD
    assert "on hold because of what it depends on" in local.status(held).waiting_reason
    local.release(held)
    assert local.wait(held).state is State.SUCCEEDED


def test_a_cancel_and_a_delete_decide(local: Client) -> None:
    gate = running(local, local.create(["sleep", "600"]))
    finished = local.create(["true"], after=[Dependency(gate.job_id, Condition.FINISHED)])
    skipped = local.create(["true"], after=[gate])
    local.delete(gate)
    assert local.wait(finished).state is State.SUCCEEDED
    assert local.wait(skipped).state is State.SKIPPED
    late = local.create(["true"], after=[Dependency(gate.job_id, Condition.FINISHED)])
    assert local.wait(late).state is State.SUCCEEDED


def test_what_cannot_be_depended_on(local: Client) -> None:
    gate = local.create(["true"])
    with pytest.raises(InvalidRequest) as refused:
        local.create(["true"], after=[gate, STRANGER])
    [violation] = refused.value.violations
    assert violation.field == "job.dependencies[1].job_id"
    assert violation.message.startswith(f"there is no job {STRANGER}; name one of this tenant")
    with pytest.raises(InvalidRequest, match="must be a number or one of all, any, always"):
        local.create(["true"], after=[gate], after_rule="some")


def test_a_create_with_dependencies_happens_once(local: Client) -> None:
    gate, other = local.create(["true"]), local.create(["true"])
    job = local.create(["true"], after=[gate], request_id="deps-once")
    assert local.create(["true"], after=[gate], request_id="deps-once").job_id == job.job_id
    with pytest.raises(AlreadyExists, match="with another dependencies;"):
        local.create(["true"], after=[other], request_id="deps-once")
    with pytest.raises(AlreadyExists, match="with another dependency_policy;"):
        local.create(["true"], after=[gate], after_unmet="fail", request_id="deps-once")


def graph(*parents: list[int], request_id: str = "") -> Any:
    return pb.BatchCreateJobsRequest(
        requests=[
            pb.CreateJobRequest(
                job=pb.Job(
                    command=pb.Command(argv=["true"]),
                    dependencies=[{"request_index": n} for n in each],
                )
            )
            for each in parents
        ],
        request_id=request_id,
        view=2,
    )


def test_a_graph_is_created_as_a_whole(client: Client, stub: JobServiceStub) -> None:
    request = graph([1, 2], [2], [], request_id=str(uuid.uuid4()))
    answer = stub.BatchCreateJobs(request)
    jobs = [convert.to_job(each) for each in answer.jobs]
    assert [each.state for each in jobs] == [State.BLOCKED, State.BLOCKED, State.QUEUED]
    assert jobs[0].spec.dependencies == (Dependency(jobs[1].job_id), Dependency(jobs[2].job_id))
    assert client.wait(jobs[0]).state is State.SUCCEEDED
    again = stub.BatchCreateJobs(request)
    assert [each.job_id for each in again.jobs] == [each.job_id for each in jobs]


def test_what_is_only_checked_says_where_it_would_be(client: Client, stub: JobServiceStub) -> None:
    gate = client.wait(client.create(["false"]))
    request = pb.CreateJobRequest(
        job=pb.Job(command=pb.Command(argv=["true"]), dependencies=[{"job_id": gate.job_id}]),
        validate_only=True,
    )
    job = convert.to_job(stub.CreateJob(request).job)
    assert (job.job_id, job.state, job.cause_job_id) == ("", State.SKIPPED, gate.job_id)


def test_a_watcher_sees_why(local: Client) -> None:
    gate = running(local, local.create(["sleep", "600"]))
    job = local.create(["true"], after=[gate])
    below = local.create(["true"], after=[Dependency(job.job_id, Condition.FINISHED)])
    seen: list[EventKind] = []
    for update in local.watch([job, below]):
        if isinstance(update, Job):
            local.cancel(gate)
        elif isinstance(update, Event):
            seen.append(update.kind)
    assert EventKind.SKIPPED in seen
    assert EventKind.UNBLOCKED in seen
