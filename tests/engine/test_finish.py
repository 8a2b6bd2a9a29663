"""What the end of an attempt means for its job: every cause in both live states."""

import datetime as dt
import random

import pytest

from jobservice.engine.finish import settler
from jobservice.model.attempt import Cause, Fence, Outcome
from jobservice.model.job import AttemptState
from jobservice.model.lease import AttemptEnd
from jobservice.model.lifecycle import Reason, State
from jobservice.model.spec import RetryPolicy
from jobservice.store.port import LiveJob, Settlement

NOW = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
FENCE = Fence("default", "j" + "0" * 26, 1, 1)


def settle(
    cause: Cause,
    *,
    state: State = State.RUNNING,
    exit_code: int | None = None,
    signal: int | None = None,
    retry: RetryPolicy = RetryPolicy(),
    failures: int = 0,
    losses: int = 0,
) -> Settlement:
    live = LiveJob(FENCE.tenant, FENCE.job_id, state, retry, failures, losses, False)
    outcome = Outcome(cause, NOW, exit_code=exit_code, signal=signal, message="why")
    return settler(NOW, random.Random(1))(live, AttemptEnd(FENCE, outcome))


def summary(settlement: Settlement) -> tuple[State, AttemptState, Reason]:
    return settlement.state, settlement.attempt_state, settlement.reason


def test_exit_zero_succeeds_also_when_a_stop_came_too_late() -> None:
    for state in (State.RUNNING, State.STOPPING):
        settled = settle(Cause.EXIT, exit_code=0, state=state)
        assert summary(settled) == (State.SUCCEEDED, AttemptState.SUCCEEDED, Reason.NONE)


@pytest.mark.parametrize(
    ("cause", "exit_code", "signal", "reason"),
    [
        (Cause.EXIT, 3, None, Reason.EXIT_CODE),
        (Cause.EXIT, None, 9, Reason.SIGNAL),
        (Cause.RUN_TIMEOUT, None, 15, Reason.RUN_TIMEOUT),
        (Cause.IDLE_TIMEOUT, None, 15, Reason.IDLE_TIMEOUT),
        (Cause.LAUNCH_FAILED, None, None, Reason.LAUNCH_FAILED),
    ],
)
def test_failures_of_the_job_fail_it_or_are_tried_again(
    cause: Cause, exit_code: int | None, signal: int | None, reason: Reason
) -> None:
    last = settle(cause, exit_code=exit_code, signal=signal)
    assert summary(last) == (State.FAILED, AttemptState.FAILED, reason)
    assert (last.failures, last.losses) == (1, 0)

    policy = RetryPolicy(max_attempts=3)
    again = settle(cause, exit_code=exit_code, signal=signal, retry=policy, failures=1)
    assert summary(again) == (State.SCHEDULED, AttemptState.FAILED, reason)
    assert (again.failures, again.losses) == (1, 0)
    assert again.start_at is not None
    assert NOW <= again.start_at <= NOW + dt.timedelta(seconds=2)

    exhausted = settle(cause, exit_code=exit_code, signal=signal, retry=policy, failures=2)
    assert exhausted.state is State.FAILED

    stopping = settle(cause, exit_code=exit_code, signal=signal, retry=policy, state=State.STOPPING)
    assert summary(stopping) == (State.CANCELLED, AttemptState.FAILED, Reason.USER)


def test_a_stop_that_was_asked_for_cancels_and_any_other_puts_the_job_back() -> None:
    asked = settle(Cause.STOP, signal=15, state=State.STOPPING)
    assert summary(asked) == (State.CANCELLED, AttemptState.CANCELLED, Reason.USER)
    shutdown = settle(Cause.STOP, signal=15)
    assert summary(shutdown) == (State.QUEUED, AttemptState.LOST, Reason.POLICY)
    assert (shutdown.failures, shutdown.losses) == (0, 0)


def test_losses_are_counted_apart_from_failures_and_end_at_their_own_limit() -> None:
    first = settle(Cause.LOST)
    assert summary(first) == (State.QUEUED, AttemptState.LOST, Reason.LOST)
    assert (first.failures, first.losses) == (0, 1)
    fifth = settle(Cause.LOST, losses=4)
    assert summary(fifth) == (State.FAILED, AttemptState.LOST, Reason.LOST)
    stopping = settle(Cause.LOST, state=State.STOPPING, losses=4)
    assert summary(stopping) == (State.CANCELLED, AttemptState.LOST, Reason.USER)


@pytest.mark.parametrize(
    ("cause", "attempt_state"),
    [
        (Cause.STOP, AttemptState.FAILED),
        (Cause.RUN_TIMEOUT, AttemptState.FAILED),
        (Cause.IDLE_TIMEOUT, AttemptState.FAILED),
        (Cause.LAUNCH_FAILED, AttemptState.FAILED),
        (Cause.LOST, AttemptState.LOST),
    ],
)
def test_a_job_that_is_stopped_because_its_time_is_over_fails_for_that(
    cause: Cause, attempt_state: AttemptState
) -> None:
    retry = RetryPolicy(max_attempts=9, max_lost=9)
    over = Reason.TOTAL_TIMEOUT
    live = LiveJob(
        FENCE.tenant, FENCE.job_id, State.STOPPING, retry, 0, 0, False,
        reason=over, message="took too long",
    )  # fmt: skip
    end = AttemptEnd(FENCE, Outcome(cause, NOW, message="why"))
    settled = settler(NOW, random.Random(1))(live, end)
    assert summary(settled) == (State.FAILED, attempt_state, over)
    assert settled.message == "took too long"
    lost = attempt_state is AttemptState.LOST
    assert (settled.failures, settled.losses) == (int(not lost), int(lost))


def test_a_job_that_was_stopped_for_a_newer_one_says_so() -> None:
    live = LiveJob(
        FENCE.tenant, FENCE.job_id, State.STOPPING, RetryPolicy(), 0, 0, False,
        reason=Reason.SUPERSEDED, message="its key is wanted",
    )  # fmt: skip
    end = AttemptEnd(FENCE, Outcome(Cause.STOP, NOW))
    settled = settler(NOW, random.Random(1))(live, end)
    assert summary(settled) == (State.CANCELLED, AttemptState.CANCELLED, Reason.SUPERSEDED)
    assert settled.message == "its key is wanted"
