"""Between the messages of schedules and the values of the model; what `convert.py` says holds here too.

| of the wire | of the model |
|---|---|
| `Schedule` of a create | `ScheduleSpec` (`to_schedule_spec`) |
| `Schedule` | `Schedule` (`schedule_message`, `to_schedule`) |
| `ScheduleTiming` | `Timing` (`timing_message`, `to_timing`) |
| `Backfill`, `ScheduleRun` | `Backfill`, `Run` (`backfill_message` …, `to_run` …) |
| `PreviewScheduleResponse` | `Preview` (`preview_message`, `to_preview`) |
| `UpdateScheduleRequest` | new values by field of `ScheduleSpec` (`to_schedule_edits`) |
"""

import datetime as dt
from collections.abc import Mapping
from typing import Any

from jobservice.clock import EPOCH
from jobservice.model.schedule import (
    DEFAULT_CATCH_UP,
    DEFAULT_WINDOW,
    Backfill,
    BackfillState,
    Cause,
    Misfire,
    MisfirePolicy,
    Outcome,
    Overlap,
    Pause,
    Preview,
    Run,
    Schedule,
    ScheduleSpec,
    Upcoming,
)
from jobservice.model.when import Timing
from jobservice.wire import convert, times
from jobservice.wire._gen.v1 import schedule_pb2, schedule_service_pb2

TIMING_FIELDS: Mapping[str, str] = {
    "zone": "time_zone",
    "start_at": "start_time",
    "end_at": "end_time",
}
"""What the wire calls a field of a timing, where that is another name."""

# --- what a user asks for ---------------------------------------------------------------------


def to_schedule_spec(message: schedule_pb2.Schedule) -> ScheduleSpec:
    """What a user asks for, with the defaults filled in; what the service sets is ignored."""
    return ScheduleSpec(
        job=convert.to_spec(message.job),
        timing=to_timing(message.timing),
        description=message.description,
        misfire=_to_misfire(message.misfire),
        overlap=Overlap(message.overlap or Overlap.SKIP),
        pause_after_failures=message.pause_after_failures,
    )


def to_timing(message: schedule_pb2.ScheduleTiming) -> Timing:
    """When a schedule fires, as a user says it."""
    return Timing(
        cron=message.cron,
        every=_maybe_length(message, "every"),
        phase=times.to_timedelta(message.phase),
        at=times.maybe_instant(message, "at"),
        zone=message.time_zone or "UTC",
        start_at=times.maybe_instant(message, "start_time"),
        end_at=times.maybe_instant(message, "end_time"),
        jitter=times.to_timedelta(message.jitter),
    )


def _maybe_length(message: Any, field: str) -> dt.timedelta | None:
    return times.to_timedelta(getattr(message, field)) if message.HasField(field) else None


def timing_message(timing: Timing) -> schedule_pb2.ScheduleTiming:
    """When a schedule fires, as the wire has it."""
    return schedule_pb2.ScheduleTiming(
        cron=timing.cron,
        every=None if timing.every is None else times.duration(timing.every),
        phase=times.duration(timing.phase) if timing.phase else None,
        at=times.maybe_timestamp(timing.at),
        time_zone=timing.zone,
        start_time=times.maybe_timestamp(timing.start_at),
        end_time=times.maybe_timestamp(timing.end_at),
        jitter=times.duration(timing.jitter) if timing.jitter else None,
    )


def _to_misfire(message: schedule_pb2.Misfire) -> Misfire:
    return Misfire(
        policy=MisfirePolicy(message.policy or MisfirePolicy.LAST),
        max_count=message.max_count or DEFAULT_CATCH_UP,
        window=_maybe_length(message, "window") or DEFAULT_WINDOW,
    )


def misfire_message(misfire: Misfire) -> schedule_pb2.Misfire:
    """The misfire rule, every field written out."""
    return schedule_pb2.Misfire(
        policy=schedule_pb2.MisfirePolicy.ValueType(misfire.policy),
        max_count=misfire.max_count,
        window=times.duration(misfire.window),
    )


def to_schedule_edits(request: schedule_service_pb2.UpdateScheduleRequest) -> Mapping[str, Any]:
    """The new value of each field in the mask; unset means the default."""
    spec = to_schedule_spec(request.schedule)
    return {path: getattr(spec, path) for path in request.update_mask.paths}


# --- schedules --------------------------------------------------------------------------------


def schedule_message(schedule: Schedule) -> schedule_pb2.Schedule:
    """A schedule as the wire has it."""
    spec, pause, backfill = schedule.spec, schedule.pause, schedule.backfill
    return schedule_pb2.Schedule(
        schedule_id=schedule.schedule_id,
        tenant=schedule.tenant,
        description=spec.description,
        job=convert.spec_message(spec.job),
        timing=timing_message(spec.timing),
        misfire=misfire_message(spec.misfire),
        overlap=schedule_pb2.OverlapPolicy.ValueType(spec.overlap),
        pause_after_failures=spec.pause_after_failures,
        paused=pause is not None,
        pause_reason=pause.reason if pause else "",
        pause_time=times.timestamp(pause.since) if pause else None,
        resume_time=times.maybe_timestamp(pause.until) if pause else None,
        next_fire_time=times.maybe_timestamp(schedule.next_at),
        decided_time=times.timestamp(schedule.decided_at),
        buffered_count=schedule.buffered_count,
        backfill=backfill_message(backfill) if backfill else None,
        create_time=times.timestamp(schedule.created_at),
        update_time=times.timestamp(schedule.updated_at),
        etag=schedule.etag,
    )


def to_schedule(message: schedule_pb2.Schedule) -> Schedule:
    """The schedule of a message; when the service looks at it next is not on the wire."""
    pause = None
    if message.paused:
        since = times.to_instant(message.pause_time)
        until = times.maybe_instant(message, "resume_time")
        pause = Pause(message.pause_reason, since, until)
    return Schedule(
        tenant=message.tenant,
        schedule_id=message.schedule_id,
        spec=to_schedule_spec(message),
        created_at=times.to_instant(message.create_time),
        updated_at=times.to_instant(message.update_time),
        decided_at=times.to_instant(message.decided_time),
        edit_version=int(message.etag.removeprefix("e") or "0", 16),
        next_at=times.maybe_instant(message, "next_fire_time"),
        pause=pause,
        buffered_count=message.buffered_count,
        backfill=to_backfill(message.backfill) if message.HasField("backfill") else None,
    )


# --- backfills, runs, previews ----------------------------------------------------------------


def backfill_message(backfill: Backfill) -> schedule_pb2.Backfill:
    """A backfill as the wire has it."""
    return schedule_pb2.Backfill(
        start_time=times.timestamp(backfill.start_at),
        end_time=times.timestamp(backfill.end_at),
        jobs_per_minute=backfill.jobs_per_minute,
        state=schedule_pb2.BackfillState.ValueType(backfill.state),
        total_count=backfill.total_count,
        job_count=backfill.job_count,
        skipped_count=backfill.skipped_count,
        cursor_time=times.maybe_timestamp(backfill.cursor_at),
        create_time=times.timestamp(backfill.created_at),
    )


def to_backfill(message: schedule_pb2.Backfill) -> Backfill:
    """The backfill of a message; when its next job is due is not on the wire."""
    return Backfill(
        start_at=times.to_instant(message.start_time),
        end_at=times.to_instant(message.end_time),
        jobs_per_minute=message.jobs_per_minute,
        total_count=message.total_count,
        created_at=times.to_instant(message.create_time),
        due_at=EPOCH,
        state=BackfillState(message.state),
        job_count=message.job_count,
        skipped_count=message.skipped_count,
        cursor_at=times.maybe_instant(message, "cursor_time"),
    )


def run_message(run: Run) -> schedule_pb2.ScheduleRun:
    """A run as the wire has it."""
    return schedule_pb2.ScheduleRun(
        nominal_time=times.timestamp(run.nominal_at),
        cause=schedule_pb2.RunCause.ValueType(run.cause),
        outcome=schedule_pb2.RunOutcome.ValueType(run.outcome),
        job_id=run.job_id,
        decide_time=times.timestamp(run.decided_at),
        message=run.message,
        count=run.count,
        first_nominal_time=times.maybe_timestamp(run.first_at),
    )


def to_run(message: schedule_pb2.ScheduleRun) -> Run:
    """The run of a message."""
    return Run(
        nominal_at=times.to_instant(message.nominal_time),
        cause=Cause(message.cause),
        outcome=Outcome(message.outcome),
        decided_at=times.to_instant(message.decide_time),
        message=message.message,
        job_id=message.job_id,
        count=message.count,
        first_at=times.maybe_instant(message, "first_nominal_time"),
    )


def preview_message(preview: Preview) -> schedule_service_pb2.PreviewScheduleResponse:
    """What a timing means, as the wire has it."""
    return schedule_service_pb2.PreviewScheduleResponse(
        words=preview.words,
        fires=[
            schedule_service_pb2.ScheduleFire(
                nominal_time=times.timestamp(each.nominal_at),
                due_time=times.timestamp(each.due_at),
                local_time=each.local,
                note=each.note,
            )
            for each in preview.fires
        ],
    )


def to_preview(message: schedule_service_pb2.PreviewScheduleResponse) -> Preview:
    """What a timing means."""
    return Preview(
        message.words,
        tuple(
            Upcoming(
                times.to_instant(each.nominal_time),
                times.to_instant(each.due_time),
                each.local_time,
                each.note,
            )
            for each in message.fires
        ),
    )
