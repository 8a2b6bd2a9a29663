"""The command as a user runs it, and one service for all of these tests."""

import dataclasses
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jobservice.testing.server import COMMAND, Server

LONGEST_S = 40


@dataclasses.dataclass(frozen=True, slots=True)
class Ran:
    """What a command did."""

    code: int
    raw: bytes
    """stdout as it was written."""
    err: str

    @property
    def out(self) -> str:
        return self.raw.decode()

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def objects(self) -> list[Any]:
        """One JSON object a line."""
        return [json.loads(line) for line in self.lines]


@dataclasses.dataclass(frozen=True, slots=True)
class Shell:
    """Runs `jobservice` with the environment of a user."""

    environment: dict[str, str]

    def command(self, *arguments: str) -> list[str]:
        return [str(COMMAND), *arguments]

    def __call__(self, *arguments: str, given: bytes | None = None, **environment: str) -> Ran:
        """Run it to its end, with `given` on its standard input."""
        ran = subprocess.run(
            self.command(*arguments),
            input=given or b"",
            capture_output=True,
            timeout=LONGEST_S,
            env=self.environment | environment,
            check=False,
        )
        return Ran(ran.returncode, ran.stdout, ran.stderr.decode())

    def ok(self, *arguments: str, given: bytes | None = None) -> Ran:
        """Run it; it must succeed."""
        ran = self(*arguments, given=given)
        assert ran.code == 0, ran.err
        return ran

    def submit(self, *arguments: str) -> str:
        """Submit a job; its id."""
        return self.ok("submit", *arguments).out.strip()

    def state(self, job_id: str) -> str:
        """The state of a job, in the proto's name."""
        return str(self.ok("status", job_id, "--json").objects[0]["state"])


def environment_of(**variables: str) -> dict[str, str]:
    """Ours, without what is meant for jobservice."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith("JOBSERVICE_")}
    return ours | variables


@pytest.fixture
def alone(tmp_path: Path) -> Shell:
    """The command where no service runs."""
    return Shell(environment_of(JOBSERVICE_DATA_DIR=str(tmp_path)))


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    parent = Path(tempfile.mkdtemp(prefix="js-"))
    with Server(parent / "data", "--slots", "4", "--stop-jobs", tcp=True) as running:
        yield running
    shutil.rmtree(parent)


@pytest.fixture(scope="session")
def shell(server: Server) -> Shell:
    """The command of a user whose data directory is served."""
    return Shell(environment_of(JOBSERVICE_DATA_DIR=str(server.data_dir)))
