"""What holds for every test: its examples, and the PostgreSQL server that it may use."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.folders import folder_in_memory
from tests.postgres import Databases, close_shared, shared_postgres

settings.register_profile(
    "same", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("quick", settings.get_profile("same"), max_examples=25)
settings.register_profile(
    "explore", settings.get_profile("same"), derandomize=False, max_examples=500
)
"""`make test` and, with fewer of them, `make check` try the same examples each time, so that what
passes once passes again; `make explore` tries others each time."""
settings.load_profile("same")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Say what the tests can be told besides."""
    text = "write the files in tests/store/plans anew, with the plans of now"
    parser.addoption("--renew-plans", action="store_true", help=text)


def pytest_unconfigure() -> None:
    """End what the whole run shared."""
    close_shared()


@pytest.fixture
def postgres() -> Databases:
    """A PostgreSQL server, one for each process of the tests."""
    return shared_postgres()


@pytest.fixture
def quick_path() -> Iterator[Path]:
    """A folder of the test's own, as `tmp_path`, but on no disk: for stores that no crash ends."""
    folder = folder_in_memory()
    yield folder
    shutil.rmtree(folder)
