"""PgQueuer, as its users run it; in an environment of its own, for the rows that compare with it.

peer_pgqueuer.py URL install
peer_pgqueuer.py URL enqueue CALLS BATCH [IN_FLIGHT]    prints the jobs per second
peer_pgqueuer.py URL drain BATCH    prints "ready", and after a line on its input and the last job
                                    how many there were and when the last one ended
"""

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

import asyncpg
import uvloop
from pgqueuer import PgQueuer, Queries
from pgqueuer.types import QueueExecutionMode

ENTRYPOINT = "noop"
PAYLOAD = b"/bin/true of the bench"


async def install(url: str) -> None:
    """Make its tables."""
    connection = await asyncpg.connect(url)
    await Queries.from_asyncpg_connection(connection).install()
    await connection.close()


async def enqueue(url: str, calls: int, batch: int, in_flight: int = 1) -> None:
    """Put jobs into its queue, many a call."""

    async def some(connection: asyncpg.Connection, calls: int) -> None:
        queries = Queries.from_asyncpg_connection(connection)
        for _ in range(calls):
            await queries.enqueue([ENTRYPOINT] * batch, [PAYLOAD] * batch, [0] * batch)

    connections = [await asyncpg.connect(url) for _ in range(in_flight)]
    begin = time.perf_counter()
    await asyncio.gather(*[some(each, calls // in_flight) for each in connections])
    print(calls // in_flight * in_flight * batch / (time.perf_counter() - begin))
    for each in connections:
        await each.close()


async def drain(url: str, batch: int) -> None:
    """Work until nothing is left."""
    connection = await asyncpg.connect(url)
    worker = PgQueuer.from_asyncpg_connection(connection)
    count, last = 0, 0.0

    async def noop(job: object) -> None:
        del job
        nonlocal count, last
        count += 1
        last = time.perf_counter()

    worker.entrypoint(ENTRYPOINT)(noop)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await worker.qm.run(batch_size=batch, mode=QueueExecutionMode.drain)
    print(count, last)
    await connection.close()


if __name__ == "__main__":
    verbs: dict[str, Callable[..., Any]] = {"install": install, "enqueue": enqueue, "drain": drain}
    uvloop.run(verbs[sys.argv[2]](sys.argv[1], *map(int, sys.argv[3:])))
