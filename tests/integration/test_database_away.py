"""PostgreSQL goes away or hangs under a running service, and comes back."""

import asyncio
import datetime as dt
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import pytest

from jobservice import Client
from jobservice.engine.parts import Parts, Signals
from jobservice.engine.sweep import Sweeps
from jobservice.errors import DeadlineExceeded, JobServiceError, Unavailable
from jobservice.model.lifecycle import State
from jobservice.store.postgres.store import PostgresStore
from jobservice.testing.clock import JumpClock
from jobservice.testing.server import Server
from jobservice.testing.wait import wait_until
from tests.conformance.values import LEASE, NOW, job, run
from tests.integration.bare import running
from tests.integration.conftest import tidy
from tests.integration.crash import all_final, check_file
from tests.postgres import Postgres


@pytest.fixture
def crashing() -> Iterator[Postgres]:
    """A database server of the test's own."""
    server = Postgres()
    yield server
    server.thaw()  # where a test has failed before it did
    server.close()


def test_jobs_go_on_and_their_ends_are_recorded_once(
    crashing: Postgres, data_dir: Path, tmp_path: Path
) -> None:
    server = Server(data_dir, "--slots", "3", database=asyncio.run(crashing.new_database())).start()
    go = tmp_path / "go"
    script = f"until [ -e {go} ]; do sleep 0.05; done; echo out; exit 7"
    with Client(server.unix_address) as client, Client(server.unix_address, patience=0) as hasty:
        jobs = client.create_many([["sh", "-c", script]] * 3)
        before = [running(client, job) for job in jobs]
        crashing.kill()
        with pytest.raises(Unavailable):
            hasty.create(["true"])
        with pytest.raises(Unavailable):
            hasty.get(jobs[0])
        go.touch()  # the jobs end while nobody can write it down
        wait_until(lambda: not [each for each in server.job_processes() if "sleep" in each])
        assert server.process is not None
        assert server.process.poll() is None
        crashing.start_again()
        done = {job.job_id: job for job in all_final(client, jobs)}
        for job in before:
            ended = done[job.job_id]
            assert (ended.state, ended.exit_code, ended.attempt_count) == (State.FAILED, 7, 1)
            assert ended.attempts[0].started_at == job.attempts[0].started_at
            assert b"".join(chunk.data for chunk in client.logs(ended)) == b"out\n"
        assert client.wait(client.create(["true"])).state is State.SUCCEEDED
    tidy(server)
    check_file(server)


# --- away for long ----------------------------------------------------------------------------

ANSWER_S = 5.0
"""After so long a call has its answer, whatever the database does."""
AWAY: dict[str, tuple[Callable[[Postgres], None], Callable[[Postgres], None]]] = {
    "killed": (Postgres.kill, Postgres.start_again),
    "frozen": (Postgres.freeze, Postgres.thaw),
}


def refused(call: Callable[[], object]) -> JobServiceError:
    """The error of a call that has it in time."""
    begin_s = time.monotonic()
    with pytest.raises(JobServiceError) as caught:
        call()
    assert time.monotonic() - begin_s < ANSWER_S
    return caught.value


@pytest.mark.slow
@pytest.mark.parametrize("how", AWAY)
def test_every_call_is_answered_in_time(crashing: Postgres, data_dir: Path, how: str) -> None:
    go_away, come_back = AWAY[how]
    server = Server(data_dir, "--slots", "1", database=asyncio.run(crashing.new_database())).start()
    with Client(server.unix_address, patience=0) as client, ThreadPoolExecutor(20) as threads:
        job = client.create(["true"])
        wait_until(lambda: client.get(job).state is State.SUCCEEDED)
        go_away(crashing)
        for _ in range(2):  # over the connections of before, and over new ones
            calls = [
                *[lambda: client.create(["true"])] * 8,
                *[lambda: client.get(job)] * 6,
                lambda: list(client.list()),
                lambda: client.cancel(job),
            ]
            errors = list(threads.map(refused, calls))
            assert {type(each).__name__ for each in errors} <= {
                "StoreBusy",
                "StoreUnavailable",
                "Unavailable",
            }
        come_back(crashing)
        wait_until(lambda: _created(client))
        assert server.process is not None
        assert server.process.poll() is None
    tidy(server)
    check_file(server)


def _created(client: Client) -> bool:
    try:
        client.create(["true"])
    except (Unavailable, DeadlineExceeded):
        return False
    return True


async def test_no_lease_expires_for_one_lease_time_after_the_return(crashing: Postgres) -> None:
    store = await PostgresStore.open(await crashing.new_database())
    clock, adopted = JumpClock(NOW), asyncio.Event()
    parts = Parts(store, clock, random.Random(0), Signals())

    async def no_files(jobs: Sequence[tuple[str, int]]) -> list[bool]:
        return [True for _ in jobs]

    lease_s = LEASE.total_seconds()
    week = dt.timedelta(days=7)
    sweeps = Sweeps(parts, remove_files=no_files, lease_s=lease_s, poll_s=5, retention=week)
    [fence] = await run(store)
    expiring = asyncio.ensure_future(sweeps._expire(adopted))
    adopted.set()

    async def pass_(seconds: float) -> None:
        for _ in range(round(seconds)):
            await asyncio.to_thread(wait_until, clock.next_alarm_at)  # it sleeps
            clock.advance(1)
        await asyncio.to_thread(wait_until, clock.next_alarm_at)

    async def state() -> State:
        return (await job(store, fence)).state

    await pass_(lease_s - 1)
    await store.extend_leases([fence], lease_until=clock.now() + 2 * LEASE)
    await pass_(2)  # the calm after the start is over
    crashing.kill()
    await pass_(3 * lease_s)
    crashing.start_again()
    await pass_(lease_s - 1)
    assert await state() is State.RUNNING
    await pass_(lease_s / 2)
    assert await state() is State.QUEUED
    expiring.cancel()
    await store.close()


@pytest.mark.slow
@pytest.mark.parametrize("how", AWAY)
def test_what_ran_while_the_database_was_away_is_not_lost(
    crashing: Postgres, data_dir: Path, how: str
) -> None:
    go_away, come_back = AWAY[how]
    env = {"JOBSERVICE_LEASE_S": "3", "JOBSERVICE_STORE_TIMEOUT_S": "1"}
    url = asyncio.run(crashing.new_database())
    server = Server(data_dir, "--slots", "1", env=env, database=url).start()
    with Client(server.unix_address) as client:
        job = running(client, client.create(["sleep", "600"]))
        wait_until(lambda: lasts_s(url) > 6)  # the calm after the start is over
        go_away(crashing)
        wait_until(lambda: said(server, "extend_failed") >= 4)  # each a third of a lease apart
        before_s = time.time()
        come_back(crashing)
        wait_until(lambda: lasts_s(url, before_s) > 3)
        assert client.cancel(job, wait=True).state is State.CANCELLED
        assert (client.get(job).attempt_count, client.get(job).lost_count) == (1, 0)
        assert said(server, "leases_expired") == 0
    tidy(server)


def lasts_s(url: str, since_s: float | None = None) -> float:
    """How long the one lease lasts, since then or since it was granted; 0 while nobody can tell."""

    async def look() -> float:
        connection = await asyncpg.connect(url, timeout=5)
        [(until_us, claimed_us)] = await connection.fetch(
            "SELECT lease_until_us, claimed_us FROM jobs WHERE lease_until_us IS NOT NULL"
        )
        await connection.close()
        return float(until_us / 1e6 - (claimed_us / 1e6 if since_s is None else since_s))

    try:
        return asyncio.run(look())
    except (OSError, asyncpg.PostgresError):
        return 0


def said(server: Server, event: str) -> int:
    """How often a server logged something."""
    return server.log_path.read_text().count(f'"event": "{event}"')
