"""PostgreSQL goes away under a running service, and comes back."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobservice import Client
from jobservice.errors import Unavailable
from jobservice.model.lifecycle import State
from jobservice.testing.server import Server
from jobservice.testing.wait import wait_until
from tests.integration.bare import running
from tests.integration.conftest import tidy
from tests.integration.crash import all_final, check_file
from tests.postgres import Postgres


@pytest.fixture
def crashing() -> Iterator[Postgres]:
    """A database server of the test's own."""
    server = Postgres()
    yield server
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
