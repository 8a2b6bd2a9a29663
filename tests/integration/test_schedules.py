"""Schedules over the wire: made, changed, fired; and what is refused."""

import datetime as dt
import itertools
from collections.abc import Iterator

import grpc
import pytest

from jobservice import Client
from jobservice.errors import (
    AlreadyExists,
    EtagMismatch,
    InvalidRequest,
    InvalidTransition,
    NotFound,
)
from jobservice.model.lifecycle import State
from jobservice.model.schedule import (
    BackfillState,
    Cause,
    Misfire,
    MisfirePolicy,
    Outcome,
    Overlap,
    Run,
    Schedule,
)
from jobservice.testing.server import Server
from jobservice.testing.wait import wait_until
from jobservice.wire import messages as pb
from jobservice.wire.stubs import ScheduleServiceStub
from tests.integration.bare import SLEEP, UNKNOWN_ID, job, output, refused
from tests.integration.conftest import Serve

HOUR = dt.timedelta(hours=1)
PAST = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
ECHO = ["sh", "-c", "echo $JOBSERVICE_SCHEDULE $JOBSERVICE_SCHEDULE_TIME"]


def clear(client: Client) -> None:
    for schedule in list(client.schedules.list()):
        client.schedules.delete(schedule, allow_missing=True)


@pytest.fixture
def here(local: Client) -> Iterator[Client]:
    """The SDK where jobs run; no schedule is left."""
    yield local
    clear(local)


@pytest.fixture
def stub(idle: Server) -> Iterator[ScheduleServiceStub]:
    """The bare API; no job ever starts and no schedule is left."""
    with grpc.insecure_channel(idle.unix_address) as channel:
        yield ScheduleServiceStub(channel)
    with Client(idle.unix_address) as client:
        clear(client)


def fired(client: Client, name: str, count: int = 1) -> list[Run]:
    """The runs of a schedule that made a job, once there are so many."""

    def look() -> list[Run] | None:
        found = [run for run in client.schedules.runs(name) if run.outcome is Outcome.FIRED]
        return found if len(found) >= count else None

    found = wait_until(look, what=f"{count} runs of {name}")
    assert found is not None
    return found


def test_a_schedule_makes_jobs_that_know_what_they_are_for(here: Client) -> None:
    here.schedules.create("tick", ECHO, every=1, job={"name": "beat", "labels": {"a": "b"}})
    newest, *_, oldest = fired(here, "tick", 2)
    made = here.wait(oldest.job_id)
    assert made.state is State.SUCCEEDED
    assert (made.schedule, made.schedule_at) == ("tick", oldest.nominal_at)
    assert (made.spec.name, made.spec.labels) == ("beat", {"a": "b"})
    expected = f"tick {oldest.nominal_at:%Y-%m-%dT%H:%M:%SZ}\n"
    assert output(here, made).decode() == expected
    assert newest.nominal_at > oldest.nominal_at
    assert all(run.nominal_at.microsecond == 0 for run in (newest, oldest))


def test_all_of_a_schedule_comes_back_as_it_was_given(here: Client) -> None:
    made = here.schedules.create(
        "nightly",
        ["tar", "c"],
        job={"timeout": 60, "retries": 2, "env": {"A": "b"}},
        cron="30 2 * * *",
        time_zone="Europe/Berlin",
        start_time=PAST,
        end_time=PAST + 9000 * HOUR * 10,
        jitter=60,
        description="every night",
        misfire=Misfire(MisfirePolicy.ALL, 3, 2 * HOUR),
        overlap="buffer_one",
        pause_after_failures=4,
    )
    spec = made.spec
    assert (spec.timing.cron, spec.timing.zone) == ("30 2 * * *", "Europe/Berlin")
    assert (spec.timing.start_at, spec.timing.jitter) == (PAST, dt.timedelta(minutes=1))
    assert (spec.misfire, spec.overlap) == (
        Misfire(MisfirePolicy.ALL, 3, 2 * HOUR),
        Overlap.BUFFER_ONE,
    )
    assert (spec.description, spec.pause_after_failures) == ("every night", 4)
    assert spec.job.command.argv == ("tar", "c")
    assert (spec.job.command.env, spec.job.retry.max_attempts) == ({"A": "b"}, 3)
    assert made.next_at is not None
    assert here.schedules.get("nightly") == made
    assert list(here.schedules.list()) == [made]


def test_a_create_can_be_repeated_and_another_one_is_refused(here: Client) -> None:
    made = here.schedules.create("nightly", ["true"], cron="@daily")
    assert here.schedules.create("nightly", ["true"], cron="@daily") == made
    with pytest.raises(AlreadyExists, match="another timing") as caught:
        here.schedules.create("nightly", ["true"], cron="@hourly")
    assert (caught.value.reason, caught.value.metadata["schedule_id"]) == (
        "SCHEDULE_EXISTS",
        "nightly",
    )


def test_updates_change_what_is_given(here: Client) -> None:
    made = here.schedules.create("nightly", ["true"], cron="@daily", description="old")
    changed = here.schedules.update(made, etag=made.etag, description="new", overlap="allow")
    assert (changed.spec.description, changed.spec.overlap) == ("new", Overlap.ALLOW)
    assert changed.spec.timing == made.spec.timing
    with pytest.raises(EtagMismatch):
        here.schedules.update(made, etag=made.etag, description="newer")
    again = here.schedules.update("nightly", argv=["false"], every=HOUR, phase=60)
    assert (again.spec.job.command.argv, again.spec.timing.every) == (("false",), HOUR)
    assert again.spec.description == "new"
    with pytest.raises(EtagMismatch):
        here.schedules.delete("nightly", etag=made.etag)
    here.schedules.delete("nightly", etag=again.etag)
    with pytest.raises(NotFound, match="no schedule nightly"):
        here.schedules.get("nightly")
    here.schedules.delete("nightly", allow_missing=True)


def test_pause_resume_and_trigger(here: Client) -> None:
    here.schedules.create("tick", SLEEP, every=1)
    until = dt.datetime(2099, 1, 1, tzinfo=dt.UTC)
    paused = here.schedules.pause("tick", reason="a flood", until=until)
    assert paused.pause is not None
    assert (paused.pause.reason, paused.pause.until, paused.next_at) == ("a flood", until, None)
    made = here.schedules.trigger("tick")
    assert made.schedule == "tick"
    newest = next(here.schedules.runs("tick"))
    assert (newest.cause, newest.job_id) == (Cause.TRIGGER, made.job_id)
    resumed = here.schedules.resume("tick")
    assert (resumed.pause, resumed.next_at is None) == (None, False)
    skipped = wait_until(
        lambda: [run for run in here.schedules.runs("tick") if run.outcome is Outcome.SKIPPED]
    )
    assert skipped[0].message == "a job of the schedule is not final"


def test_a_preview_says_when_and_in_words(here: Client) -> None:
    found = here.schedules.preview(
        cron="30 2 * * *",
        time_zone="Europe/Berlin",
        count=2,
        after=dt.datetime(2027, 3, 27, tzinfo=dt.UTC),
    )
    assert found.words == "at 02:30 every day, Europe/Berlin"
    assert [each.local for each in found.fires] == [
        "2027-03-27T02:30:00+01:00",
        "2027-03-28T03:00:00+02:00",
    ]
    assert found.fires[0].note == ""
    assert "skipped by a change of the clocks" in found.fires[1].note
    here.schedules.create("nightly", ["true"], cron="H H * * *")
    [first] = here.schedules.preview("nightly", count=1).fires
    [same] = here.schedules.preview("nightly", count=1, cron="H H * * *").fires
    assert first == same
    assert first.nominal_at == here.schedules.get("nightly").next_at
    assert len(here.schedules.preview(every=1, count=1000).fires) == 1000


def test_a_backfill_makes_the_jobs_of_a_range(here: Client) -> None:
    here.schedules.create("nightly", ["true"], cron="0 2 * * *", overlap="allow")
    begun = here.schedules.backfill(
        "nightly", PAST, PAST + 120 * HOUR, jobs_per_minute=6000, validate_only=True
    )
    assert (begun.total_count, begun.state) == (5, BackfillState.ACTIVE)
    assert here.schedules.get("nightly").backfill is None
    here.schedules.backfill("nightly", PAST, PAST + 120 * HOUR, jobs_per_minute=6000)

    def ended() -> Schedule | None:
        found = here.schedules.get("nightly")
        assert found.backfill is not None
        return found if found.backfill.state is BackfillState.DONE else None

    wait_until(ended, what="the end of the backfill")
    runs = list(here.schedules.runs("nightly"))
    assert {run.cause for run in runs} == {Cause.BACKFILL}
    assert [run.nominal_at for run in runs] == [
        PAST + dt.timedelta(days=day, hours=2) for day in reversed(range(5))
    ]
    again = here.schedules.backfill("nightly", PAST, PAST + 144 * HOUR, jobs_per_minute=6000)
    assert again.total_count == 6
    found = wait_until(ended)
    assert found is not None
    assert found.backfill is not None
    assert (found.backfill.job_count, found.backfill.skipped_count) == (1, 5)


def test_a_backfill_can_be_cancelled_and_there_is_one_at_a_time(here: Client) -> None:
    here.schedules.create("nightly", ["true"], cron="0 2 * * *")
    between = PAST, PAST + 1000 * HOUR
    here.schedules.backfill("nightly", *between, jobs_per_minute=1)
    with pytest.raises(InvalidTransition, match="has a backfill under way"):
        here.schedules.backfill("nightly", *between)
    ended = here.schedules.cancel_backfill("nightly").backfill
    assert ended is not None
    assert ended.state is BackfillState.CANCELLED
    with pytest.raises(InvalidRequest, match="has no"):
        here.schedules.backfill("nightly", PAST, PAST + HOUR)
    with pytest.raises(InvalidRequest, match="end_time: must be after start_time"):
        here.schedules.backfill("nightly", PAST, PAST)
    with pytest.raises(InvalidRequest, match="must not be in the future"):
        here.schedules.backfill("nightly", PAST, dt.datetime(2999, 1, 1, tzinfo=dt.UTC))


def test_a_restart_goes_on_where_the_service_was(serve: Serve) -> None:
    server = serve("--slots", "2").start()
    with Client(server.unix_address) as client:
        client.schedules.create("tick", ["true"], every=1, misfire="all", overlap="allow")
        fired(client, "tick")
        server.kill()
        server.start()
        seen = len(fired(client, "tick"))
        runs = fired(client, "tick", seen + 2)
        clear(client)
        jobs = [each for each in client.list() if each.schedule == "tick"]
    times = [run.nominal_at for run in runs]
    assert len(set(times)) == len(times)
    made = sorted(each.schedule_at for each in jobs if each.schedule_at)
    assert len(set(made)) == len(made)
    assert [b - a for a, b in itertools.pairwise(made)] == [dt.timedelta(seconds=1)] * (
        len(made) - 1
    )


# --- bad input --------------------------------------------------------------------------------


def schedule(**fields: object) -> pb.Schedule:
    """A schedule that is valid but for the fields given."""
    given = {
        "schedule_id": "nightly",
        "job": job(),
        "timing": pb.ScheduleTiming(cron="@daily"),
        **fields,
    }
    return pb.Schedule(**given)  # type: ignore[arg-type]


def test_everything_that_is_wrong_is_said_at_once(stub: ScheduleServiceStub) -> None:
    timing = pb.ScheduleTiming(cron="61 * * * *", time_zone="Mars")
    request = pb.CreateScheduleRequest(
        schedule=schedule(
            schedule_id="Nightly",
            job=job("", priority=101),
            timing=timing,
            overlap=9,
            pause_after_failures=101,
            misfire=pb.Misfire(policy=7, max_count=101),  # type: ignore[arg-type]
        )
    )
    found = refused(stub.CreateSchedule, request)
    assert found.code == "INVALID_ARGUMENT"
    assert set(found.fields) == {
        "schedule.schedule_id",
        "schedule.job.priority",
        "schedule.job.command.argv[0]",
        "schedule.timing.cron",
        "schedule.timing.time_zone",
        "schedule.overlap",
        "schedule.pause_after_failures",
        "schedule.misfire.policy",
        "schedule.misfire.max_count",
    }


def test_a_timing_needs_one_of_three(stub: ScheduleServiceStub) -> None:
    empty = refused(
        stub.CreateSchedule, pb.CreateScheduleRequest(schedule=schedule(timing=pb.ScheduleTiming()))
    )
    assert empty.fields == ["schedule.timing.cron"]
    both = pb.ScheduleTiming(cron="@daily")
    both.every.seconds = 5
    found = refused(stub.CreateSchedule, pb.CreateScheduleRequest(schedule=schedule(timing=both)))
    assert found.fields == ["schedule.timing.every"]
    ends = pb.ScheduleTiming(cron="@daily")
    ends.start_time.seconds, ends.end_time.seconds = 5, 4
    found = refused(stub.CreateSchedule, pb.CreateScheduleRequest(schedule=schedule(timing=ends)))
    assert found.fields == ["schedule.timing.end_time"]
    assert "`start_time`" in found.message
    far = pb.ScheduleTiming()
    far.at.seconds = 1 << 50
    found = refused(stub.CreateSchedule, pb.CreateScheduleRequest(schedule=schedule(timing=far)))
    assert found.fields == ["schedule.timing.at"]


def test_a_template_has_no_start_of_its_own_no_parents_and_a_cluster_that_exists(
    stub: ScheduleServiceStub,
) -> None:
    template = job()
    template.start_after.seconds = 5
    found = refused(stub.CreateSchedule, pb.CreateScheduleRequest(schedule=schedule(job=template)))
    assert found.violations == [("schedule.job.start_after", "NOT_IN_A_SCHEDULE")]
    child = job()
    child.dependencies.add(job_id=UNKNOWN_ID)
    found = refused(stub.CreateSchedule, pb.CreateScheduleRequest(schedule=schedule(job=child)))
    assert found.violations == [("schedule.job.dependencies", "NOT_IN_A_SCHEDULE")]
    elsewhere = pb.CreateScheduleRequest(schedule=schedule(job=job(cluster="moon")))
    assert refused(stub.CreateSchedule, elsewhere).fields == ["schedule.job.cluster"]


def test_validate_only_creates_nothing(stub: ScheduleServiceStub) -> None:
    request = pb.CreateScheduleRequest(schedule=schedule(), validate_only=True)
    answer = stub.CreateSchedule(request, timeout=30)
    assert answer.schedule.next_fire_time.seconds
    missing = refused(stub.GetSchedule, pb.GetScheduleRequest(schedule_id="nightly"))
    assert (missing.code, missing.reason) == ("NOT_FOUND", "SCHEDULE_NOT_FOUND")
    assert missing.details["ResourceInfo"].resource_type == "jobservice.v1.Schedule"


def test_updates_are_checked_where_the_mask_says(stub: ScheduleServiceStub) -> None:
    stub.CreateSchedule(pb.CreateScheduleRequest(schedule=schedule()), timeout=30)
    request = pb.UpdateScheduleRequest(schedule=schedule(pause_after_failures=101))
    request.update_mask.paths.extend(["paused", "colour", "pause_after_failures"])
    found = refused(stub.UpdateSchedule, request)
    assert found.violations == [
        ("update_mask", "IMMUTABLE_FIELD"),
        ("update_mask", "UNKNOWN_FIELD"),
        ("schedule.pause_after_failures", "INT32_GTE_LTE"),
    ]
    nothing = pb.UpdateScheduleRequest(schedule=pb.Schedule(schedule_id="nightly"))
    assert refused(stub.UpdateSchedule, nothing).fields == ["update_mask"]
    bad = pb.UpdateScheduleRequest(schedule=schedule(timing=pb.ScheduleTiming(cron="x")))
    bad.update_mask.paths.append("timing")
    assert refused(stub.UpdateSchedule, bad).fields == ["schedule.timing.cron"]


def test_pages_of_another_schedule_are_refused(stub: ScheduleServiceStub) -> None:
    for name in ("a", "b", "c"):
        request = pb.CreateScheduleRequest(schedule=schedule(schedule_id=name))
        stub.CreateSchedule(request, timeout=30)
    page = stub.ListSchedules(pb.ListSchedulesRequest(page_size=2), timeout=30)
    assert [each.schedule_id for each in page.schedules] == ["a", "b"]
    token = page.next_page_token
    rest = stub.ListSchedules(pb.ListSchedulesRequest(page_size=2, page_token=token), timeout=30)
    assert [each.schedule_id for each in rest.schedules] == ["c"]
    wrong = pb.ListScheduleRunsRequest(schedule_id="a", page_token=token)
    assert refused(stub.ListScheduleRuns, wrong).reason == "PAGE_TOKEN_INVALID"
    missing = pb.ListScheduleRunsRequest(schedule_id="nobody")
    assert refused(stub.ListScheduleRuns, missing).reason == "SCHEDULE_NOT_FOUND"


def test_a_preview_needs_a_name_or_a_timing(stub: ScheduleServiceStub) -> None:
    assert refused(stub.PreviewSchedule, pb.PreviewScheduleRequest()).fields == ["schedule_id"]
    many = pb.PreviewScheduleRequest(schedule_id="x", count=1001)
    assert refused(stub.PreviewSchedule, many).fields == ["count"]
