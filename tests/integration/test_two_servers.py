"""Two servers on one database: what one is asked for the other does at once, without a poll."""

import subprocess
from collections.abc import Iterator

import pytest

from jobservice import Client
from jobservice.model.event import Event, EventKind
from jobservice.model.lifecycle import State
from jobservice.testing.server import Server
from tests.integration.bare import SLEEP, running
from tests.integration.conftest import fresh_database, short_directory, tidy
from tests.integration.remote import logged

SELDOM = {"JOBSERVICE_POLL_S": "600", "JOBSERVICE_LEASE_S": "600"}
"""Whatever happens within the time of a test happens because of a hint."""


@pytest.fixture
def servers() -> Iterator[tuple[Server, Server]]:
    """One that runs nothing, and one that does."""
    directories = zip(short_directory(), short_directory(), fresh_database("postgres"), strict=True)
    for first, second, url in directories:
        front = Server(first, "--slots", "0", env=SELDOM, database=url).start()
        back = Server(second, "--slots", "2", env=SELDOM, database=url).start()
        yield front, back
        front.stop()
        tidy(back)


def test_a_job_that_one_accepts_the_other_runs(servers: tuple[Server, Server]) -> None:
    front, _ = servers
    with Client(front.unix_address) as client:
        job = client.create(["true"])
        assert client.wait(job, timeout=30).state is State.SUCCEEDED
        array = client.create(["true"], array=5)
        assert client.wait(array, timeout=30).state is State.SUCCEEDED


def test_a_cancel_at_one_stops_what_runs_at_the_other(servers: tuple[Server, Server]) -> None:
    front, back = servers
    with Client(front.unix_address) as client, Client(back.unix_address) as there:
        job = running(there, client.create(SLEEP))
        assert client.cancel(job, wait=True).state is State.CANCELLED


def test_a_watch_at_one_hears_what_the_other_does(servers: tuple[Server, Server]) -> None:
    front, back = servers
    with Client(front.unix_address) as client, Client(back.unix_address) as there:
        job = client.create(["true"], start_delay=3_600)
        watching = client.watch(jobs=[job])
        next(watching)  # as it is now
        there.update(job, start_after=None)
        told = [each.kind for each in watching if isinstance(each, Event)]
    assert (told[0], told[-1]) == (EventKind.UPDATED, EventKind.SUCCEEDED)


def test_one_with_the_data_directory_of_the_other_runs_nothing(
    servers: tuple[Server, Server],
) -> None:
    _, back = servers
    with Client(back.unix_address) as client:
        job = running(client, client.create(SLEEP))
        for copy in copy_of(back, slots=2):
            logged(copy, "worker_waits")
            with Client(copy.unix_address) as there:
                assert there.get(job).state is State.RUNNING
        assert (client.get(job).state, client.get(job).attempt_count) == (State.RUNNING, 1)
        assert client.wait(client.create(["true"]), timeout=30).state is State.SUCCEEDED
        assert client.cancel(job, wait=True).state is State.CANCELLED


def test_one_with_the_data_directory_of_who_leads_does_not_lead(
    servers: tuple[Server, Server],
) -> None:
    front, _ = servers
    logged(front, "leads")
    for copy in copy_of(front, slots=0):
        with Client(copy.unix_address) as client:
            assert client.wait(client.create(["true"]), timeout=30).state is State.SUCCEEDED
        assert not list(copy.said("leads"))


def copy_of(server: Server, *, slots: int) -> Iterator[Server]:
    """One with a copy of the data directory, on the same database."""
    for directory in short_directory():
        subprocess.run(["cp", "-a", f"{server.data_dir}/.", directory], check=True)
        copy = Server(directory, "--slots", str(slots), env=SELDOM, database=server.database)
        yield copy.start()
        copy.stop()


def test_a_schedule_that_one_makes_the_other_fires(servers: tuple[Server, Server]) -> None:
    front, back = servers
    front.stop()
    with Client(back.unix_address) as client:
        client.schedules.create("s", ["true"], every=1)
        wanted = client.list(filter="schedule = s")
        while not (found := list(wanted)):
            wanted = client.list(filter="schedule = s")
        client.schedules.delete("s")
        client.wait(found[0], timeout=30)
    front.start()
