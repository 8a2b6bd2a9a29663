"""Real services for the tests; after each test nothing of what it ran may be left.

Most tests share a service, one that runs jobs and one that runs none, because a start takes a
second; each finds it empty and leaves it empty. A test that stops, kills or configures the service
makes its own with `serve`. All of it is run over every store; TCP with one of them is enough.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from jobservice import Client
from jobservice.testing.server import Server
from jobservice.testing.wait import wait_until
from jobservice.wire.stubs import JobServiceStub
from tests.postgres import shared_postgres

Serve = Callable[..., Server]
STORES = ["sqlite", "postgres"]
DELETES_AT_ONCE = 16


def short_directory() -> Iterator[Path]:
    """A short path: a socket has to fit into 107 bytes."""
    parent = Path(tempfile.mkdtemp(prefix="js-"))
    yield parent / parent.name
    shutil.rmtree(parent)


def fresh_database(kind: str) -> Iterator[str | None]:
    """A database of PostgreSQL for as long as it is wanted; None for a file."""
    if kind == "sqlite":
        yield None
        return
    server = shared_postgres()
    url = asyncio.run(server.new_database())
    yield url
    asyncio.run(server.drop(url))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """TCP is the same transport whatever the store is."""
    items[:] = [item for item in items if not {"tcp", "postgres"} <= _parameters(item)]


def _parameters(item: pytest.Item) -> set[object]:
    spec = getattr(item, "callspec", None)
    return {each for each in spec.params.values() if isinstance(each, str)} if spec else set()


@pytest.fixture
def data_dir() -> Iterator[Path]:
    yield from short_directory()


# --- a service of one's own -----------------------------------------------------------------------


@pytest.fixture(params=STORES)
def database(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """A fresh database for a service of one's own; None is the file of its data directory."""
    yield from fresh_database(request.param)


@pytest.fixture
def serve(data_dir: Path, database: str | None) -> Iterator[Serve]:
    """Makes services on the test's data directory, and sees that nothing of them is left."""
    made: list[Server] = []

    def make(*options: str, tcp: bool = False, env: dict[str, str] | None = None) -> Server:
        server = Server(data_dir, *options, tcp=tcp, env=env, database=database)
        made.append(server)
        return server

    yield make
    for server in made[:-1]:
        server.kill()
    if made:
        tidy(made[-1])


def tidy(server: Server) -> None:
    """End every job of the data directory, and the service; then look for what is left."""
    if server.process is None or server.process.poll() is not None:
        server.start()
    with server.stopped_at_the_end(), Client(server.unix_address) as client:
        for job in list(client.active()):
            client.cancel(job, wait=True)
    wait_until(lambda: not server.leftovers(), what=f"the end of {server.leftovers()}")


# --- services that are shared ---------------------------------------------------------------------


def shared(kind: str, *options: str) -> Iterator[Server]:
    for data_dir, database in zip(short_directory(), fresh_database(kind), strict=True):
        server = Server(data_dir, *options, tcp=True, database=database)
        yield server.start()
        tidy(server)


@pytest.fixture(scope="session", params=STORES)
def running_service(request: pytest.FixtureRequest) -> Iterator[Server]:
    yield from shared(request.param, "--slots", "4")


@pytest.fixture(scope="session", params=STORES)
def idle_service(request: pytest.FixtureRequest) -> Iterator[Server]:
    yield from shared(request.param, "--slots", "0")


def empty(server: Server) -> Iterator[Server]:
    """The service for one test: alive before and after it, and then without jobs, files, processes."""
    if server.process is None or server.process.poll() is not None:
        server.start()
    yield server
    with Client(server.unix_address) as client, ThreadPoolExecutor(DELETES_AT_ONCE) as threads:
        jobs = [job.job_id for job in client.list()]
        list(threads.map(lambda job_id: client.delete(job_id, allow_missing=True), jobs))
    wait_until(lambda: not server.job_processes(), what="the end of all processes of jobs")
    files = [each for each in (server.data_dir / "attempts").rglob("*") if each.is_file()]
    assert files == []


@pytest.fixture
def service(running_service: Server) -> Iterator[Server]:
    """A service with four slots."""
    yield from empty(running_service)


@pytest.fixture
def idle(idle_service: Server) -> Iterator[Server]:
    """A service without slots: what is created stays QUEUED."""
    yield from empty(idle_service)


@pytest.fixture(params=["unix", "tcp"])
def address(request: pytest.FixtureRequest, service: Server) -> str:
    """Of the service with four slots, over each transport."""
    return service.unix_address if request.param == "unix" else service.tcp_address


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    """The SDK over each transport; jobs run."""
    with Client(address) as made:
        yield made


@pytest.fixture
def local(service: Server) -> Iterator[Client]:
    """The SDK over the Unix socket; jobs run."""
    with Client(service.unix_address) as made:
        yield made


@pytest.fixture
def parked(idle: Server) -> Iterator[Client]:
    """The SDK over the Unix socket; no job ever starts."""
    with Client(idle.unix_address) as made:
        yield made


def connect(address: str) -> Iterator[JobServiceStub]:
    with grpc.insecure_channel(address) as channel:
        yield JobServiceStub(channel)


@pytest.fixture
def stub(address: str) -> Iterator[JobServiceStub]:
    """The bare API over each transport; jobs run."""
    yield from connect(address)


@pytest.fixture(params=["unix", "tcp"])
def idle_stub(request: pytest.FixtureRequest, idle: Server) -> Iterator[JobServiceStub]:
    """The bare API over each transport; no job ever starts."""
    yield from connect(idle.unix_address if request.param == "unix" else idle.tcp_address)
