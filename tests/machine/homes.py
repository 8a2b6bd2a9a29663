"""Where the stores of the machines live: each example has a fresh one, which can be opened again."""

import asyncio
import shutil
from typing import Protocol

from jobservice.store.port import Store
from jobservice.store.postgres.store import PostgresStore
from jobservice.store.sqlite.store import SqliteStore
from tests.folders import folder_in_memory
from tests.postgres import shared_postgres


class Home(Protocol):
    """A place for one store."""

    def __init__(self, runner: asyncio.Runner) -> None: ...

    def open(self) -> Store:
        """The store, as a server that starts opens it."""

    def remove(self) -> None:
        """Leave nothing behind."""


class SqliteHome(Home):
    """A file; without a disk beneath it a step takes a tenth of the time."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._folder = folder_in_memory()

    def open(self) -> Store:
        return self._runner.run(SqliteStore.open(self._folder / "jobs.db"))

    def remove(self) -> None:
        shutil.rmtree(self._folder)


class PostgresHome(Home):
    """A database of the server that the process of the tests has."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._url = runner.run(shared_postgres().lend())

    def open(self) -> Store:
        return self._runner.run(PostgresStore.open(self._url))

    def remove(self) -> None:
        self._runner.run(shared_postgres().take_back(self._url))
