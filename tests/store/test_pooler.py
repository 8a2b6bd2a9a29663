"""PostgreSQL behind a pooler that lends its sessions for a transaction."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from jobservice import Client
from jobservice.errors import SetupError
from jobservice.model.lifecycle import State
from jobservice.store.postgres.migrate import check, current, upgrade
from jobservice.store.postgres.store import PostgresStore
from jobservice.store.postgres.tables import PostgresTables
from jobservice.testing.server import Server
from jobservice.testing.wait import wait_until
from tests.conformance.conftest import POOLER
from tests.conformance.values import insert_some, states
from tests.integration.conftest import short_directory, tidy
from tests.pooler import SESSIONS, Pooler
from tests.postgres import Postgres, shared_postgres

TREE = Path(__file__).parents[2]
SELDOM = {"JOBSERVICE_POLL_S": "600", "JOBSERVICE_LEASE_S": "600"}
"""Whatever happens within the time of a test happens because of a hint."""


@pytest.fixture(scope="module")
def pooler() -> Iterator[Pooler]:
    made = Pooler(shared_postgres())
    yield made
    made.close()


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    """The address of a fresh database itself."""
    made = asyncio.run(postgres.new_database())
    yield made
    asyncio.run(postgres.drop(made))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.xdist_group("suites")
def test_the_whole_suite_of_the_port() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "tests/conformance"],
        cwd=TREE,
        env={**os.environ, POOLER: "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4_000:]


async def test_many_stores_share_a_few_sessions(pooler: Pooler, postgres: Postgres) -> None:
    """Each finds the sessions as another has left them."""
    url = await postgres.new_database()
    stores = [await PostgresStore.open(pooler.url(url)) for _ in range(4)]
    await asyncio.gather(*[insert_some(store, 2) for store in stores for _ in range(20)])
    found = await asyncio.gather(*[states(store) for store in stores for _ in range(5)])
    assert {len(each) for each in found} == {160}
    connection = await asyncpg.connect(url)
    sessions = await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid()"
    )
    await connection.close()
    assert sessions <= SESSIONS
    for store in stores:
        await store.close()
    await postgres.drop(url)


async def test_the_schema_is_made_through_it(pooler: Pooler, postgres: Postgres) -> None:
    connection = await asyncpg.connect(postgres.url())
    await connection.execute("CREATE DATABASE empty_behind_a_pooler")
    url = pooler.url(postgres.url("empty_behind_a_pooler"))
    assert await current(url) == 0
    await asyncio.gather(*[upgrade(url) for _ in range(3)])
    assert (await check(url)).complaints == []
    await connection.execute("DROP DATABASE empty_behind_a_pooler WITH (FORCE)")
    await connection.close()


async def test_who_forgets_to_say_so_is_told(pooler: Pooler, postgres: Postgres) -> None:
    address = pooler.url(postgres.url()).removesuffix("&pool_mode=transaction")
    with pytest.raises(SetupError, match=r"let the address end in \?pool_mode=transaction"):
        await PostgresStore.open(address)


async def test_a_copy_goes_to_the_database_itself(pooler: Pooler, postgres: Postgres) -> None:
    with pytest.raises(SetupError, match="is a pooler"):
        await PostgresTables.open(pooler.url(postgres.url()))


@pytest.mark.slow
@pytest.mark.parametrize("direct", [False, True])
def test_two_services_work_behind_it(pooler: Pooler, url: str, direct: bool) -> None:
    """They hear of each other: at once over the database's own address, else within two seconds."""
    env = {**SELDOM, "JOBSERVICE_DATABASE_DIRECT": url} if direct else SELDOM
    for first, second in zip(short_directory(), short_directory(), strict=True):
        front = Server(first, "--slots", "0", env=env, database=pooler.url(url)).start()
        back = Server(second, "--slots", "2", env=env, database=pooler.url(url)).start()
        with Client(back.unix_address) as there, Client(front.unix_address) as client:
            job = client.create(["true"], start_delay=0.5)
            assert client.wait(job, timeout=30).state is State.SUCCEEDED
            there.schedules.create("s", ["true"], every=1)
            [fired, *_] = wait_until(lambda: list(client.list(filter="schedule = s")))
            there.schedules.delete("s")
            assert client.wait(fired, timeout=30).state is State.SUCCEEDED
            client.delete(job)
        assert "hints_lost" not in front.log_tail(1_000)
        front.stop()
        tidy(back)
