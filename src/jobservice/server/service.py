"""All parts of a running service, put together in one place: in production and in virtual time."""

import asyncio
import contextlib
import datetime as dt
import os
import random
from collections.abc import Coroutine

from jobservice.blobs.disk import AttemptFiles
from jobservice.clock import Clock
from jobservice.config import Settings
from jobservice.engine.bulk import Operations
from jobservice.engine.claim import Leases
from jobservice.engine.lead import Leader
from jobservice.engine.leftovers import Leftovers
from jobservice.engine.lookout import Lookout
from jobservice.engine.parts import Parts, Signals
from jobservice.engine.sweep import Sweeps
from jobservice.engine.watch import ChangeFeed
from jobservice.executors.port import Executor
from jobservice.server import instance
from jobservice.server.listen import Listener
from jobservice.store.port import Store
from jobservice.telemetry import logger
from jobservice.worker.loop import Worker

CALLS_END_S = 10.0
"""How long calls in flight have to end once the service shuts down."""


class Service:
    """A server and its worker, over what is given: a store, an executor, time and chance."""

    def __init__(
        self,
        settings: Settings,
        *,
        store: Store,
        executor: Executor,
        clock: Clock,
        rng: random.Random,
        worker_id: str,
    ) -> None:
        self._settings = settings
        self._store = store
        self._executor = executor
        self._log = logger("server")
        parts = Parts(store, clock, rng, Signals())
        store.on_hint(parts.signals.anything)
        feed = ChangeFeed(store, capacity=settings.change_buffer, poll_s=settings.poll_s)
        files = AttemptFiles(settings.data_dir / "attempts")
        self._feed = feed
        self._worker_id = worker_id
        self._leases = Leases(parts, lease_s=settings.lease_s, poll_s=settings.poll_s)
        origin = "" if settings.database is None else instance.origin(settings.data_dir)
        self._worker = Worker(
            info=instance.worker_info(settings, worker_id, embedded=True, origin=origin),
            dispatcher=self._leases,
            executor=executor,
            directory_of=files.directory,
            clock=clock,
            poll_s=settings.poll_s,
            output=None if settings.database is None else files,
        )
        self._files = files
        self._leftovers = Leftovers(
            parts,
            worker_id=worker_id,
            remove_files=files.remove,
            held=self._worker.held_jobs,
            poll_s=settings.poll_s,
        )
        self._leader = Leader(
            parts, server=f"{worker_id} {origin[:8]}".strip(), lease_s=settings.leader_lease_s
        )
        self._listener = Listener(settings, parts, feed, files, self._leases, worker_id=worker_id)

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
        loops = [
            self._feed.run(),
            self._worker.run(),
            self._leases.hear_stops(self._worker_id),
            self._leases.hear_resumes(),
            self._leader.run(self._duties),
        ]
        if self._settings.database is not None:  # else there is no other server
            loops.append(self._leftovers.run(self._worker.adopted))
        return [group.create_task(each) for each in loops]

    def _duties(self, parts: Parts) -> list[Coroutine[object, object, None]]:
        """What this server does while it leads."""
        settings = self._settings
        retention = dt.timedelta(days=settings.request_retention_days)
        sweeps = Sweeps(
            parts,
            remove_files=self._files.remove,
            lease_s=settings.lease_s,
            poll_s=settings.poll_s,
            retention=retention,
        )
        operations = Operations(parts, poll_s=settings.poll_s, retention=retention)
        lookout = Lookout(parts, older_s=settings.held_open_s)
        return [*sweeps.loops(self._worker.adopted), *operations.loops(), lookout.run()]

    async def drain(self) -> None:
        """Stop accepting, let calls end, settle the worker; bounded by `shutdown_s`."""
        settings = self._settings
        self._log.info("draining", stop_jobs=settings.stop_jobs)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(settings.shutdown_s * 0.9):
                await self._listener.stop(min(CALLS_END_S, settings.shutdown_s / 3))
                await self._leader.leave()
                await self._worker.drain(
                    stop_jobs=settings.stop_jobs, timeout_s=settings.shutdown_s / 2
                )

    async def aclose(self) -> None:
        """Let go of everything, whatever was reached."""
        await self._executor.close(stop_runner=self._settings.stop_jobs)
        await self._store.close()
        self._log.info("stopped")
