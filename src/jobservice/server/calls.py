"""Every call passes here: its request id, its deadline, its log context, its errors.

gRPC's own interceptors cost a coroutine a call and see no typed errors, so the handlers are wrapped
once, when they are registered.
"""

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import grpc
import structlog
from google.protobuf.message import Message

from jobservice import __version__
from jobservice.errors import (
    DeadlineExceeded,
    Draining,
    Internal,
    JobServiceError,
    LimitExceeded,
)
from jobservice.model.spec import DEFAULT_TENANT
from jobservice.telemetry import REQUEST_ID, TENANT, Logger
from jobservice.wire.status import status_trailers, to_status
from jobservice.wire.validate import validate

Context = grpc.aio.ServicerContext[Any, Any]
Unary = Callable[[Any, str], Awaitable[Message]]
"""A handler: request and tenant in, response out."""
Streaming = Callable[[Any, str], AsyncIterator[Message]]

REQUEST_ID_KEY = "x-request-id"
REQUEST_ID_LENGTH = 128
VERSION_KEY = "x-jobservice-version"


class Calls:
    """Wraps the handlers of the services."""

    def __init__(self, log: Logger, *, wait_s: float, max_streams: int) -> None:
        self._log = log
        self._wait_s = wait_s
        self._max_streams = max_streams
        self._streams = 0
        self._long: set[asyncio.Task[Any]] = set()
        self._draining = False

    def unary(self, handler: Unary) -> Any:
        """A call that waits for the store alone, whose own deadline is its time limit."""

        async def call(request: Message, context: Context) -> Message:
            request_id = _begin(context)
            try:
                validate(request)
                return await handler(request, DEFAULT_TENANT)
            except Exception as error:  # noqa: BLE001 - the one place where errors are answered
                await self._refuse(context, request_id, handler, error)

        return call

    def waiting(self, handler: Unary) -> Any:
        """A call that may wait for the end of a process; sent away when the service drains."""

        async def call(request: Message, context: Context) -> Message:
            request_id = _begin(context)
            task = self._enter()
            try:
                validate(request)
                async with asyncio.timeout(self._wait_s):
                    return await handler(request, DEFAULT_TENANT)
            except asyncio.CancelledError:
                await self._send_away(context, request_id, handler)
            except Exception as error:  # noqa: BLE001 - as above
                await self._refuse(context, request_id, handler, error)
            finally:
                self._long.discard(task)

        return call

    def streaming(self, handler: Streaming) -> Any:
        """A server stream, as long as its reader likes; their number is bounded."""

        async def call(request: Message, context: Context) -> AsyncIterator[Message]:
            request_id = _begin(context)
            task = self._enter()
            self._streams += 1
            try:
                validate(request)
                self._check_streams()
                async for response in handler(request, DEFAULT_TENANT):
                    yield response
            except asyncio.CancelledError:
                await self._send_away(context, request_id, handler)
            except Exception as error:  # noqa: BLE001 - as above
                await self._refuse(context, request_id, handler, error)
            finally:
                self._streams -= 1
                self._long.discard(task)

        return call

    def drain(self) -> None:
        """Send away who waits or streams, with UNAVAILABLE, so that they come back elsewhere."""
        self._draining = True
        for task in self._long:
            task.cancel()

    def _enter(self) -> "asyncio.Task[Any]":
        task = asyncio.current_task()
        assert task is not None
        self._long.add(task)
        return task

    def _check_streams(self) -> None:
        if self._streams > self._max_streams:
            raise LimitExceeded(
                f"{self._max_streams} streams are open, which is the limit; close one, or try "
                "again later."
            )

    async def _send_away(
        self, context: Context, request_id: str, handler: Callable[..., object]
    ) -> NoReturn:
        if not self._draining:
            raise asyncio.CancelledError
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
        await self._refuse(context, request_id, handler, Draining())

    async def _refuse(
        self,
        context: Context,
        request_id: str,
        handler: Callable[..., object],
        error: Exception,
    ) -> NoReturn:
        known = self._as_known(request_id, handler, error)
        status = to_status(known, request_id)
        await context.abort(
            grpc.StatusCode[known.code],
            status.message,
            (*status_trailers(status), (REQUEST_ID_KEY, request_id)),
        )
        raise AssertionError  # abort never returns

    def _as_known(
        self, request_id: str, handler: Callable[..., object], error: Exception
    ) -> JobServiceError:
        name = handler.__name__
        match error:
            case JobServiceError():
                self._log.debug("call_refused", method=name, reason=error.reason)
                return error
            case TimeoutError():
                return DeadlineExceeded()
            case grpc.aio.AbortError():
                raise error
            case _:
                self._log.error("call_failed", method=name, exc_info=error)
                return Internal(
                    f"The service has a fault; its log has the details under {request_id}."
                )


_PROCESS = secrets.token_hex(8)
_NUMBERS = itertools.count(1)
"""Ids of calls that bring none: which run of the service, and a number."""


def _begin(context: Context) -> str:
    """The caller's id of the call, else a new one; bound to every log line of the call.

    A caller that names its call finds the name, and the version of the service, in the trailers.
    """
    request_id = ""
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID_KEY and isinstance(value, str):
            request_id = value[:REQUEST_ID_LENGTH]
            context.set_trailing_metadata(
                ((REQUEST_ID_KEY, request_id), (VERSION_KEY, __version__))
            )
    request_id = request_id or f"{_PROCESS}-{next(_NUMBERS)}"
    structlog.contextvars.bind_contextvars(**{REQUEST_ID: request_id, TENANT: DEFAULT_TENANT})
    return request_id
