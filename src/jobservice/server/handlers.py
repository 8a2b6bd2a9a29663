"""The methods of a service, each with its wrapper and the messages that it takes and gives."""

from collections.abc import Collection
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from jobservice.server.calls import Calls
from jobservice.wire.messages import message_class


def handlers_of(
    service: ServiceDescriptor,
    implementation: object,
    calls: Calls,
    *,
    waiting: Collection[str] = (),
) -> grpc.GenericRpcHandler:
    """The handlers of a service.

    Args:
        service: The service, as the proto has it.
        implementation: An object with a method for each RPC, of the same name.
        calls: What wraps them.
        waiting: The RPCs that may wait for the end of a process.
    """
    methods: dict[str, Any] = {}
    for method in service.methods:
        handler = getattr(implementation, method.name)
        codec: dict[str, Any] = {
            "request_deserializer": message_class(method.input_type).FromString,
            "response_serializer": message_class(method.output_type).SerializeToString,
        }
        if method.server_streaming:
            wrapped = calls.streaming(handler)
            methods[method.name] = grpc.unary_stream_rpc_method_handler(wrapped, **codec)
        else:
            wrap = calls.waiting if method.name in waiting else calls.unary
            methods[method.name] = grpc.unary_unary_rpc_method_handler(wrap(handler), **codec)
    return grpc.method_handlers_generic_handler(service.full_name, methods)
