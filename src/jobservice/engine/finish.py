"""Finish: what the end of an attempt means for its job. Pure decisions, no I/O."""

import datetime as dt
import random
import signal as signals
from collections.abc import Callable

from jobservice.model.attempt import Cause, Outcome
from jobservice.model.job import AttemptState
from jobservice.model.lease import AttemptEnd
from jobservice.model.lifecycle import Reason, State, Trigger, step
from jobservice.model.retry import backoff
from jobservice.mutants import mutant
from jobservice.store.port import LiveJob, Settle, Settlement


def settler(now: dt.datetime, rng: random.Random) -> Settle:
    """The decision function of one transaction: `now` and the jitter come from outside."""

    def settle(live: LiveJob, end: AttemptEnd) -> Settlement:
        return _DECISIONS[end.outcome.cause](live, end.outcome, now, rng)

    return settle


def _after_exit(
    live: LiveJob, outcome: Outcome, now: dt.datetime, rng: random.Random
) -> Settlement:
    if outcome.exit_code == 0:
        return _settled(live, AttemptState.SUCCEEDED, Trigger.SUCCEED)
    if outcome.signal is not None:
        return _after_failure(live, Reason.SIGNAL, _signal_message(outcome.signal), now, rng)
    message = f"exited with {outcome.exit_code}"
    return _after_failure(live, Reason.EXIT_CODE, message, now, rng)


def _after_run_timeout(
    live: LiveJob, outcome: Outcome, now: dt.datetime, rng: random.Random
) -> Settlement:
    message = outcome.message or "ran longer than its timeout"
    return _after_failure(live, Reason.RUN_TIMEOUT, message, now, rng)


def _after_idle_timeout(
    live: LiveJob, outcome: Outcome, now: dt.datetime, rng: random.Random
) -> Settlement:
    message = outcome.message or "was silent for longer than its idle timeout"
    return _after_failure(live, Reason.IDLE_TIMEOUT, message, now, rng)


def _after_launch_failed(
    live: LiveJob, outcome: Outcome, now: dt.datetime, rng: random.Random
) -> Settlement:
    return _after_failure(live, Reason.LAUNCH_FAILED, outcome.message, now, rng)


def _after_failure(
    live: LiveJob, reason: Reason, message: str, now: dt.datetime, rng: random.Random
) -> Settlement:
    """A failure of the job's own doing: it is tried again unless a stop was asked for."""
    if live.state is State.STOPPING:
        return _stopped(live, AttemptState.FAILED)
    failures = live.failure_count + 1
    if failures >= live.retry.max_attempts:
        return _settled(live, AttemptState.FAILED, Trigger.FAIL, reason, message, failures=1)
    wait = backoff(live.retry, failures, rng.random())
    return _settled(
        live,
        AttemptState.FAILED,
        Trigger.RETRY_LATER,
        reason,
        message,
        failures=0 if mutant("retry.not_counted") else 1,
        start_at=now + wait,
    )


def _after_stop(
    live: LiveJob, outcome: Outcome, now: dt.datetime, rng: random.Random
) -> Settlement:
    """Stopped because someone asked, or because the service shut down with its jobs."""
    del outcome, now, rng
    if live.state is State.STOPPING:
        return _stopped(live, AttemptState.CANCELLED)
    return _settled(
        live,
        AttemptState.LOST,
        Trigger.LOSE,
        Reason.POLICY,
        "the service was shut down together with its jobs",
    )


def _after_loss(
    live: LiveJob, outcome: Outcome, now: dt.datetime, rng: random.Random
) -> Settlement:
    """The infrastructure failed, not the job: it goes back to its place, but not for ever."""
    del now, rng
    if live.state is State.STOPPING:
        return _stopped(live, AttemptState.LOST)
    message = outcome.message or "its host, worker or runner was lost"
    if live.lost_count + 1 >= live.retry.max_lost:
        message = f"{message}; lost {live.lost_count + 1} times"
        return _settled(live, AttemptState.LOST, Trigger.FAIL, Reason.LOST, message, losses=1)
    return _settled(live, AttemptState.LOST, Trigger.LOSE, Reason.LOST, message, losses=1)


def _stopped(live: LiveJob, attempt_state: AttemptState) -> Settlement:
    """The end of an attempt whose stop was asked for: what asked for it decides."""
    if live.reason is Reason.TOTAL_TIMEOUT:
        lost = attempt_state is AttemptState.LOST
        return _settled(
            live,
            AttemptState.LOST if lost else AttemptState.FAILED,
            Trigger.FAIL,
            live.reason,
            live.message,
            failures=int(not lost),
            losses=int(lost),
        )
    superseded = live.reason is Reason.SUPERSEDED
    return _settled(
        live,
        attempt_state,
        Trigger.CANCEL,
        live.reason if superseded else Reason.USER,
        live.message if superseded else "stopped on request",
        failures=int(attempt_state is AttemptState.FAILED),
        losses=int(attempt_state is AttemptState.LOST),
    )


def _settled(
    live: LiveJob,
    attempt_state: AttemptState,
    trigger: Trigger,
    reason: Reason = Reason.NONE,
    message: str = "",
    *,
    start_at: dt.datetime | None = None,
    failures: int = 0,
    losses: int = 0,
) -> Settlement:
    return Settlement(
        attempt_state=attempt_state,
        trigger=trigger,
        state=step(live.state, trigger),
        reason=reason,
        message=message,
        start_at=start_at,
        failures=failures,
        losses=losses,
    )


def _signal_message(number: int) -> str:
    try:
        return f"ended by {signals.Signals(number).name}"
    except ValueError:
        return f"ended by signal {number}"


_Decision = Callable[[LiveJob, Outcome, dt.datetime, random.Random], Settlement]

_DECISIONS: dict[Cause, _Decision] = {
    Cause.EXIT: _after_exit,
    Cause.RUN_TIMEOUT: _after_run_timeout,
    Cause.IDLE_TIMEOUT: _after_idle_timeout,
    Cause.LAUNCH_FAILED: _after_launch_failed,
    Cause.STOP: _after_stop,
    Cause.LOST: _after_loss,
}
