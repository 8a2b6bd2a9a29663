"""The gRPC service of limits: decode, ask the engine, encode."""

import grpc
from google.protobuf.message import Message

from jobservice.engine import limits
from jobservice.engine.parts import Parts
from jobservice.model.limit import LimitKind
from jobservice.server.calls import Calls
from jobservice.server.handlers import handlers_of
from jobservice.wire import limits as wire
from jobservice.wire import messages as pb
from jobservice.wire import tokens


class LimitsService:
    """The RPCs of `jobservice.v1.LimitService`, named as in the proto."""

    def __init__(self, parts: Parts, slots: limits.Slots) -> None:
        self._parts = parts
        self._slots = slots

    def handlers(self, calls: Calls) -> grpc.GenericRpcHandler:
        """Every method of the service with its wrapper."""
        return handlers_of(pb.LIMIT_SERVICE, self, calls)

    async def SetLimit(self, request: pb.SetLimitRequest, tenant: str) -> Message:
        """In place of the one of that kind and name."""
        use = await limits.set_limit(self._parts, tenant, wire.to_limit(request.limit, tenant))
        return pb.SetLimitResponse(limit=wire.use_message(use))

    async def GetLimit(self, request: pb.GetLimitRequest, tenant: str) -> Message:
        """A limit that was set."""
        kind = LimitKind(request.kind)
        use = await limits.get_limit(self._parts, tenant, kind, request.name)
        return pb.GetLimitResponse(limit=wire.use_message(use))

    async def ListLimits(self, request: pb.ListLimitsRequest, tenant: str) -> Message:
        """Every limit there is."""
        page, after = await limits.list_limits(
            self._parts,
            tenant,
            self._slots,
            limit=tokens.page_limit(request.page_size),
            after=tokens.decode(request, tenant) or "",
        )
        return pb.ListLimitsResponse(
            limits=map(wire.use_message, page),
            next_page_token=tokens.encode(request, tenant, after),
        )

    async def DeleteLimit(self, request: pb.DeleteLimitRequest, tenant: str) -> Message:
        """Forget a limit."""
        await limits.delete_limit(
            self._parts,
            tenant,
            LimitKind(request.kind),
            request.name,
            allow_missing=request.allow_missing,
        )
        return pb.DeleteLimitResponse()
