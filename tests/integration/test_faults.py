"""Faults around the service: a full disk, a second server, files that are not as they should be."""

import os
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobservice import Client
from jobservice.errors import StoreFull
from jobservice.model.lifecycle import State
from jobservice.testing.server import COMMAND, Server
from jobservice.testing.wait import wait_until
from tests.integration.conftest import Serve, tidy

SETUP_EXIT_CODE = 78
DISK_BYTES = 24 << 20


def serve_once(*options: str) -> subprocess.CompletedProcess[str]:
    """A service that is not expected to start."""
    return subprocess.run(
        [str(COMMAND), "serve", *options], capture_output=True, text=True, timeout=30, check=False
    )


def test_a_second_server_is_refused_and_told_of_the_first(serve: Serve) -> None:
    with serve("--slots", "0") as first:
        second = serve_once("--data-dir", str(first.data_dir))
        assert second.returncode == SETUP_EXIT_CODE
        assert f"pid {first.pid}" in second.stderr
        assert "jobservice.sock" in second.stderr
        assert "Traceback" not in second.stderr
        with Client(first.unix_address) as client:
            assert list(client.list()) == []


def test_a_database_of_a_newer_schema_is_refused_and_left_alone(data_dir: Path) -> None:
    server = Server(data_dir, "--slots", "0").start()
    server.stop()
    database = sqlite3.connect(data_dir / "jobservice.db")
    database.execute("INSERT INTO schema_migrations VALUES (1000, 'from_the_future', 'x')")
    database.commit()
    database.close()
    refused = serve_once("--data-dir", str(data_dir))
    assert refused.returncode == SETUP_EXIT_CODE
    assert "newer" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--data-dir", "/tmp/" + "x" * 100], "107"),
        (["--data-dir", "/proc/nowhere"], "/proc/nowhere"),
        (["--data-dir", "{fresh}", "--listen", "0.0.0.0:4711"], "loopback"),
        (["--data-dir", "{fresh}", "--listen", "nonsense"], "listen"),
        (["--data-dir", "{fresh}", "--slots", "-1"], "slots"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_sentence(
    data_dir: Path, options: list[str], word: str
) -> None:
    data_dir.parent.mkdir(exist_ok=True)
    refused = serve_once(*[option.replace("{fresh}", str(data_dir)) for option in options])
    assert refused.returncode in {2, SETUP_EXIT_CODE}
    assert word in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of its own, too small for comfort."""
    mounted = Path(tempfile.mkdtemp(prefix="js-disk-"))
    size = f"size={DISK_BYTES}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(mounted)], check=True)
    yield mounted
    subprocess.run(["umount", str(mounted)], check=True)
    mounted.rmdir()


def fill(disk: Path) -> Path:
    """Take every byte that is left."""
    ballast = disk / "ballast"
    descriptor = os.open(ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        while True:
            os.write(descriptor, bytes(4096))
    except OSError:
        pass
    finally:
        os.close(descriptor)
    return ballast


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_full_disk_refuses_and_loses_nothing_and_heals(small_disk: Path) -> None:
    server = Server(small_disk / "data", "--slots", "4")
    server.log_path = Path(tempfile.gettempdir()) / f"{small_disk.name}.log"
    with server, Client(server.unix_address) as client:
        flag = small_disk / "flag"
        waiting = f"until test -e {flag}; do sleep 0.05; done; exit 7"
        running = client.create(["sh", "-c", waiting])
        wait_until(lambda: client.get(running).started_at, what="the start of the job")
        acknowledged = [running.job_id]
        ballast = fill(small_disk)

        def full() -> bool:
            try:
                acknowledged.append(client.create(["true"], stdin=bytes(100_000)).job_id)
            except StoreFull:
                return True
            return False

        wait_until(full, what="a refusal for want of space")
        for job_id in acknowledged:
            assert client.get(job_id).job_id == job_id
        os.close(os.open(flag, os.O_CREAT | os.O_WRONLY))
        ballast.unlink()
        done = client.wait(running, timeout=30)
        assert (done.state, done.exit_code, done.attempt_count) == (State.FAILED, 7, 1)
        for job_id in acknowledged[1:]:
            assert client.wait(job_id, timeout=30).state is State.SUCCEEDED
        assert len(list(client.list())) == len(acknowledged)
    tidy(server)
    server.log_path.unlink()
