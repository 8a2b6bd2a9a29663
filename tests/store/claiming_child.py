"""A process with several claimers that run jobs until nothing is left, or until it is killed.

Run as `python -m tests.store.claiming_child STORE WORKER WITNESS CLAIMERS`. A claimer tells the
witness, a file that only grows, with one write(2): `+ FENCE` once its claim is committed, `- FENCE`
before it asks for the end to be recorded. So between the two lines the lease is held, whatever becomes
of the process.
"""

import asyncio
import os
import sys
from pathlib import Path

from jobservice.store.port import Store
from jobservice.store.postgres.store import PostgresStore
from jobservice.store.sqlite.store import SqliteStore
from tests.conformance.values import claim, end, finish, start

AT_ONCE = 3
TURNS = 5
"""How often others may run while a job does."""


async def opened(where: str) -> Store:
    """The store at a path or an address."""
    if "://" in where:
        return await PostgresStore.open(where, deadline_s=60)
    return await SqliteStore.open(Path(where), deadline_s=60)


async def claimer(store: Store, worker_id: str, witness: int) -> None:
    """Run jobs, a few at once, until none can be had."""
    while claims := await claim(store, AT_ONCE, worker_id=worker_id):
        fences = [each.fence for each in claims]
        os.write(witness, "".join(f"+ {fence}\n" for fence in fences).encode())
        await start(store, *fences)
        for _ in range(TURNS):
            await asyncio.sleep(0)
        os.write(witness, "".join(f"- {fence}\n" for fence in fences).encode())
        await finish(store, *[end(fence) for fence in fences])


async def main(where: str, worker_id: str, path: str, claimers: int) -> None:
    store = await opened(where)
    witness = os.open(path, os.O_WRONLY | os.O_APPEND)
    await asyncio.gather(*[claimer(store, worker_id, witness) for _ in range(claimers)])
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
