"""Where the stores of the machines live: each example has a fresh one, which can be opened again.

A home can have the process of its store die. On SQLite that is what `kill -9` leaves: the files as they
are at that instant, copied before the old store goes on with files that nobody looks at again. On
PostgreSQL the connection breaks off.
"""

import asyncio
import contextlib
import enum
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from jobservice.store.port import Store
from jobservice.store.postgres import writer as postgres_writer
from jobservice.store.postgres.store import PostgresStore
from jobservice.store.sqlite import writer as sqlite_writer
from jobservice.store.sqlite.store import SqliteStore
from tests.folders import folder_in_memory
from tests.postgres import LONGEST_S, shared_postgres


class Death(enum.StrEnum):
    """The places where a process dies."""

    BEFORE_COMMIT = "store.before_commit"
    AFTER_COMMIT = "store.after_commit"


class DiedError(Exception):
    """The process is gone; whoever called has no answer."""


class Home(Protocol):
    """A place for one store."""

    def __init__(self, runner: asyncio.Runner) -> None: ...

    def open(self) -> Store:
        """The store, as a server that starts opens it."""

    def dying(self, store: Store, death: Death) -> contextlib.AbstractContextManager[None]:
        """Have the process die at this place of the next commit; `leave` is what remains of it."""

    def leave(self, store: Store) -> None:
        """Let go of a store whose process is dead."""

    def remove(self) -> None:
        """Leave nothing behind."""


class SqliteHome(Home):
    """A file; without a disk beneath it a step takes a tenth of the time."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._folder = self._remains = folder_in_memory()

    def open(self) -> Store:
        return self._runner.run(SqliteStore.open(self._folder / "jobs.db"))

    @contextlib.contextmanager
    def dying(self, store: Store, death: Death) -> Iterator[None]:
        def reach(name: str) -> None:
            if name == death and self._remains == self._folder:
                self._remains = self._copied()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sqlite_writer, "failpoint", reach)
            yield

    def _copied(self) -> Path:
        """The files as they are now. What SQLite shares in memory is worked out anew from them."""
        copy = folder_in_memory()
        for name in ("jobs.db", "jobs.db-wal"):
            shutil.copyfile(self._folder / name, copy / name)
        return copy

    def leave(self, store: Store) -> None:
        if self._remains == self._folder:
            self._remains = self._copied()
        self._runner.run(store.close())
        shutil.rmtree(self._folder)
        self._folder = self._remains

    def remove(self) -> None:
        shutil.rmtree(self._folder)


class PostgresHome(Home):
    """A database of the server that the process of the tests has."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._url = runner.run(shared_postgres().lend())

    def open(self) -> Store:
        return self._runner.run(PostgresStore.open(self._url, deadline_s=LONGEST_S))

    @contextlib.contextmanager
    def dying(self, store: Store, death: Death) -> Iterator[None]:
        def reach(name: str) -> None:
            if name == death is Death.BEFORE_COMMIT:
                self._break_off(store)
                raise DiedError

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(postgres_writer, "failpoint", reach)
            yield

    def _break_off(self, store: Store) -> None:
        assert isinstance(store, PostgresStore)
        writer = store._writer
        assert isinstance(writer, postgres_writer.Writer)
        if writer._connection is not None:
            writer._connection.terminate()

    def leave(self, store: Store) -> None:
        self._break_off(store)
        self._runner.run(store.close())

    def remove(self) -> None:
        self._runner.run(shared_postgres().take_back(self._url))
