"""`kill -9` of the server while clients submit: what was acknowledged is there, and only once."""

import collections
import random
import threading
import time
import uuid
from pathlib import Path

import pytest

from jobservice import Client
from jobservice.model.lifecycle import FINAL, State
from jobservice.testing.server import Server
from jobservice.testing.wait import wait_until
from tests.integration.conftest import Serve
from tests.integration.crash import Crowd, Witness, check_file, job_ids

CLIENTS = 8
ROUNDS = 20
ROUNDS_POSTGRES = 10
"""`tests/chaos` kills servers on PostgreSQL fifty times more."""
BATCH = 3
PROMISES = 10
"""Requests that are acknowledged in each round before the server may be killed."""
LONGEST_ROUND_S = 0.15


class Submitters:
    """Clients that submit without a pause, and all that they were promised."""

    def __init__(self, server: Server, argv: list[str]) -> None:
        self._clients = [Client(server.unix_address, patience=40) for _ in range(CLIENTS)]
        self._argv = argv
        self._lock = threading.Lock()
        self.gate = threading.Event()
        """While it is open, new calls are made; those in flight go on."""
        self.gate.set()
        self.promised: dict[str, list[str]] = {}
        """The ids of the jobs that each acknowledged request made."""

    def step(self, number: int, turn: int) -> None:
        """One create; through a crash the SDK repeats it with the same request_id."""
        assert self.gate.wait(60)
        client, request_id = self._clients[number], uuid.uuid4().hex
        if turn % 2:
            argvs = [self._argv] * BATCH
            jobs = client.create_many(argvs, request_id=request_id, name=request_id)
        else:
            jobs = [client.create(self._argv, request_id=request_id, name=request_id)]
        with self._lock:
            self.promised[request_id] = [job.job_id for job in jobs]

    def job_ids(self) -> set[str]:
        with self._lock:
            return {job_id for job_ids in self.promised.values() for job_id in job_ids}

    def close(self) -> None:
        for client in self._clients:
            client.close()


@pytest.fixture
def chance() -> random.Random:
    """Chance with a seed that a failed test prints."""
    seed = uuid.uuid4().int % 10**9
    print("seed", seed)  # noqa: T201
    return random.Random(seed)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_server_killed_at_random_loses_and_doubles_nothing(
    serve: Serve, database: str | None, chance: random.Random, tmp_path: Path
) -> None:
    witness = Witness(tmp_path / "witness")
    rounds = ROUNDS if database is None else ROUNDS_POSTGRES
    server = serve("--slots", "2").start()
    submitters = Submitters(server, witness.job())
    with Crowd(submitters.step, CLIENTS) as crowd:
        for number in range(rounds):
            before = len(submitters.promised)
            wait_until(lambda n=before + PROMISES: len(submitters.promised) > n)  # type: ignore[misc]
            moment = time.monotonic() + chance.uniform(0, LONGEST_ROUND_S)
            wait_until(lambda at=moment: time.monotonic() >= at)  # type: ignore[misc]
            server.kill()
            submitters.gate.clear()
            promised = submitters.job_ids()
            assert promised <= job_ids(server), "an acknowledged job is gone"
            if number % 5 == 4:
                check_file(server)
            server.start()
            submitters.gate.set()
        crowd.join()
    submitters.close()
    assert len(submitters.promised) > PROMISES * rounds, "too few to say anything"
    check_promises(server, submitters.promised)
    server.kill()
    check_file(server)
    check_runs(server, witness, at_least=rounds)


def found(server: Server) -> dict[str, str]:
    """The name of every job by its id."""
    with Client(server.unix_address) as client:
        return {job.job_id: job.spec.name for job in client.list()}


def check_promises(server: Server, promised: dict[str, list[str]]) -> None:
    """Each request made exactly the jobs that its caller was told, and there are no others."""
    made: dict[str, set[str]] = collections.defaultdict(set)
    for job_id, request_id in found(server).items():
        made[request_id].add(job_id)
    assert made == {request_id: set(job_ids) for request_id, job_ids in promised.items()}


def check_runs(server: Server, witness: Witness, *, at_least: int) -> None:
    """What still waits is cancelled; of the rest each ran as often as it is told."""
    server.start()
    with Client(server.unix_address) as client:
        for job in list(client.active()):
            client.cancel(job)
        wait_until(lambda: not list(client.active()), what="the end of every job")
        jobs = [client.get(job) for job in client.list(states=FINAL)]
    witness.check(jobs)
    ran = [job for job in jobs if job.state is State.SUCCEEDED]
    assert len(ran) > at_least
    assert all((job.attempt_count, job.lost_count) == (1, 0) for job in ran)
