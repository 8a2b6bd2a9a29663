"""The gRPC service of workers: decode, ask the engine, encode."""

import datetime as dt
from collections.abc import AsyncIterator

import grpc
from google.protobuf.message import Message

from jobservice.engine import workers
from jobservice.engine.claim import Leases
from jobservice.engine.parts import Parts
from jobservice.model.worker import Worker
from jobservice.server.calls import Calls
from jobservice.server.handlers import handlers_of
from jobservice.wire import messages as pb
from jobservice.wire import times, tokens
from jobservice.wire import workers as wire


class WorkerService:
    """The RPCs of `jobservice.v1.WorkerService`, named as in the proto. Workers are of no tenant."""

    def __init__(self, parts: Parts, leases: Leases) -> None:
        self._parts = parts
        self._leases = leases

    def handlers(self, calls: Calls) -> grpc.GenericRpcHandler:
        """Every method of the service with its wrapper."""
        return handlers_of(pb.WORKER_SERVICE, self, calls, waiting=("ClaimJobs",))

    async def RegisterWorker(self, request: pb.RegisterWorkerRequest, tenant: str) -> Message:
        """Who a worker is."""
        del tenant
        info = wire.to_info(request.worker, request.origin)
        worker = await workers.register_worker(self._parts, info, self._leases.quiet)
        lease = dt.timedelta(seconds=self._leases.lease_s)
        return pb.RegisterWorkerResponse(worker=self._shown(worker), lease=times.duration(lease))

    async def ClaimJobs(self, request: pb.ClaimJobsRequest, tenant: str) -> Message:
        """Leases, after a wait for the first."""
        del tenant
        await workers.get_worker(self._parts, request.worker_id)
        wait_s = times.to_timedelta(request.wait).total_seconds()
        claims = await self._leases.claim(request.worker_id, request.limit, wait_s)
        return pb.ClaimJobsResponse(leases=map(wire.lease_message, claims))

    async def StartAttempts(self, request: pb.StartAttemptsRequest, tenant: str) -> Message:
        """Processes exist."""
        del tenant
        recorded = await self._leases.start(list(map(wire.to_start, request.starts)))
        return pb.StartAttemptsResponse(recorded=recorded)

    async def ReportProgress(self, request: pb.ReportProgressRequest, tenant: str) -> Message:
        """What attempts say."""
        del tenant
        reports = list(map(wire.to_progress, request.reports))
        return pb.ReportProgressResponse(recorded=await self._leases.report_progress(reports))

    async def AppendLogs(self, request: pb.AppendLogsRequest, tenant: str) -> Message:
        """Output."""
        del tenant
        ends = await self._leases.append_logs(list(map(wire.to_append, request.appends)))
        return pb.AppendLogsResponse(ends=[pb.LogEnd(end_offset=end) for end in ends])

    async def FinishAttempts(self, request: pb.FinishAttemptsRequest, tenant: str) -> Message:
        """Processes are gone."""
        del tenant
        recorded = await self._leases.finish(list(map(wire.to_end, request.ends)))
        return pb.FinishAttemptsResponse(recorded=recorded)

    async def UnclaimAttempts(self, request: pb.UnclaimAttemptsRequest, tenant: str) -> Message:
        """Leases are handed back."""
        del tenant
        unclaimed = await self._leases.unclaim(list(map(wire.to_fence, request.fences)))
        return pb.UnclaimAttemptsResponse(unclaimed=unclaimed)

    async def ExtendLeases(self, request: pb.ExtendLeasesRequest, tenant: str) -> Message:
        """A worker is there, and goes on."""
        del tenant
        fences = list(map(wire.to_fence, request.fences))
        answers = await self._leases.extend(request.worker_id, fences)
        return pb.ExtendLeasesResponse(answers=map(wire.answer_number, answers))

    async def ListLeases(self, request: pb.ListLeasesRequest, tenant: str) -> Message:
        """What a worker holds."""
        del tenant
        live = await self._leases.list_live(request.worker_id)
        return pb.ListLeasesResponse(attempts=map(wire.live_message, live))

    async def WatchStops(
        self, request: pb.WatchStopsRequest, tenant: str
    ) -> AsyncIterator[Message]:
        """What is to end."""
        del tenant
        async for fences in self._leases.watch_stops(request.worker_id):
            yield pb.WatchStopsResponse(fences=map(wire.fence_message, fences))

    async def DrainWorker(self, request: pb.DrainWorkerRequest, tenant: str) -> Message:
        """Nothing new."""
        del tenant
        worker = await workers.drain_worker(self._parts, request.worker_id, request.reason)
        return pb.DrainWorkerResponse(worker=self._shown(worker))

    async def ResumeWorker(self, request: pb.ResumeWorkerRequest, tenant: str) -> Message:
        """Jobs again."""
        del tenant
        worker = await workers.resume_worker(self._parts, request.worker_id)
        return pb.ResumeWorkerResponse(worker=self._shown(worker))

    async def GetWorker(self, request: pb.GetWorkerRequest, tenant: str) -> Message:
        """One worker."""
        del tenant
        worker = await workers.get_worker(self._parts, request.worker_id)
        return pb.GetWorkerResponse(worker=self._shown(worker))

    async def ListWorkers(self, request: pb.ListWorkersRequest, tenant: str) -> Message:
        """Workers by id."""
        page, after = await workers.list_workers(
            self._parts,
            limit=tokens.page_limit(request.page_size),
            after=tokens.decode(request, tenant) or "",
        )
        return pb.ListWorkersResponse(
            workers=map(self._shown, page),
            next_page_token=tokens.encode(request, tenant, after),
        )

    def _shown(self, worker: Worker) -> pb.Worker:
        return wire.worker_message(self._leases.quiet.judged(worker, self._parts.clock.now()))
