"""`jobservice serve`: opens the store, runs a server and its worker, and takes them down.

Order of the start: lock, migrate, listen, adopt, sweep, claim. On SIGTERM or SIGINT: not ready,
nothing new is accepted, calls in flight end, what ended is recorded, and the running jobs go on
under the runner (with `stop_jobs` they are stopped and queued again). A second signal leaves at
once; nothing acknowledged is lost by it.
"""

import asyncio
import contextlib
import os
import random
import signal
import sys

import uvloop

from jobservice.clock import server_clock
from jobservice.config import Settings
from jobservice.executors.process import ProcessExecutor
from jobservice.server import instance
from jobservice.server.service import Service
from jobservice.server.surroundings import warn_of_environment
from jobservice.store.port import Store
from jobservice.store.postgres.store import PostgresStore
from jobservice.store.sqlite.store import SqliteStore
from jobservice.telemetry import configure_logging, logger

SWITCH_INTERVAL_S = 0.0001
"""How soon the store's thread gets the interpreter from a busy event loop, in seconds; it takes it
again around every step of a statement, and Python's default of 5 ms would make each one wait."""


def serve(settings: Settings) -> None:
    """Run the service until a signal ends it.

    Raises:
        SetupError: it cannot start as configured.
    """
    configure_logging(settings.log_level, settings.log_format)
    warn_of_environment(logger("server"))
    os.umask(0o077)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    data_dir = settings.data_dir.absolute()
    settings = settings.model_copy(update={"data_dir": data_dir})
    instance.prepare(data_dir, settings.socket_path)
    with instance.locked(data_dir) as lock:
        uvloop.run(_serve(settings, lock))


async def _serve(settings: Settings, lock: instance.Lock) -> None:
    stop = stop_on_signals()
    store = await _open_store(settings)
    async with contextlib.aclosing(_service(settings, store)) as service:
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
    direct = settings.database_direct
    return await PostgresStore.open(
        url,
        direct=None if direct is None else direct.get_secret_value(),
        waiting_limit=waiting,
        deadline_s=deadline_s,
    )


def _service(settings: Settings, store: Store) -> Service:
    return Service(
        settings,
        store=store,
        executor=ProcessExecutor(
            settings.data_dir, containment=settings.containment, idle_s=settings.runner_idle_s
        ),
        clock=server_clock(),
        rng=random.SystemRandom(),
        worker_id=instance.worker_id(settings.data_dir),
    )


def stop_on_signals() -> asyncio.Event:
    """Set at the first signal to end; a second one ends the process at once."""
    stop = asyncio.Event()

    def hear() -> None:
        if stop.is_set():
            os._exit(128 + signal.SIGTERM)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, hear)
    return stop
