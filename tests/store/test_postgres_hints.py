"""What servers on one database tell each other, and how they notice that they hear nothing."""

import asyncio
import contextlib
import urllib.parse
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from jobservice.store.postgres.hints import Hints
from jobservice.store.postgres.store import PostgresStore
from tests.conformance.values import insert_some
from tests.folders import folder_in_memory
from tests.postgres import Databases

CHECK_S = 0.2


@pytest.fixture
async def url(postgres: Databases) -> AsyncIterator[str]:
    lent = await postgres.lend()
    yield lent
    await postgres.take_back(lent)


class Ear:
    """Counts what is heard, and waits for it."""

    def __init__(self) -> None:
        self.count = 0
        self._news = asyncio.Event()

    def hear(self) -> None:
        self.count += 1
        self._news.set()

    async def until(self, count: int) -> None:
        while self.count < count:
            self._news.clear()
            await self._news.wait()


@contextlib.asynccontextmanager
async def hearing(url: str) -> AsyncIterator[tuple[Hints, Ear]]:
    """Hints over a connection that is there, as the first call says."""
    hints, ear = Hints(url, deadline_s=1.0, check_s=CHECK_S), Ear()
    hints.callbacks.append(ear.hear)
    await ear.until(1)
    yield hints, ear
    await hints.close()


async def sessions(url: str) -> list[int]:
    """The sessions that listen, by their process."""
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND query LIKE '%pg_notify%' AND pid <> pg_backend_pid()"
    )
    await connection.close()
    return [pid for (pid,) in rows]


async def test_the_others_hear_of_a_commit_and_who_made_it_does_not(url: str) -> None:
    one, other = [await PostgresStore.open(url) for _ in range(2)]
    try:
        here, there = Ear(), Ear()
        one.on_hint(here.hear)
        other.on_hint(there.hear)
        for store, ear in ((one, there), (other, here)):  # who is not up yet hears when it is
            await insert_some(store)
            await ear.until(1)
        for _ in range(5):
            await insert_some(one)
            await there.until(there.count + 1)
        assert here.count <= 2  # that it is up, and the commit of the other
    finally:
        await one.close()
        await other.close()


async def test_many_commits_are_told_together(url: str) -> None:
    async with hearing(url) as (_, ear), hearing(url) as (sender, _):
        for _ in range(1_000):
            sender.note_commit()
            await asyncio.sleep(0)
        await ear.until(2)
        assert ear.count <= 4


async def test_a_session_that_is_ended_is_made_anew(url: str) -> None:
    async with hearing(url) as (_, ear), hearing(url) as (sender, _):
        connection = await asyncpg.connect(url)
        for pid in await sessions(url):
            await connection.fetchval("SELECT pg_terminate_backend($1)", pid)
        await connection.close()
        await ear.until(2)  # it is back, and looks at everything
        heard = ear.count
        sender.note_commit()
        await ear.until(heard + 1)


class Proxy:
    """Stands between a client and the server; frozen, it passes nothing on and ends nothing."""

    def __init__(self, target: Path, folder: Path) -> None:
        self._target, self._folder = target, folder
        self._flows = asyncio.Event()
        self._flows.set()
        self.connections = 0

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(
            self._accept, self._folder / self._target.name
        )

    async def stop(self) -> None:
        self._flows.set()
        self._server.close()

    def freeze(self) -> None:
        self._flows.clear()

    def thaw(self) -> None:
        """For those who come from now on; what is stuck stays so."""
        self._flows = asyncio.Event()
        self._flows.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        flows = self._flows
        behind = await asyncio.open_unix_connection(self._target)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, behind[1], flows))
                group.create_task(self._pass(behind[0], writer, flows))
        except* ConnectionError:
            pass
        finally:
            for each in (writer, behind[1]):
                each.close()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flows: asyncio.Event
    ) -> None:
        while data := await reader.read(65_536):
            await flows.wait()
            writer.write(data)
            await writer.drain()
        writer.close()


@pytest.fixture
async def proxied(url: str) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy before the database, and the address through it."""
    parts = urllib.parse.urlsplit(url)
    query = dict(urllib.parse.parse_qsl(parts.query))
    folder = folder_in_memory()
    proxy = Proxy(Path(query["host"]) / ".s.PGSQL.5432", folder)
    await proxy.start()
    through = urllib.parse.urlencode({**query, "host": str(folder)})
    yield proxy, urllib.parse.urlunsplit(parts._replace(query=through))
    await proxy.stop()


async def test_one_that_is_deaf_notices_and_hears_again(
    url: str, proxied: tuple[Proxy, str]
) -> None:
    proxy, through = proxied
    async with hearing(through) as (_, ear), hearing(url) as (sender, _):
        proxy.freeze()
        proxy.thaw()
        before = proxy.connections
        while proxy.connections == before:
            await ear.until(ear.count + 1)  # while it is deaf it is told to look
        heard = ear.count
        sender.note_commit()
        await ear.until(heard + 1)
