"""One job from its submission to its end and beyond, through the API and real processes."""

import sys
from pathlib import Path

import pytest

from jobservice import Client
from jobservice.errors import NotFound
from jobservice.model.job import AttemptState
from jobservice.model.lifecycle import Reason, State
from tests.integration.bare import SLEEP, output, running


def test_a_job_runs_and_is_remembered(client: Client) -> None:
    job = client.create(
        [sys.executable, "-c", "import sys; print(sys.stdin.read().upper()); sys.exit(0)"],
        name="shout",
        labels={"team": "a"},
        stdin="hello",
        priority="high",
    )
    assert job.state is State.QUEUED
    done = client.wait(job, timeout=20)
    assert (done.state, done.exit_code, done.reason) == (State.SUCCEEDED, 0, Reason.NONE)
    assert output(client, done) == b"HELLO\n"
    assert [a.state for a in done.attempts] == [AttemptState.SUCCEEDED]
    times = [done.created_at, done.attempts[0].claimed_at, done.started_at, done.ended_at]
    assert times == sorted(times)  # type: ignore[type-var]
    assert [each.job_id for each in client.history(labels={"team": "a"})] == [job.job_id]
    assert list(client.active()) == []


@pytest.mark.parametrize(
    ("argv", "reason", "exit_code", "signal"),
    [
        (["sh", "-c", "exit 3"], Reason.EXIT_CODE, 3, None),
        (["sh", "-c", "kill -9 $$"], Reason.SIGNAL, None, 9),
        (["/does/not/exist"], Reason.LAUNCH_FAILED, None, None),
        (["/etc/passwd"], Reason.LAUNCH_FAILED, None, None),
    ],
)
def test_failures_are_told_exactly(
    client: Client, argv: list[str], reason: Reason, exit_code: int | None, signal: int | None
) -> None:
    done = client.wait(client.create(argv), timeout=20)
    assert (done.state, done.reason, done.exit_code, done.signal) == (
        State.FAILED,
        reason,
        exit_code,
        signal,
    )
    assert done.message


def test_cancel_ends_a_queued_and_a_running_job(client: Client) -> None:
    jobs = client.create_many([SLEEP] * 5)
    first = running(client, jobs[0])
    for job in reversed(jobs):
        assert client.cancel(job, wait=True).state is State.CANCELLED
    done = client.get(first)
    assert (done.reason, done.signal) == (Reason.USER, 15)


def test_delete_takes_a_running_job_with_all_that_is_its(client: Client) -> None:
    job = client.create(["sh", "-c", "echo out; touch file; sleep 600"])
    running(client, job)
    client.delete(job)
    with pytest.raises(NotFound):
        client.get(job)
    with pytest.raises(NotFound):
        client.delete(job)
    client.delete(job, allow_missing=True)


def test_a_failure_is_retried_to_success(client: Client, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    script = f"test -e {flag} && exit 0; touch {flag}; echo first >&2; exit 4"
    job = client.create(["sh", "-c", script], retries=2)
    done = client.wait(job, timeout=30)
    assert (done.state, done.attempt_count, done.failure_count) == (State.SUCCEEDED, 2, 1)
    assert [a.exit_code for a in done.attempts] == [4, 0]
    first = b"".join(chunk.data for chunk in client.logs(job, attempt=1, stream="stderr"))
    assert first == b"first\n"
    again = client.retry(done)
    assert again.state is State.QUEUED
    assert client.wait(again, timeout=20).attempt_count == 3
