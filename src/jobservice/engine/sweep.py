"""Sweep: what happens by itself, because its time came or because someone asked for it before."""

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable, Sequence

from jobservice.engine.finish import settler
from jobservice.engine.parts import Parts
from jobservice.errors import JobServiceError
from jobservice.telemetry import Logger, logger

BATCH = 500
"""How many rows one transaction of a sweep touches at most."""
FORGET_EVERY_S = 600.0
AFTER_ERROR_S = 1.0

RemoveFiles = Callable[[Sequence[tuple[str, int]]], Awaitable[Sequence[bool]]]
"""Removes the files of jobs, given with the number of their attempts; False: some are left."""


class Sweeps:
    """The background loops. Each one can be stopped at any point and begun again."""

    def __init__(
        self,
        parts: Parts,
        *,
        remove_files: RemoveFiles,
        lease_s: float,
        poll_s: float,
        retention: dt.timedelta,
    ) -> None:
        self._parts = parts
        self._remove_files = remove_files
        self._lease_s = lease_s
        self._poll_s = poll_s
        self._retention = retention
        self._log: Logger = logger("sweep")

    async def run(self, adopted: asyncio.Event) -> None:
        """Run all loops until cancelled; leases expire only once running attempts are adopted."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._forever(self.release_due))
            group.create_task(self._forever(self.collect_deleted))
            group.create_task(self._forever(self.forget))
            group.create_task(self._expire(adopted))

    async def release_due(self) -> None:
        """Queue the jobs whose start time has come, then wait for the next one."""
        parts = self._parts
        now = parts.clock.now()
        if await parts.store.release_due(now=now, limit=BATCH):
            parts.signals.work.ring()
        due_at = await parts.store.next_due_at()
        if due_at is None:
            await parts.signals.timers.wait(self._poll_s * 12)
        elif due_at > now:
            wait_s = (due_at - now).total_seconds()
            await parts.signals.timers.wait(min(wait_s, self._poll_s * 12))

    async def collect_deleted(self) -> None:
        """Remove the files, then the rows, of final jobs whose deletion was asked for."""
        parts = self._parts
        deletable = await parts.store.list_deletable(limit=BATCH)
        if not deletable:
            await parts.signals.deletions.wait(self._poll_s * 12)
            return
        removed = await self._remove_files(
            [(each.key.job_id, each.attempt_count) for each in deletable]
        )
        clean = [each.key for each, gone in zip(deletable, removed, strict=True) if gone]
        if clean:
            await parts.store.delete_jobs(clean, now=parts.clock.now())
        if len(clean) < len(deletable):
            await parts.clock.sleep(AFTER_ERROR_S)

    async def forget(self) -> None:
        """Drop request ids and tombstones that are old enough."""
        before = self._parts.clock.now() - self._retention
        if await self._parts.store.forget(before=before, limit=BATCH) < BATCH:
            await self._parts.clock.sleep(FORGET_EVERY_S)

    async def expire(self) -> int:
        """End the attempts whose lease is over; returns how many."""
        parts = self._parts
        now = parts.clock.now()
        expired = await parts.store.expire_leases(settler(now, parts.random), now=now, limit=BATCH)
        if expired:
            self._log.warning("leases_expired", attempts=[str(fence) for fence in expired[:20]])
            parts.signals.work.ring()
            parts.signals.timers.ring()
            parts.signals.deletions.ring()
        return len(expired)

    async def _expire(self, adopted: asyncio.Event) -> None:
        """After a start no lease expires for one lease time: its holder may be on its way back."""
        await adopted.wait()
        await self._parts.clock.sleep(self._lease_s)

        async def once() -> None:
            if await self.expire() < BATCH:
                await self._parts.clock.sleep(self._poll_s)

        await self._forever(once)

    async def _forever(self, once: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await once()
            except JobServiceError as error:
                self._log.warning("sweep_failed", sweep=once.__name__, error=str(error))
                await self._parts.clock.sleep(AFTER_ERROR_S)
