"""A whole service in virtual time: everything at its instant, and the same every time."""

import datetime as dt
from collections.abc import Callable, Iterator

import pytest

from jobservice.errors import AlreadyExists, DeadlineExceeded, InvalidRequest, NotFound
from jobservice.executors.port import StartOrder
from jobservice.model.event import Event, EventKind
from jobservice.model.job import AttemptState, Job
from jobservice.model.lifecycle import Reason, State
from jobservice.model.spec import RetryPolicy
from jobservice.testing.behaviour import SUCCEEDS, Behaviour, Script
from jobservice.testing.clock import START
from jobservice.testing.invariants import check_invariants
from jobservice.testing.virtual import VirtualService

NOBODY = "j" + "0" * 26
MINUTE, HOUR, DAY = dt.timedelta(minutes=1), dt.timedelta(hours=1), dt.timedelta(days=1)
HOURLY = RetryPolicy(max_attempts=200, initial_backoff=HOUR, multiplier=1.0, max_backoff=HOUR)
Begin = Callable[..., VirtualService]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Begins services, which must leave their stores as they should be."""
    begun: list[VirtualService] = []

    def start(script: Script = SUCCEEDS, **options: object) -> VirtualService:
        service = VirtualService(script, **options)  # type: ignore[arg-type]
        begun.append(service.__enter__())
        return service

    yield start
    for service in begun:
        service._do(check_invariants(service._store, beginning=service._beginning))
        service.__exit__(None, None, None)


def kinds(events: list[Event]) -> list[EventKind]:
    return [event.kind for event in events]


def ended(job: Job) -> tuple[State, dt.datetime | None]:
    return job.state, job.ended_at


# --- time -------------------------------------------------------------------------------------


def test_a_job_runs_while_time_stands_still(begin: Begin) -> None:
    service = begin()
    job = service.client.create(["true"])
    assert ended(service.client.get(job)) == (State.SUCCEEDED, START)
    assert service.now == START
    assert kinds(service.events()) == [
        EventKind.CREATED,
        EventKind.CLAIMED,
        EventKind.STARTED,
        EventKind.SUCCEEDED,
    ]


def test_a_job_takes_the_time_that_it_is_said_to_take(begin: Begin) -> None:
    service = begin(Behaviour(after=90 * MINUTE))
    job = service.client.create(["backup"])
    service.advance(90 * MINUTE - dt.timedelta(microseconds=1))
    assert service.client.get(job).state is State.RUNNING
    service.advance(dt.timedelta(microseconds=1))
    assert ended(service.client.get(job)) == (State.SUCCEEDED, START + 90 * MINUTE)


def test_retries_happen_at_the_instant_that_was_told(begin: Begin) -> None:
    service = begin({"flaky": [Behaviour(1), Behaviour(2), Behaviour(0)]})
    job = service.client.create(["flaky"], retry_policy=HOURLY)
    service.advance(DAY)
    done = service.client.get(job)
    assert done.state is State.SUCCEEDED
    assert [attempt.exit_code for attempt in done.attempts] == [1, 2, 0]
    events = service.events(job)
    told = [event.start_at for event in events if event.kind is EventKind.RETRYING]
    assert told == [event.at for event in events if event.kind is EventKind.DUE]
    assert told == [attempt.started_at for attempt in done.attempts[1:]]
    assert len(told) == 2


def test_jobs_start_at_their_start_times(begin: Begin) -> None:
    service = begin()
    create = service.client.create
    at = START + 40 * DAY + dt.timedelta(microseconds=123457)
    jobs = [create(["true"], start_after=at), create(["true"], start_delay=90 * DAY)]
    earlier = create(["true"], start_delay=HOUR)
    assert service.client.wait(earlier).ended_at == START + HOUR
    service.advance(90 * DAY)
    assert [ended(service.client.get(job)) for job in jobs] == [
        (State.SUCCEEDED, at),
        (State.SUCCEEDED, START + 90 * DAY),
    ]


def test_time_does_not_go_back(begin: Begin) -> None:
    service = begin()
    with pytest.raises(ValueError, match="is over"):
        service.advance(-HOUR)


def test_the_start_must_be_aware() -> None:
    with pytest.raises(ValueError, match="aware"):
        VirtualService(start=dt.datetime(2030, 1, 1))  # noqa: DTZ001 - that is the point


def test_it_begins_at_the_given_instant_in_any_zone(begin: Begin) -> None:
    start = dt.datetime(2031, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    service = begin(start=start)
    assert service.client.create(["true"]).created_at == start
    assert service.now.tzinfo is dt.UTC


def test_a_year_in_which_nothing_happens_has_few_stops(begin: Begin) -> None:
    service = begin()
    service.advance(365 * DAY)
    assert service.steps < 10_000


def test_two_hundred_attempts_have_few_stops_each(begin: Begin) -> None:
    service = begin(Behaviour(1))
    job = service.client.create(["false"], retry_policy=HOURLY)
    done = service.client.wait(job)
    assert (done.state, done.attempt_count) == (State.FAILED, 200)
    assert service.steps < 1_000


def history(seed: int) -> list[Event]:
    script: Script = {
        "flaky": [Behaviour(1, after=MINUTE)] * 3 + [Behaviour(0)],
        "slow": Behaviour(after=5 * HOUR, progress=[(HOUR, 20, "read")]),
    }
    with VirtualService(script, seed=seed, slots=3) as service:
        for number in range(8):
            service.client.create(["flaky"], retry_policy=HOURLY, priority=number)
            service.client.create_many([["slow"], ["quick"]])
            service.advance(HOUR)
        service.lose_runner()
        service.advance(2 * DAY)
        return service.events()


def test_the_same_seed_makes_the_same_history() -> None:
    first = history(1)
    assert len(first) > 100
    assert history(1) == first
    assert history(2) != first


@pytest.mark.slow
def test_polls_as_in_production_change_nothing(begin: Begin) -> None:
    service = begin(Behaviour(1), poll=dt.timedelta(seconds=5))
    job = service.client.create(["false"], retry_policy=HOURLY)
    service.advance(6 * HOUR)
    events = service.events(job)
    told = [event.start_at for event in events if event.kind is EventKind.RETRYING]
    assert told[:-1] == [event.at for event in events if event.kind is EventKind.DUE]
    assert service.steps > 6 * 720


# --- what jobs do -----------------------------------------------------------------------------


def test_a_script_may_be_a_function_of_the_order(begin: Begin) -> None:
    def script(order: StartOrder) -> Behaviour:
        return Behaviour(exit_code=int(order.env["CODE"]) + order.fence.attempt)

    service = begin(script)
    job = service.client.create(["any"], env={"CODE": "6"})
    assert service.client.get(job).exit_code == 7


def test_a_fault_of_the_script_reaches_who_wrote_it() -> None:
    def script(order: StartOrder) -> Behaviour:
        raise LookupError(order.argv[0])

    with pytest.raises(LookupError, match="what"), VirtualService(script) as service:
        service.client.create(["what"])


def test_a_whole_command_counts_before_its_program(begin: Begin) -> None:
    service = begin({"make": Behaviour(1), "make test": Behaviour(2)})
    codes = {
        " ".join(argv): service.client.get(service.client.create(argv)).exit_code
        for argv in (["make"], ["make", "test"], ["make", "all"], ["true"])
    }
    assert codes == {"make": 1, "make test": 2, "make all": 1, "true": 0}


def test_a_job_whose_deadline_has_passed_is_refused_and_a_repeat_is_not(begin: Begin) -> None:
    service = begin()
    late = START - dt.timedelta(seconds=1)
    with pytest.raises(InvalidRequest) as caught:
        service.client.create(["late"], deadline=late)
    [violation] = caught.value.violations
    assert (violation.field, violation.rule) == ("job.deadline", "NO_TIME_LEFT")
    assert "must be in the future" in violation.message
    assert list(service.client.list()) == []
    soon = START + MINUTE
    made = service.client.create(["soon"], deadline=soon, request_id="once")
    service.advance(2 * MINUTE)
    again = service.client.create(["soon"], deadline=soon, request_id="once")
    assert again.job_id == made.job_id
    with pytest.raises(AlreadyExists):
        service.client.create(["other"], deadline=soon, request_id="once")


def test_the_time_of_a_job_is_over_at_its_instant_and_not_a_poll_later(begin: Begin) -> None:
    service = begin(Behaviour(after=HOUR), slots=1)
    service.client.create(["first"])
    waits = service.client.create(["waits"], queue_timeout=10)
    late = service.client.create(["late"], deadline=START + 2 * MINUTE)
    total = service.client.create(["total"], total_timeout=3 * MINUTE)
    held = service.client.create(["held"], queue_timeout=20)
    service.client.hold(held)
    service.advance(10 * MINUTE)
    service.client.release(held)
    edited = service.client.create(["edited"])
    service.client.update(edited, deadline=START + 12 * MINUTE)
    service.advance(10 * MINUTE)
    for job, after in [
        (waits, dt.timedelta(seconds=10)),
        (late, 2 * MINUTE),
        (total, 3 * MINUTE),
        (held, 10 * MINUTE + dt.timedelta(seconds=20)),
        (edited, 12 * MINUTE),
    ]:
        assert ended(service.client.get(job)) == (State.FAILED, START + after)


def test_a_pause_ends_at_its_instant_and_not_a_poll_later(begin: Begin) -> None:
    service = begin()
    service.client.queues.create("other")
    service.client.queues.pause("default", until=START + 2 * MINUTE)
    service.client.queues.pause("other", until=START + MINUTE)
    job, other = service.client.create(["true"]), service.client.create(["true"], queue="other")
    service.advance(HOUR)
    assert ended(service.client.get(other)) == (State.SUCCEEDED, START + MINUTE)
    assert ended(service.client.get(job)) == (State.SUCCEEDED, START + 2 * MINUTE)


def test_a_run_timeout_ends_what_runs_for_too_long(begin: Begin) -> None:
    service = begin({"endless": Behaviour(after=None), "slow": Behaviour(after=HOUR)})
    endless = service.client.create(["endless"], timeout=10 * MINUTE)
    slow = service.client.create(["slow"], timeout=61 * MINUTE)
    service.advance(DAY)
    done = service.client.get(endless)
    assert (*ended(done), done.reason) == (
        State.FAILED,
        START + 10 * MINUTE,
        Reason.RUN_TIMEOUT,
    )
    assert service.client.get(slow).state is State.SUCCEEDED


def test_an_idle_timeout_ends_what_says_nothing_for_too_long(begin: Begin) -> None:
    said = [(HOUR, 50.0, "half"), (20 * MINUTE, 10.0, "up")]
    service = begin(
        {
            "mute": Behaviour(after=None),
            "speaks": Behaviour(after=90 * MINUTE, progress=said),
            "stops": Behaviour(after=None, progress=said),
        }
    )
    found = {
        name: service.client.create(name.split(), idle_timeout=timeout)
        for name, timeout in (
            ("mute", 10 * MINUTE), ("speaks", 40 * MINUTE), ("stops", 40 * MINUTE),
            ("speaks too-late", 39 * MINUTE),
        )
    }  # fmt: skip
    late = service.client.create(["mute"], timeout=9 * MINUTE, idle_timeout=10 * MINUTE)
    service.advance(DAY)
    ends = {name: service.client.get(job) for name, job in found.items()}
    assert {name: (*ended(job), job.reason) for name, job in ends.items()} == {
        "mute": (State.FAILED, START + 10 * MINUTE, Reason.IDLE_TIMEOUT),
        "speaks": (State.SUCCEEDED, START + 90 * MINUTE, Reason.NONE),
        "stops": (State.FAILED, START + 100 * MINUTE, Reason.IDLE_TIMEOUT),
        "speaks too-late": (State.FAILED, START + 59 * MINUTE, Reason.IDLE_TIMEOUT),
    }
    assert service.client.get(late).reason is Reason.RUN_TIMEOUT


def test_a_program_that_cannot_be_started_fails(begin: Begin) -> None:
    service = begin(Behaviour(launch_error="no such program"))
    job = service.client.get(service.client.create(["nowhere"]))
    assert (job.state, job.reason) == (State.FAILED, Reason.LAUNCH_FAILED)


def test_a_signal_ends_a_job(begin: Begin) -> None:
    service = begin(Behaviour(signal=11))
    job = service.client.get(service.client.create(["crash"]))
    assert (job.state, job.reason, job.signal) == (State.FAILED, Reason.SIGNAL, 11)


def test_output_and_progress_are_as_said(begin: Begin) -> None:
    service = begin(
        Behaviour(after=2 * HOUR, stdout=b"out", stderr=b"err", progress=[(HOUR, 50, "half")])
    )
    job = service.client.create(["speak"])
    assert {chunk.stream.name: chunk.data for chunk in service.client.logs(job)} == {
        "STDOUT": b"out",
        "STDERR": b"err",
    }
    service.advance(HOUR)
    progress = service.client.get(job).progress
    assert progress is not None
    assert (progress.percent, progress.step) == (50, "half")
    assert progress.estimated_completion == START + 2 * HOUR


def test_a_running_job_is_cancelled_and_deleted(begin: Begin) -> None:
    service = begin(Behaviour(after=None, stdout=b"some"))
    client = service.client
    job = client.create(["endless"])
    service.advance(3 * DAY)
    assert ended(client.cancel(job, wait=True)) == (State.CANCELLED, START + 3 * DAY)
    other = client.create(["endless"])
    client.delete(other)
    with pytest.raises(NotFound):
        client.get(other)
    assert [each.job_id for each in service.jobs()] == [job.job_id]


def test_a_held_job_waits_for_a_year(begin: Begin) -> None:
    service = begin(Behaviour(1))
    job = service.client.create(["false"], retry_policy=HOURLY)
    service.client.hold(job)
    service.advance(365 * DAY)
    assert service.client.get(job).attempt_count == 1
    service.client.release(job)
    assert service.client.get(job).attempt_count == 2


def test_slots_bound_what_runs(begin: Begin) -> None:
    service = begin(Behaviour(after=HOUR), slots=2)
    jobs = service.client.create_many([["slow"]] * 5)
    service.advance(DAY)
    ends = [service.client.get(job).ended_at for job in jobs]
    assert ends == [START + n * HOUR for n in (1, 1, 2, 2, 3)]


# --- waiting ----------------------------------------------------------------------------------


def test_a_wait_moves_the_clock_to_the_end_and_no_further(begin: Begin) -> None:
    service = begin({"long": Behaviour(after=7 * DAY), "short": Behaviour(after=DAY)})
    long, short = service.client.create(["long"]), service.client.create(["short"])
    assert service.client.wait(short).state is State.SUCCEEDED
    assert service.now == START + DAY
    assert [job.job_id for job in service.client.as_completed([long, short])] == [
        short.job_id,
        long.job_id,
    ]
    assert service.now == START + 7 * DAY


def test_a_wait_ends_at_its_timeout(begin: Begin) -> None:
    service = begin(Behaviour(after=DAY))
    job = service.client.create(["slow"])
    with pytest.raises(DeadlineExceeded):
        service.client.wait(job, timeout=3600)
    assert service.now == START + HOUR
    with pytest.raises(NotFound):
        service.client.wait(NOBODY)


def test_a_watch_tells_what_happens_while_time_passes(begin: Begin) -> None:
    service = begin(Behaviour(after=DAY))
    job = service.client.create(["slow"])
    updates = service.client.watch([job])
    assert isinstance(next(updates), Job)
    service.advance(2 * DAY)
    told = [update.kind for update in updates if isinstance(update, Event)]
    assert told[-1] is EventKind.SUCCEEDED


# --- trouble ----------------------------------------------------------------------------------


def test_a_lost_runner_costs_an_attempt_and_no_retry(begin: Begin) -> None:
    service = begin({"slow": Behaviour(after=HOUR)})
    job = service.client.create(["slow"])
    service.advance(MINUTE)
    service.lose_runner()
    done = service.client.wait(job)
    assert ended(done) == (State.SUCCEEDED, START + MINUTE + HOUR)
    assert (done.attempt_count, done.lost_count) == (2, 1)


def test_the_leases_of_a_lost_worker_end_when_they_end(begin: Begin) -> None:
    service = begin(Behaviour(after=5 * HOUR), lease=HOUR)
    job = service.client.create(["slow"])
    service.advance(30 * MINUTE)  # the lease was extended after 20 minutes, and is kept for 70
    with service.without_worker():
        service.advance(HOUR - dt.timedelta(microseconds=1))
        assert service.client.get(job).state is State.RUNNING
        service.advance(dt.timedelta(microseconds=1))
        assert service.client.get(job).state is State.QUEUED
        service.advance(HOUR)
    done = service.client.wait(job)
    assert [attempt.state for attempt in done.attempts] == [
        AttemptState.LOST,
        AttemptState.SUCCEEDED,
    ]
    assert done.attempts[0].ended_at == START + 90 * MINUTE


def test_jobs_run_on_while_the_service_is_down(begin: Begin) -> None:
    service = begin(Behaviour(after=HOUR))
    job = service.client.create(["slow"])
    service.restart(after=3 * HOUR)
    done = service.client.get(job)
    assert ended(done) == (State.SUCCEEDED, START + 3 * HOUR)
    assert done.attempts[0].ended_at == START + HOUR
    assert service.client.wait(service.client.create(["slow"])).state is State.SUCCEEDED
    assert kinds(service.events(job))[-1] is EventKind.SUCCEEDED


def test_two_services_do_not_meet(begin: Begin) -> None:
    one, other = begin(Behaviour(after=HOUR)), begin(Behaviour(after=DAY))
    job = one.client.create(["true"])
    other.client.create(["true"])
    one.advance(HOUR)
    assert one.client.get(job).state is State.SUCCEEDED
    assert [each.state for each in other.jobs()] == [State.RUNNING]
    assert other.now == START


def test_what_goes_in_a_circle_is_noticed(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobservice.testing.still.MOST_ROUNDS", 1000)
    service = begin()

    going = True

    def circle() -> None:
        if going:
            service._loop.call_soon(circle)

    service._loop.call_soon_threadsafe(circle)
    with pytest.raises(RuntimeError, match="goes in a circle"):
        service.advance(HOUR)
    going = False
