"""Jobs through the SDK: made, seen, changed, ended, removed."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from jobservice import Client, Job, RetryPolicy, State
from jobservice.errors import (
    AlreadyExists,
    DeadlineExceeded,
    EtagMismatch,
    InvalidRequest,
    InvalidTransition,
    NotFound,
)
from jobservice.model.attempt import Cause
from jobservice.model.lifecycle import Reason
from jobservice.model.limit import ConcurrencyKey
from jobservice.testing.wait import wait_until
from tests.client.service import Service

NOBODY = "j" + "0" * 26
ARGV = ["/bin/echo", "hello"]


# --- create -----------------------------------------------------------------------------------


def test_a_job_is_what_was_asked_for(client: Client) -> None:
    job = client.create(
        ["/bin/cat", "-"],
        name="a name",
        labels={"team": "core"},
        queue="builds",
        priority="high",
        env={"A": "ü"},
        stdin="text ü",
        work_dir=Path("/srv"),
        timeout=dt.timedelta(minutes=5),
        idle_timeout=90,
        retries=2,
        stop_grace=0,
        output_limit_bytes=1000,
    )
    spec = client.get(job).spec
    assert spec == job.spec
    assert spec.command.argv == ("/bin/cat", "-")
    assert (spec.command.env, spec.command.stdin) == ({"A": "ü"}, "text ü".encode())
    assert spec.command.work_dir == "/srv"
    assert (spec.name, spec.labels, spec.queue, spec.priority) == (
        "a name", {"team": "core"}, "builds", 50,
    )  # fmt: skip
    assert spec.timeout == dt.timedelta(minutes=5)
    assert spec.idle_timeout == dt.timedelta(seconds=90)
    assert (spec.retry.max_attempts, spec.stop_grace) == (3, dt.timedelta(0))
    assert spec.output_limit_bytes == 1000


def test_a_policy_of_retries_is_taken_whole(client: Client) -> None:
    policy = RetryPolicy(5, dt.timedelta(seconds=3), 1.5, dt.timedelta(minutes=1), 7)
    assert client.create(ARGV, retry_policy=policy).spec.retry == policy


def test_a_request_id_creates_one_job(client: Client) -> None:
    job = client.create(ARGV, request_id="once", name="x")
    assert client.create(ARGV, request_id="once", name="x").job_id == job.job_id
    with pytest.raises(AlreadyExists) as caught:
        client.create(ARGV, request_id="once", name="y")
    assert caught.value.metadata["job_id"] == job.job_id
    assert len(list(client.list())) == 1


def test_without_one_each_create_is_its_own(client: Client) -> None:
    assert client.create(ARGV).job_id != client.create(ARGV).job_id


def test_many_jobs_come_back_in_order(client: Client) -> None:
    argvs = [["echo", str(number)] for number in range(2300)]
    jobs = client.create_many(argvs, name="many", request_id="all")
    assert [list(job.spec.command.argv) for job in jobs] == argvs
    again = client.create_many(argvs, name="many", request_id="all")
    assert [job.job_id for job in again] == [job.job_id for job in jobs]


def test_many_large_jobs_are_sent_in_messages_that_fit(client: Client) -> None:
    jobs = client.create_many([["echo", *["x" * 90_000] * 10] for _ in range(20)])
    assert len({job.job_id for job in jobs}) == 20


def test_all_that_is_wrong_is_told(client: Client) -> None:
    with pytest.raises(InvalidRequest) as caught:
        client.create([], work_dir="relative", priority=1000)
    fields = {each.field for each in caught.value.violations}
    assert fields == {"job.command.argv", "job.command.work_dir", "job.priority"}
    assert list(client.list()) == []


@pytest.mark.parametrize(
    ("argv", "options", "field"),
    [
        ("echo hello", {}, "job.command.argv"),
        (["echo"], {"priority": "urgent"}, "job.priority"),
        (["echo", "\udcff"], {}, "job"),
        (["echo"], {"priority": 1 << 40}, "job.priority"),
        (["echo"], {"keys": [ConcurrencyKey("k", 1 << 40)]}, "job.concurrency_keys[0]"),
        (["echo"], {"resources": {"cpu": 1 << 60}}, "job.resources.cpu"),
        (["echo"], {"timeout": 1e300}, "job.timeout"),
    ],
)
def test_what_no_message_can_hold_is_refused_here(
    client: Client, argv: Any, options: Any, field: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        client.create(argv, **options)
    assert [each.field for each in caught.value.violations] == [field]


@pytest.mark.parametrize("options", [{"prio": 1}, {"retries": 1, "max_attempts": 2}])
def test_a_keyword_that_is_wrong_is_a_mistake_of_the_program(client: Client, options: Any) -> None:
    with pytest.raises(TypeError):
        client.create(ARGV, **options)


# --- the end ----------------------------------------------------------------------------------


def test_wait_returns_the_job_with_its_end(client: Client, service: Service) -> None:
    job = client.create(ARGV)
    service.end(job.job_id, exit_code=3)
    done = client.wait(job)
    assert (done.state, done.exit_code, done.reason) == (State.FAILED, 3, Reason.EXIT_CODE)
    assert [each.exit_code for each in done.attempts] == [3]
    assert client.wait(job.job_id) == done


def test_wait_says_when_the_time_is_over(client: Client) -> None:
    job = client.create(ARGV)
    with pytest.raises(DeadlineExceeded, match=job.job_id):
        client.wait(job, timeout=0.2)
    assert client.get(job).state in {State.QUEUED, State.RUNNING}


def test_wait_for_a_job_that_is_not_there(client: Client) -> None:
    with pytest.raises(NotFound, match=NOBODY):
        client.wait(NOBODY)


def test_wait_for_a_job_that_is_deleted_meanwhile(client: Client, service: Service) -> None:
    job = client.create(ARGV)
    service.running(job.job_id)
    watching = client.as_completed([job])
    client.delete(job)
    with pytest.raises(NotFound):
        next(watching)


def test_jobs_come_as_they_end(client: Client, service: Service) -> None:
    jobs = client.create_many([ARGV] * 2)
    ends = client.as_completed(jobs)
    service.end(jobs[1].job_id)
    assert next(ends).job_id == jobs[1].job_id
    service.end(jobs[0].job_id, signal=9)
    last = next(ends)
    assert (last.job_id, last.signal) == (jobs[0].job_id, 9)
    assert next(ends, None) is None


def test_cancel_ends_a_waiting_job_at_once(tmp_path: Path) -> None:
    with Service(tmp_path / "data", slots=0) as service, Client(service.address) as client:
        assert client.cancel(client.create(ARGV)).state is State.CANCELLED


def test_cancel_that_waits_returns_when_it_is_final(client: Client, service: Service) -> None:
    job = client.create(ARGV)
    service.running(job.job_id)
    assert client.cancel(job, wait=True).state is State.CANCELLED
    assert service.executor.stops


def test_retry_queues_a_final_job(client: Client, service: Service) -> None:
    job = client.create(ARGV)
    with pytest.raises(InvalidTransition) as caught:
        client.retry(job)
    assert caught.value.metadata["state"] in {"QUEUED", "RUNNING"}
    service.end(job.job_id, exit_code=1)
    client.wait(job)
    client.retry(job)
    service.end(job.job_id, attempt=2)
    assert client.wait(job).state is State.SUCCEEDED


def test_delete_removes_a_job_that_runs(client: Client, service: Service) -> None:
    job = client.create(ARGV)
    service.running(job.job_id)
    client.delete(job)
    with pytest.raises(NotFound):
        client.get(job)
    with pytest.raises(NotFound):
        client.delete(job)
    client.delete(job, allow_missing=True)


# --- state ------------------------------------------------------------------------------------


def test_status_says_where_a_job_is(client: Client, service: Service) -> None:
    job = client.create(ARGV)
    service.progress(job.job_id, 40.0, "unpacking")
    status = wait_until(lambda: progressed(client, job))
    assert (status.state, status.progress_percent) == (State.RUNNING, 40.0)
    assert status.current_step == "unpacking"
    assert status.attempt
    assert status.attempt.attempt == 1


def progressed(client: Client, job: Job) -> Any:
    status = client.status(job)
    return status if status.progress_percent is not None else None


def test_a_queued_job_knows_its_place(tmp_path: Path) -> None:
    with Service(tmp_path / "data", slots=0) as service, Client(service.address) as client:
        jobs = client.create_many([ARGV] * 3)
        assert [client.status(job).queue_position for job in jobs] == [0, 1, 2]
        assert client.status(jobs[1]).waiting_reason


# --- edits ------------------------------------------------------------------------------------


def test_edits_change_what_is_given_and_nothing_else(tmp_path: Path) -> None:
    with Service(tmp_path / "data", slots=0) as service, Client(service.address) as client:
        job = client.create(ARGV, name="a", timeout=5, idle_timeout=4, labels={"x": "1"})
        edited = client.update(job, labels={}, priority="low", timeout=None, retries=4)
        spec = edited.spec
        assert (spec.name, spec.labels, spec.priority, spec.timeout) == ("a", {}, -50, None)
        assert spec.retry.max_attempts == 5
        assert spec.idle_timeout == dt.timedelta(seconds=4)
        assert client.update(job, etag=edited.etag, idle_timeout=None).spec.idle_timeout is None
        edited = client.update(job, idle_timeout=0.5)
        assert edited.spec.idle_timeout == dt.timedelta(seconds=0.5)
        assert edited.etag != job.etag
        with pytest.raises(EtagMismatch):
            client.update(job, etag=job.etag, name="b")
        assert client.update(job, etag=edited.etag, name="b").spec.name == "b"


def test_an_edit_of_nothing_is_refused(client: Client) -> None:
    job = client.create(ARGV)
    with pytest.raises(InvalidRequest) as caught:
        client.update(job)
    assert caught.value.violations[0].field == "update_mask"


# --- lists ------------------------------------------------------------------------------------


def test_lists_are_read_to_their_end_and_in_their_order(tmp_path: Path) -> None:
    with Service(tmp_path / "data", slots=0) as service, Client(service.address) as client:
        ids = [job.job_id for job in client.create_many([ARGV] * 450)]
        assert [job.job_id for job in client.list()] == ids[::-1]
        assert [job.job_id for job in client.active()] == ids
        for job_id in ids[:3]:
            client.cancel(job_id)
        assert [job.job_id for job in client.history()] == ids[:3][::-1]
        assert [job.job_id for job in client.list(states=[State.CANCELLED])] == ids[:3][::-1]
        assert [job.job_id for job in client.active()] == ids[3:]


def test_lists_are_narrowed_by_every_filter(tmp_path: Path) -> None:
    with Service(tmp_path / "data", slots=0) as service, Client(service.address) as client:
        one = client.create(ARGV, name="night-1", labels={"team": "a"}, queue="q")
        two = client.create(ARGV, name="night-2", labels={"team": "b"})
        client.create(ARGV, name="day")
        found = {job.job_id for job in client.list(name="night-*")}
        assert found == {one.job_id, two.job_id}
        assert [job.job_id for job in client.active(labels={"team": "b"})] == [two.job_id]
        assert [job.job_id for job in client.list(queue="q", name="night-1")] == [one.job_id]
        with pytest.raises(TypeError):
            next(client.list(colour="red"))  # type: ignore[call-arg]


def test_history_is_narrowed_by_time(client: Client, service: Service) -> None:
    job = client.create(ARGV)
    service.end(job.job_id, cause=Cause.LAUNCH_FAILED)
    ended_at = client.wait(job).ended_at
    assert ended_at
    second = dt.timedelta(seconds=1)
    assert list(client.history(ended_after=ended_at, ended_before=ended_at + second))
    assert not list(client.history(ended_before=ended_at))
    assert not list(client.history(ended_after=ended_at + second))


def test_a_thousand_faults_still_fit_into_one_answer(client: Client) -> None:
    with pytest.raises(InvalidRequest) as caught:
        client.create_many([["echo", f"\0 {'ü' * 60}"]] * 1000)
    told = len(caught.value.violations)
    assert told + int(caught.value.metadata["violations_omitted"]) == 1000
    assert told > 5
