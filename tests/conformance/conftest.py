"""One suite for the store port, run over every store."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jobservice.store.port import Store
from jobservice.store.sqlite.store import SqliteStore


@pytest.fixture(params=["sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """An empty store of each kind."""
    assert request.param == "sqlite"
    opened = await SqliteStore.open(tmp_path / "jobservice.db")
    yield opened
    await opened.close()
