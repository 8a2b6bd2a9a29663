"""Commands that stay outlive a restart of the service, and a crash."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobservice.testing.server import Server
from tests.cli.conftest import Shell, environment_of

SCRIPT = "for n in $(seq 40); do echo line $n; sleep 0.1; done; exit 5"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "d", "--slots", "2", "--stop-jobs") as server:
        yield server


@pytest.fixture
def shell(own: Server) -> Shell:
    return Shell(environment_of(JOBSERVICE_DATA_DIR=str(own.data_dir)))


@pytest.mark.parametrize("command", [["logs", "-f"], ["watch"]])
def test_a_stream_goes_on_after_a_crash_of_the_service(
    own: Server, shell: Shell, command: list[str]
) -> None:
    job_id = shell.submit("--", "sh", "-c", SCRIPT)
    with subprocess.Popen(
        shell.command(*command, job_id), stdout=subprocess.PIPE, env=shell.environment
    ) as process:
        assert process.stdout
        begin = process.stdout.read(1)
        own.kill()
        own.start()
        printed = begin + process.stdout.read()
    if command[0] == "logs":
        assert printed == b"".join(b"line %d\n" % number for number in range(1, 41))
    else:
        assert printed.endswith(b"FAILED failed exited with 5\n")


def test_waiting_goes_on_after_a_crash_of_the_service(own: Server, shell: Shell) -> None:
    with subprocess.Popen(
        shell.command("submit", "--wait", "--", "sh", "-c", SCRIPT),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=shell.environment,
        text=True,
    ) as process:
        assert process.stderr
        for line in process.stderr:
            if line == "RUNNING\n":
                break
        own.kill()
        own.start()
        assert "FAILED" in process.stderr.read()
    assert process.returncode == 5
