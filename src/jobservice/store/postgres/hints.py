"""Hints between servers on one database: LISTEN and NOTIFY, over a connection of their own.

A server that has committed a change says so to the others, once for all commits of a tenth of a second
and never within a transaction that writes: NOTIFY takes a lock at the commit that all share. What the
others hear is a hint. It may be late or missing, and a poll stands behind each thing that is hinted at.
Behind a pooler that lends sessions for a transaction none comes, unless the database has an address too.

A connection may be deaf: the other end is gone, and nobody says so. So a server that has heard nothing
of its own for a while says something to itself, and takes another connection when that does not come
back.
"""

import asyncio
import contextlib
from collections.abc import Callable

import asyncpg

from jobservice.errors import StoreUnavailable
from jobservice.store.postgres.connect import Connection, connect, is_away, said
from jobservice.telemetry import logger

CHANNEL = "jobservice"
SPACING_S = 0.1
"""Between two notifications of one server."""
CHECK_S = 5.0
"""After so long without a notification of its own a server checks that it hears."""
RETRY_S = 2.0
"""Before another connection is tried. Meanwhile, and where none can be had, whoever waits for a hint is
told so often that there may be one."""
_CHANGED, _LEFT, _CHECK = "changed", "left", "check"


class Hints:
    """Tells other servers of changes, and hears of theirs. All methods belong to the event loop."""

    def __init__(self, url: str | None, *, deadline_s: float, check_s: float = CHECK_S) -> None:
        self._url = url
        self._deadline_s = deadline_s
        self._check_s = check_s
        self._log = logger("store")
        self.callbacks: list[Callable[[], None]] = []
        """Called when another server has changed something, or may have."""
        self.left_callbacks: list[Callable[[], None]] = []
        """Called when another server leads no more."""
        self._changed = asyncio.Event()
        self._left = False
        self._heard = asyncio.Event()
        self._closed = asyncio.Event()
        self._deaf_said = False
        self._task = asyncio.create_task(self._forever())  # noqa: TID251  # `close` awaits it

    def note_commit(self) -> None:
        """A change was committed here."""
        self._changed.set()

    def note_left(self) -> None:
        """This server leads no more."""
        self._left = True
        self._changed.set()

    async def close(self) -> None:
        """Say what is left to say, and let go of the database."""
        self._closed.set()
        self._changed.set()
        await self._task

    async def _forever(self) -> None:
        while not self._closed.is_set():
            try:
                if self._url is not None:
                    await self._listen(self._url)
            except Exception as error:
                if not (
                    is_away(error) or isinstance(error, asyncpg.PostgresError | StoreUnavailable)
                ):
                    raise
                if not self._deaf_said:
                    self._log.warning("hints_lost", error=said(error))
                    self._deaf_said = True
            self.tell()  # what was said was not heard
            await self._pause(RETRY_S)

    async def _listen(self, url: str) -> None:
        """Say and hear over one connection, until it fails."""
        async with asyncio.timeout(self._deadline_s):
            connection = await connect(url, self._deadline_s)
        try:
            own = connection.get_server_pid()

            def hear(_: object, pid: int, channel: str, payload: object) -> None:
                del channel
                if pid == own:
                    self._heard.set()
                elif payload in {_CHANGED, _LEFT}:
                    self.tell()
                    for callback in self.left_callbacks if payload == _LEFT else ():
                        callback()

            await connection.add_listener(CHANNEL, hear)
            await self._say(connection, _CHECK)
            if self._deaf_said:
                self._log.info("hints_back")
                self._deaf_said = False
            self.tell()  # what was said meanwhile was not heard
            while not self._closed.is_set():
                await self._say(connection, await self._next())
                await self._pause(SPACING_S)
            if self._changed.is_set():
                await self._say(connection, await self._next())
        finally:
            connection.terminate()

    async def _next(self) -> str:
        """What there is to say: that something changed, or after a while something to itself."""
        try:
            async with asyncio.timeout(self._check_s):
                await self._changed.wait()
        except TimeoutError:
            return _CHECK
        self._changed.clear()
        left, self._left = self._left, False
        return _LEFT if left else _CHANGED

    async def _say(self, connection: Connection, what: str) -> None:
        """Notify everybody, and wait until it is heard here too.

        Raises:
            StoreUnavailable: this connection is deaf.
        """
        self._heard.clear()
        await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, what)
        try:
            async with asyncio.timeout(self._deadline_s):
                await self._heard.wait()
        except TimeoutError:
            raise StoreUnavailable("notifications do not come back") from None

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()

    def tell(self) -> None:
        """Have everybody who waits for a hint look."""
        for callback in self.callbacks:
            callback()
