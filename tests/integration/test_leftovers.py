"""Deletes by another server than the one that ran the job: nothing stays on either host."""

import asyncio
import dataclasses
import os
import signal
from collections.abc import Iterator

import asyncpg
import pytest

from jobservice import Client
from jobservice.failpoints import VARIABLE
from jobservice.model.job import Job
from jobservice.model.lifecycle import State
from jobservice.testing.server import Server
from jobservice.testing.wait import wait_until
from tests.integration.conftest import fresh_database, short_directory, tidy
from tests.integration.test_leader import leader, leads

SELDOM = {"JOBSERVICE_POLL_S": "600", "JOBSERVICE_LEASE_S": "600"}
"""Whatever happens within the time of a test happens because of a hint, or at a start."""


@dataclasses.dataclass
class Pair:
    """Two servers on one database: one that leads and runs nothing, and one that runs jobs."""

    front: Server
    back: Server
    url: str

    def run(self) -> Job:
        """A job that has ended, and has left something in its directory."""
        with Client(self.front.unix_address) as client:
            job = client.wait(client.create(["sh", "-c", "echo x | tee left"]), timeout=30)
        assert job.state is State.SUCCEEDED
        assert len(self.directories(job)) == 1
        return job

    def delete(self, job: Job) -> None:
        assert leads(self.front)
        with Client(self.front.unix_address) as client:
            client.delete(job)

    def directories(self, job: Job) -> list[str]:
        """What is there of a job on the two hosts; a host may be removing it."""
        return [
            f"{place}/{name}"
            for host in (self.front, self.back)
            for place, folders, _ in os.walk(host.data_dir)
            for name in folders
            if name.startswith(job.job_id)
        ]

    def is_noted(self) -> bool:
        """Whether the store knows of something that is left."""
        return asyncio.run(_is_noted(self.url))

    def until_nothing_is_left(self, job: Job) -> None:
        wait_until(lambda: not self.directories(job), what=f"the end of {self.directories(job)}")
        wait_until(lambda: not self.is_noted(), what="the end of what is known of it")


async def _is_noted(url: str) -> bool:
    connection = await asyncpg.connect(url)
    try:
        return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM left_files)"))
    finally:
        await connection.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    folders = zip(short_directory(), short_directory(), fresh_database("postgres"), strict=True)
    for first, second, url in folders:
        assert url is not None
        front = Server(first, "--slots", "0", env=SELDOM, database=url).start()
        leader([front])
        back = Server(second, "--slots", "2", env=SELDOM, database=url).start()
        yield Pair(front, back, url)
        front.stop()
        tidy(back)


def test_a_delete_through_another_server_leaves_no_directory(pair: Pair) -> None:
    job = pair.run()
    pair.delete(job)
    pair.until_nothing_is_left(job)
    assert not any((pair.back.data_dir / "attempts").iterdir())


def test_a_server_that_was_away_removes_what_was_deleted_meanwhile(pair: Pair) -> None:
    job = pair.run()
    assert pair.back.stop() == 0
    pair.delete(job)
    assert pair.is_noted()
    assert pair.directories(job)
    pair.back.start()
    pair.until_nothing_is_left(job)


def test_a_crash_between_the_files_and_what_is_known_of_them_leaves_neither(pair: Pair) -> None:
    job = pair.run()
    assert pair.back.stop() == 0
    pair.delete(job)
    pair.back.env[VARIABLE] = "leftovers.removed"
    pair.back.start(may_end=True)
    assert pair.back.wait() == -signal.SIGKILL
    assert pair.is_noted()
    assert not pair.directories(job)
    del pair.back.env[VARIABLE]
    pair.back.start()
    pair.until_nothing_is_left(job)
