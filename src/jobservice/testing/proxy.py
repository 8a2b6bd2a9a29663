"""A network that fails on request: stands between two parties, and cuts, delays, throttles, swallows.

It listens on TCP or a Unix socket and passes bytes on to another address. What it does at the moment is
one value, `trouble`, which may be changed from any thread and holds at once for all connections.
"""

import asyncio
import contextlib
import dataclasses
import threading
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PIECE_BYTES = 16 << 10
START_S = 10.0


@dataclasses.dataclass(frozen=True, slots=True)
class Trouble:
    """What the network does to what passes."""

    refuses: bool = False
    """New connections are closed at once."""
    delay_s: float = 0.0
    """How much later each piece arrives."""
    bytes_a_second: int = 0
    """Not faster than this; 0 is without a limit."""
    swallows_requests: bool = False
    """What the one who connected says never arrives, and nobody is told."""
    swallows_answers: bool = False
    """The same of what the other says."""


CALM = Trouble()
BLACK_HOLE = Trouble(swallows_requests=True, swallows_answers=True)


class Proxy:
    """Passes connections on; for a `with` block.

    Args:
        target: `host:port`, or `unix:/path`, to which every connection is passed on.
        path: The Unix socket to listen on; left out, a port of loopback.
    """

    def __init__(self, target: str, *, path: Path | None = None) -> None:
        self._target = target
        self._path = path
        self._trouble = CALM
        self._changed = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        """Where it listens."""
        if self._path is not None:
            return f"unix:{self._path}"
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    @property
    def trouble(self) -> Trouble:
        """What it does at the moment."""
        return self._trouble

    def set(self, trouble: Trouble) -> None:
        """From now on do this."""
        self._do(self._set(trouble))

    def cut(self) -> int:
        """Break every connection there is; returns how many."""
        found: int = self._do(self._cut())
        return found

    async def _set(self, trouble: Trouble) -> None:
        self._trouble = trouble
        self._changed.set()
        self._changed = asyncio.Event()

    async def _cut(self) -> int:
        for writer in list(self._writers):
            with contextlib.suppress(RuntimeError):
                writer.transport.abort()
        return len(self._writers) // 2

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._do(self._listen())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(START_S)

    async def _listen(self) -> asyncio.Server:
        if self._path is not None:
            return await asyncio.start_unix_server(self._connected, self._path)
        return await asyncio.start_server(self._connected, "127.0.0.1", 0)

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._cut()
        mine = asyncio.current_task()
        others = [each for each in asyncio.all_tasks() if each is not mine]
        for each in others:
            each.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._trouble.refuses:
            writer.transport.abort()
            return
        try:
            other_reader, other = await self._reach()
        except OSError:
            writer.transport.abort()
            return
        both = {writer, other}
        self._writers |= both
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, other, asks=True))
                group.create_task(self._pass(other_reader, writer, asks=False))
        except* (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers -= both
            for each in both:
                each.transport.abort()

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        scheme, _, path = self._target.partition(":")
        if scheme == "unix":
            return await asyncio.open_unix_connection(path)
        host, _, port = self._target.rpartition(":")
        return await asyncio.open_connection(host, int(port))

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, asks: bool
    ) -> None:
        """Pass bytes on in one direction, until either side ends."""
        while data := await reader.read(PIECE_BYTES):
            trouble = self._trouble
            if trouble.swallows_requests if asks else trouble.swallows_answers:
                await self._lose(asks=asks)
            wait_s = trouble.delay_s
            if trouble.bytes_a_second:
                wait_s += len(data) / trouble.bytes_a_second
            if wait_s:
                await self._pause(wait_s)
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError  # and so ends the other direction

    async def _lose(self, *, asks: bool) -> None:
        """Bytes were lost: the connection is of no use any more, and is reset once that can be told."""
        while self._trouble.swallows_requests if asks else self._trouble.swallows_answers:
            await self._changed.wait()
        raise ConnectionResetError

    async def _pause(self, seconds: float) -> None:
        """Wait so long, or until the trouble is another one."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
