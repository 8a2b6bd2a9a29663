"""The gRPC service of queues: decode, ask the engine, encode."""

import grpc
from google.protobuf.message import Message

from jobservice.engine import queues
from jobservice.engine.cancel import edit_version
from jobservice.engine.parts import Parts
from jobservice.model.queue import Pause, PauseMode
from jobservice.server.calls import Calls
from jobservice.server.handlers import handlers_of
from jobservice.wire import messages as pb
from jobservice.wire import queues as wire
from jobservice.wire import times, tokens


class QueuesService:
    """The RPCs of `jobservice.v1.QueueService`, named as in the proto."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def handlers(self, calls: Calls) -> grpc.GenericRpcHandler:
        """Every method of the service with its wrapper."""
        return handlers_of(pb.QUEUE_SERVICE, self, calls)

    async def CreateQueue(self, request: pb.CreateQueueRequest, tenant: str) -> Message:
        """A queue with rules."""
        queue = await queues.create_queue(self._parts, wire.to_queue(request.queue, tenant))
        return pb.CreateQueueResponse(queue=wire.queue_message(queue))

    async def GetQueue(self, request: pb.GetQueueRequest, tenant: str) -> Message:
        """The rules of a queue."""
        queue = await queues.get_queue(self._parts, tenant, request.name)
        return pb.GetQueueResponse(queue=wire.queue_message(queue))

    async def ListQueues(self, request: pb.ListQueuesRequest, tenant: str) -> Message:
        """Queues by name."""
        page, after = await queues.list_queues(
            self._parts,
            tenant,
            limit=tokens.page_limit(request.page_size),
            after=tokens.decode(request, tenant) or "",
        )
        return pb.ListQueuesResponse(
            queues=map(wire.queue_message, page),
            next_page_token=tokens.encode(request, tenant, after),
        )

    async def UpdateQueue(self, request: pb.UpdateQueueRequest, tenant: str) -> Message:
        """Change rules."""
        queue = await queues.update_queue(
            self._parts,
            tenant,
            request.queue.name,
            wire.to_queue_edits(request),
            edit_version=edit_version(request.queue.etag),
        )
        return pb.UpdateQueueResponse(queue=wire.queue_message(queue))

    async def DeleteQueue(self, request: pb.DeleteQueueRequest, tenant: str) -> Message:
        """Forget the rules."""
        await queues.delete_queue(
            self._parts,
            tenant,
            request.name,
            edit_version=edit_version(request.etag),
            allow_missing=request.allow_missing,
        )
        return pb.DeleteQueueResponse()

    async def PauseQueue(self, request: pb.PauseQueueRequest, tenant: str) -> Message:
        """Stop a queue."""
        pause = Pause(
            PauseMode(request.mode or PauseMode.HOLD),
            self._parts.clock.now(),
            request.reason,
            times.maybe_instant(request, "resume_time"),
        )
        queue = await queues.pause_queue(self._parts, tenant, request.name, pause)
        return pb.PauseQueueResponse(queue=wire.queue_message(queue))

    async def ResumeQueue(self, request: pb.ResumeQueueRequest, tenant: str) -> Message:
        """End the pause."""
        queue = await queues.resume_queue(self._parts, tenant, request.name)
        return pb.ResumeQueueResponse(queue=wire.queue_message(queue))

    async def GetQueueStats(self, request: pb.GetQueueStatsRequest, tenant: str) -> Message:
        """How it moves."""
        stats = await queues.queue_stats(self._parts, tenant, request.name)
        return pb.GetQueueStatsResponse(stats=wire.stats_message(stats))
