"""What is under fire: servers and workers over one store, the network between them, their clocks."""

import asyncio
import contextlib
import os
import random
import signal
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from jobservice.failpoints import VARIABLE
from jobservice.store.port import Store
from jobservice.store.postgres.store import PostgresStore
from jobservice.store.sqlite.store import SqliteStore
from jobservice.testing.proxy import Proxy, Trouble
from jobservice.testing.server import RemoteWorker, Server
from tests.postgres import Postgres

SLOTS = 12
"""Of each server, or of each worker."""
BEGINNING = "p0"
"""The position of a store in which nothing has happened yet."""
SOCKET = ".s.PGSQL.5432"
CLOCK = "JOBSERVICE_TEST_CLOCK"


class Machine:
    """A service with a runner of its own, in a folder of its own."""

    def __init__(self, folder: Path, service: Server) -> None:
        self.folder = folder
        self.service = service

    @property
    def name(self) -> str:
        """As it is called in the records."""
        return self.folder.name

    def spawn(self, failpoint: str = "") -> None:
        """Start the service without waiting, perhaps with a place where it dies."""
        self.service.env.pop(VARIABLE, None)
        if failpoint:
            self.service.env[VARIABLE] = failpoint
        self.service.spawn()

    def is_up(self) -> bool:
        return self.service.process is not None and self.service.process.poll() is None

    def processes(self) -> list[psutil.Process]:
        """The service and its runner, those that live."""
        found = [psutil.Process(self.service.pid)] if self.is_up() else []
        lock = self.service.data_dir / "runner" / "lock"
        with contextlib.suppress(OSError, ValueError, psutil.Error):
            found.append(psutil.Process(int(lock.read_text())))
        return found

    def kill_runner(self) -> bool:
        """SIGKILL its runner, if it has one."""
        lock = self.service.data_dir / "runner" / "lock"
        with contextlib.suppress(OSError, ValueError, psutil.Error):
            process = psutil.Process(int(lock.read_text()))
            if "jobservice.runner" in process.cmdline():
                process.kill()
                return True
        return False


class Host(Machine):
    """A server with its own data directory, the way to it, and its own way to the database."""

    def __init__(self, folder: Path, number: int, database: str | None, slots: int) -> None:
        self.folder = folder / f"h{number}"
        self.folder.mkdir()
        self.clock = self.folder / "clock"
        self.clock.write_bytes(bytes(8))
        self.back = self._way_to(database) if database else None
        self.server = Server(
            self.folder / "d",
            "--slots",
            str(slots),
            env={CLOCK: str(self.clock), "JOBSERVICE_POLL_S": "1"},
            database=self._through_proxy(database) if database else None,
        )
        super().__init__(self.folder, self.server)
        self.front = Proxy(self.server.unix_address, path=self.folder / "front")

    def _way_to(self, database: str) -> Proxy:
        return Proxy(f"unix:{_socket_folder(database)}/{SOCKET}", path=self.folder / SOCKET)

    def _through_proxy(self, database: str) -> str:
        parts = urllib.parse.urlsplit(database)
        return urllib.parse.urlunsplit(parts._replace(query=f"host={self.folder}"))

    def step_clock(self, seconds: float) -> None:
        """How far its wall clock is off, from now on."""
        with self.clock.open("r+b") as file:  # it is mapped by the server: never shorter than this
            file.write(round(seconds * 1_000_000).to_bytes(8, "little", signed=True))


class WorkerHost(Machine):
    """A worker on a host of its own, and its ways to all servers."""

    def __init__(self, folder: Path, number: int, hosts: Sequence[Host]) -> None:
        self.folder = folder / f"hw{number}"
        self.folder.mkdir()
        self.ways = [
            Proxy(host.server.unix_address, path=self.folder / host.folder.name) for host in hosts
        ]
        addresses = [way.address for way in self.ways]
        self.worker = RemoteWorker(self.folder / "d", *addresses, slots=SLOTS)
        super().__init__(self.folder, self.worker)

    def set(self, trouble: Trouble) -> None:
        """What becomes of all that it says and hears."""
        for way in self.ways:
            way.set(trouble)


class Cluster:
    """Hosts over one store, for a `with` block.

    Args:
        folder: Of all that it writes.
        postgres: The store; None is the file of the only host.
        hosts: How many servers there are.
        workers: How many workers on other hosts.
        servers_run: Whether the servers run jobs too.
    """

    def __init__(
        self,
        folder: Path,
        postgres: Postgres | None,
        hosts: int,
        workers: int = 0,
        *,
        servers_run: bool = True,
    ) -> None:
        self.folder = folder
        self.postgres = postgres
        self.database = asyncio.run(postgres.new_database()) if postgres else None
        slots = SLOTS if servers_run else 0
        self.hosts = [Host(folder, number, self.database, slots) for number in range(hosts)]
        self.workers = [WorkerHost(folder, number, self.hosts) for number in range(workers)]
        self.slots = slots * hosts + SLOTS * workers
        """How many attempts may run at once."""

    @property
    def machines(self) -> list[Machine]:
        """Everything that may die, the servers first."""
        return [*self.hosts, *self.workers]

    @property
    def services(self) -> list[Server]:
        """Every process that has a runner."""
        return [each.service for each in self.machines]

    @property
    def addresses(self) -> list[str]:
        """Where clients find it: through the network that fails."""
        return [host.front.address for host in self.hosts]

    @contextlib.contextmanager
    def running(self) -> Iterator["Cluster"]:
        """All of it; at the end no server is left."""
        with contextlib.ExitStack() as stack:
            for host in self.hosts:
                stack.enter_context(host.front)
                if host.back is not None:
                    stack.enter_context(host.back)
            for host in self.hosts:
                stack.callback(host.server.kill)
                host.server.start()
            for each in self.workers:
                for way in each.ways:
                    stack.enter_context(way)
                stack.callback(each.worker.kill)
                each.worker.start()
            yield self

    async def open_store(self) -> Store:
        """What the servers share, once they are down."""
        if self.database is not None:
            return await PostgresStore.open(self.database)
        return await SqliteStore.open(self.hosts[0].server.data_dir / "jobservice.db")

    def backends(self) -> list[psutil.Process]:
        """The sessions of PostgreSQL."""
        if self.postgres is None:
            return []
        found = []
        for each in psutil.Process(self.postgres.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if "test_" in " ".join(each.cmdline()):
                    found.append(each)
        return found


def signal_all(processes: Sequence[psutil.Process], number: int) -> None:
    """Send a signal to those that still live."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


def thaw(processes: Sequence[psutil.Process]) -> None:
    """Let frozen processes go on."""
    signal_all(processes, signal.SIGCONT)


def _socket_folder(database: str) -> str:
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(database).query)
    return query["host"][0]


def new_seed() -> int:
    """A seed that nobody has chosen."""
    return random.SystemRandom().randrange(10**9)


def processes_of(folder: Path) -> list[str]:
    """What still runs on behalf of anything below a folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            about = [*process.cmdline(), *process.environ().values()]
            named = any(str(folder) in each for each in about)
            if named and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {' '.join(process.cmdline())[:200]}")
    return found
