"""A worker over the PostgreSQL store whose attempts end at once, as a process of its own.

    drain_worker.py URL SLOTS JOBS

Prints "ready", begins after a line on its input, and when so many ends are recorded prints how many and
when that was. All parts are those of a server with a worker, its log included, but for the executor:
what it starts has ended when the event loop comes round.
"""

import asyncio
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop

from jobservice.clock import SystemClock
from jobservice.config import Settings
from jobservice.engine.claim import Leases
from jobservice.engine.parts import Parts, Signals
from jobservice.executors.port import Ended, StartOrder
from jobservice.model.attempt import Cause, Outcome
from jobservice.model.lease import AttemptEnd
from jobservice.model.worker import WorkerInfo
from jobservice.store.postgres.store import PostgresStore
from jobservice.telemetry import configure_logging
from jobservice.testing.executor import ScriptedExecutor
from jobservice.worker.loop import Worker


class _NoOps(ScriptedExecutor):
    """Has every attempt succeed."""

    def start(self, orders: Sequence[StartOrder]) -> None:
        super().start(orders)
        asyncio.get_running_loop().call_soon(self._end, orders)

    def _end(self, orders: Sequence[StartOrder]) -> None:
        now = self._clock.now()
        ends = [
            Ended(each.fence, Outcome(Cause.EXIT, now, self.running.pop(each.fence), exit_code=0))
            for each in orders
        ]
        self.ended |= {each.fence: each for each in ends}
        self._on_reports(ends)


class _Counting(Leases):
    """Knows when so many ends are recorded."""

    def __init__(self, parts: Parts, *, lease_s: float, jobs: int) -> None:
        super().__init__(parts, lease_s=lease_s)
        self._left = jobs
        self.done = asyncio.Event()

    async def finish(self, ends: Sequence[AttemptEnd]) -> Sequence[bool]:
        accepted = await super().finish(ends)
        self._left -= sum(accepted)
        if self._left <= 0:
            self.done.set()
        return accepted


async def drain(url: str, slots: int, jobs: int) -> float:
    """When the last end was recorded."""
    given: dict[str, Any] = {"data_dir": Path(), "slots": slots}
    settings = Settings(**given)
    clock = SystemClock()
    store = await PostgresStore.open(url)
    parts = Parts(store, clock, random.Random(), Signals())
    store.on_hint(parts.signals.anything)
    leases = _Counting(parts, lease_s=settings.lease_s, jobs=jobs)
    worker = Worker(
        info=WorkerInfo("bench", slots=slots, embedded=True),
        dispatcher=leases,
        executor=_NoOps(clock),
        directory_of=lambda job_id, attempt: Path(job_id, str(attempt)),
        clock=clock,
        poll_s=settings.poll_s,
    )
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    async with asyncio.TaskGroup() as group:
        working = group.create_task(worker.run())
        await leases.done.wait()
        ended = time.perf_counter()
        working.cancel()
    await store.close()
    return ended


if __name__ == "__main__":
    configure_logging("info", "json")
    url, slots, jobs = sys.argv[1:]
    print(jobs, uvloop.run(drain(url, int(slots), int(jobs))))
