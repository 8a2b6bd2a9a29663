"""Transactions that are held open are found, and named by the server that leads."""

import asyncio
import contextlib
import datetime as dt
import json
import random
from collections.abc import AsyncIterator

import asyncpg
import pytest

from jobservice.engine.lookout import Lookout
from jobservice.engine.parts import Parts, Signals
from jobservice.store.lead_port import Held
from jobservice.store.postgres.store import PostgresStore
from jobservice.testing.clock import JumpClock
from jobservice.testing.server import Server
from jobservice.testing.wait import wait_until
from tests.integration.conftest import fresh_database, short_directory
from tests.postgres import Postgres

AT_ONCE = dt.timedelta(0)
CULPRIT = "a report that never ends"


@pytest.fixture
async def url(postgres: Postgres) -> AsyncIterator[str]:
    lent = await postgres.lend()
    yield lent
    await postgres.take_back(lent)


@contextlib.asynccontextmanager
async def holding(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A session with a transaction that has read, and does nothing more."""
    named = {"application_name": CULPRIT}
    connection = await asyncpg.connect(url, server_settings=named)
    async with connection.transaction(isolation="repeatable_read"):
        await connection.fetchval("SELECT count(*) FROM jobs WHERE name = 'private'")
        yield connection
    await connection.close()


async def found(store: PostgresStore, older: dt.timedelta = AT_ONCE) -> list[Held]:
    """What is held open by others than the store itself."""
    held = await store.list_held_open(older=older)
    return [each for each in held if each.application != "jobservice"]


async def test_a_session_is_told_by_its_process_and_its_state(url: str) -> None:
    store = await PostgresStore.open(url)
    assert await found(store) == []
    async with holding(url) as connection:
        [held] = await found(store)
        assert held.age is not None
        assert held.age > AT_ONCE
        assert (held.kind, held.application, held.state) == (
            "session",
            CULPRIT,
            "idle in transaction",
        )
        assert held.name == str(connection.get_server_pid())
        assert "private" not in repr(held)
        assert await found(store, dt.timedelta(hours=1)) == []
    assert await found(store) == []
    await store.close()


async def test_it_is_named_again_when_it_is_twice_as_old(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = await PostgresStore.open(url)
    parts = Parts(store, JumpClock(), random.Random(0), Signals())
    lookout = Lookout(parts, older_s=1e-6)
    looks = 0
    async with holding(url):
        begin = dt.datetime.now(dt.UTC)
        while dt.datetime.now(dt.UTC) - begin < dt.timedelta(seconds=0.5):
            assert await lookout.look()
            looks += 1
    named = capsys.readouterr().out.count(CULPRIT)
    assert 2 <= named < looks
    assert named < 30  # no more than half a second can be doubled from a microsecond
    await store.close()


def said(server: Server) -> list[dict[str, object]]:
    """What a server has logged of it."""
    lines = server.log_path.read_text().splitlines()
    told = [json.loads(line) for line in lines if line.startswith("{")]
    return [each for each in told if each["event"] == "transaction_held_open"]


async def hold_until_said(url: str, server: Server) -> int:
    """Hold a transaction open until a server says so; returns the process of the session."""
    async with holding(url) as connection:
        await asyncio.to_thread(wait_until, lambda: said(server))
        return int(connection.get_server_pid())


@pytest.mark.slow
def test_the_log_of_the_leader_says_who_it_is() -> None:
    env = {"JOBSERVICE_HELD_OPEN_S": "1"}
    for folder, url in zip(short_directory(), fresh_database("postgres"), strict=True):
        assert url is not None
        server = Server(folder, "--slots", "0", env=env, database=url).start()
        pid = asyncio.run(hold_until_said(url, server))
        wanted = {"name": str(pid), "application": CULPRIT, "state": "idle in transaction"}
        assert wanted.items() <= said(server)[0].items()
        assert "private" not in server.log_path.read_text()
        assert server.stop() == 0
