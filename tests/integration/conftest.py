"""Real services for the tests; after each test nothing of them may be left."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobservice import Client
from jobservice.testing.server import Server
from jobservice.testing.wait import wait_until

Serve = Callable[..., Server]


def cgroups_of(data_dir: Path) -> list[str]:
    """Control groups that a runner of the data directory left behind."""
    roots = [Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")]
    pid_names = [p for root in roots if root.is_dir() for p in root.rglob("jobservice*")]
    return [str(path) for path in pid_names if path.is_dir() and data_dir.name in str(path)]


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A short path: a socket has to fit into 107 bytes."""
    parent = Path(tempfile.mkdtemp(prefix="js-"))
    yield parent / "data"
    shutil.rmtree(parent)


@pytest.fixture
def serve(data_dir: Path) -> Iterator[Serve]:
    """Makes services on the test's data directory, and sees that nothing of them is left."""
    made: list[Server] = []

    def make(*options: str, tcp: bool = False, env: dict[str, str] | None = None) -> Server:
        server = Server(data_dir, *options, tcp=tcp, env=env)
        made.append(server)
        return server

    yield make
    for server in made:
        server.kill()
    if made:
        tidy(Server(data_dir, "--stop-jobs"))


def tidy(server: Server) -> None:
    """End every job of the data directory, and the service; then look for what is left."""
    with server, Client(server.unix_address) as client:
        for job in list(client.active()):
            client.cancel(job, wait=True)
    wait_until(lambda: not server.leftovers(), what=f"the end of {server.leftovers()}")
    assert cgroups_of(server.data_dir) == []


@pytest.fixture(params=["unix", "tcp"])
def client(request: pytest.FixtureRequest, serve: Serve) -> Iterator[Client]:
    """A client of a service with four slots, over each transport."""
    with serve("--slots", "4", tcp=True) as server:
        address = server.unix_address if request.param == "unix" else server.tcp_address
        with Client(address) as made:
            yield made
