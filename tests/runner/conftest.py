"""What the tests of the runner share."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runner.harness import Host, hosted

CONTAINMENTS = ("cgroup", "subreaper")


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory with a path that is short enough for a socket."""
    directory = Path(tempfile.mkdtemp(prefix="jsr-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(params=CONTAINMENTS)
def host(request: pytest.FixtureRequest, short_dir: Path) -> Iterator[Host]:
    """A host without a runner, in each containment."""
    with hosted(short_dir, request.param) as made:
        yield made


@pytest.fixture
def other_host(host: Host) -> Iterator[Host]:
    """One more with the same containment, with another directory."""
    folder = tempfile.TemporaryDirectory(prefix="jsr-")
    with folder as directory, hosted(Path(directory), host.containment) as made:
        yield made


@pytest.fixture
def plain_host(short_dir: Path) -> Iterator[Host]:
    """A host whose containment does not matter."""
    with hosted(short_dir, "auto") as made:
        yield made


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of `programs/`, compiled."""
    target = tmp_path_factory.mktemp("programs")
    for source in (Path(__file__).parent / "programs").glob("*.c"):
        subprocess.run(["cc", "-O2", "-Wall", "-o", target / source.stem, source], check=True)
    return target
