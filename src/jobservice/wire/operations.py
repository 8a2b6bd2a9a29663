"""Between the messages of operations and the values of the model; see `convert.py`."""

from jobservice.model.filter import parse
from jobservice.model.operation import Action, BulkChange, Operation, OperationState
from jobservice.wire._gen.v1 import operation_service_pb2
from jobservice.wire.times import (
    maybe_instant,
    maybe_timestamp,
    maybe_value,
    timestamp,
    to_instant,
)


def to_change(request: operation_service_pb2.CreateOperationRequest) -> BulkChange:
    """What a request, which was checked, asks to be done."""
    return BulkChange(
        filter=str(parse(request.filter)),
        action=Action(request.action),
        priority=maybe_value(request, "priority"),
        reason=request.reason,
        max_per_second=request.max_per_second,
    )


def count_message(tenant: str, asked: BulkChange, count: int) -> operation_service_pb2.Operation:
    """An operation that was not begun, with the number of jobs for which its filter holds."""
    return operation_service_pb2.Operation(
        tenant=tenant,
        filter=asked.filter,
        action=int(asked.action),  # type: ignore[arg-type]  # the numbers are the same
        priority=asked.priority,
        reason=asked.reason,
        max_per_second=asked.max_per_second,
        matched_count=count,
    )


def operation_message(operation: Operation) -> operation_service_pb2.Operation:
    """An operation as the wire has it."""
    message = count_message(operation.tenant, operation.change, operation.matched_count)
    message.operation_id = operation.operation_id
    message.state = int(operation.state)  # type: ignore[assignment]  # the numbers are the same
    message.done_count = operation.done_count
    message.skipped_count = operation.skipped_count
    message.failed_count = operation.failed_count
    message.create_time.CopyFrom(timestamp(operation.created_at))
    message.update_time.CopyFrom(timestamp(operation.updated_at))
    end_time = maybe_timestamp(operation.ended_at)
    if end_time is not None:
        message.end_time.CopyFrom(end_time)
    return message


def to_operation(message: operation_service_pb2.Operation) -> Operation:
    """The operation of a message. The wire does not say where it is, nor when it goes on."""
    updated_at = to_instant(message.update_time)
    return Operation(
        tenant=message.tenant,
        operation_id=message.operation_id,
        change=BulkChange(
            filter=message.filter,
            action=Action(message.action),
            priority=maybe_value(message, "priority"),
            reason=message.reason,
            max_per_second=message.max_per_second,
        ),
        created_at=to_instant(message.create_time),
        updated_at=updated_at,
        due_at=updated_at,
        state=OperationState(message.state),
        done_count=message.done_count,
        skipped_count=message.skipped_count,
        failed_count=message.failed_count,
        ended_at=maybe_instant(message, "end_time"),
    )
