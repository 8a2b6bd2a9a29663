"""One suite for the store port, run over every store."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jobservice.store.port import Store
from jobservice.store.postgres.store import PostgresStore
from jobservice.store.sqlite.store import SqliteStore
from tests.folders import empty_database
from tests.postgres import Postgres


@pytest.fixture(params=["sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, quick_path: Path) -> AsyncIterator[Store]:
    """An empty store of each kind."""
    if request.param == "sqlite":
        path = quick_path / "jobservice.db"
        path.write_bytes(empty_database())
        opened: Store = await SqliteStore.open(path)
        yield opened
        await opened.close()
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = await server.lend()
    opened = await PostgresStore.open(url)
    yield opened
    await opened.close()
    await server.take_back(url)
