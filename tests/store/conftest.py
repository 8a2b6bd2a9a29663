"""Stores on files of a test's own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jobservice.store.postgres.store import PostgresStore
from jobservice.store.sqlite.store import SqliteStore
from tests.postgres import Postgres


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is, or will be."""
    return tmp_path / "jobservice.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    """An empty store."""
    opened = await SqliteStore.open(path)
    yield opened
    await opened.close()


@pytest.fixture
async def postgres_store(postgres: Postgres) -> AsyncIterator[PostgresStore]:
    """An empty store on PostgreSQL."""
    url = await postgres.lend()
    opened = await PostgresStore.open(url)
    yield opened
    await opened.close()
    await postgres.take_back(url)
