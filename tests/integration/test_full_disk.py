"""Jobs on a full disk: they end, their ends are told, and the service heals by itself."""

import contextlib
import ctypes
import dataclasses
import datetime as dt
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobservice import Client
from jobservice.errors import StoreFull
from jobservice.model.job import Job
from jobservice.model.lifecycle import State
from jobservice.model.spec import RetryPolicy
from jobservice.store.sqlite.backup import backup, restore
from jobservice.store.sqlite.migrate import upgrade
from jobservice.testing.server import Server
from jobservice.testing.wait import wait_until
from tests.integration.bare import output, running
from tests.integration.conftest import tidy
from tests.integration.crash import Crowd, Witness, all_final, check_file, processes

DISK_BYTES = 32 << 20
JOBS = 4
CLIENTS = 3
MOST_TURNS = 25
"""How many jobs each client asks for at most."""
MET = 4
"""How many jobs or submits have to meet the full disk."""
AGAIN = RetryPolicy(
    max_attempts=1_000,
    initial_backoff=dt.timedelta(seconds=0.2),
    multiplier=1.0,
    max_backoff=dt.timedelta(seconds=0.2),
)
_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def mounted(folder: Path) -> Iterator[Path]:
    """A file system of its own, too small for comfort."""
    options = f"size={DISK_BYTES},mode=700".encode()
    if _libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, options):
        pytest.skip(f"cannot mount a tmpfs here: {os.strerror(ctypes.get_errno())}")
    try:
        yield folder
    finally:
        assert not _libc.umount2(os.fsencode(folder), 0)


@pytest.fixture
def disk() -> Iterator[Path]:
    """A small file system."""
    folder = Path(tempfile.mkdtemp(prefix="js-"))
    with mounted(folder):
        yield folder
    folder.rmdir()


@pytest.fixture
def server(disk: Path, tmp_path: Path) -> Iterator[Server]:
    """A service whose data directory lies on the small disk, and nothing else of the test."""
    server = Server(disk / disk.name, "--slots", str(JOBS))
    server.log_path = tmp_path / "log"
    yield server.start()
    tidy(server)
    check_file(server)


@contextlib.contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Every byte of the disk is taken."""
    ballast = disk / "ballast"
    descriptor = os.open(ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with contextlib.suppress(OSError):
        while True:
            os.write(descriptor, bytes(4096))
    try:
        yield
    finally:
        os.close(descriptor)
        ballast.unlink()


def is_full(client: Client, acknowledged: list[str]) -> bool:
    """Whether a submit is refused for want of space; if not, it counts as acknowledged."""
    try:
        acknowledged.append(client.create(["true"], stdin=bytes(50_000)).job_id)
    except StoreFull:
        return True
    return False


def refused(client: Client) -> Callable[[], bool]:
    acknowledged: list[str] = []
    return lambda: is_full(client, acknowledged)


def test_ends_on_a_full_disk_are_told_when_there_is_space_again(
    server: Server, disk: Path, tmp_path: Path
) -> None:
    witness = Witness(tmp_path / "witness")
    script = f"until [ -e {tmp_path}/go ]; do sleep 0.02; done; echo last words; exit 7"
    with Client(server.unix_address) as client:
        jobs = client.create_many([witness.job(script)] * JOBS)
        for job in jobs:
            running(client, job)
        acknowledged: list[str] = []
        with filled(disk):
            wait_until(lambda: is_full(client, acknowledged), what="a refusal")
            with pytest.raises(StoreFull):
                client.cancel(jobs[0])
            (tmp_path / "go").touch()
            wait_until(lambda: not processes(witness.folder), what="the end of all processes")
            for job in jobs:
                assert client.get(job).attempt_count == 1
            assert {job.job_id for job in client.list()} == {
                *acknowledged,
                *(job.job_id for job in jobs),
            }
        done = all_final(client, jobs)
        assert {(job.exit_code, job.attempt_count) for job in done} == {(7, 1)}
        witness.check(done)
        for job_id in acknowledged:
            assert client.wait(job_id, timeout=20).state is State.SUCCEEDED
        assert server.process is not None
        assert server.process.poll() is None


@pytest.mark.parametrize("containment", ["cgroup", "subreaper"])
def test_a_job_that_fills_the_disk_ends_and_says_so(
    server: Server, disk: Path, containment: str
) -> None:
    server.stop()
    server._options += ["--containment", containment]
    server.start()
    with Client(server.unix_address) as client:
        greedy = client.create(["sh", "-c", f"head -c {2 * DISK_BYTES} /dev/zero; exit 3"])
        other = client.create(["sh", "-c", "echo small; exit 4"])
        wait_until(lambda: shutil.disk_usage(disk).free < (1 << 20), what="a full disk")
        wait_until(lambda: not processes(greedy.job_id), what="the end of the greedy job")
        with filled(disk):
            wait_until(refused(client), what="a refusal")
        shard = next((server.data_dir / "attempts").glob(f"*/{greedy.job_id}-1"))
        (shard / "stdout").unlink()
        done = client.wait(greedy, timeout=20)
        assert (done.exit_code, done.attempt_count) == (3, 1)
        attempt = done.attempts[0]
        assert attempt.stdout_bytes == 2 * DISK_BYTES
        assert 0 < attempt.dropped_bytes < attempt.stdout_bytes
        assert client.wait(other, timeout=20).exit_code == 4
        client.delete(greedy)
        assert output(client, client.get(other)) in {b"small\n", b""}
        assert client.wait(client.create(["true"]), timeout=20).state is State.SUCCEEDED


# --- each disk in turn, under load ------------------------------------------------------------------


@dataclasses.dataclass
class Place:
    """A service, and the only disk that is small."""

    server: Server
    disk: Path
    work_dir: str
    """Of the jobs; empty is a fresh directory of each attempt."""


@pytest.fixture(params=["database", "output", "work"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A service whose database, output or working directory is on a small disk of its own."""
    base = Path(tempfile.mkdtemp(prefix="js-"))
    data, elsewhere = base / "d", base / "w"
    folders = [data, data / "attempts", data / "runner", elsewhere]
    with contextlib.ExitStack() as mounts:
        for folder in folders:
            folder.mkdir(mode=0o700)
            mounts.enter_context(mounted(folder))
        disk = {"database": data, "output": data / "attempts", "work": elsewhere}[request.param]
        server = Server(data, "--slots", str(JOBS))
        server.log_path = tmp_path / "log"
        yield Place(server.start(), disk, str(elsewhere) if request.param == "work" else "")
        tidy(server)
        check_file(server)
    shutil.rmtree(base)


class Load:
    """Clients that submit jobs, and read, over and over; each job writes a file and a line."""

    def __init__(self, client: Client, place: Place, witness: Witness) -> None:
        self._client = client
        self._work_dir = place.work_dir
        self._command = witness.job("head -c 20000 /dev/zero > $JOBSERVICE_JOB_ID && echo done")
        self.acknowledged: list[Job] = []
        self.refusals = 0

    def step(self, _number: int, turn: int) -> None:
        """One turn of a client; what it is refused for is nothing but the full disk."""
        if turn >= MOST_TURNS:
            self._client.get(self.acknowledged[-1])
            return
        try:
            job = self._client.create(
                self._command, work_dir=self._work_dir, retry_policy=AGAIN, stdin=bytes(10_000)
            )
        except StoreFull:
            self.refusals += 1
        else:
            self.acknowledged.append(job)

    def is_hurt(self) -> bool:
        """Whether the full disk was met by several: by submits, or by jobs."""
        failed = [job for job in self._client.list() if job.failure_count]
        return self.refusals >= MET or len(failed) >= MET


def test_a_disk_that_is_full_under_load(place: Place, tmp_path: Path) -> None:
    witness, pid = Witness(tmp_path / "witness"), place.server.pid
    with Client(place.server.unix_address) as client:
        load = Load(client, place, witness)
        with Crowd(load.step, CLIENTS) as crowd:
            wait_until(lambda: len(load.acknowledged) >= MET, what="some jobs")
            with filled(place.disk):
                wait_until(load.is_hurt, what="those that meet the full disk")
            refused_until_now = load.refusals
            job = client.wait(
                client.create(["sh", "-c", "echo last"], work_dir=place.work_dir), timeout=40
            )
            assert (job.state, output(client, job)) == (State.SUCCEEDED, b"last\n")
            crowd.join()
        is_database = place.disk == place.server.data_dir
        assert (refused_until_now > 0) == is_database, "only the database refuses jobs"
        done = all_final(client, load.acknowledged)
        assert {each.state for each in done} == {State.SUCCEEDED}
        for each in done:
            written = output(client, each)
            # The file of the job may have taken the last of the space, before its line was written.
            lost = each.attempts[-1].dropped_bytes == len("done\n")
            assert written == (b"" if lost else b"done\n"), str(each.attempts)
        assert {each.job_id for each in client.list()} == {
            job.job_id,
            *(each.job_id for each in load.acknowledged),
        }
        witness.check(done)
    assert place.server.pid == pid
    assert place.server.process is not None
    assert place.server.process.poll() is None


def test_a_backup_or_a_restore_without_room_leaves_nothing(disk: Path, tmp_path: Path) -> None:
    path, good = tmp_path / "jobservice.db", tmp_path / "good"
    upgrade(path)
    backup(path, good, force=False)
    with filled(disk):
        with pytest.raises(StoreFull, match="room"):
            backup(path, disk / "backup", force=False)
        with pytest.raises(StoreFull, match="room"):
            restore(good, disk / "jobservice.db", force=False)
        assert [each.name for each in disk.iterdir()] == ["ballast"]
