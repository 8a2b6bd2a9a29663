"""Schedules in virtual time: a month of them in a moment, with the code that runs in production."""

import datetime as dt
from typing import Any

import pytest

from jobservice.errors import InvalidRequest
from jobservice.model.lifecycle import State
from jobservice.model.schedule import Outcome
from jobservice.testing.behaviour import Behaviour
from jobservice.testing.virtual import VirtualService

MINUTE, HOUR, DAY = dt.timedelta(minutes=1), dt.timedelta(hours=1), dt.timedelta(days=1)
MARCH = dt.datetime(2027, 3, 1, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("timing", "field"),
    [
        ({"at": MARCH}, "schedule.timing.at"),
        ({"cron": "@daily", "end_time": MARCH}, "schedule.timing.end_time"),
        ({"cron": "@daily", "end_time": MARCH + HOUR}, "schedule.timing.end_time"),
        ({"every": DAY, "end_time": MARCH - HOUR}, "schedule.timing.end_time"),
    ],
)
def test_a_new_schedule_that_never_fires_is_refused(timing: Any, field: str) -> None:
    with VirtualService(start=MARCH) as service:
        with pytest.raises(InvalidRequest) as caught:
            service.client.schedules.create("never", ["true"], **timing)
        [violation] = caught.value.violations
        assert (violation.field, violation.rule) == (field, "NEVER_FIRES")
        assert "it is 2027-03-01T00:00:00Z now, got 2027-0" in violation.message
        assert list(service.client.schedules.list()) == []


def test_a_create_may_be_repeated_after_the_last_fire() -> None:
    with VirtualService(start=MARCH) as service:
        made = service.client.schedules.create("once", ["true"], at=MARCH + HOUR)
        service.advance(2 * HOUR)
        again = service.client.schedules.create("once", ["true"], at=MARCH + HOUR)
        assert (again.created_at, again.next_at) == (made.created_at, None)


@pytest.mark.slow
def test_a_month_with_a_change_of_the_clocks() -> None:
    with VirtualService(start=MARCH) as service:
        service.client.schedules.create(
            "nightly", ["backup"], cron="30 2 * * *", time_zone="Europe/Berlin"
        )
        service.client.schedules.create("hourly", ["poll"], every=HOUR)
        service.advance(31 * DAY)
        jobs = [job for job in service.jobs() if job.schedule == "nightly"]
        assert len(jobs) == 31
        assert all(job.state is State.SUCCEEDED for job in jobs)
        assert all(job.created_at == job.schedule_at for job in jobs)
        starts = {job.schedule_at.astimezone(dt.UTC).time() for job in jobs if job.schedule_at}
        assert starts == {dt.time(1, 30), dt.time(1, 0), dt.time(0, 30)}
        assert len([job for job in service.jobs() if job.schedule == "hourly"]) == 31 * 24


def test_what_overlaps_waits_for_the_end_of_the_job_before() -> None:
    with VirtualService(Behaviour(after=90 * MINUTE), start=MARCH) as service:
        service.client.schedules.create("slow", ["slow"], every=HOUR, overlap="buffer_one")
        service.advance(6 * HOUR)
        runs = list(service.client.schedules.runs("slow"))[::-1]
        outcomes = [run.outcome for run in runs]
        assert outcomes[:2] == [Outcome.FIRED, Outcome.FIRED]
        ended = [job.ended_at for job in service.jobs() if job.ended_at]
        started = [job.started_at for job in service.jobs() if job.started_at]
        assert all(
            begin == end for end, begin in zip(sorted(ended), sorted(started)[1:], strict=False)
        )


def test_a_service_that_was_away_makes_the_last_and_records_the_gap() -> None:
    with VirtualService(start=MARCH) as service:
        service.client.schedules.create("poll", ["poll"], every=MINUTE)
        service.advance(10 * MINUTE)
        service.restart(after=3 * HOUR)
        service.settle()
        last, gap, *_ = service.client.schedules.runs("poll")
        assert (last.outcome, gap.outcome, gap.count) == (Outcome.FIRED, Outcome.MISSED, 179)
