"""The gRPC service of operations: decode, ask the engine, encode."""

import grpc
from google.protobuf.message import Message

from jobservice.engine import bulk
from jobservice.engine.parts import Parts
from jobservice.errors import PageTokenInvalid
from jobservice.model.filter import parse
from jobservice.model.ids import is_operation_id
from jobservice.server.calls import Calls
from jobservice.server.handlers import handlers_of
from jobservice.store.operation_port import OperationKey
from jobservice.wire import messages as pb
from jobservice.wire import tokens
from jobservice.wire.operations import count_message, operation_message, to_change


class OperationsService:
    """The RPCs of `jobservice.v1.OperationService`, named as in the proto."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def handlers(self, calls: Calls) -> grpc.GenericRpcHandler:
        """Every method of the service with its wrapper."""
        return handlers_of(pb.OPERATION_SERVICE, self, calls)

    async def CreateOperation(self, request: pb.CreateOperationRequest, tenant: str) -> Message:
        """Begin it, or only count."""
        asked = to_change(request)
        if request.validate_only:
            found = await bulk.count(self._parts, tenant, parse(asked.filter))
            return pb.CreateOperationResponse(
                operation=count_message(tenant, asked, found.count), is_at_least=found.is_at_least
            )
        begun = await bulk.begin(self._parts, tenant, asked, request.request_id)
        return pb.CreateOperationResponse(operation=operation_message(begun))

    async def GetOperation(self, request: pb.GetOperationRequest, tenant: str) -> Message:
        """How far it is."""
        found = await bulk.get(self._parts, OperationKey(tenant, request.operation_id))
        return pb.GetOperationResponse(operation=operation_message(found))

    async def ListOperations(self, request: pb.ListOperationsRequest, tenant: str) -> Message:
        """Newest first."""
        behind = tokens.decode(request, tenant)
        if behind is not None and not is_operation_id(behind):
            raise PageTokenInvalid
        limit = tokens.page_limit(request.page_size)
        page = await bulk.list_(self._parts, tenant, behind=behind, limit=limit)
        return pb.ListOperationsResponse(
            operations=[operation_message(each) for each in page.operations],
            next_page_token=tokens.encode(request, tenant, page.behind),
        )

    async def CancelOperation(self, request: pb.CancelOperationRequest, tenant: str) -> Message:
        """End it where it is."""
        ended = await bulk.cancel(self._parts, OperationKey(tenant, request.operation_id))
        return pb.CancelOperationResponse(operation=operation_message(ended))
