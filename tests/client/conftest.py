"""A service for each test, and a client of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobservice import Client
from tests.client.service import Service


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with Service(tmp_path / "data") as running:
        yield running


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service.address) as connected:
        yield connected
