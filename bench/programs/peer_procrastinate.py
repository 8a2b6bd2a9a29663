"""Procrastinate, as its users run it; in an environment of its own, for the rows that compare with it.

peer_procrastinate.py URL install
peer_procrastinate.py URL enqueue CALLS BATCH    prints the jobs per second
peer_procrastinate.py URL drain CONCURRENCY      prints "ready", and after a line on its input and the
                                                 last job how many there were and when it ended
"""

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

from procrastinate import App, PsycopgConnector

ended: list[float] = []
"""When each job of this process was over."""


async def noop() -> None:
    """What a job does."""
    ended.append(time.perf_counter())


async def install(app: App) -> None:
    """Make its tables."""
    await app.schema_manager.apply_schema_async()


async def enqueue(app: App, calls: int, batch: int) -> None:
    """Put jobs into its queue, many a call."""
    job = app.tasks["noop"].configure()
    begin = time.perf_counter()
    for _ in range(calls):
        await job.batch_defer_async(*[{}] * batch)
    print(calls * batch / (time.perf_counter() - begin))


async def drain(app: App, concurrency: int) -> None:
    """Work until nothing is left."""
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await app.run_worker_async(concurrency=concurrency, wait=False, install_signal_handlers=False)
    print(len(ended), max(ended, default=0.0))


async def main(url: str, what: str, *numbers: int) -> None:
    """Do what is asked, with its tables at this address."""
    app = App(connector=PsycopgConnector(conninfo=url))
    app.task(name="noop")(noop)
    verbs: dict[str, Callable[..., Any]] = {"install": install, "enqueue": enqueue, "drain": drain}
    async with app.open_async():
        await verbs[what](app, *numbers)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])))
