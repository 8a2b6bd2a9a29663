"""The gRPC service: decode, ask the engine, encode. What may happen is decided elsewhere."""

import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf.message import Message

from jobservice.blobs.port import Outputs, Stream
from jobservice.engine import browse, cancel, edit, hold, move, submit
from jobservice.engine.parts import Parts
from jobservice.engine.read_logs import LogRequest, read_logs
from jobservice.engine.watch import ChangeFeed
from jobservice.model.job import Job
from jobservice.model.queue import Move
from jobservice.model.spec import JobSpec
from jobservice.server import asked
from jobservice.server.calls import Calls
from jobservice.server.handlers import handlers_of
from jobservice.server.watching import watch_jobs
from jobservice.store.port import JobKey, JobQuery, Order, RequestKey
from jobservice.wire import convert, tokens
from jobservice.wire import messages as pb
from jobservice.wire.digest import request_digest
from jobservice.wire.pages import to_filter


class JobsService:
    """The RPCs of `jobservice.v1.JobService`, named as in the proto."""

    def __init__(self, parts: Parts, feed: ChangeFeed, outputs: Outputs) -> None:
        self._parts = parts
        self._feed = feed
        self._outputs = outputs

    def handlers(self, calls: Calls) -> grpc.GenericRpcHandler:
        """Every method of the service with its wrapper."""
        return handlers_of(pb.SERVICE, self, calls, waiting={"DeleteJob", "CancelJob"})

    # --- submit -------------------------------------------------------------------------------

    async def CreateJob(self, request: pb.CreateJobRequest, tenant: str) -> Message:
        """One job, durable on return."""
        spec = convert.to_spec(request.job)
        asked.check([spec], "job", self._parts.clock.now())
        if request.validate_only:
            [job] = await submit.submit(self._parts, tenant, [spec], None, validate_only=True)
            if not job.existing:
                job = dataclasses.replace(job, job_id="")
            return _created(job)
        key = _request_key(request.request_id, [spec])
        [job] = await submit.submit(self._parts, tenant, [spec], key)
        return _created(job)

    async def BatchCreateJobs(self, request: pb.BatchCreateJobsRequest, tenant: str) -> Message:
        """All jobs or none."""
        specs = [convert.to_spec(each.job) for each in request.requests]
        path = "requests[{}].job"
        asked.check(specs, path, self._parts.clock.now())
        key = _request_key(request.request_id, specs)
        jobs = await submit.submit(self._parts, tenant, specs, key, path=path)
        view = convert.view(request.view)
        return pb.BatchCreateJobsResponse(
            jobs=[convert.job_message(job, view) for job in jobs],
            existing=[place for place, job in enumerate(jobs) if job.existing],
        )

    # --- one job ------------------------------------------------------------------------------

    async def GetJob(self, request: pb.GetJobRequest, tenant: str) -> Message:
        """The job with its attempts."""
        job = await cancel.get_job(self._parts, JobKey(tenant, request.job_id))
        return pb.GetJobResponse(job=convert.job_message(job, convert.View.FULL))

    async def MoveJob(self, request: pb.MoveJobRequest, tenant: str) -> Message:
        """Another place in the queue."""
        place = request.WhichOneof("place")
        assert place is not None  # checked by the rules of the proto
        other = str(getattr(request, place)) if place in {"before", "after"} else None
        key = JobKey(tenant, request.job_id)
        job = await move.move(self._parts, key, Move[place.upper()], other)
        return pb.MoveJobResponse(job=convert.job_message(job, convert.View.FULL))

    async def GetJobStatus(self, request: pb.GetJobStatusRequest, tenant: str) -> Message:
        """Where it is."""
        status = await browse.status(self._parts, JobKey(tenant, request.job_id))
        message = convert.status_message(
            status.job,
            waiting_reason=status.waiting_reason,
            queue_position=status.queue_position,
        )
        return pb.GetJobStatusResponse(status=message)

    async def UpdateJob(self, request: pb.UpdateJobRequest, tenant: str) -> Message:
        """Change fields."""
        edits = convert.to_edits(request)
        asked.check_edits(edits, self._parts.clock.now())
        job = await edit.update(
            self._parts,
            JobKey(tenant, request.job.job_id),
            edits,
            edit_version=cancel.edit_version(request.job.etag),
        )
        return pb.UpdateJobResponse(job=convert.job_message(job, convert.View.FULL))

    async def RetryJob(self, request: pb.RetryJobRequest, tenant: str) -> Message:
        """Queue a final job again."""
        job = await edit.retry(self._parts, JobKey(tenant, request.job_id))
        return pb.RetryJobResponse(job=convert.job_message(job, convert.View.FULL))

    async def HoldJob(self, request: pb.HoldJobRequest, tenant: str) -> Message:
        """Keep a waiting job from starting."""
        job = await hold.hold(self._parts, JobKey(tenant, request.job_id))
        return pb.HoldJobResponse(job=convert.job_message(job, convert.View.FULL))

    async def ReleaseJob(self, request: pb.ReleaseJobRequest, tenant: str) -> Message:
        """Let a held job go on."""
        job = await hold.release(self._parts, JobKey(tenant, request.job_id))
        return pb.ReleaseJobResponse(job=convert.job_message(job, convert.View.FULL))

    async def CancelJob(self, request: pb.CancelJobRequest, tenant: str) -> Message:
        """Ask for the end of a job, and perhaps wait for it."""
        key = JobKey(tenant, request.job_id)
        job = await cancel.cancel(self._parts, key)
        if request.wait:
            job = await cancel.wait_until_final(self._parts, self._feed, key)
        return pb.CancelJobResponse(job=convert.job_message(job, convert.View.FULL))

    async def DeleteJob(self, request: pb.DeleteJobRequest, tenant: str) -> Message:
        """Cancel if need be, delete, and return when it is gone."""
        await cancel.delete(
            self._parts,
            self._feed,
            JobKey(tenant, request.job_id),
            etag=request.etag,
            allow_missing=request.allow_missing,
        )
        return pb.DeleteJobResponse()

    # --- lists --------------------------------------------------------------------------------

    async def ListJobs(self, request: pb.ListJobsRequest, tenant: str) -> Message:
        """Any jobs, newest first."""
        jobs, token = await self._page(request, tenant, Order.CREATED_DESC)
        return pb.ListJobsResponse(jobs=jobs, next_page_token=token)

    async def ListActiveJobs(self, request: pb.ListActiveJobsRequest, tenant: str) -> Message:
        """Jobs that are not final, oldest first."""
        jobs, token = await self._page(request, tenant, Order.CREATED_ASC)
        return pb.ListActiveJobsResponse(jobs=jobs, next_page_token=token)

    async def GetJobHistory(self, request: pb.GetJobHistoryRequest, tenant: str) -> Message:
        """Final jobs, the newest end first."""
        jobs, token = await self._page(request, tenant, Order.ENDED_DESC)
        return pb.GetJobHistoryResponse(jobs=jobs, next_page_token=token)

    async def _page(self, request: Any, tenant: str, order: Order) -> tuple[list[pb.Job], str]:
        view = convert.view(request.view)
        wanted = to_filter(request)
        query = JobQuery(
            tenant=tenant,
            order=order,
            states=wanted.states,
            queue=wanted.queue,
            name=wanted.name,
            name_is_prefix=wanted.name_is_prefix,
            labels=wanted.labels,
            ended_from=wanted.ended_from,
            ended_before=wanted.ended_before,
            filter=wanted.filter,
            full=view is convert.View.FULL,
        )
        page = await self._parts.store.list_jobs(
            query,
            limit=tokens.page_limit(request.page_size),
            cursor=tokens.decode(request, tenant),
        )
        messages = [convert.job_message(job, view) for job in page.jobs]
        return messages, tokens.encode(request, tenant, page.cursor)

    # --- streams ------------------------------------------------------------------------------

    async def WatchJobs(self, request: pb.WatchJobsRequest, tenant: str) -> AsyncIterator[Message]:
        """A snapshot, then changes."""
        async for response in watch_jobs(self._parts, self._feed, tenant, request):
            yield response

    async def ReadLogs(self, request: pb.ReadLogsRequest, tenant: str) -> AsyncIterator[Message]:
        """The output of an attempt."""
        asked = LogRequest(
            key=JobKey(tenant, request.job_id),
            attempt=request.attempt,
            offsets=_offsets(request),
            follow=request.follow,
        )
        async for each in read_logs(self._parts, self._feed, self._outputs, asked):
            yield pb.ReadLogsResponse(
                attempt=each.attempt,
                stream=pb.LogStream.ValueType(each.stream.value),
                offset=each.piece.offset,
                data=each.piece.data,
                dropped_bytes=each.piece.dropped_bytes,
            )


def _offsets(request: pb.ReadLogsRequest) -> dict[Stream, int]:
    offsets = {Stream.STDOUT: request.stdout_offset, Stream.STDERR: request.stderr_offset}
    if not request.stream:
        return offsets
    wanted = Stream(request.stream)
    return {wanted: offsets[wanted]}


def _created(job: Job) -> pb.CreateJobResponse:
    message = convert.job_message(job, convert.View.FULL)
    return pb.CreateJobResponse(job=message, existing=job.existing)


def _request_key(request_id: str, specs: list[JobSpec]) -> RequestKey | None:
    if not request_id:
        return None
    return RequestKey(request_id, request_digest(specs))
