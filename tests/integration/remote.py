"""Workers on other hosts, for the tests: begun, and nothing of them left in the end."""

import contextlib
import signal
from collections.abc import Iterator

from jobservice import Client, State
from jobservice.model.job import Job
from jobservice.testing.server import RemoteWorker
from jobservice.testing.wait import wait_until
from tests.integration.conftest import short_directory

LEASE_S = 6
ENV = {"JOBSERVICE_LEASE_S": str(LEASE_S), "JOBSERVICE_POLL_S": "1"}


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
