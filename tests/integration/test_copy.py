"""A store moved to the other kind while its jobs run on, and served there."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobservice import Client
from jobservice.model.job import Job
from jobservice.model.lifecycle import State
from jobservice.testing.server import COMMAND, Server
from jobservice.testing.wait import wait_until
from tests.integration.conftest import fresh_database

SETUP = 78
UNTIL = "echo up >> {flag}.runs; until test -e {flag}; do sleep 0.05; done"


@pytest.fixture
def url() -> Iterator[str]:
    for found in fresh_database("postgres"):
        assert found is not None
        yield found


def copy(source: str, target: str, *more: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JOBSERVICE_")}
    return subprocess.run(
        [str(COMMAND), "db", "copy", "--from", source, "--to", target, *more],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def refused(ran: subprocess.CompletedProcess[str], said: str) -> None:
    assert ran.returncode == SETUP
    assert said in ran.stderr
    assert "hidden" not in ran.stderr
    assert "Traceback" not in ran.stderr


def runs_on(server: Server, flag: Path, job: Job, done: Job) -> None:
    """What ran goes on, what had ended has, and new jobs run."""
    with Client(server.unix_address) as client:
        assert client.get(done).state is State.SUCCEEDED
        assert client.get(job).state is State.RUNNING
        assert client.wait(client.create(["true"]), timeout=30).state is State.SUCCEEDED
    assert flag.with_suffix(".runs").read_text() == "up\n"


@pytest.mark.slow
def test_jobs_run_on_while_their_store_moves(data_dir: Path, url: str, tmp_path: Path) -> None:
    file, flag = f"sqlite:{data_dir}/jobservice.db", tmp_path / "go"
    env = {"JOBSERVICE_RUNNER_IDLE_S": "60"}
    server = Server(data_dir, "--slots", "2", env=env).start()
    with Client(server.unix_address) as client:
        done = client.wait(client.create(["true"], labels={"zz": "1", "a": "2"}))
        job = client.create(["sh", "-c", UNTIL.format(flag=flag)])
        wait_until(flag.with_suffix(".runs").exists, what="a job that runs")
    refused(copy(file, url), f"pid {server.pid}")
    server.kill()
    there = copy(file, url, "--json")
    assert there.returncode == 0, there.stderr
    refused(copy(file, url), "is not empty")

    server = Server(data_dir, "--slots", "2", env=env, database=url).start()
    runs_on(server, flag, job, done)
    moved = data_dir / "moved.db"
    refused(copy(url, f"sqlite:{moved}"), "in use: 1 jobs have a lease")
    assert copy(url, f"sqlite:{moved}", "--force").returncode == 0
    server.kill()
    refused(copy(url, f"sqlite:{moved}", "--force"), "is not empty")
    (data_dir / "jobservice.db").rename(tmp_path / "old.db")
    wait_until(lambda: copy(url, file, "--force").returncode == 0, what="the way back")

    server = Server(data_dir, "--slots", "2", "--stop-jobs", env=env).start()
    with server.stopped_at_the_end(), Client(server.unix_address) as client:
        runs_on(server, flag, job, done)
        flag.touch()
        ended = client.wait(job, timeout=30)
        assert (ended.state, ended.attempt_count) == (State.SUCCEEDED, 1)


def test_addresses_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    file, empty = f"sqlite:{tmp_path}/a.db", "postgresql://me@127.0.0.1:1/jobs"
    refused(copy(file, file), "One of --from and --to must be sqlite:PATH")
    refused(copy(empty, empty), "One of --from and --to must be sqlite:PATH")
    refused(copy("mysql://x", file), "is not the address of a store")
    refused(copy(file, "postgresql://me:hidden@h/jobs"), "--to holds a password")
    refused(copy(file, empty), f"no file {tmp_path}/a.db")
    refused(copy(empty, file), "cannot be used")
    assert list(tmp_path.iterdir()) == []


def test_a_password_comes_out_of_the_environment_and_is_not_told(tmp_path: Path) -> None:
    file, url = f"sqlite:{tmp_path}/a.db", "postgresql://me:hidden@127.0.0.1:1/jobs"
    ran = subprocess.run(
        [str(COMMAND), "db", "copy", "--to", file],
        env={**os.environ, "JOBSERVICE_COPY_FROM": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    refused(ran, "postgresql://me@127.0.0.1:1/jobs cannot be used")
