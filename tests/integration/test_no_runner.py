"""A service whose runner cannot be started serves all the same, says why, and goes on after."""

from pathlib import Path

from jobservice import Client, State
from jobservice.testing.wait import wait_until
from tests.integration.conftest import Serve


def test_a_runner_that_cannot_be_started_is_tried_again(serve: Serve, data_dir: Path) -> None:
    data_dir.mkdir(0o700)
    obstacle = data_dir / "runner"
    obstacle.write_text("a file in the place of its directory")
    server = serve("--slots", "1").start()
    with Client(server.unix_address) as client:
        job = client.create(["true"])
        wait_until(lambda: server.log_tail().count("The runner cannot be started") >= 2)
        assert client.get(job).state is State.QUEUED
        assert "Traceback" not in server.log_tail()
        obstacle.unlink()
        assert client.wait(job, timeout=30).state is State.SUCCEEDED
