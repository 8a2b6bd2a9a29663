"""Workers, as Python calls: `client.workers`."""

from collections.abc import Callable, Iterator
from typing import Any

from jobservice.client import calls
from jobservice.model.worker import Worker
from jobservice.wire import messages as pb
from jobservice.wire import workers as wire
from jobservice.wire.stubs import WorkerServiceStub


class Workers:
    """The workers of the service; a `Client` has one of these."""

    def __init__(self, call: Callable[..., Any], stub: WorkerServiceStub, page_size: int) -> None:
        self._call = call
        self._stub = stub
        self._page_size = page_size

    def get(self, worker_id: str) -> Worker:
        """One worker: what it is and has, what it runs, when it was last heard of."""
        request = pb.GetWorkerRequest(worker_id=worker_id)
        return wire.to_worker(self._call(self._stub.GetWorker, request).worker)

    def list(self) -> Iterator[Worker]:
        """Workers by id, read page by page as they are asked for."""
        request = pb.ListWorkersRequest(page_size=self._page_size)
        for page in calls.pages(self._call, self._stub.ListWorkers, request):
            yield from map(wire.to_worker, page.workers)

    def drain(self, worker_id: str, *, reason: str = "") -> Worker:
        """Keep a worker from taking anything new until it is resumed; what it runs goes on.

        Args:
            worker_id: The worker.
            reason: Why, for people.
        """
        request = pb.DrainWorkerRequest(worker_id=worker_id, reason=reason)
        return wire.to_worker(self._call(self._stub.DrainWorker, request).worker)

    def resume(self, worker_id: str) -> Worker:
        """Let a worker take jobs again."""
        request = pb.ResumeWorkerRequest(worker_id=worker_id)
        return wire.to_worker(self._call(self._stub.ResumeWorker, request).worker)
