"""The service without processes: real API, engine and store, and attempts that the test ends."""

import asyncio
import datetime as dt
import random
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from jobservice.blobs.port import Piece, Stream
from jobservice.clock import SystemClock
from jobservice.config import Settings
from jobservice.engine.claim import Leases
from jobservice.engine.parts import Parts, Signals
from jobservice.engine.sweep import Sweeps
from jobservice.engine.watch import ChangeFeed
from jobservice.model.attempt import Fence
from jobservice.model.worker import WorkerInfo
from jobservice.server.listen import Listener
from jobservice.store.sqlite.store import SqliteStore
from jobservice.testing.executor import ScriptedExecutor
from jobservice.testing.wait import wait_until
from jobservice.worker.loop import Worker

T = TypeVar("T")
RETENTION = dt.timedelta(days=7)
PIECE_BYTES = 4
"""Small, so that a little output comes in several pieces."""


async def no_files(jobs: Sequence[tuple[str, int]]) -> Sequence[bool]:
    """There are none to remove."""
    return [True for _ in jobs]


class ScriptedOutputs:
    """What attempts wrote, as the test says."""

    def __init__(self) -> None:
        self.written: dict[tuple[str, int, Stream], bytes] = {}

    def write(self, job_id: str, attempt: int, stream: Stream, data: bytes) -> None:
        """The attempt writes."""
        key = (job_id, attempt, stream)
        self.written[key] = self.written.get(key, b"") + data

    async def read(self, job_id: str, attempt: int, stream: Stream, offset: int) -> Piece:
        data = self.written.get((job_id, attempt, stream), b"")
        return Piece(offset, data[offset : offset + PIECE_BYTES])


class Service:
    """Serves on a Unix socket, from a thread of its own. It can be stopped and started again."""

    def __init__(self, data_dir: Path, *, slots: int = 2) -> None:
        values: dict[str, Any] = {"data_dir": data_dir, "slots": slots, "poll_s": 0.2}
        self.settings = Settings(**values)
        self.address = f"unix:{self.settings.socket_path}"
        self.executor = ScriptedExecutor(SystemClock())
        self.outputs = ScriptedOutputs()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._stopping: Callable[[], Coroutine[Any, Any, None]] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def start(self) -> None:
        """Serve."""
        self._do(self._start())

    def stop(self) -> None:
        """Break off every call and stop; attempts go on."""
        if self._stopping is not None:
            self._do(self._stopping())
            self._stopping = None

    def call(self, act: Callable[[], T]) -> T:
        """Do something where the service lives."""

        async def in_the_loop() -> T:
            return act()

        return self._do(in_the_loop())

    def running(self, job_id: str, attempt: int = 1) -> Fence:
        """The fence of an attempt, once it runs."""
        what = f"attempt {attempt} of {job_id}"
        fence = wait_until(lambda: self._find(job_id, attempt), what=what)
        assert fence is not None
        return fence

    def end(self, job_id: str, attempt: int = 1, **outcome: Any) -> None:
        """The process of an attempt ends, with 0 where nothing else is said."""
        fence = self.running(job_id, attempt)
        self.call(lambda: self.executor.end(fence, **(outcome or {"exit_code": 0})))

    def progress(self, job_id: str, percent: float, step: str) -> None:
        """The process of the first attempt says how far it is."""
        fence = self.running(job_id)
        self.call(lambda: self.executor.progress(fence, percent, step))

    def _find(self, job_id: str, attempt: int) -> Fence | None:
        found = [f for f in self.executor.running if (f.job_id, f.attempt) == (job_id, attempt)]
        return found[0] if found else None

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _start(self) -> None:
        settings = self.settings
        settings.data_dir.mkdir(exist_ok=True)
        clock = SystemClock()
        store = await SqliteStore.open(settings.database_path)
        parts = Parts(store, clock, random.Random(0), Signals())
        feed = ChangeFeed(store, capacity=1000, poll_s=settings.poll_s)
        leases = Leases(parts, lease_s=settings.lease_s, poll_s=settings.poll_s)
        worker = Worker(
            info=WorkerInfo("w", slots=settings.slots, embedded=True),
            dispatcher=leases,
            executor=self.executor,
            directory_of=lambda job_id, attempt: settings.data_dir / f"{job_id}-{attempt}",
            clock=clock,
            poll_s=settings.poll_s,
        )
        sweeps = Sweeps(
            parts,
            remove_files=no_files,
            lease_s=settings.lease_s,
            poll_s=settings.poll_s,
            retention=RETENTION,
        )
        listener = Listener(settings, parts, feed, self.outputs, leases, worker_id="w")
        await listener.start()
        loops = [feed.run(), worker.run(), *sweeps.loops(worker.adopted)]
        running = [asyncio.ensure_future(each) for each in loops]

        async def stop() -> None:
            await listener.stop(0)
            for each in running:
                each.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await store.close()

        self._stopping = stop
