"""A process that writes to a store until it is killed, and says what was acknowledged.

Run as `python -m tests.store.writing_child DATABASE`. Each line of its output is one acknowledgement:
`submitted ID`, `started ID`, `ended ID`, `deleted ID`. A line is written when the call has returned,
with one write(2), so whatever was printed was promised.
"""

import asyncio
import os
import sys
from pathlib import Path

from jobservice.store.port import StopRequest
from jobservice.store.sqlite.store import SqliteStore
from tests.conformance.values import TENANT, at, claim, end, finish, key_of, new_job, start

CLIENTS = 4


def say(what: str, *job_ids: str) -> None:
    os.write(1, "".join(f"{what} {job_id}\n" for job_id in job_ids).encode())


async def client(store: SqliteStore, number: int) -> None:
    """Submit, run and delete jobs without an end."""
    while True:
        jobs = [new_job() for _ in range(number + 1)]
        await store.insert_jobs(jobs)
        say("submitted", *[each.job_id for each in jobs])
        fences = [each.fence for each in await claim(store, number + 1)]
        started = await start(store, *fences)
        say("started", *[each.job_id for each, new in zip(fences, started, strict=True) if new])
        settled = await finish(store, *[end(each, number % 2) for each in fences[1:]])
        say("ended", *[each.job_id for each, new in zip(fences[1:], settled, strict=True) if new])
        if number == CLIENTS - 1:
            [doomed, *_] = jobs
            stop = StopRequest(TENANT, doomed.job_id, delete=True)
            await store.request_stop([stop], now=at(5))
            if await store.delete_jobs([key_of(doomed)], now=at(6)) == [True]:
                say("deleted", doomed.job_id)


async def main(path: Path) -> None:
    store = await SqliteStore.open(path)
    await asyncio.gather(*[client(store, number) for number in range(CLIENTS)])


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
