"""grpc.health.v1: whether the server, and each of its services, is ready for calls."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

_STATUS = health_pb2.HealthCheckResponse
ALL = ""
"""The name that stands for the server as a whole."""


class HealthService:
    """SERVING from the start to the shutdown.

    The one that comes with gRPC holds a shutdown up for as long as anybody watches; here a watcher
    is told that the service is leaving, and sent away.
    """

    def __init__(self, services: Iterable[str]) -> None:
        self._services = frozenset({ALL, *services})
        self._leaving = asyncio.Event()

    def leave(self) -> None:
        """Not ready any more, for good."""
        self._leaving.set()

    async def Check(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        """The status now."""
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "There is no such service.")
        return self._answer(request.service)

    async def List(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        """The status of every service now."""
        del request, context
        statuses = {name: self._answer(name) for name in self._services}
        return health_pb2.HealthListResponse(statuses=statuses)

    async def Watch(
        self, request: Any, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Any]:
        """The status now and at the end; a name that is unknown stays so."""
        yield self._answer(request.service)
        if not self._leaving.is_set():
            await self._leaving.wait()
            yield self._answer(request.service)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "The service is shutting down.")

    def _answer(self, service: str) -> Any:
        if service not in self._services:
            return _STATUS(status=_STATUS.SERVICE_UNKNOWN)
        leaving = self._leaving.is_set()
        return _STATUS(status=_STATUS.NOT_SERVING if leaving else _STATUS.SERVING)
