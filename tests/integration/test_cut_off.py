"""Servers that run jobs themselves, and one of them is cut off from the database: never two at once."""

import asyncio
import contextlib
import datetime as dt
import functools
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path

import asyncpg
import psutil
import pytest

from jobservice import Client, State
from jobservice.model.job import AttemptState, Job
from jobservice.testing.proxy import BLACK_HOLE, CALM, Proxy, Trouble
from jobservice.testing.server import Server
from jobservice.testing.wait import wait_until
from tests.integration.conftest import short_directory, tidy
from tests.integration.remote import (
    ENV,
    LEASE_S,
    at_work,
    holder_of,
    is_gone,
    logged,
    until,
    witness,
)
from tests.postgres import Postgres

SOCKET = ".s.PGSQL.5432"
CUT_OFF = ENV | {"JOBSERVICE_STORE_TIMEOUT_S": "0.7"}


class Pair:
    """Two servers with a slot each; what the first one says to the database goes through a proxy."""

    def __init__(self, url: str, first: Server, second: Server, proxy: Proxy) -> None:
        self._url = url
        self.first = first
        self.second = second
        self.proxy = proxy

    def ask(self, query: str, *values: object) -> Sequence[Sequence[object]]:
        """Something that no server tells."""

        async def look() -> Sequence[Sequence[object]]:
            connection = await asyncpg.connect(self._url, timeout=5)
            try:
                return [tuple(row) for row in await connection.fetch(query, *values)]
            finally:
                await connection.close()

        return asyncio.run(look())

    @contextlib.contextmanager
    def locked(self, job: Job) -> Iterator[None]:
        """Somebody else has begun to change a job, and has not committed."""
        with asyncio.Runner() as runner:
            connection = runner.run(asyncpg.connect(self._url, timeout=5))
            runner.run(connection.execute("BEGIN"))
            query = "SELECT FROM jobs WHERE job_id = $1 FOR UPDATE"
            runner.run(connection.execute(query, job.job_id))
            yield
            runner.run(connection.close())

    def minds(self, server: Server) -> bool:
        """Whether the store knows that what this one runs ends in silence."""
        query = "SELECT minds_silence FROM workers WHERE worker_id = $1"
        return any(row[0] for row in self.ask(query, worker_id(server)))

    def wait_until_they_know(self) -> None:
        """Each of the other, and the store of both."""
        for server in (self.first, self.second):
            wait_until(functools.partial(self.minds, server), timeout_s=60, what="company")

    def wait_until_heard_of(self, client: Client) -> None:
        """The first one is back."""

        def contact_at() -> dt.datetime:
            return client.workers.get(worker_id(self.first)).contact_at

        before = contact_at()
        wait_until(lambda: contact_at() > before, timeout_s=60, what="a sign of life")

    def over_s(self) -> float:
        """For how long the one lease is over."""
        query = "SELECT extract(epoch FROM now()) - lease_until_us / 1e6 FROM jobs"
        [[seconds]] = self.ask(f"{query} WHERE lease_until_us IS NOT NULL")
        return float(str(seconds))


def refuse(way: Proxy) -> None:
    """Break a way so that both ends know it at once."""
    way.set(Trouble(refuses=True))
    way.cut()


def end_tree(process: psutil.Process) -> None:
    """As if its host had died."""
    for each in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()


def runs_again(job: Job) -> bool:
    return job.attempt_count == 2 and job.attempts[-1].started_at is not None


def worker_id(server: Server) -> str:
    return (server.data_dir / "worker-id").read_text().strip()


@pytest.fixture
def pair() -> Iterator[Pair]:
    with contextlib.ExitStack() as stack:
        postgres = Postgres()
        stack.callback(postgres.close)
        url = asyncio.run(postgres.new_database())
        parts = urllib.parse.urlsplit(url)
        [folder] = urllib.parse.parse_qs(parts.query)["host"]
        first_dir, second_dir = (
            stack.enter_context(contextlib.contextmanager(short_directory)()) for _ in range(2)
        )
        proxy = Proxy(f"unix:{folder}/{SOCKET}", path=first_dir.parent / SOCKET)
        stack.enter_context(proxy)
        through = urllib.parse.urlunsplit(parts._replace(query=f"host={first_dir.parent}"))
        first = Server(first_dir, "--slots", "1", env=CUT_OFF, database=through)
        second = Server(second_dir, "--slots", "1", env=ENV, database=url)
        stack.callback(tidy, second)
        stack.callback(tidy, first)
        stack.callback(proxy.set, CALM)
        yield Pair(url, first, second, proxy)


@pytest.mark.slow
def test_what_is_cut_off_ends_before_another_server_runs_it(pair: Pair, tmp_path: Path) -> None:
    first, second = pair.first.start(), pair.second.start()
    with Client(first.unix_address) as here, Client(second.unix_address) as client:
        pair.wait_until_they_know()
        client.workers.drain(worker_id(second))
        job, process = witness(here, tmp_path / "lock")
        client.workers.resume(worker_id(second))
        pair.proxy.set(BLACK_HOLE)
        overlap = tmp_path / "lock.overlap"
        wait_until(
            lambda: overlap.exists() or runs_again(client.get(job)), timeout_s=60, what="attempt 2"
        )
        assert not overlap.exists()
        assert is_gone(process)
        again = until(client, job, 2)
        lost, alive = again.attempts
        assert (lost.state, alive.worker_id) == (AttemptState.LOST, worker_id(second))
        logged(first, "attempts_ended_in_silence")
        pair.proxy.set(CALM)
        pair.wait_until_heard_of(client)
        assert not is_gone(holder_of(again))
        assert client.cancel(job, wait=True).attempt_count == 2
    assert not (tmp_path / "lock.overlap").exists()


@pytest.mark.slow
def test_who_was_cut_off_before_another_came_keeps_its_jobs_unless_it_is_given_up(
    pair: Pair, tmp_path: Path
) -> None:
    first = pair.first.start()
    with Client(first.unix_address) as here:
        job, process = witness(here, tmp_path / "lock")
    pair.proxy.set(BLACK_HOLE)
    second = pair.second.start()
    with Client(second.unix_address) as client:
        # The calm after the start, and time for many looks.
        wait_until(lambda: pair.over_s() > 2 * LEASE_S, timeout_s=60, what="a lease that is over")
        assert client.wait(client.create(["true"]), timeout=30).state is State.SUCCEEDED
        assert not is_gone(process)
        pair.proxy.set(CALM)
        pair.wait_until_heard_of(client)
        pair.wait_until_they_know()
        assert not is_gone(process)
        assert client.get(job).attempt_count == 1
        assert client.cancel(job, wait=True).state is State.CANCELLED
    assert not (tmp_path / "lock.overlap").exists()


@pytest.mark.slow
def test_a_server_that_died_alone_is_given_up_by_a_drain(pair: Pair, tmp_path: Path) -> None:
    first = pair.first.start()
    with Client(first.unix_address) as here:
        job, process = witness(here, tmp_path / "lock")
    runner = first.runner()
    assert runner is not None
    first.kill()
    runner.kill()
    end_tree(process)
    second = pair.second.start()
    with Client(second.unix_address) as client:
        wait_until(lambda: pair.over_s() > 2 * LEASE_S, timeout_s=60, what="a lease that is over")
        assert client.get(job).attempt_count == 1
        client.workers.drain(worker_id(first), reason="its host is gone")
        again = until(client, job, 2)
        assert again.attempts[1].worker_id == worker_id(second)
        assert client.cancel(job, wait=True).state is State.CANCELLED
    assert not (tmp_path / "lock.overlap").exists()


@pytest.mark.slow
def test_a_server_that_lost_the_database_alone_does_not_keep_a_worker_going(
    pair: Pair, tmp_path: Path
) -> None:
    """The worker still reaches it, and the other not, which goes on giving jobs away."""
    first, second = pair.first.start(), pair.second.start()
    way = Proxy(second.unix_address, path=tmp_path / "way")
    with (
        way,
        Client(second.unix_address) as client,
        at_work(first.unix_address, way.address) as cut,
    ):
        for server in (first, second):
            client.workers.drain(worker_id(server))
        job, process = witness(client, tmp_path / "lock")
        refuse(pair.proxy)
        refuse(way)
        with at_work(second.unix_address) as other:
            overlap = tmp_path / "lock.overlap"
            wait_until(
                lambda: overlap.exists() or runs_again(client.get(job)),
                timeout_s=60,
                what="attempt 2",
            )
            assert not overlap.exists()
            assert is_gone(process)
            assert until(client, job, 2).attempts[-1].worker_id == other.worker_id
            logged(cut, "attempts_ended_in_silence")
            pair.proxy.set(CALM)
            way.set(CALM)
            assert client.cancel(job, wait=True).attempt_count == 2
    assert not (tmp_path / "lock.overlap").exists()


@pytest.mark.slow
def test_a_worker_whose_servers_have_all_lost_the_database_goes_on(
    pair: Pair, tmp_path: Path
) -> None:
    first = pair.first.start()
    with Client(first.unix_address) as client, at_work(first.unix_address) as worker:
        client.workers.drain(worker_id(first))
        job, process = witness(client, tmp_path / "lock")
        refuse(pair.proxy)
        wait_until(lambda: pair.over_s() > LEASE_S, timeout_s=60, what="a lease that is over")
        assert not is_gone(process)
        pair.proxy.set(CALM)
        before = client.workers.get(worker.worker_id).contact_at
        wait_until(lambda: client.workers.get(worker.worker_id).contact_at > before)
        assert not is_gone(process)
        assert client.cancel(job, wait=True).attempt_count == 1


@pytest.mark.slow
def test_a_row_that_somebody_holds_does_not_keep_a_worker_going(pair: Pair, tmp_path: Path) -> None:
    """No lease of a call is prolonged while one cannot be, and those of the others are given away."""
    first = pair.first.start()
    with Client(first.unix_address) as client, at_work(first.unix_address) as worker:
        client.workers.drain(worker_id(first))
        held, _ = witness(client, tmp_path / "held")
        job, process = witness(client, tmp_path / "lock")
        with pair.locked(held), at_work(first.unix_address):
            overlap = tmp_path / "lock.overlap"
            wait_until(
                lambda: overlap.exists() or runs_again(client.get(job)),
                timeout_s=60,
                what="attempt 2",
            )
            assert not overlap.exists()
            assert is_gone(process)
            logged(worker, "attempts_ended_in_silence")
        for each in (held, job):
            client.cancel(each, wait=True)
    assert not (tmp_path / "lock.overlap").exists()
