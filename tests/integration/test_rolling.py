"""Three servers on one database: any answers any call, and each is restarted without a failed call."""

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from jobservice import Client
from jobservice.errors import NotFound, Unavailable
from jobservice.model.lifecycle import State
from jobservice.testing.server import Server
from jobservice.testing.wait import wait_until
from tests.integration.conftest import fresh_database, short_directory, tidy

T = TypeVar("T")
SEND_S = 60.0
"""How long a call is sent again at most."""


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    folders = [short_directory() for _ in range(3)]
    database = fresh_database("postgres")
    url = next(database)
    made = [Server(next(each), "--slots", "2", database=url).start() for each in folders]
    yield made
    for server in made:
        tidy(server)
    for used in (*folders, database):
        next(used, None)


@pytest.fixture
def clients(servers: list[Server]) -> Iterator[list[Client]]:
    """One for each server; none sends a call again by itself."""
    with contextlib.ExitStack() as stack:
        made = [Client(each.unix_address, patience=0) for each in servers]
        yield [stack.enter_context(each) for each in made]


class Caller:
    """Calls one server after the other, and sends again only what was UNAVAILABLE."""

    def __init__(self, clients: list[Client], first: int) -> None:
        self._clients = itertools.cycle(clients[first:] + clients[:first])
        self.unavailable = 0

    def call(self, act: Callable[[Client], T]) -> T:
        found: list[T] = []

        def sent() -> bool:
            try:
                found.append(act(next(self._clients)))
            except Unavailable:
                self.unavailable += 1
            return bool(found)

        wait_until(sent, timeout_s=SEND_S, what="an answer")
        return found[0]


def test_any_server_answers_for_what_another_was_asked(clients: list[Client]) -> None:
    """And it knows at once what was acknowledged."""
    for first, second, third in itertools.permutations(clients):
        job = first.create(["true"], start_delay=3600)
        assert second.get(job).state is State.SCHEDULED
        edited = second.update(job, name="edited")
        assert third.get(job).spec.name == "edited" == edited.spec.name
        assert [each.job_id for each in first.list(name="edited")][:1] == [job.job_id]
        assert third.cancel(job).state is State.CANCELLED
        assert first.status(job).state is State.CANCELLED
        third.delete(job)
        for client in clients:
            with pytest.raises(NotFound):
                client.get(job)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_call_fails_while_all_are_restarted(
    servers: list[Server], clients: list[Client]
) -> None:
    done = threading.Event()

    def load(number: int) -> list[str]:
        caller, made = Caller(clients, number % 3), []
        for count in itertools.count():
            if done.is_set():
                break
            request_id = f"{number}-{count}"
            job = caller.call(lambda client: client.create(["true"], request_id=request_id))  # noqa: B023
            made.append(job.job_id)
            assert caller.call(lambda client: client.get(job)).job_id == job.job_id  # noqa: B023
            caller.call(lambda client: next(iter(client.list(name="nothing")), None))
            if count % 3 == 0:
                caller.call(lambda client: client.cancel(job))  # noqa: B023
        return made

    with ThreadPoolExecutor(4) as threads:
        loads = [threads.submit(load, number) for number in range(4)]
        for server in servers * 2:
            assert server.stop() == 0
            server.start()
        done.set()
        made = [job_id for each in loads for job_id in each.result()]
    assert len(made) == len(set(made)) > 50
    patient = Caller(clients, 0)
    for job_id in made:
        state = patient.call(lambda client: client.wait(job_id)).state  # noqa: B023
        assert state in {State.SUCCEEDED, State.CANCELLED}
    assert patient.call(lambda client: len(list(client.list()))) == len(made)
