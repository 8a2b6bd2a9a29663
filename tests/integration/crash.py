"""What the tests of crashes and faults share: a witness of every run, and a look at the file."""

import asyncio
import collections
import contextlib
import subprocess
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import apsw
import asyncpg
import psutil

from jobservice import Client
from jobservice.errors import Unavailable
from jobservice.model.job import Job
from jobservice.store.port import Store
from jobservice.store.postgres.store import PostgresStore
from jobservice.store.sqlite.store import SqliteStore
from jobservice.testing.invariants import check_invariants
from jobservice.testing.server import Server
from jobservice.testing.wait import wait_until

BEGINNING = "p0"
"""The position of a store in which nothing has happened yet."""
DAEMONS = Path(__file__).parents[1] / "runner" / "programs" / "daemons.c"


class Witness:
    """A file in which every run of a job notes its attempt and lease, by one append.

    A second run of the same job that begins while a process of the first lives notes DOUBLE: each
    holds a lock that its whole tree inherits.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(exist_ok=True)
        self._notes = folder / "runs"

    def job(self, then: str = "exit 0") -> list[str]:
        """The command of a job that notes its run and goes on with `then`, in a shell."""
        lock = f"exec 9>{self.folder}/lock-$JOBSERVICE_JOB_ID; flock --nonblock -E 9 9"
        note = f'[ $? -eq 9 ] && echo DOUBLE; echo "$JOBSERVICE_ATTEMPT_KEY"; }} >> {self._notes}'
        return ["sh", "-c", f"{{ {lock}; {note}; {then}"]

    def runs(self, job: Job | None = None) -> list[str]:
        """The keys of attempts in the order of their starts, of one job or of all."""
        lines = self._notes.read_text().splitlines() if self._notes.exists() else []
        return [line for line in lines if job is None or job.job_id in line]

    def check(self, jobs: Iterable[Job]) -> None:
        """No attempt ran twice, no two ran at a time, none is unknown, and each end had a run."""
        runs = self.runs()
        double = [runs[at : at + 2] for at, run in enumerate(runs) if run == "DOUBLE"]
        assert not double, "two attempts of a job lived at the same time"
        attempts = ["/".join(run.split("/")[1:3]) for run in runs]
        twice = [each for each, count in collections.Counter(attempts).items() if count > 1]
        assert not twice, "an attempt ran twice"
        known = {f"{job.job_id}/{each.attempt}" for job in jobs for each in job.attempts}
        assert set(attempts) <= known, f"nobody knows of {set(attempts) - known}"
        last = {f"{job.job_id}/{job.attempt_count}" for job in jobs if job.exit_code is not None}
        assert last <= set(attempts), f"never ran: {last - set(attempts)}"


def check_file(server: Server) -> None:
    """The database of a service that is down is whole, and every invariant holds in it."""
    assert server.process is not None
    assert server.process.poll() is not None, "the file belongs to the server"
    job_ids(server)
    asyncio.run(_check_store(server))


async def _check_store(server: Server) -> None:
    store = await _opened(server)
    try:
        await check_invariants(store, beginning=BEGINNING)
    finally:
        await store.close()


async def _opened(server: Server) -> Store:
    if server.database is not None:
        return await PostgresStore.open(server.database)
    return await SqliteStore.open(server.data_dir / "jobservice.db")


def job_ids(server: Server) -> set[str]:
    """Every job in the database of a service that is down, and the file is whole."""
    if server.database is not None:
        return asyncio.run(_job_ids_of(server.database))
    connection = apsw.Connection(str(server.data_dir / "jobservice.db"))
    assert connection.execute("PRAGMA integrity_check").get == "ok"
    found = {str(job_id) for (job_id,) in connection.execute("SELECT job_id FROM jobs")}
    connection.close()
    return found


async def _job_ids_of(database: str) -> set[str]:
    connection = await asyncpg.connect(database)
    try:
        return {str(job_id) for (job_id,) in await connection.fetch("SELECT job_id FROM jobs")}
    finally:
        await connection.close()


def processes(token: object) -> dict[int, float]:
    """Pid and time of birth of the living processes that name a token in command or environment."""
    found = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            about = [*process.cmdline(), *process.environ().values()]
            if any(str(token) in each for each in about) and is_alive(process.pid):
                found[process.pid] = process.create_time()
    return found


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def runner_pid(server: Server) -> int:
    """The pid of the newest runner of a data directory, dead or alive; waits for the first one."""
    lock = server.data_dir / "runner" / "lock"
    return int(wait_until(lambda: lock.exists() and lock.read_text(), what="a runner") or 0)


def kill_runner(server: Server) -> int:
    """SIGKILL the runner; returns its pid."""
    pid = runner_pid(server)
    psutil.Process(pid).kill()
    wait_until(lambda: not is_alive(pid), what="the death of the runner")
    return pid


def all_final(client: Client, jobs: Iterable[Job], timeout_s: float = 40.0) -> list[Job]:
    """The jobs, once all of them have ended."""
    ended = {job.job_id: job for job in client.as_completed(jobs, timeout_s)}
    return list(ended.values())


class Crowd:
    """Threads that do the same thing over and over until they are told to stop."""

    def __init__(self, step: Callable[[int, int], None], threads: int) -> None:
        self._step = step
        self._stopped = threading.Event()
        self.faults: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._work, args=(number,), daemon=True)
            for number in range(threads)
        ]

    def _work(self, number: int) -> None:
        turn = 0
        try:
            while not self._stopped.is_set():
                self._step(number, turn)
                turn += 1
        except Unavailable as error:
            if not self._stopped.is_set():
                self.faults.append(error)
        except Exception as error:  # noqa: BLE001 - `join` raises it
            self.faults.append(error)

    def stop(self) -> None:
        """No new turn begins."""
        self._stopped.set()

    def join(self) -> None:
        """Until all have ended; what went wrong in one of them is raised."""
        self.stop()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a call never ended"
        if self.faults:
            raise self.faults[0]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def compile_daemons(folder: Path) -> Path:
    """The program of a tree that does not want to end; see the head of its source."""
    program = folder / "daemons"
    subprocess.run(["cc", "-O2", "-Wall", "-o", program, DAEMONS], check=True)
    return program
