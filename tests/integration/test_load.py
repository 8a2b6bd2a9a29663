"""Many clients at once on one SQLite file: nothing lost, nothing doubled, never "busy"."""

import asyncio
import collections
import dataclasses
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from jobservice import Client
from jobservice.errors import InvalidTransition, NotFound
from jobservice.model.lifecycle import FINAL, State
from jobservice.store.sqlite.store import SqliteStore
from jobservice.testing.invariants import check_invariants
from jobservice.testing.server import Server
from jobservice.testing.wait import wait_until
from tests.integration.conftest import Serve

CLIENTS, OPERATIONS, OPERATIONS_POSTGRES = 16, 500, 200
SEED = 20_261
CYCLES, CYCLES_POSTGRES = 1_000, 300
BEGINNING = "p0"


@dataclasses.dataclass
class History:
    """What one client did, and must find again."""

    names: dict[str, str] = dataclasses.field(default_factory=dict)
    """Of the jobs that it made and did not delete."""
    cancelled: set[str] = dataclasses.field(default_factory=set)
    deleted: set[str] = dataclasses.field(default_factory=set)
    counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)


class Actor:
    """One client: creates, looks, edits, cancels, retries and deletes at random, its jobs only."""

    def __init__(self, address: str, number: int) -> None:
        self.client = Client(address, patience=0.0)
        self.random = random.Random(SEED + number)
        self.number = number
        self.done = History()

    def run(self, operations: int) -> History:
        actions = {
            self.create: 5,
            self.create_many: 1,
            self.get: 5,
            self.status: 2,
            self.list_some: 1,
            self.update: 2,
            self.cancel: 2,
            self.retry: 1,
            self.delete: 2,
        }
        with self.client:
            for step in range(operations):
                [action] = self.random.choices(list(actions), list(actions.values()))
                action(f"c{self.number}-{step}")
                self.done.counts[action.__name__] += 1
        return self.done

    def create(self, name: str) -> None:
        argv = self.random.choice([["true"], ["false"], ["sh", "-c", "echo $$"]])
        self.done.names[self.client.create(argv, name=name).job_id] = name

    def create_many(self, name: str) -> None:
        made = self.client.create_many([["true"]] * 5, name=name)
        self.done.names |= {job.job_id: name for job in made}

    def get(self, _: str) -> None:
        for job_id in self.one():
            job = self.client.get(job_id)
            assert job.spec.name == self.done.names[job_id]
            if job_id in self.done.cancelled:
                assert job.state in FINAL | {State.STOPPING}

    def status(self, _: str) -> None:
        for job_id in self.one():
            assert self.client.status(job_id).job_id == job_id
        for job_id in list(self.done.deleted)[:1]:
            with pytest.raises(NotFound):
                self.client.status(job_id)

    def list_some(self, _: str) -> None:
        pages = self.client.list(name=f"c{self.number}-*")
        found = [job.job_id for _, job in zip(range(100), pages, strict=False)]
        assert len(found) == len(set(found))
        assert set(found) <= set(self.done.names)

    def update(self, name: str) -> None:
        for job_id in self.one():
            assert self.client.update(job_id, name=name).spec.name == name
            self.done.names[job_id] = name

    def cancel(self, _: str) -> None:
        for job_id in self.one():
            assert self.client.cancel(job_id).state in FINAL | {State.STOPPING}
            self.done.cancelled.add(job_id)

    def retry(self, _: str) -> None:
        for job_id in self.one():
            try:
                self.client.retry(job_id)
                self.done.cancelled.discard(job_id)
            except InvalidTransition:
                assert self.client.get(job_id).job_id == job_id

    def delete(self, _: str) -> None:
        for job_id in self.one():
            self.client.delete(job_id)
            del self.done.names[job_id]
            self.done.deleted.add(job_id)

    def one(self) -> list[str]:
        """One of its jobs, or none."""
        return [self.random.choice(list(self.done.names))] if self.done.names else []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_sixteen_clients_find_again_all_that_they_did(serve: Serve, database: str | None) -> None:
    operations = OPERATIONS if database is None else OPERATIONS_POSTGRES
    server = serve("--slots", "8").start()
    with ThreadPoolExecutor(CLIENTS) as threads:
        actors = [Actor(server.unix_address, number) for number in range(CLIENTS)]
        histories = list(threads.map(lambda actor: actor.run(operations), actors))
    expected = {job_id: name for each in histories for job_id, name in each.names.items()}
    deleted = {job_id for each in histories for job_id in each.deleted}
    assert sum(sum(each.counts.values()) for each in histories) == CLIENTS * operations
    assert deleted
    assert not deleted & set(expected)
    with Client(server.unix_address) as client:
        wait_until(lambda: not list(client.active()), timeout_s=120, what="the end of all jobs")
        found = [(job.job_id, job.spec.name) for job in client.list()]
    assert len(found) == len(expected)
    assert dict(found) == expected
    server.stop()
    check_rows(server, len(expected))


def check_rows(server: Server, jobs: int) -> None:
    """The file at rest keeps every promise, and there is a directory for no other job."""

    async def check() -> None:
        store = await SqliteStore.open(server.data_dir / "jobservice.db")
        await check_invariants(store, beginning=BEGINNING)
        await store.close()

    asyncio.run(check())
    directories = {path.name.partition("-")[0] for path in attempts(server)}
    assert len(directories) <= jobs


def attempts(server: Server) -> list[Path]:
    return list((server.data_dir / "attempts").glob("*/*"))


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_rapid_creates_and_deletes_leave_nothing(serve: Serve, database: str | None) -> None:
    cycles = CYCLES if database is None else CYCLES_POSTGRES
    server = serve("--slots", "4").start()
    process = psutil.Process(server.pid)

    def cycle(number: int) -> None:
        argv = ["sleep", "60"] if number % 3 == 0 else ["sh", "-c", "echo x; exit 3"]
        client.delete(client.create(argv, stop_grace=0.5))

    with Client(server.unix_address) as client, ThreadPoolExecutor(8) as threads:
        list(threads.map(cycle, range(100)))
        descriptors = process.num_fds()
        list(threads.map(cycle, range(cycles)))
        assert list(client.list()) == []
        assert process.num_fds() <= descriptors + 8
        assert server.job_processes() == []
    assert attempts(server) == []
    server.stop()
    check_rows(server, 0)
