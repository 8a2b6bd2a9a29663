"""`jobservice serve`: puts a server and its worker together, runs them, and takes them down.

Order of the start: lock, migrate, listen, adopt, sweep, claim. On SIGTERM or SIGINT: not ready,
nothing new is accepted, calls in flight end, what ended is recorded, and the running jobs go on
under the runner (with `stop_jobs` they are stopped and queued again). A second signal leaves at
once; nothing acknowledged is lost by it.
"""

import asyncio
import contextlib
import datetime as dt
import os
import random
import signal
import sys

import uvloop

from jobservice.blobs.disk import AttemptFiles
from jobservice.clock import SystemClock
from jobservice.config import Settings
from jobservice.engine.claim import Leases
from jobservice.engine.parts import Parts, Signals
from jobservice.engine.sweep import Sweeps
from jobservice.engine.watch import ChangeFeed
from jobservice.executors.process import ProcessExecutor
from jobservice.server import instance
from jobservice.server.listen import Listener
from jobservice.store.port import Store
from jobservice.store.postgres.store import PostgresStore
from jobservice.store.sqlite.store import SqliteStore
from jobservice.telemetry import configure_logging, logger
from jobservice.worker.loop import Worker

CALLS_END_S = 10.0
"""How long calls in flight have to end once the service shuts down."""


SWITCH_INTERVAL_S = 0.0001
"""How soon the store's thread gets the interpreter from a busy event loop, in seconds; it takes it
again around every step of a statement, and Python's default of 5 ms would make each one wait."""


def serve(settings: Settings) -> None:
    """Run the service until a signal ends it.

    Raises:
        SetupError: it cannot start as configured.
    """
    configure_logging(settings.log_level, settings.log_format)
    os.umask(0o077)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    data_dir = settings.data_dir.absolute()
    settings = settings.model_copy(update={"data_dir": data_dir})
    instance.prepare(data_dir, settings.socket_path)
    with instance.locked(data_dir) as lock:
        uvloop.run(_serve(settings, lock))


async def _serve(settings: Settings, lock: instance.Lock) -> None:
    stop = _stop_on_signals()
    store = await _open_store(settings)
    async with contextlib.aclosing(_Service(settings, store)) as service:
        lock.announce(await service.listen())
        async with asyncio.TaskGroup() as group:
            loops = service.start_loops(group)
            await stop.wait()
            await service.drain()
            for loop in loops:
                loop.cancel()


async def _open_store(settings: Settings) -> Store:
    waiting, deadline_s = settings.write_queue, settings.store_timeout_s
    if settings.database is None:
        path = settings.database_path
        return await SqliteStore.open(path, waiting_limit=waiting, deadline_s=deadline_s)
    url = settings.database.get_secret_value()
    return await PostgresStore.open(url, waiting_limit=waiting, deadline_s=deadline_s)


class _Service:
    """All parts of a running service."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._log = logger("server")
        clock = SystemClock()
        parts = Parts(store, clock, random.SystemRandom(), Signals())
        feed = ChangeFeed(store, capacity=settings.change_buffer, poll_s=settings.poll_s)
        files = AttemptFiles(settings.data_dir / "attempts")
        self._feed = feed
        self._executor = ProcessExecutor(
            settings.data_dir, containment=settings.containment, idle_s=settings.runner_idle_s
        )
        self._worker = Worker(
            worker_id=instance.worker_id(settings.data_dir),
            slots=settings.slots,
            dispatcher=Leases(parts, lease_s=settings.lease_s),
            executor=self._executor,
            directory_of=files.directory,
            clock=clock,
            lease_s=settings.lease_s,
            poll_s=settings.poll_s,
        )
        self._sweeps = Sweeps(
            parts,
            remove_files=files.remove,
            lease_s=settings.lease_s,
            poll_s=settings.poll_s,
            retention=dt.timedelta(days=settings.request_retention_days),
        )
        self._listener = Listener(settings, parts, feed, files)

    async def listen(self) -> list[str]:
        """Accept calls; returns the addresses."""
        addresses = await self._listener.start()
        self._log.info(
            "serving",
            pid=os.getpid(),
            addresses=addresses,
            slots=self._settings.slots,
            data_dir=str(self._settings.data_dir),
        )
        return addresses

    def start_loops(self, group: asyncio.TaskGroup) -> "list[asyncio.Task[None]]":
        """Set the loops going. One that ends by itself is a fault, and ends the service."""
        return [
            group.create_task(self._feed.run()),
            group.create_task(self._worker.run()),
            group.create_task(self._sweeps.run(self._worker.adopted)),
        ]

    async def drain(self) -> None:
        """Stop accepting, let calls end, settle the worker; bounded by `shutdown_s`."""
        settings = self._settings
        self._log.info("draining", stop_jobs=settings.stop_jobs)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(settings.shutdown_s * 0.9):
                await self._listener.stop(min(CALLS_END_S, settings.shutdown_s / 3))
                await self._worker.drain(
                    stop_jobs=settings.stop_jobs, timeout_s=settings.shutdown_s / 2
                )

    async def aclose(self) -> None:
        """Let go of everything, whatever was reached."""
        await self._executor.close(stop_runner=self._settings.stop_jobs)
        await self._store.close()
        self._log.info("stopped")


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()

    def hear() -> None:
        if stop.is_set():
            os._exit(128 + signal.SIGTERM)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, hear)
    return stop
