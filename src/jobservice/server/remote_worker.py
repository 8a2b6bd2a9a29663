"""`jobservice worker`: a worker on another host than its servers, in a process of its own.

It has a data directory with a runner, as a server has, and no database: whatever it is to know or to
tell goes over gRPC. On SIGTERM nothing new is claimed, what has no process goes back, and what ended is
told. The running jobs go on under the runner for as long as they may without an answer, so that the
next `jobservice worker` finds them; with `stop_jobs` they are stopped and queued again.
"""

import asyncio
import contextlib
import os

import grpc
import uvloop

from jobservice.blobs.disk import AttemptFiles
from jobservice.client.address import resolve, tls_of
from jobservice.client.tls import credentials
from jobservice.clock import SystemClock
from jobservice.config import WorkerSettings
from jobservice.executors.process import ProcessExecutor
from jobservice.server import instance
from jobservice.server.main import stop_on_signals
from jobservice.server.surroundings import warn_of_environment
from jobservice.telemetry import Logger, configure_logging, logger
from jobservice.worker.loop import Worker
from jobservice.worker.remote import RemoteService


def work(settings: WorkerSettings) -> None:
    """Run the worker until a signal ends it.

    Raises:
        SetupError: it cannot start as configured.
    """
    configure_logging(settings.log_level, settings.log_format)
    warn_of_environment(logger("worker"))
    os.umask(0o077)
    data_dir = settings.data_dir.absolute()
    settings = settings.model_copy(update={"data_dir": data_dir})
    instance.prepare(data_dir, data_dir / "runner" / "runner.sock")
    with instance.locked(data_dir) as lock:
        lock.announce([f"as a worker of {settings.server}"])
        uvloop.run(_work(settings))


async def _work(settings: WorkerSettings) -> None:
    stop = stop_on_signals()
    clock = SystemClock()
    service = RemoteService(
        [resolve(each) for each in settings.servers], clock, _credentials(settings)
    )
    executor = ProcessExecutor(
        settings.data_dir, containment=settings.containment, idle_s=settings.runner_idle_s
    )
    worker_id = instance.worker_id(settings.data_dir)
    files = AttemptFiles(settings.data_dir / "attempts")
    worker = Worker(
        info=instance.worker_info(
            settings, worker_id, embedded=False, origin=instance.origin(settings.data_dir)
        ),
        dispatcher=service,
        executor=executor,
        directory_of=files.directory,
        clock=clock,
        poll_s=settings.poll_s,
        output=files,
        files=files,
    )
    log = logger("worker")
    log.info(
        "starting",
        pid=os.getpid(),
        worker=worker_id,
        servers=settings.servers,
        slots=settings.slots,
    )
    try:
        async with asyncio.TaskGroup() as group:
            loops = [
                group.create_task(worker.run()),
                group.create_task(service.run(worker_id)),
                group.create_task(_tell(worker, log)),
            ]
            await stop.wait()
            log.info("draining", stop_jobs=settings.stop_jobs)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(settings.shutdown_s * 0.9):
                    await worker.drain(
                        stop_jobs=settings.stop_jobs, timeout_s=settings.shutdown_s / 2
                    )
            for loop in loops:
                loop.cancel()
    finally:
        await executor.close(stop_runner=settings.stop_jobs)
        await service.close()
    log.info("stopped")


async def _tell(worker: Worker, log: Logger) -> None:
    """Say that a server answers and the runner is there."""
    await worker.adopted.wait()
    log.info("working")


def _credentials(settings: WorkerSettings) -> grpc.ChannelCredentials | None:
    """Who we are to a server, where TCP goes with TLS."""
    files = (settings.tls_ca, settings.tls_cert, settings.tls_key)
    ca, cert, key = (None if each is None else str(each) for each in files)
    tls = tls_of(ca, cert, key)
    return None if tls is None else credentials(tls)
