"""The gRPC listener: a Unix socket always, TCP when asked, health and reflection.

Beyond loopback TCP is served with TLS alone, to clients that have a certificate.
"""

import ipaddress
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from jobservice.blobs.port import Outputs
from jobservice.config import Settings
from jobservice.engine.claim import Leases
from jobservice.engine.limits import Slots
from jobservice.engine.parts import Parts
from jobservice.engine.watch import ChangeFeed
from jobservice.errors import SetupError
from jobservice.server.calls import Calls
from jobservice.server.health_service import HealthService
from jobservice.server.jobs_service import JobsService
from jobservice.server.limits_service import LimitsService
from jobservice.server.operations_service import OperationsService
from jobservice.server.queues_service import QueuesService
from jobservice.server.schedules_service import SchedulesService
from jobservice.server.tls import Certificates, certificates
from jobservice.server.worker_service import WorkerService
from jobservice.telemetry import logger
from jobservice.wire.messages import SERVICES

SERVICE_NAMES = tuple(service.full_name for service in SERVICES)
KEEPALIVE_MS = 30_000
KEEPALIVE_TIMEOUT_MS = 10_000
PINGS_EVERY_MS = 15_000
"""How often a client may ping; its own keepalive must not be shorter."""
CONCURRENT_STREAMS = 1000
"""Calls in flight on one connection."""
METADATA_BYTES = 16 * 1024
REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"


class Listener:
    """Serves the API until it is stopped."""

    def __init__(
        self,
        settings: Settings,
        parts: Parts,
        feed: ChangeFeed,
        outputs: Outputs,
        leases: Leases,
        *,
        worker_id: str,
    ) -> None:
        self._settings = settings
        self._calls = Calls(
            logger("calls"),
            wait_s=settings.wait_timeout_s,
            max_streams=settings.max_streams,
        )
        self._services: tuple[
            JobsService
            | SchedulesService
            | OperationsService
            | QueuesService
            | LimitsService
            | WorkerService,
            ...,
        ] = (
            JobsService(parts, feed, outputs),
            SchedulesService(parts),
            OperationsService(parts),
            QueuesService(parts),
            LimitsService(parts, Slots(worker_id, settings.slots)),
            WorkerService(parts, leases),
        )
        self._health = HealthService(SERVICE_NAMES)
        self._server: grpc.aio.Server | None = None

    async def start(self) -> list[str]:
        """Bind and serve; returns the addresses, the Unix socket first.

        Raises:
            SetupError: an address cannot be bound, is not on loopback and without TLS, or a file
                of TLS cannot be used.
        """
        server = grpc.aio.server(
            options=_options(self._settings.max_message_bytes),
            maximum_concurrent_rpcs=self._settings.max_calls,
        )
        handlers = tuple(each.handlers(self._calls) for each in self._services)
        server.add_generic_rpc_handlers(handlers)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        _reflect(server)
        addresses = [_bind(server, f"unix:{self._settings.socket_path}")]
        if self._settings.listen is not None:
            addresses.append(_bind_tcp(server, self._settings.listen, certificates(self._settings)))
        await server.start()
        self._server = server
        return addresses

    async def stop(self, grace_s: float) -> None:
        """Not ready any more, accept nothing new, give calls in flight `grace_s` to end."""
        if self._server is not None:
            self._health.leave()
            self._calls.drain()
            await self._server.stop(grace_s)


def _options(max_message_bytes: int) -> list[tuple[str, Any]]:
    return [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", CONCURRENT_STREAMS),
        ("grpc.max_metadata_size", METADATA_BYTES),
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", PINGS_EVERY_MS),
    ]


def _bind(server: grpc.aio.Server, address: str, tls: Certificates | None = None) -> str:
    try:
        if tls is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, tls.credentials())
    except RuntimeError as error:
        raise SetupError(f"{address} cannot be listened on: it is in use, or not ours.") from error
    if address.startswith("unix:"):
        return address
    return f"{address.rpartition(':')[0]}:{port}"


def _bind_tcp(server: grpc.aio.Server, address: str, tls: Certificates | None) -> str:
    host = address.rpartition(":")[0]
    if tls is None and not _is_loopback(host):
        raise SetupError(
            f"--listen {address} is not on loopback, where everybody may connect; give --tls-cert, "
            "--tls-key and --tls-ca, or use 127.0.0.1, [::1] or localhost."
        )
    return _bind(server, address, tls)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _reflect(server: grpc.aio.Server) -> None:
    """Reflection as v1alpha and as v1, which grpcio does not ship; their messages are the same."""
    names = (*SERVICE_NAMES, health.SERVICE_NAME, reflection.SERVICE_NAME)
    servicer = reflection.aio.ReflectionServicer(names)
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        tuple(
            grpc.method_handlers_generic_handler(service, {"ServerReflectionInfo": method})
            for service in (REFLECTION_V1, reflection.SERVICE_NAME)
        )
    )
