"""Several servers on one database: one leads, another takes over, and what was due is done once."""

import itertools
import json
import os
import signal
from collections.abc import Callable, Iterator

import pytest

from jobservice import Client
from jobservice.model.schedule import Outcome, Overlap, Run
from jobservice.testing.server import Server
from jobservice.testing.wait import wait_until
from tests.integration.conftest import fresh_database, short_directory, tidy

LEASE_S = 1.0
Start = Callable[..., list[Server]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts servers on one database."""
    [url] = databases = list(itertools.islice(made := fresh_database("postgres"), 1))
    folders = [short_directory() for _ in range(3)]
    servers: list[Server] = []
    assert databases

    def begin(count: int, lease_s: float = LEASE_S) -> list[Server]:
        env = {"JOBSERVICE_LEADER_LEASE_S": str(lease_s)}
        new = [Server(next(each), "--slots", "0", env=env, database=url) for each in folders]
        servers.extend(each.start() for each in new[:count])
        return servers

    yield begin
    for server in servers:
        tidy(server)
    for used in (*folders, made):
        next(used, None)


def led(server: Server) -> list[dict[str, object]]:
    """What a server says of its leads."""
    lines = server.log_path.read_text().splitlines()
    told = [json.loads(line) for line in lines if line.startswith("{")]
    return [each for each in told if each["event"] in {"leads", "leads_no_more"}]


def leads(server: Server) -> bool:
    said = led(server)
    return bool(said) and said[-1]["event"] == "leads"


def leader(servers: list[Server]) -> Server:
    [found, *_] = wait_until(lambda: list(filter(leads, servers)), what="a leader")
    return found


def fired(client: Client) -> list[Run]:
    return [each for each in client.schedules.runs("s") if each.outcome is Outcome.FIRED]


def check_once(client: Client) -> None:
    """Every second has fired since the first, each once, with one job."""
    client.schedules.pause("s")
    runs = fired(client)
    nominal = sorted(each.nominal_at for each in runs)
    assert len(set(nominal)) == len(nominal) == len({each.job_id for each in runs})
    assert len(list(client.list(filter="schedule = s"))) == len(nominal)


def more_fires(client: Client, than: int = 0) -> int:
    return wait_until(lambda: max(len(fired(client)) - than, 0), what="a fire") + than


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "frozen", "stopped"])
@pytest.mark.parametrize("count", [2, 3])
def test_another_leads_and_schedules_fire_once(start: Start, how: str, count: int) -> None:
    servers = start(count)
    first = leader(servers)
    others = [each for each in servers if each is not first]
    assert not any(map(leads, others))
    with Client(others[0].unix_address) as client:
        client.schedules.create("s", ["true"], every=1, overlap=Overlap.ALLOW)
        before = more_fires(client)
        if how == "killed":
            first.kill()
        elif how == "frozen":
            os.kill(first.pid, signal.SIGSTOP)
        else:
            assert first.stop() == 0
        second = leader(others)
        before = more_fires(client, before)
        if how == "frozen":
            os.kill(first.pid, signal.SIGCONT)
            wait_until(lambda: not leads(first), what="its end as a leader")
        elif how == "killed":
            first.start()
        more_fires(client, before)
        check_once(client)
    assert leads(second)
    epochs = [each["epoch"] for server in servers for each in led(server) if "why" not in each]
    assert len(set(epochs)) == len(epochs)


def test_who_stops_hands_over_at_once(start: Start) -> None:
    servers = start(2, 600)
    first = leader(servers)
    assert first.stop() == 0
    leader([each for each in servers if each is not first])
    assert led(first)[-1]["why"] == "left"
