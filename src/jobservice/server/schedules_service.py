"""The gRPC service of schedules: decode, ask the engine, encode."""

import grpc
from google.protobuf.message import Message

from jobservice.engine import schedules
from jobservice.engine.parts import Parts
from jobservice.model.schedule import DEFAULT_PREVIEW, DEFAULT_RATE
from jobservice.server import asked
from jobservice.server.calls import Calls
from jobservice.server.handlers import handlers_of
from jobservice.store.schedule_port import ScheduleKey
from jobservice.wire import convert, times, tokens
from jobservice.wire import messages as pb
from jobservice.wire import schedules as wire


class SchedulesService:
    """The RPCs of `jobservice.v1.ScheduleService`, named as in the proto."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def handlers(self, calls: Calls) -> grpc.GenericRpcHandler:
        """Every method of the service with its wrapper."""
        return handlers_of(pb.SCHEDULE_SERVICE, self, calls)

    # --- one schedule -------------------------------------------------------------------------

    async def CreateSchedule(self, request: pb.CreateScheduleRequest, tenant: str) -> Message:
        """A schedule that begins now."""
        spec = wire.to_schedule_spec(request.schedule)
        asked.check([spec.job], "schedule.job", self._parts.clock.now())
        key = ScheduleKey(tenant, request.schedule.schedule_id)
        new = schedules.new_schedule(self._parts, key, spec)
        new = await schedules.create(self._parts, new, validate_only=request.validate_only)
        return pb.CreateScheduleResponse(schedule=wire.schedule_message(new))

    async def GetSchedule(self, request: pb.GetScheduleRequest, tenant: str) -> Message:
        """The schedule as it is."""
        key = ScheduleKey(tenant, request.schedule_id)
        found = await schedules.get_schedule(self._parts, key)
        return pb.GetScheduleResponse(schedule=wire.schedule_message(found))

    async def ListSchedules(self, request: pb.ListSchedulesRequest, tenant: str) -> Message:
        """Schedules by name."""
        page = await self._parts.store.list_schedules(
            tenant,
            limit=tokens.page_limit(request.page_size),
            cursor=tokens.decode(request, tenant),
        )
        return pb.ListSchedulesResponse(
            schedules=[wire.schedule_message(each) for each in page.schedules],
            next_page_token=tokens.encode(request, tenant, page.cursor),
        )

    async def UpdateSchedule(self, request: pb.UpdateScheduleRequest, tenant: str) -> Message:
        """Change fields."""
        edits = wire.to_schedule_edits(request)
        if "job" in edits:
            asked.check([edits["job"]], "schedule.job", self._parts.clock.now())
        key = ScheduleKey(tenant, request.schedule.schedule_id)
        found = await schedules.update(self._parts, key, edits, etag=request.schedule.etag)
        return pb.UpdateScheduleResponse(schedule=wire.schedule_message(found))

    async def DeleteSchedule(self, request: pb.DeleteScheduleRequest, tenant: str) -> Message:
        """Remove it; its jobs stay."""
        key = ScheduleKey(tenant, request.schedule_id)
        await schedules.delete(
            self._parts, key, etag=request.etag, allow_missing=request.allow_missing
        )
        return pb.DeleteScheduleResponse()

    async def PauseSchedule(self, request: pb.PauseScheduleRequest, tenant: str) -> Message:
        """Keep it from making jobs by itself."""
        found = await schedules.pause(
            self._parts,
            ScheduleKey(tenant, request.schedule_id),
            reason=request.reason,
            until=times.maybe_instant(request, "resume_time"),
        )
        return pb.PauseScheduleResponse(schedule=wire.schedule_message(found))

    async def ResumeSchedule(self, request: pb.ResumeScheduleRequest, tenant: str) -> Message:
        """End the pause."""
        found = await schedules.resume(self._parts, ScheduleKey(tenant, request.schedule_id))
        return pb.ResumeScheduleResponse(schedule=wire.schedule_message(found))

    # --- fires --------------------------------------------------------------------------------

    async def PreviewSchedule(self, request: pb.PreviewScheduleRequest, tenant: str) -> Message:
        """The next fires."""
        timing = wire.to_timing(request.timing) if request.HasField("timing") else None
        found = await schedules.preview(
            self._parts,
            ScheduleKey(tenant, request.schedule_id),
            timing,
            count=request.count or DEFAULT_PREVIEW,
            after=times.maybe_instant(request, "after"),
        )
        return wire.preview_message(found)

    async def TriggerSchedule(self, request: pb.TriggerScheduleRequest, tenant: str) -> Message:
        """One job now."""
        job = await schedules.trigger(self._parts, ScheduleKey(tenant, request.schedule_id))
        return pb.TriggerScheduleResponse(job=convert.job_message(job, convert.View.FULL))

    async def BackfillSchedule(self, request: pb.BackfillScheduleRequest, tenant: str) -> Message:
        """Jobs for a range of times."""
        begun = await schedules.backfill(
            self._parts,
            ScheduleKey(tenant, request.schedule_id),
            (times.to_instant(request.start_time), times.to_instant(request.end_time)),
            jobs_per_minute=request.jobs_per_minute or DEFAULT_RATE,
            validate_only=request.validate_only,
        )
        return pb.BackfillScheduleResponse(backfill=wire.backfill_message(begun))

    async def CancelBackfill(self, request: pb.CancelBackfillRequest, tenant: str) -> Message:
        """End the backfill."""
        key = ScheduleKey(tenant, request.schedule_id)
        found = await schedules.cancel_backfill(self._parts, key)
        return pb.CancelBackfillResponse(schedule=wire.schedule_message(found))

    async def ListScheduleRuns(self, request: pb.ListScheduleRunsRequest, tenant: str) -> Message:
        """What became of its fires, newest first."""
        key = ScheduleKey(tenant, request.schedule_id)
        await schedules.get_schedule(self._parts, key)
        page = await self._parts.store.list_schedule_runs(
            key,
            limit=tokens.page_limit(request.page_size),
            cursor=tokens.decode(request, tenant),
        )
        return pb.ListScheduleRunsResponse(
            runs=[wire.run_message(each) for each in page.runs],
            next_page_token=tokens.encode(request, tenant, page.cursor),
        )
