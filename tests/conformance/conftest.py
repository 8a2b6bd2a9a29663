"""One suite for the store port, run over every store.

With JOBSERVICE_TEST_POOLER it is run over PostgreSQL behind a pooler instead; see
`tests/store/test_pooler.py`.
"""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from jobservice.store.port import Store
from jobservice.store.postgres.store import PostgresStore
from jobservice.store.sqlite.store import SqliteStore
from tests.folders import empty_database
from tests.pooler import Pooler
from tests.postgres import LONGEST_S, Databases, shared_postgres

POOLER = "JOBSERVICE_TEST_POOLER"


@pytest.fixture(scope="session")
def pooler() -> Iterator[Pooler]:
    """A pooler before the PostgreSQL server of this process."""
    made = Pooler(shared_postgres())
    yield made
    made.close()


@pytest.fixture(params=["pooler"] if POOLER in os.environ else ["sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, quick_path: Path) -> AsyncIterator[Store]:
    """An empty store of each kind."""
    if request.param == "sqlite":
        path = quick_path / "jobservice.db"
        path.write_bytes(empty_database())
        opened: Store = await SqliteStore.open(path)
        yield opened
        await opened.close()
        return
    server: Databases = request.getfixturevalue("postgres")
    url = await server.lend()
    through = url
    if request.param == "pooler":
        through = request.getfixturevalue("pooler").url(url)
    opened = await PostgresStore.open(through, deadline_s=LONGEST_S)
    yield opened
    await opened.close()
    await server.take_back(url)
