"""Stores on files of a test's own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jobservice.store.sqlite.store import SqliteStore


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
