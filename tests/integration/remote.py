"""Workers on other hosts, for the tests: begun, and nothing of them left in the end."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from jobservice import Client, RetryPolicy, State
from jobservice.model.job import Job
from jobservice.testing.server import RemoteWorker, Server
from jobservice.testing.wait import wait_until
from tests.integration.conftest import short_directory

LEASE_S = 6
ENV = {"JOBSERVICE_LEASE_S": str(LEASE_S), "JOBSERVICE_POLL_S": "1"}

WITNESS = """
import fcntl, os, sys, time
lock = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    os.write(os.open(sys.argv[1] + ".overlap", os.O_WRONLY | os.O_CREAT, 0o600), b"two at once")
    sys.exit(9)
print("alone", flush=True)
os.fork()
time.sleep(600)
"""
"""A job that holds a lock while anything of it lives, and tells when somebody else holds it."""


@contextlib.contextmanager
def at_work(
    *addresses: str, slots: int = 2, env: dict[str, str] | None = None
) -> Iterator[RemoteWorker]:
    """A worker, of which nothing is left in the end."""
    for directory in short_directory():
        worker = RemoteWorker(directory, *addresses, slots=slots, env=env)
        try:
            yield worker.start()
        finally:
            tidy_worker(worker)


def tidy_worker(worker: RemoteWorker) -> None:
    """End a worker with all that it runs."""
    if worker.process is not None and worker.process.poll() is None:
        worker.stop()
    runner = worker.runner()
    if runner is not None:
        runner.send_signal(signal.SIGTERM)
    wait_until(lambda: not worker.leftovers(), what=f"the end of {worker.leftovers()}")


def until(client: Client, job: Job, attempt: int) -> Job:
    """The job once this attempt of it runs."""

    def look() -> Job | None:
        found = client.get(job)
        alive = found.state is State.RUNNING and found.attempts[-1].started_at is not None
        return found if alive and found.attempt_count == attempt else None

    found = wait_until(look, timeout_s=60, what=f"attempt {attempt} of {job.job_id}")
    assert found is not None
    return found


def witness(client: Client, lock: Path) -> tuple[Job, psutil.Process]:
    """A job that holds a lock, and its process."""
    retry = RetryPolicy(max_attempts=1, max_lost=5)
    job = client.create([sys.executable, "-c", WITNESS, str(lock)], retry_policy=retry)
    job = until(client, job, 1)
    return job, holder_of(job)


def holder_of(job: Job) -> psutil.Process:
    """The process of the newest attempt of a job."""

    def look() -> psutil.Process | None:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                variables = process.environ()
                known = variables.get("JOBSERVICE_JOB_ID"), variables.get("JOBSERVICE_ATTEMPT")
                if known == (job.job_id, str(job.attempt_count)):
                    return process
        return None

    found = wait_until(look, what="the process of the job")
    assert found is not None
    return found


def is_gone(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() == psutil.STATUS_ZOMBIE
    return True


def logged(service: Server, event: str, times: int = 1) -> None:
    """Wait until a server or a worker has said something, so often."""
    wanted = f'"event": "{event}"'
    wait_until(lambda: service.log_path.read_text().count(wanted) >= times, what=event)
