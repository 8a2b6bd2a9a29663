"""`kill -9` of the server and of the runner while jobs run, and at every named point."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from jobservice import Client
from jobservice.errors import Unavailable
from jobservice.failpoints import NAMES, VARIABLE
from jobservice.model.job import AttemptState, Job
from jobservice.model.lifecycle import FINAL, State
from jobservice.testing.server import Server
from jobservice.testing.wait import wait_until
from tests.integration.conftest import Serve

JOBS = 20
TALKER = """
i=0; echo pid $$
until test -e {flag}; do i=$((i+1)); echo line $i; sleep 0.05; done
echo last $i >&2; exit {code}
"""
DAEMONS = """
trap '' TERM; echo pid $$
(setsid env -i sh -c 'trap "" TERM; echo pid $$; sleep 600; sleep 600' &)
echo pid $$ >> {witness}; sleep 600; sleep 600
"""


def output(client: Client, job: Job | str, stream: str = "stdout", attempt: int = 0) -> bytes:
    return b"".join(chunk.data for chunk in client.logs(job, attempt, stream=stream))


def pids(client: Client, job: Job, count: int, attempt: int = 1) -> list[int]:
    """The processes that an attempt named in its output."""

    def look() -> list[int] | None:
        if client.get(job).attempt_count < attempt:
            return None
        lines = output(client, job, attempt=attempt).splitlines()
        found = [int(line.split()[1]) for line in lines if line.startswith(b"pid ")]
        return found if len(found) >= count else None

    return wait_until(look, what="the processes of the job") or []


@pytest.mark.slow
def test_running_jobs_do_not_notice_that_the_server_is_killed(serve: Serve, tmp_path: Path) -> None:
    server = serve("--slots", str(JOBS)).start()
    flags = [tmp_path / f"flag{number}" for number in range(JOBS)]
    with Client(server.unix_address) as client:
        jobs = [
            client.create(["sh", "-c", TALKER.format(flag=flag, code=number)])
            for number, flag in enumerate(flags)
        ]
        before = {job.job_id: pids(client, job, 1) for job in jobs}
    server.kill()
    for flag in flags[:10]:
        flag.touch()
    wait_until(
        lambda: not any(psutil.pid_exists(before[job.job_id][0]) for job in jobs[:10]),
        what="the end of ten jobs while the server is down",
    )
    assert all(psutil.pid_exists(before[job.job_id][0]) for job in jobs[10:])
    server.start()
    with Client(server.unix_address) as client:
        for flag in flags[10:]:
            flag.touch()
        for number, job in enumerate(jobs):
            done = client.wait(job, timeout=30)
            assert (done.exit_code, done.attempt_count) == (number, 1)
            lines = output(client, job).splitlines()
            assert lines[0] == b"pid %d" % before[job.job_id][0]
            assert lines[1:] == [b"line %d" % n for n in range(1, len(lines))]
            assert output(client, job, "stderr") == b"last %d\n" % (len(lines) - 1)


@pytest.mark.slow
@pytest.mark.parametrize("containment", ["cgroup", "subreaper"])
@pytest.mark.parametrize("also_the_server", [False, True], ids=["runner", "runner and server"])
def test_a_killed_runner_leaves_no_orphan_and_its_jobs_run_again(
    serve: Serve, tmp_path: Path, containment: str, also_the_server: bool
) -> None:
    server = serve("--slots", "3", "--containment", containment).start()
    witness = tmp_path / "witness"
    script = DAEMONS.format(witness=witness)
    with Client(server.unix_address) as client:
        jobs = client.create_many([["sh", "-c", script]] * 3, stop_grace=0.2)
        old = [pid for job in jobs for pid in pids(client, job, 2)]
        runner = server.runner()
        assert runner is not None
        if also_the_server:
            os.kill(server.pid, signal.SIGKILL)
        runner.kill()
        if also_the_server:
            server.kill()
            server.start()
        wait_until(lambda: not any(map(psutil.pid_exists, old)), what="the end of the old trees")
        new = [pid for job in jobs for pid in pids(client, job, 2, attempt=2)]
        assert not set(old) & set(new)
        for job in jobs:
            again = client.get(job)
            assert (again.lost_count, again.failure_count) == (1, 0)
            assert again.attempts[0].state is AttemptState.LOST
            assert client.cancel(job, wait=True).state is State.CANCELLED
        assert not any(map(psutil.pid_exists, new))
    assert len(witness.read_text().splitlines()) == 6


def create_until_it_is_known(address: str, argv: list[str], restart: Callable[[], None]) -> Job:
    """One job by one request_id, though the server dies under the call.

    The second call has a client of its own: a channel that found nobody waits before it looks again.
    """
    with Client(address, patience=0.0, first_patience=0.0) as client, suppress(Unavailable):
        return client.create(argv, request_id="once")
    restart()
    with Client(address) as client:
        return client.create(argv, request_id="once")


POINTS = sorted(
    f"{name}@{times}" if name.startswith("store.") else name
    for name in NAMES
    # no job passes there; see test_bulk.py and test_leftovers.py
    if not name.startswith(("bulk.", "leftovers."))
    for times in (range(4, 10) if name.startswith("store.") else [1])
)
"""Commits also happen while the service starts, so those that make the job are about the sixth."""


@pytest.mark.parametrize("name", POINTS)
def test_a_job_runs_once_though_the_server_dies_at_a_named_point(
    serve: Serve, tmp_path: Path, name: str
) -> None:
    witness = tmp_path / "witness"
    doomed = serve("--slots", "2", env={VARIABLE: name, "JOBSERVICE_POLL_S": "0.2"})
    doomed.start(may_end=True)
    calm: list[Server] = []

    def restart() -> None:
        assert doomed.wait() == -signal.SIGKILL
        calm.append(serve("--slots", "2").start())

    argv = ["sh", "-c", f'echo "$JOBSERVICE_ATTEMPT_KEY" >> {witness}; exit 5']
    job = create_until_it_is_known(doomed.unix_address, argv, restart)
    if not calm:
        restart()
    with Client(doomed.unix_address) as client:
        found = wait_until(
            lambda: [each for each in client.list() if each.state in FINAL], what="a final job"
        )
        assert [each.job_id for each in client.list()] == [job.job_id]
        assert (found[0].exit_code, found[0].attempt_count) == (5, 1)
    assert len(witness.read_text().splitlines()) == 1
