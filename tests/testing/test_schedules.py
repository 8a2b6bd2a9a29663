"""A month of a schedule in a second: each fire at its instant, also where the clocks change."""

import datetime as dt
import zoneinfo
from collections import Counter

import pytest

from jobservice import RetryPolicy, State
from jobservice.model.event import Event, EventKind
from jobservice.model.job import Job
from jobservice.model.schedule import Outcome
from jobservice.testing.behaviour import Behaviour
from jobservice.testing.virtual import VirtualService

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
MINUTE, HOUR, DAY = dt.timedelta(minutes=1), dt.timedelta(hours=1), dt.timedelta(days=1)


def utc(*parts: int) -> dt.datetime:
    return dt.datetime(*parts, tzinfo=dt.UTC)  # type: ignore[misc, arg-type]


def starts(service: VirtualService) -> list[dt.datetime]:
    """When each job was begun, in order."""
    return [event.at for event in service.events() if event.kind is EventKind.STARTED]


@pytest.mark.slow
def test_a_month_of_an_hourly_schedule_fires_each_hour() -> None:
    with VirtualService(Behaviour(after=5 * MINUTE), start=utc(2030, 1, 1, 0, 30)) as service:
        service.client.schedules.create("hourly", ["tick"], cron="0 * * * *")
        service.advance_to(utc(2030, 2, 1, 0, 30))
        assert starts(service) == [utc(2030, 1, 1, 1) + n * HOUR for n in range(31 * 24)]
        assert {job.state for job in service.jobs()} == {State.SUCCEEDED}
        assert service.steps < 31 * 24 * 6


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        # On 31 March 2030 the clocks of Berlin go from 02:00 to 03:00: there is no 02:30.
        (utc(2030, 3, 29), [(29, "02:30+01:00"), (30, "02:30+01:00"), (31, "03:00+02:00")]),
        # On 27 October they go from 03:00 back to 02:00: there are two.
        (utc(2030, 10, 25), [(25, "02:30+02:00"), (26, "02:30+02:00"), (27, "02:30+02:00")]),
    ],
    ids=["spring", "autumn"],
)
def test_a_nightly_job_runs_once_a_night_when_the_clocks_change(
    start: dt.datetime, expected: list[tuple[int, str]]
) -> None:
    with VirtualService(start=start) as service:
        service.client.schedules.create(
            "nightly", ["backup"], cron="30 2 * * *", time_zone="Europe/Berlin"
        )
        service.advance(3 * DAY)
        local = [at.astimezone(BERLIN) for at in starts(service)]
        assert [(at.day, at.isoformat()[11:16] + at.isoformat()[-6:]) for at in local] == expected


def test_jobs_that_take_longer_than_their_interval_are_skipped_and_recorded() -> None:
    with VirtualService(Behaviour(after=150 * MINUTE), start=utc(2030, 1, 1)) as service:
        service.client.schedules.create("slow", ["crawl"], every=HOUR)
        service.advance(DAY)
        runs = Counter(run.outcome for run in service.client.schedules.runs("slow"))
        assert runs[Outcome.FIRED] == 8
        assert runs.total() == 24


def test_fires_that_are_missed_while_the_service_is_down_are_made_good_once() -> None:
    with VirtualService(start=utc(2030, 1, 1)) as service:
        service.client.schedules.create("quarterly", ["tick"], cron="*/15 * * * *")
        service.advance(HOUR + MINUTE)
        assert len(service.jobs()) == 4
        service.restart(after=3 * HOUR)
        service.advance(14 * MINUTE)
        assert starts(service)[4:] == [utc(2030, 1, 1, 4, 1), utc(2030, 1, 1, 4, 15)]


def test_a_job_of_a_schedule_is_tried_again() -> None:
    script = {"flaky": [Behaviour(1, after=MINUTE), Behaviour(0, after=MINUTE)]}
    policy = RetryPolicy(max_attempts=3, initial_backoff=HOUR)
    with VirtualService(script, start=utc(2030, 1, 1, 12)) as service:
        service.client.schedules.create(
            "daily", ["flaky"], cron="@daily", job={"retry_policy": policy}
        )
        service.advance(30 * DAY)
        jobs = service.jobs()
        assert len(jobs) == 30
        assert {(job.state, job.attempt_count) for job in jobs} == {(State.SUCCEEDED, 2)}


def year(seed: int) -> tuple[list[Job], list[Event], int]:
    with VirtualService(seed=seed, start=utc(2030, 1, 1)) as service:
        service.client.schedules.create(
            "daily", ["tick"], cron="H 3 * * *", jitter=30 * MINUTE, time_zone="Europe/Berlin"
        )
        service.advance(365 * DAY)
        return service.jobs(), service.events(), service.steps


@pytest.mark.slow
def test_a_year_of_a_daily_schedule_has_few_stops_and_one_history() -> None:
    jobs, events, steps = year(1)
    assert len(jobs) == 365
    assert steps < 9_000 + 365 * 6
    assert year(1) == (jobs, events, steps)
