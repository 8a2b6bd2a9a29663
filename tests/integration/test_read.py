"""Reads: one job, where it is, and lists by every filter, in pages that nothing shifts."""

import datetime as dt
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from jobservice import Client, Job, State
from jobservice.model.job import AttemptState
from jobservice.testing.wait import wait_until
from jobservice.wire import messages as pb
from jobservice.wire.stubs import JobServiceStub
from tests.integration.bare import LATER, SLEEP, create, running

ID: Any = 3
FULL: Any = 2


def names(jobs: Iterator[Job]) -> list[str]:
    return [each.spec.name for each in jobs]


# --- one job --------------------------------------------------------------------------------------


def test_a_running_job_says_where_it_is(client: Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    script = (
        f'echo "25 half of a half" >>"$JOBSERVICE_PROGRESS"; until test -e {gate};'
        " do sleep 0.05; done; exit 4"
    )
    made = client.create(["sh", "-c", script])
    status = wait_until(lambda: (s := client.status(made)).progress_percent and s)
    assert status
    assert (status.state, status.current_step) == (State.RUNNING, "half of a half")
    assert (status.progress_percent, status.waiting_reason) == (25.0, "")
    assert status.queue_position is None
    assert status.attempt is not None
    assert (status.attempt.attempt, status.attempt.state) == (1, AttemptState.RUNNING)
    assert status.started_at is not None
    assert status.estimated_completion is not None
    assert status.estimated_completion > status.started_at
    gate.touch()
    client.wait(made, timeout=20)
    status = client.status(made)
    assert (status.state, status.failure_count, status.progress_percent) == (State.FAILED, 1, 25.0)
    assert status.attempt is not None
    assert (status.attempt.exit_code, status.attempt.state) == (4, AttemptState.FAILED)
    assert status.ended_at is not None
    assert status.estimated_completion is None, "what has ended has no time to come"


def test_a_waiting_job_says_what_it_waits_for(parked: Client) -> None:
    first = parked.create(["true"])
    second = parked.create(["true"])
    urgent = parked.create(["true"], priority="high")
    places = [parked.status(each) for each in (urgent, first, second)]
    assert [each.queue_position for each in places] == [0, 1, 2]
    assert [each.waiting_reason for each in places] == [
        "waits for a worker: there is none that takes jobs; see jobservice workers list"
    ] * 3
    parked.cancel(urgent)
    gone = parked.status(urgent)
    assert (gone.state, gone.queue_position, gone.waiting_reason) == (State.CANCELLED, None, "")
    assert parked.status(second).queue_position == 1


def test_a_job_behind_others_says_how_many(client: Client) -> None:
    for made in [client.create(SLEEP) for _ in range(4)]:
        running(client, made)
    waiting = [client.create(["true"]) for _ in range(3)]
    expected = [
        "waits for a free slot, first in order",
        "waits for a free slot, behind 1 job of queue order",
        "waits for a free slot, behind 2 jobs of queue order",
    ]

    def is_said() -> bool:  # once a lease that was taken ahead of a slot is given back
        return [client.status(each).waiting_reason for each in waiting] == expected

    wait_until(is_said, what="the places of all three")


def test_a_job_between_attempts_says_when_it_goes_on(local: Client) -> None:
    made = local.create(["sh", "-c", "exit 5"], retry_policy=LATER)
    status = wait_until(lambda: (s := local.status(made)).state is State.SCHEDULED and s)
    assert status
    when = status.start_at.strftime("%Y-%m-%dT%H:%M:%SZ") if status.start_at else ""
    assert status.waiting_reason == f"waits until {when} to be tried again after 1 failed attempt"
    assert status.start_at is not None
    assert status.start_at > status.created_at
    assert status.message == "exited with 5"
    assert local.get(made).start_at == status.start_at


def test_the_whole_job_has_its_attempts_and_what_they_used(client: Client) -> None:
    script = "import os; b = b'x' * 30_000_000; os.write(1, b'x' * 5); sum(range(2_000_000))"
    made = client.create(["python3", "-c", script])
    done = client.wait(made, timeout=30)
    [attempt] = done.attempts
    assert (attempt.attempt, attempt.state, attempt.exit_code) == (1, AttemptState.SUCCEEDED, 0)
    assert (attempt.stdout_bytes, attempt.stderr_bytes, attempt.dropped_bytes) == (5, 0, 0)
    assert attempt.cpu_s > 0.01
    assert attempt.max_rss_bytes > 30_000_000
    assert attempt.worker_id
    assert attempt.started_at is not None
    assert attempt.ended_at is not None
    assert attempt.claimed_at <= attempt.started_at < attempt.ended_at


# --- views ----------------------------------------------------------------------------------------


def test_a_view_says_which_fields_are_sent(idle_stub: JobServiceStub) -> None:
    command = pb.Command(argv=["env"], env={"A": "b"}, stdin=b"in", work_dir="/tmp")
    made = idle_stub.CreateJob(create(command=command, labels={"k": "v"})).job
    lists: list[Callable[[Any], Any]] = [
        lambda view: idle_stub.ListJobs(pb.ListJobsRequest(view=view)),
        lambda view: idle_stub.ListActiveJobs(pb.ListActiveJobsRequest(view=view)),
    ]
    basic = pb.Job()
    basic.CopyFrom(made)
    basic.command.ClearField("env")
    basic.command.ClearField("stdin")
    for listed in lists:
        assert list(listed(ID).jobs) == [pb.Job(job_id=made.job_id)]
        assert list(listed(FULL).jobs) == [made]
        assert list(listed(0).jobs) == list(listed(1).jobs) == [basic]


# --- filters --------------------------------------------------------------------------------------


def test_active_jobs_by_every_filter(parked: Client) -> None:
    parked.create(["true"], name="build-1", queue="fast", labels={"team": "a", "os": "x"})
    parked.create(["true"], name="build-2", labels={"team": "a"})
    parked.create(["true"], name="test-1", queue="fast", labels={"team": "b"})
    parked.cancel(parked.create(["true"], name="build-3", queue="fast"))
    assert names(parked.active()) == ["build-1", "build-2", "test-1"]
    assert names(parked.list()) == ["build-3", "test-1", "build-2", "build-1"]
    for read, turn in (parked.active, 1), (parked.list, -1):
        assert names(read(name="build-1")) == ["build-1"]
        assert names(read(name="build")) == []
        assert names(read(labels={"team": "a"}))[::turn] == ["build-1", "build-2"]
        assert names(read(labels={"team": "a", "os": "x"})) == ["build-1"]
        assert names(read(labels={"team": ""})) == []
        assert names(read(queue="fast", labels={"team": "b"}, name="t*")) == ["test-1"]
        assert names(read(queue="nowhere")) == []
        assert names(read(filter="labels:os OR name = test*"))[::turn] == ["build-1", "test-1"]
        assert names(read(filter="state = QUEUED AND labels.team != a")) == ["test-1"]
        assert names(read(queue="fast", filter="state = QUEUED AND name = b*")) == ["build-1"]
    assert names(parked.active(name="build-*", queue="fast")) == ["build-1"]
    assert names(parked.list(name="build-*", queue="fast")) == ["build-3", "build-1"]
    assert names(parked.list(states=[State.CANCELLED])) == ["build-3"]
    assert names(parked.list(states=[State.CANCELLED, State.QUEUED], name="*-3")) == []
    assert names(parked.list(states=[State.RUNNING])) == []


def test_a_name_is_not_a_pattern(parked: Client) -> None:
    odd = ["50%", "5_%", "a*b", "[x]", "'; --", "é", "\U0001f600"]
    parked.create_many([["true"]] * len(odd))
    for each, name in zip(list(parked.active()), odd, strict=True):
        parked.update(each, name=name)
    for name in odd:
        assert names(parked.active(name=name)) == [name]
        assert names(parked.active(name=f"{name[:1]}*")) == [n for n in odd if n[0] == name[0]]
    assert names(parked.active(name="_*")) == names(parked.active(name="%*")) == []


def test_history_by_every_filter(local: Client) -> None:
    stopped = local.create(SLEEP, name="stopped")
    alive = local.create(SLEEP, name="alive")
    good = local.create(["true"], name="good", labels={"n": "1"})
    ended = [local.wait(good, timeout=20)]
    bad = local.create(["false"], name="bad", queue="other")
    ended.append(local.wait(bad, timeout=20))
    running(local, stopped)
    ended.append(local.cancel(stopped, wait=True))
    by_end = sorted(ended, key=lambda each: (each.ended_at, each.job_id), reverse=True)
    assert names(local.history()) == [each.spec.name for each in by_end]
    assert names(local.history(states=[State.FAILED])) == ["bad"]
    assert set(names(local.history(states=[State.FAILED, State.CANCELLED]))) == {"bad", "stopped"}
    assert names(local.history(queue="other")) == ["bad"]
    assert names(local.history(name="go*")) == ["good"]
    assert names(local.history(labels={"n": "1"})) == ["good"]
    assert names(local.history(states=[State.SKIPPED])) == []
    assert names(local.history(filter="exit_code = 1 AND reason = EXIT_CODE")) == ["bad"]
    assert names(local.history(filter="state = SUCCEEDED AND start_time:*")) == ["good"]
    assert names(local.history(filter="state = RUNNING")) == []
    assert names(local.active()) == [alive.spec.name]
    last, middle, first = (each.ended_at for each in by_end)
    assert last is not None
    assert middle is not None
    assert first is not None
    expected = [each.spec.name for each in by_end]
    assert names(local.history(ended_after=middle)) == expected[:2], "the instant is included"
    assert names(local.history(ended_before=middle)) == expected[2:], "the instant is left out"
    assert names(local.history(ended_after=middle, ended_before=last)) == expected[1:2]
    tick = dt.timedelta(microseconds=1)
    assert names(local.history(ended_after=last + tick)) == []
    assert names(local.history(ended_before=first + tick)) == expected[2:]


# --- pages ----------------------------------------------------------------------------------------


def pages(call: Callable[[Any], Any], request: Any) -> Iterator[list[str]]:
    while True:
        page = call(request)
        yield [each.job_id for each in page.jobs]
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def test_a_page_has_a_size(idle_stub: JobServiceStub) -> None:
    many = pb.BatchCreateJobsRequest(requests=[create(str(n)) for n in range(60)])
    ids = [each.job_id for each in idle_stub.BatchCreateJobs(many).jobs]
    sizes = [
        [len(page) for page in pages(idle_stub.ListActiveJobs, request)]
        for request in (
            pb.ListActiveJobsRequest(),
            pb.ListActiveJobsRequest(page_size=30),
            pb.ListActiveJobsRequest(page_size=59),
            pb.ListActiveJobsRequest(page_size=60),
            pb.ListActiveJobsRequest(page_size=2**31 - 1),
        )
    ]
    assert sizes == [[50, 10], [30, 30], [59, 1], [60], [60]]
    found = pages(idle_stub.ListActiveJobs, pb.ListActiveJobsRequest(page_size=7))
    assert [job_id for page in found for job_id in page] == ids
    found = pages(idle_stub.ListJobs, pb.ListJobsRequest(page_size=7))
    assert [job_id for page in found for job_id in page] == ids[::-1]


@pytest.mark.parametrize("order", ["ListJobs", "ListActiveJobs", "GetJobHistory"])
def test_pages_repeat_and_skip_nothing_while_jobs_come_and_go(
    idle_stub: JobServiceStub, order: str
) -> None:
    """What is there all the time is told exactly once, in order, whatever happens around it."""
    batch = pb.BatchCreateJobsRequest(requests=[create(name="stay") for _ in range(120)])
    stay = [each.job_id for each in idle_stub.BatchCreateJobs(batch).jobs]
    if order == "GetJobHistory":
        for job_id in stay:
            idle_stub.CancelJob(pb.CancelJobRequest(job_id=job_id))
    over = threading.Event()

    def disturb(_: int) -> int:
        turns = 0
        while not over.is_set():
            job_id = idle_stub.CreateJob(create(name="go")).job.job_id
            idle_stub.CancelJob(pb.CancelJobRequest(job_id=job_id))
            idle_stub.DeleteJob(pb.DeleteJobRequest(job_id=job_id))
            turns += 1
        return turns

    request_type = getattr(pb, f"{order}Request")
    with ThreadPoolExecutor(4) as threads:
        turns = threads.map(disturb, range(4))
        try:
            for size in (3, 7, 11):
                found = pages(getattr(idle_stub, order), request_type(page_size=size))
                seen = [job_id for page in found for job_id in page]
                told = [job_id for job_id in seen if job_id in set(stay)]
                assert told == (stay if order == "ListActiveJobs" else stay[::-1])
                assert len(set(seen)) == len(seen)
        finally:
            over.set()
        assert sum(turns) > 0
