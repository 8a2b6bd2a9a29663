"""What the service is compared with: a gRPC server on the same stack that does almost nothing.

    bare.py echo ADDRESS     CreateJob answers with the job that it was sent
    bare.py spawn ADDRESS    the same, and starts the job's command by posix_spawn

It has the server options of the service, grpc.aio and uvloop, and prints the address it serves.
"""

import asyncio
import os
import signal
import sys
from typing import Any

import grpc
import uvloop

from jobservice.config import Settings
from jobservice.server.listen import _options
from jobservice.wire import messages as pb
from jobservice.wire.messages import SERVICE

_DEFAULTS = Settings.model_fields


async def echo(request: pb.CreateJobRequest, context: Any) -> pb.CreateJobResponse:
    """Answer with the same job."""
    del context
    return pb.CreateJobResponse(job=request.job)


async def spawn(request: pb.CreateJobRequest, context: Any) -> pb.CreateJobResponse:
    """Start the command; the kernel reaps it."""
    del context
    argv = list(request.job.command.argv)
    os.posix_spawn(argv[0], argv, {})  # noqa: ASYNC221 - it is the call that is measured
    return pb.CreateJobResponse(job=request.job)


async def serve(handler: Any, address: str) -> None:
    """Serve until SIGTERM."""
    server = grpc.aio.server(
        options=_options(_DEFAULTS["max_message_bytes"].default),
        maximum_concurrent_rpcs=_DEFAULTS["max_calls"].default,
    )
    method = grpc.unary_unary_rpc_method_handler(
        handler,
        request_deserializer=pb.CreateJobRequest.FromString,
        response_serializer=pb.CreateJobResponse.SerializeToString,
    )
    handlers = grpc.method_handlers_generic_handler(SERVICE.full_name, {"CreateJob": method})
    server.add_generic_rpc_handlers((handlers,))
    port = server.add_insecure_port(address)
    await server.start()
    served = address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"
    print(served, flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.stop(0)


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    uvloop.run(serve({"echo": echo, "spawn": spawn}[sys.argv[1]], sys.argv[2]))
