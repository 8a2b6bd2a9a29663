"""The runner dies, at any named point and with the server dead or alive: no orphan, no double run."""

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from jobservice import Client
from jobservice.failpoints import VARIABLE
from jobservice.model.job import AttemptState, Job
from jobservice.model.lifecycle import Reason, State
from jobservice.model.spec import RetryPolicy
from jobservice.runner import failpoint
from jobservice.testing.server import Server
from jobservice.testing.wait import wait_until
from tests.integration.bare import running
from tests.integration.conftest import Serve
from tests.integration.crash import (
    Witness,
    all_final,
    check_file,
    is_alive,
    kill_runner,
    processes,
    runner_pid,
)

CONTAINMENTS = ("cgroup", "subreaper")
JOBS = 5
OLD_SERVER = (
    "import jobservice; jobservice.__version__ = '0.0.1';"
    "from jobservice.cli.main import main; main()"
)

KEPT = {failpoint.ENDED_UNREPORTED, failpoint.REPORTED_UNACKNOWLEDGED}
"""Where the end is in the journal: it is the true one, and the attempt is not lost."""
LOST = {failpoint.INTENT_JOURNALED, failpoint.SPAWNED_UNJOURNALED, failpoint.EXITED_UNREPORTED}
"""Where nobody can know the end any more."""


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    return Witness(tmp_path / "witness")


@pytest.mark.slow
@pytest.mark.parametrize("containment", CONTAINMENTS)
def test_losses_are_counted_apart_and_not_borne_for_ever(
    serve: Serve, witness: Witness, containment: str
) -> None:
    server = serve("--slots", "3", "--containment", containment).start()
    deaf = f"sh -c \"trap '' TERM; sleep 600; : {witness.folder}\""
    script = f"[ -e {witness.folder}/go ] && exit 3; (setsid env -i {deaf} &); sleep 600"
    with Client(server.unix_address) as client:
        patient = client.create(witness.job(script), retry_policy=RetryPolicy(max_lost=3))
        brittle = client.create(witness.job(script), retry_policy=RetryPolicy(max_lost=1))
        running(client, patient)
        running(client, brittle)
        before = processes(witness.folder)
        kill_runner(server)
        wait_until(lambda: not any(map(is_alive, before)), what="the end of both trees")
        assert client.wait(brittle, timeout=20).state is State.FAILED
        check_lost(client.get(brittle), attempts=1)
        wait_until(lambda: client.get(patient).attempt_count == 2)
        again = running(client, patient)
        assert (again.state, again.lost_count) == (State.RUNNING, 1)
        before = processes(witness.folder)
        server.kill()
        kill_runner(server)  # and nobody is there to see it
        (witness.folder / "go").touch()
        server.start()
        done = client.wait(patient, timeout=20)
        assert not any(map(is_alive, before))
        assert (done.exit_code, done.attempt_count) == (3, 3)
        assert (done.failure_count, done.lost_count) == (1, 2)
        witness.check([done, client.get(brittle)])


def check_lost(job: Job, *, attempts: int) -> None:
    """It failed since it was lost so often, and for nothing else."""
    assert (job.reason, job.exit_code) == (Reason.LOST, None)
    assert (job.attempt_count, job.lost_count, job.failure_count) == (attempts, attempts, 0)
    assert all(each.state is AttemptState.LOST for each in job.attempts)


# --- the named points -----------------------------------------------------------------------------


def test_every_point_of_the_runner_is_judged() -> None:
    assert {*KEPT, *LOST, failpoint.UPGRADING} == set(failpoint.NAMES)


@pytest.mark.parametrize("containment", CONTAINMENTS)
@pytest.mark.parametrize("name", sorted(KEPT | LOST))
def test_jobs_end_though_the_runner_dies_at_a_named_point(
    serve: Serve, witness: Witness, name: str, containment: str
) -> None:
    """With one slot, so that the runner has one attempt at the time of its death."""
    options = ("--slots", "1", "--containment", containment)
    doomed = serve(*options, env={VARIABLE: name}).start()
    with Client(doomed.unix_address) as client:
        first = runner_pid(doomed)
        jobs = client.create_many([witness.job("exit 5")] * JOBS)
        wait_until(lambda: not is_alive(first), what="the death of the runner")
        doomed.kill()
        server = serve(*options).start()
        done = all_final(client, jobs)
        witness.check(done)
        assert {(job.exit_code, job.failure_count) for job in done} == {(5, 1)}
        losses = sum(job.lost_count for job in done)
        assert (losses > 0) == (name in LOST)
        assert sum(job.attempt_count for job in done) == JOBS + losses
    server.stop()
    check_file(server)


class OldServer(Server):
    """The service as if it were an older version, whose runner the next one replaces."""

    program: ClassVar[Sequence[str]] = (sys.executable, "-c", OLD_SERVER)


@pytest.mark.parametrize("containment", CONTAINMENTS)
@pytest.mark.parametrize("dies", [False, True], ids=["goes on", "dies"])
def test_an_upgrade_takes_the_jobs_along_or_loses_them_openly(
    data_dir: Path,
    database: str | None,
    serve: Serve,
    witness: Witness,
    containment: str,
    dies: bool,
) -> None:
    options = ("--slots", "2", "--containment", containment)
    env = {VARIABLE: failpoint.UPGRADING} if dies else {}
    old = OldServer(data_dir, *options, env=env, database=database).start()
    script = f"until [ -e {witness.folder}/go ]; do echo x; sleep 0.05; done; exit 6"
    with Client(old.unix_address) as client:
        jobs = client.create_many([witness.job(script)] * 2)
        for job in jobs:
            running(client, job)
        before = processes(witness.folder)
        old.process.send_signal(signal.SIGKILL)  # type: ignore[union-attr]
        old.wait()
        server = serve(*options).start()
        attempts = 2 if dies else 1
        for job in jobs:
            wait_until(lambda j=job: client.get(j).attempt_count == attempts)  # type: ignore[misc]
            running(client, job)
        (witness.folder / "go").touch()
        done = all_final(client, jobs)
        assert not any(map(is_alive, before))
        assert {(job.exit_code, job.lost_count) for job in done} == {(6, attempts - 1)}
        witness.check(done)
        assert "0.0.1" not in " ".join(server.runner().cmdline())  # type: ignore[union-attr]
