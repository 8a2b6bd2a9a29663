"""Timeouts over the wire, with real processes: what is over ends, and leaves nothing running."""

import datetime as dt

import psutil
import pytest

from jobservice import Client, RetryPolicy
from jobservice.clock import SystemClock
from jobservice.errors import InvalidTransition
from jobservice.model.event import Event, EventKind
from jobservice.model.job import AttemptState
from jobservice.model.lifecycle import Reason, State
from jobservice.testing.wait import wait_until
from jobservice.wire.stubs import JobServiceStub
from tests.integration.bare import create, output, refused, running
from tests.integration.conftest import Serve


def test_a_job_that_no_worker_takes_fails(parked: Client) -> None:
    job = parked.create(["true"], queue_timeout=0.2)
    done = parked.wait(job)
    assert (done.state, done.reason) == (State.FAILED, Reason.QUEUE_TIMEOUT)
    assert done.attempts == ()
    assert parked.retry(job).state is State.QUEUED
    assert parked.wait(job).reason is Reason.QUEUE_TIMEOUT


def test_a_job_that_takes_too_long_is_stopped_with_its_tree(local: Client) -> None:
    job = local.create(["sh", "-c", "sleep 600 & sleep 600"], total_timeout=0.5, retries=5)
    done = local.wait(job)
    assert (done.state, done.reason) == (State.FAILED, Reason.TOTAL_TIMEOUT)
    assert done.message == "took longer than its total timeout"
    [attempt] = done.attempts
    assert (attempt.state, attempt.reason) == (AttemptState.FAILED, Reason.TOTAL_TIMEOUT)
    kinds = [each.kind for each in local.watch([job]) if isinstance(each, Event)]
    assert EventKind.RETRYING not in kinds


def test_an_attempt_that_says_nothing_is_stopped_and_tried_again(local: Client) -> None:
    script = "echo one; echo two >&2; if [ $JOBSERVICE_ATTEMPT = 1 ]; then sleep 600 & wait; fi"
    policy = RetryPolicy(max_attempts=2, initial_backoff=dt.timedelta(0))
    job = local.create(["sh", "-c", script], idle_timeout=0.4, retry_policy=policy)
    done = local.wait(job)
    assert done.state is State.SUCCEEDED
    first, second = done.attempts
    assert (first.state, first.reason) == (AttemptState.FAILED, Reason.IDLE_TIMEOUT)
    assert first.message == "was silent for longer than its idle timeout"
    assert (first.stdout_bytes, first.stderr_bytes) == (4, 4)
    assert second.state is AttemptState.SUCCEEDED
    again = local.wait(local.create(["sleep", "600"], idle_timeout=0.2))
    assert (again.state, again.reason) == (State.FAILED, Reason.IDLE_TIMEOUT)


def test_a_silence_is_over_while_the_service_is_down(serve: Serve) -> None:
    server = serve("--slots", "2").start()
    script = "echo $$; exec sleep 600"
    with Client(server.unix_address) as client:
        job = client.create(["sh", "-c", script], idle_timeout=3)
        other = client.create(["sh", "-c", script], idle_timeout=600)
        mute = int(wait_until(lambda: output(client, job), what="the silent job"))
        patient = int(wait_until(lambda: output(client, other), what="the patient job"))
    server.kill()
    wait_until(lambda: not psutil.pid_exists(mute), what="the end of the silent job")
    server.start()
    with Client(server.unix_address) as client:
        assert client.wait(job).reason is Reason.IDLE_TIMEOUT
        assert psutil.pid_exists(patient)
        assert client.cancel(other, wait=True).state is State.CANCELLED


def test_a_backoff_counts_too(local: Client) -> None:
    job = local.create(["false"], total_timeout=0.6, max_attempts=1000)
    done = local.wait(job)
    assert (done.state, done.reason) == (State.FAILED, Reason.TOTAL_TIMEOUT)


def test_a_held_job_is_over_at_its_deadline(parked: Client) -> None:
    soon = SystemClock().now() + dt.timedelta(seconds=0.5)
    job = parked.create(["true"], deadline=soon)
    assert parked.hold(job).state is State.HELD
    done = parked.wait(job)
    assert (done.state, done.reason) == (State.FAILED, Reason.TOTAL_TIMEOUT)
    with pytest.raises(InvalidTransition, match=r"had until .*Z; submit it anew"):
        parked.retry(job)


def test_a_job_that_runs_can_be_given_more_or_less_time(local: Client) -> None:
    job = running(local, local.create(["sleep", "600"], total_timeout=3000))
    edited = local.update(job, total_timeout=None, queue_timeout=5)
    assert (edited.spec.total_timeout, edited.spec.queue_timeout) == (
        None,
        dt.timedelta(seconds=5),
    )
    local.update(job, total_timeout=0.1)
    assert local.wait(job).reason is Reason.TOTAL_TIMEOUT


def test_bad_timeouts_are_refused(idle_stub: JobServiceStub) -> None:
    length = {"seconds": 315_360_001}
    far = {"seconds": 4_000_000_000}
    bad = create(queue_timeout=length, total_timeout={}, deadline=far, start_after=far)
    found = refused(idle_stub.CreateJob, bad)
    assert sorted(found.fields) == ["job.deadline", "job.queue_timeout", "job.total_timeout"]
    found = refused(idle_stub.CreateJob, create(deadline=far))
    assert found.violations == [("job.deadline", "TOO_FAR_AHEAD")]
