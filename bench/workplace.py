"""Where one run of the bench keeps its things, and how much it does."""

import dataclasses
import functools
import time
from collections.abc import Iterator
from pathlib import Path

from bench.profiling import Profiler
from bench.service import Service
from bench.tools import build
from tests.postgres import Postgres

LEAST_ROUNDS = 3
ROUNDS_S = 40.0
"""After so long a row begins no more rounds than it must."""


@dataclasses.dataclass
class Workplace:
    """A directory of this run, and the amounts. Nothing in it is removed before the end."""

    directory: Path
    quick: bool
    profile: bool = False
    _count: int = 0

    def path(self, name: str) -> Path:
        """A path that was not used before."""
        self._count += 1
        return self.directory / f"{self._count}-{name}"

    def amount(self, full: int, quick: int) -> int:
        """How many, in a full or in a quick run."""
        return quick if self.quick else full

    def service(self, *options: str, slots: int = 2, tcp: bool = False) -> Service:
        """A service with data of its own."""
        profiler = Profiler(self.directory) if self.profile else None
        return Service(self.path("data"), *options, slots=slots, tcp=tcp, profiler=profiler)

    def rounds(self, full: int, quick: int) -> Iterator[int]:
        """The rounds of a row; fewer on a slow machine, but never less than `LEAST_ROUNDS`."""
        begin = time.monotonic()
        for number in range(self.amount(full, quick)):
            if number >= LEAST_ROUNDS and time.monotonic() - begin > ROUNDS_S:
                return
            yield number

    @functools.cached_property
    def postgres(self) -> Postgres:
        """A PostgreSQL server, as the tests have it, but that it syncs every commit.

        Its data are beside the directory, which is closed to the user that it runs as.
        """
        return Postgres(self.directory.parent, durable=True)

    def close(self) -> None:
        """End what was begun here."""
        if "postgres" in self.__dict__:
            self.postgres.close()

    @functools.cached_property
    def stamp(self) -> str:
        """The program that jobs run."""
        return build("stamp", self.directory)

    @functools.cached_property
    def spawn_loop(self) -> str:
        """The bare loop that starts them."""
        return build("spawn_loop", self.directory)
