"""Health, as `grpc.health.v1`: who watches it is told that we leave, and then sent away.

The servicer of grpcio lets a Watch go on for ever, and a shutdown would wait for it as for any call in
flight.
"""

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2

LAST_WORD_S = 0.2
"""How long a watcher has to be told NOT_SERVING before its stream ends."""


class Health(health.aio.HealthServicer):  # type: ignore[misc]  # it brings no types
    """Answers Check and Watch."""

    def __init__(self) -> None:
        super().__init__()
        self._watching: set[asyncio.Task[Any]] = set()
        self._leaving = False

    async def Watch(  # noqa: N802 - named as in the proto
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        """The state now and each time that it changes."""
        task = asyncio.current_task()
        assert task is not None
        self._watching.add(task)
        try:
            await super().Watch(request, context)
        except asyncio.CancelledError:
            if not self._leaving:
                raise
            task.uncancel()
            await context.abort(grpc.StatusCode.UNAVAILABLE, "The service is shutting down.")
        finally:
            self._watching.discard(task)

    async def leave(self) -> None:
        """NOT_SERVING from now on; the streams of watchers end soon after they were told."""
        await self.enter_graceful_shutdown()
        asyncio.get_running_loop().call_later(LAST_WORD_S, self._send_away)

    def _send_away(self) -> None:
        self._leaving = True
        for task in self._watching:
            task.cancel()
