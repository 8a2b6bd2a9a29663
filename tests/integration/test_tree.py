"""Process trees that do not want to end are empty after a cancel, a delete, and a run timeout."""

from collections.abc import Callable
from pathlib import Path

import pytest

from jobservice import Client
from jobservice.errors import NotFound
from jobservice.model.job import Job
from jobservice.model.lifecycle import Reason, State
from jobservice.testing.server import Server
from jobservice.testing.wait import wait_until
from tests.integration.conftest import Serve
from tests.integration.crash import compile_daemons, is_alive, processes

TREES = 4
TIMEOUT_S = 2.5
DEPTH = 2
PROCESSES = 7
"""Of a tree of that depth: they ignore every signal they can, and all but one are daemons."""

End = Callable[[Server, Client, Job], None]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_daemons(tmp_path_factory.mktemp("daemons"))


@pytest.fixture(params=["cgroup", "subreaper"])
def server(request: pytest.FixtureRequest, serve: Serve) -> Server:
    return serve("--slots", str(TREES), "--containment", request.param).start()


def plant(client: Client, program: Path, file: Path, **options: float) -> tuple[Job, list[int]]:
    """A job, and the processes of its tree once all of them stand."""
    manner = "stay"
    argv = [str(program), str(file), str(DEPTH), manner]
    job = client.create(argv, stop_grace=0.1, **options)  # type: ignore[arg-type]

    def standing() -> list[int]:
        pids = [int(line) for line in file.read_text().split()] if file.exists() else []
        return pids if len(pids) == PROCESSES else []

    return job, wait_until(standing, what="the whole tree")


def cancel(_: Server, client: Client, job: Job) -> None:
    done = client.cancel(job, wait=True)
    assert (done.state, done.reason, done.signal) == (State.CANCELLED, Reason.USER, 9)


def delete(server: Server, client: Client, job: Job) -> None:
    client.delete(job)
    with pytest.raises(NotFound):
        client.get(job)
    assert not list((server.data_dir / "attempts").glob(f"*/{job.job_id}-*"))


@pytest.mark.parametrize("end", [cancel, delete])
def test_a_tree_is_empty_when_the_call_returns(
    server: Server, program: Path, tmp_path: Path, end: End
) -> None:
    with Client(server.unix_address) as client:
        trees = [plant(client, program, tmp_path / f"pids-{n}") for n in range(TREES)]
        spared = trees.pop()
        for job, pids in trees:
            assert all(map(is_alive, pids))
            end(server, client, job)
            assert not any(map(is_alive, pids)), "a process of it lives"
            assert all(map(is_alive, spared[1])), "one of another job died"
    assert set(processes(tmp_path)) == set(spared[1])


def test_a_run_timeout_holds_while_the_server_is_down(
    server: Server, program: Path, tmp_path: Path
) -> None:
    with Client(server.unix_address) as client:
        timed, pids = plant(client, program, tmp_path / "timed", timeout=TIMEOUT_S)
        free, others = plant(client, program, tmp_path / "free")
        server.kill()
        assert all(map(is_alive, pids)), "too late: the machine is too slow for this test"
        wait_until(lambda: not any(map(is_alive, pids)), what="the end of the tree")
        assert all(map(is_alive, others))
        server.start()
        done = client.wait(timed, timeout=20)
        assert (done.state, done.reason, done.attempt_count) == (
            State.FAILED,
            Reason.RUN_TIMEOUT,
            1,
        )
        [attempt] = done.attempts
        assert attempt.started_at is not None
        assert attempt.ended_at is not None
        assert TIMEOUT_S <= (attempt.ended_at - attempt.started_at).total_seconds() < TIMEOUT_S + 8
        client.delete(free)
        assert not any(map(is_alive, others))
