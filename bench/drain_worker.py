"""A worker over the PostgreSQL store whose attempts end at once, as a process of its own.

    drain_worker.py URL SLOTS

Prints "ready", begins after a line on its input, and when nothing is left prints how many ends it
recorded and when the last one was. All parts are those of a server with a worker, its log included, but
for the executor: what it starts has ended when the event loop comes round.
"""

import asyncio
import os
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
from jobservice.model.attempt import Cause, Fence, Outcome
from jobservice.model.lease import AttemptEnd, Claim
from jobservice.model.worker import WorkerInfo
from jobservice.store.postgres.store import PostgresStore
from jobservice.telemetry import configure_logging
from jobservice.testing.executor import ScriptedExecutor
from jobservice.worker.loop import Worker

LOOK_S = 0.1
"""How long an empty queue is waited for."""


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
    """Counts what is recorded, and knows when nothing is left."""

    def __init__(self, parts: Parts, *, lease_s: float) -> None:
        super().__init__(parts, lease_s=lease_s, poll_s=lease_s)
        self._open = 0
        self._is_empty = False
        self.recorded, self.ended = 0, 0.0
        self.done = asyncio.Event()

    async def claim(self, worker_id: str, limit: int, wait_s: float) -> Sequence[Claim]:
        claims = await super().claim(worker_id, limit, min(wait_s, LOOK_S))
        self._open += len(claims)
        self._is_empty = not claims
        self._look()
        return claims

    async def finish(self, ends: Sequence[AttemptEnd]) -> Sequence[bool]:
        accepted = await super().finish(ends)
        self._open -= len(ends)
        self.recorded, self.ended = self.recorded + sum(accepted), time.perf_counter()
        self._look()
        return accepted

    async def unclaim(self, fences: Sequence[Fence]) -> Sequence[bool]:
        handed_back = await super().unclaim(fences)
        self._open -= sum(handed_back)
        return handed_back

    def _look(self) -> None:
        if self._is_empty and not self._open:
            self.done.set()


async def drain(url: str, slots: int) -> tuple[int, float]:
    """How many ends were recorded, and when the last one was."""
    given: dict[str, Any] = {"data_dir": Path(), "slots": slots}
    settings = Settings(**given)
    clock = SystemClock()
    store = await PostgresStore.open(url)
    parts = Parts(store, clock, random.Random(), Signals())
    store.on_hint(parts.signals.anything)
    leases = _Counting(parts, lease_s=settings.lease_s)
    worker = Worker(
        info=WorkerInfo(f"bench-{os.getpid()}", slots=slots, embedded=True),
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
        working.cancel()
    await store.close()
    return leases.recorded, leases.ended


if __name__ == "__main__":
    configure_logging("info", "json")
    print(*uvloop.run(drain(sys.argv[1], int(sys.argv[2]))))
