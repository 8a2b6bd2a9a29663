"""A process that fires what is due of the schedules of a file, a minute after their beginning.

Run as `python -m tests.store.firing_child DATABASE`.
"""

import asyncio
import os
import sys
from pathlib import Path

from jobservice.store.sqlite.store import SqliteStore
from tests.conformance.schedules import Engine


async def main(path: Path) -> None:
    store = await SqliteStore.open(path)
    await Engine(store, seed=os.getpid()).after(1)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
