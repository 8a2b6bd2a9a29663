"""Schedules, as Python calls: `client.schedules`."""

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Unpack

from google.protobuf.field_mask_pb2 import FieldMask

from jobservice.client import calls
from jobservice.client.values import JobOptions, ScheduleOptions, TimingOptions
from jobservice.errors import InvalidRequest, Violation
from jobservice.model.job import Job
from jobservice.model.schedule import (
    Backfill,
    Misfire,
    MisfirePolicy,
    Overlap,
    Preview,
    Run,
    Schedule,
)
from jobservice.wire import convert, times
from jobservice.wire import messages as pb
from jobservice.wire import schedules as wire
from jobservice.wire.stubs import ScheduleServiceStub

ScheduleRef = str | Schedule
"""A schedule, or its name."""
_TIMING = TimingOptions.__annotations__.keys()


def name_of(schedule: ScheduleRef) -> str:
    """The name of a schedule, however it is given."""
    return schedule if isinstance(schedule, str) else schedule.schedule_id


class Schedules:
    """The schedules of the service; a `Client` has one of these."""

    def __init__(self, call: Callable[..., Any], stub: ScheduleServiceStub, page_size: int) -> None:
        self._call = call
        self._stub = stub
        self._page_size = page_size

    # --- one schedule -------------------------------------------------------------------------

    def create(
        self,
        schedule_id: str,
        argv: Sequence[str],
        *,
        job: JobOptions | None = None,
        **options: Unpack[ScheduleOptions],
    ) -> Schedule:
        """Make a schedule; one that is there already with the same fields is returned as it is.

        Args:
            schedule_id: Its name.
            argv: The program of its jobs and the arguments. There is no shell.
            job: What else is said of its jobs; see `JobOptions`.
            **options: See `ScheduleOptions`.
        """
        fields = _fields(ScheduleOptions, options)
        fields["job"] = calls.job_message(argv, job or {}, "schedule.job")
        message = pb.Schedule(schedule_id=schedule_id, **fields)
        request = pb.CreateScheduleRequest(schedule=message)
        return wire.to_schedule(self._call(self._stub.CreateSchedule, request).schedule)

    def get(self, schedule: ScheduleRef) -> Schedule:
        """A schedule as it is now."""
        request = pb.GetScheduleRequest(schedule_id=name_of(schedule))
        return wire.to_schedule(self._call(self._stub.GetSchedule, request).schedule)

    def list(self) -> Iterator[Schedule]:
        """Schedules by name, read page by page as they are asked for."""
        request = pb.ListSchedulesRequest(page_size=self._page_size)
        for page in calls.pages(self._call, self._stub.ListSchedules, request):
            yield from map(wire.to_schedule, page.schedules)

    def update(
        self,
        schedule: ScheduleRef,
        *,
        argv: Sequence[str] | None = None,
        job: JobOptions | None = None,
        etag: str = "",
        **edits: Unpack[ScheduleOptions],
    ) -> Schedule:
        """Change a schedule; what is not given stays.

        Args:
            schedule: The schedule or its name.
            argv: With `job`, what its jobs are from now on, as a whole.
            job: See `JobOptions`; only with `argv`.
            etag: That of the schedule as it was read, when the change must not overwrite another.
            **edits: See `ScheduleOptions`. Of the timing, all is replaced as soon as one part is given.
        """
        fields = _fields(ScheduleOptions, edits)
        if argv is not None:
            fields["job"] = calls.job_message(argv, job or {}, "schedule.job")
        elif job is not None:
            raise TypeError("give argv with job: a job is replaced as a whole")
        message = pb.Schedule(schedule_id=name_of(schedule), etag=etag, **fields)
        mask = FieldMask(paths=sorted(fields))
        request = pb.UpdateScheduleRequest(schedule=message, update_mask=mask)
        answer = self._call(self._stub.UpdateSchedule, request, repeatable=not etag)
        return wire.to_schedule(answer.schedule)

    def delete(self, schedule: ScheduleRef, *, etag: str = "", allow_missing: bool = False) -> None:
        """Remove a schedule; its jobs stay."""
        request = pb.DeleteScheduleRequest(
            schedule_id=name_of(schedule), etag=etag, allow_missing=allow_missing
        )

        def expect_it_gone() -> None:
            request.allow_missing = True  # an earlier try may have deleted it

        self._call(self._stub.DeleteSchedule, request, on_repeat=expect_it_gone)

    def pause(
        self, schedule: ScheduleRef, *, reason: str = "", until: dt.datetime | None = None
    ) -> Schedule:
        """Keep a schedule from making jobs by itself, until it is resumed or until an instant."""
        request = pb.PauseScheduleRequest(
            schedule_id=name_of(schedule),
            reason=reason,
            resume_time=times.maybe_timestamp(until),
        )
        return wire.to_schedule(self._call(self._stub.PauseSchedule, request).schedule)

    def resume(self, schedule: ScheduleRef) -> Schedule:
        """End the pause of a schedule, which goes on from now."""
        request = pb.ResumeScheduleRequest(schedule_id=name_of(schedule))
        return wire.to_schedule(self._call(self._stub.ResumeSchedule, request).schedule)

    # --- fires --------------------------------------------------------------------------------

    def preview(
        self,
        schedule: ScheduleRef = "",
        *,
        count: int = 0,
        after: dt.datetime | None = None,
        **timing: Unpack[TimingOptions],
    ) -> Preview:
        """When a schedule, or a timing that is none yet, fires next, and what that means in words."""
        fields = _fields(TimingOptions, timing)
        request = pb.PreviewScheduleRequest(
            schedule_id=name_of(schedule),
            timing=fields.get("timing"),
            count=count,
            after=times.maybe_timestamp(after),
        )
        return wire.to_preview(self._call(self._stub.PreviewSchedule, request))

    def trigger(self, schedule: ScheduleRef) -> Job:
        """Make one job of a schedule now."""
        request = pb.TriggerScheduleRequest(schedule_id=name_of(schedule))
        answer = self._call(self._stub.TriggerSchedule, request, repeatable=False)
        return convert.to_job(answer.job)

    def backfill(
        self,
        schedule: ScheduleRef,
        start_at: dt.datetime,
        end_at: dt.datetime,
        *,
        jobs_per_minute: int = 0,
        validate_only: bool = False,
    ) -> Backfill:
        """Make the jobs of a range of times without its end, at a rate; `get` shows how far it is.

        Args:
            schedule: The schedule or its name.
            start_at: The first instant of the range.
            end_at: Its end; not in the future.
            jobs_per_minute: 0 is 60.
            validate_only: Only check, and count the times.
        """
        request = pb.BackfillScheduleRequest(
            schedule_id=name_of(schedule),
            start_time=times.timestamp(start_at),
            end_time=times.timestamp(end_at),
            jobs_per_minute=jobs_per_minute,
            validate_only=validate_only,
        )
        answer = self._call(self._stub.BackfillSchedule, request, repeatable=validate_only)
        return wire.to_backfill(answer.backfill)

    def cancel_backfill(self, schedule: ScheduleRef) -> Schedule:
        """End the backfill of a schedule; the jobs that it made stay."""
        request = pb.CancelBackfillRequest(schedule_id=name_of(schedule))
        return wire.to_schedule(self._call(self._stub.CancelBackfill, request).schedule)

    def runs(self, schedule: ScheduleRef) -> Iterator[Run]:
        """What became of the fires of a schedule, the newest nominal time first."""
        request = pb.ListScheduleRunsRequest(
            schedule_id=name_of(schedule), page_size=self._page_size
        )
        for page in calls.pages(self._call, self._stub.ListScheduleRuns, request):
            yield from map(wire.to_run, page.runs)


# --- fields -----------------------------------------------------------------------------------


def _fields(kind: Any, options: Any) -> dict[str, Any]:
    """The fields of a message that options stand for."""
    calls.only_known(options, kind)
    fields: dict[str, Any] = {}
    if _TIMING & options.keys():
        fields["timing"] = _timing({key: options[key] for key in _TIMING & options.keys()})
    if "misfire" in options:
        fields["misfire"] = _misfire(options["misfire"])
    if "overlap" in options:
        fields["overlap"] = int(_one_of(Overlap, options["overlap"], "overlap"))
    for name in ("description", "pause_after_failures"):
        if name in options:
            fields[name] = options[name]
    return fields


def _timing(given: dict[str, Any]) -> pb.ScheduleTiming:
    fields: dict[str, Any] = {}
    for name, value in given.items():
        match value:
            case dt.datetime():
                fields[name] = calls.timestamp_of(value, f"timing.{name}")
            case str():
                fields[name] = value
            case None:
                continue
            case _:
                fields[name] = calls.duration_of(value, f"timing.{name}")
    return pb.ScheduleTiming(**fields)


def _misfire(given: Misfire | MisfirePolicy | str) -> pb.Misfire:
    if isinstance(given, Misfire):
        return wire.misfire_message(given)
    policy = _one_of(MisfirePolicy, given, "misfire")
    return wire.misfire_message(Misfire(policy))


def _one_of(kind: Any, given: Any, field: str) -> Any:
    """A policy, or its name in either case."""
    if isinstance(given, kind):
        return given
    name = str(given).upper().replace("-", "_")
    if name not in kind.__members__:
        names = ", ".join(each.lower() for each in kind.__members__)
        text = f"must be one of {names}; got {given!r}"
        raise InvalidRequest([Violation(f"schedule.{field}", text, "NOT_SENT")])
    return kind[name]
