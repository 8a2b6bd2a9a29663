"""Sweep: what happens by itself, because its time came or because someone asked for it before."""

import asyncio
import contextlib
import datetime as dt
from collections.abc import Awaitable, Callable, Coroutine, Sequence

from jobservice.engine.finish import settler
from jobservice.engine.fire import Fires
from jobservice.engine.parts import Parts
from jobservice.errors import (
    DeadlineExceeded,
    Deposed,
    JobServiceError,
    StoreFull,
    Unavailable,
)
from jobservice.model.ids import RANDOM_BITS
from jobservice.model.worker import FORGOTTEN_AFTER
from jobservice.store.array_port import SettledArrays
from jobservice.store.port import Deletable, JobKey
from jobservice.telemetry import Logger, logger

BATCH = 500
"""How many rows one transaction of a sweep touches at most."""
AFTER_ERROR_S = 1.0
IDLE_POLLS = 12
"""What hints tell of is looked for without one so many times less often than the rest."""
FORGET_POLLS = 120
"""And what is only tidied up, as much less again."""
STAYS_S = 600.0
"""How long it takes at most until files that could not be removed are tried again."""

_Staying = dict[JobKey, tuple[float, float]]
"""Jobs whose files could not be removed: when to try again, and the wait until then."""

RemoveFiles = Callable[[Sequence[tuple[str, int]]], Awaitable[Sequence[bool]]]
"""Removes the files of jobs, given with the number of their attempts; False: some are left."""


class Sweeps:
    """The loops of who leads. Each one can be stopped at any point and begun again."""

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
        self._idle_s = poll_s * IDLE_POLLS
        self._retention = retention
        self._staying: _Staying = {}
        self._fires = Fires(parts, idle_s=self._idle_s)
        self._log: Logger = logger("sweep")

    def loops(self, adopted: asyncio.Event) -> list[Coroutine[object, object, None]]:
        """All loops; leases expire only once running attempts are adopted."""
        sweeps = (
            self.release_due,
            self.wake_parked,
            self.settle_children,
            self.settle_arrays,
            self.collect_deleted,
            self.forget,
            self._fires.fire,
            self._time_out,
        )
        return [*map(self._forever, sweeps), self._expire(adopted)]

    async def release_due(self) -> None:
        """Queue the jobs whose start time has come or whose rate allows it, then wait for the next."""
        parts = self._parts
        now = parts.clock.now()
        released = await parts.store.release_due(now=now, limit=BATCH)
        if released or await parts.store.wake_rates(now=now, limit=BATCH):
            parts.signals.work.ring()
            parts.signals.timers.over.ring()  # a wait in the queue may be limited
        due_at = await parts.store.next_due_at()
        wait_s = self._idle_s if due_at is None else (due_at - now).total_seconds()
        if wait_s > 0:
            await parts.signals.timers.due.wait(parts.clock, min(wait_s, self._idle_s))

    async def wake_parked(self) -> None:
        """Find jobs that wait for a concurrency key which is free.

        The end that frees a key wakes who waits for it, but not who is parked by another server at the
        same moment.
        """
        parts = self._parts
        after: tuple[str, str] | None = "", ""
        while after is not None:
            woken = await parts.store.wake_parked(after, now=parts.clock.now())
            if woken.count:
                parts.signals.work.ring()
            after = woken.after
        await parts.clock.sleep(self._poll_s)

    async def settle_children(self) -> None:
        """Tell jobs of the ends of others that they depend on, where one transaction was not enough."""
        parts = self._parts
        if await parts.store.settle_children(now=parts.clock.now(), limit=BATCH):
            parts.signals.work.ring()
            parts.signals.timers.ring()
        else:
            await parts.signals.children.wait(parts.clock, self._poll_s)

    async def settle_arrays(self) -> None:
        """Make the next indices of arrays, and count those that ended."""
        parts, after, again = self._parts, ("", ""), False
        while True:
            settled = await parts.store.settle_arrays(
                after,
                now=parts.clock.now(),
                randomness=parts.random.getrandbits(RANDOM_BITS - 1),
            )
            self._tell_of_arrays(settled)
            again = again or settled.again
            if settled.after is None:
                break
            after = settled.after
        if not again:
            await parts.signals.arrays.wait(parts.clock, self._poll_s)

    def _tell_of_arrays(self, settled: SettledArrays) -> None:
        signals = self._parts.signals
        if settled.queued:
            signals.work.ring()
        if settled.ended:
            signals.children_moved()
        if settled.deletable:
            signals.deletions.ring()
        if settled.stopping:
            signals.stop(settled.stopping)

    async def collect_deleted(self) -> None:
        """Remove the files, then the rows, of final jobs whose deletion was asked for.

        Those whose files stay hold no others up, and are tried again after longer and longer.
        """
        parts = self._parts
        staying: _Staying = {}
        deleted, asked, after = 0, 0, None
        while True:
            deletable = await parts.store.list_deletable(after=after, limit=BATCH)
            clean = await self._remove_due(deletable, staying)
            if clean:
                asked += len(clean)
                deleted += sum(await parts.store.delete_jobs(clean, now=parts.clock.now()))
                parts.signals.arrays.ring()  # one of them may have been the last of an array
            if len(deletable) < BATCH:
                break
            after = deletable[-1].key
        self._staying = staying
        if asked and not deleted:
            await parts.clock.sleep(AFTER_ERROR_S)
        elif not deleted:
            again_s = min((each_s for each_s, _ in staying.values()), default=float("inf"))
            wait_s = min(again_s - parts.clock.monotonic_s(), self._idle_s)
            await parts.signals.deletions.wait(parts.clock, max(wait_s, 0.0))

    async def _remove_due(self, deletable: Sequence[Deletable], staying: _Staying) -> list[JobKey]:
        """Remove files, but those that it is too early to try again; returns whose are gone."""
        now_s = self._parts.clock.monotonic_s()
        early = {
            each.key for each in deletable if self._staying.get(each.key, (0.0, 0.0))[0] > now_s
        }
        staying |= {key: self._staying[key] for key in early}
        due = [each for each in deletable if each.key not in early]
        files = [(each.key.job_id, each.attempt_count) for each in due]
        removed = await self._remove_files(files) if files else ()
        left = [each.key for each, gone in zip(due, removed, strict=True) if not gone]
        new = [key.job_id for key in left if key not in self._staying]
        if new:
            self._log.warning("files_stay", jobs=new[:20], count=len(new))
        for key in left:
            _, before_s = self._staying.get(key, (0.0, 0.0))
            wait_s = min(2 * before_s, STAYS_S) or AFTER_ERROR_S
            staying[key] = now_s + wait_s, wait_s
        return [each.key for each in due if each.key not in staying]

    async def forget(self) -> None:
        """Drop request ids, tombstones and workers that are old enough."""
        now = self._parts.clock.now()
        before = now - self._retention
        await self._parts.store.forget_workers(before=now - FORGOTTEN_AFTER)
        if await self._parts.store.forget(before=before, limit=BATCH) < BATCH:
            await self._parts.clock.sleep(self._poll_s * FORGET_POLLS)

    async def expire(self) -> int:
        """End the attempts whose lease is over; returns how many."""
        parts = self._parts
        now = parts.clock.now()
        expired = await parts.store.expire_leases(settler(now, parts.random), now=now, limit=BATCH)
        if expired:
            self._log.warning("leases_expired", attempts=[str(fence) for fence in expired[:20]])
            parts.signals.children_moved()
            parts.signals.schedules.ring()
            parts.signals.deletions.ring()
        return len(expired)

    async def time_out(self) -> int:
        """End the jobs whose time is over, or have them stopped; returns how many."""
        parts = self._parts
        timed_out = await parts.store.time_out_jobs(now=parts.clock.now(), limit=BATCH)
        if timed_out.count:
            self._log.info("jobs_timed_out", count=timed_out.count)
            parts.signals.children_moved()
            parts.signals.schedules.ring()
        if timed_out.stopping:
            parts.signals.stop(timed_out.stopping)
        return timed_out.count

    async def _time_out(self) -> None:
        """Once, at the next end of somebody's time; of another server's job, perhaps a poll later."""
        ends_at = await self._parts.store.next_time_out_at()
        wait_s = self._poll_s
        if ends_at is not None:
            until_s = (ends_at - self._parts.clock.now()).total_seconds()
            wait_s = max(min(until_s, wait_s), 0.0)
        if wait_s:
            await self._parts.signals.timers.over.wait(self._parts.clock, wait_s)
        elif not await self.time_out():
            await self._parts.clock.sleep(AFTER_ERROR_S)

    async def _expire(self, adopted: asyncio.Event) -> None:
        """End leases that are over; for one lease time after a start, or when the store was away, none.

        Whoever holds one could not extend it meanwhile, or may be on its way back. A runner here that
        cannot be had holds this up for one lease time at most; by then it has ended what it runs, or
        nobody is given it.
        """
        clock = self._parts.clock
        with contextlib.suppress(TimeoutError):
            async with clock.timeout(self._lease_s):
                await adopted.wait()
        begin_s: float | None = None  # since when the store has answered every time

        async def once() -> None:
            nonlocal begin_s
            try:
                wait_s = await self._until_next_lease_end()
                begin_s = clock.monotonic_s() if begin_s is None else begin_s
                calm_from_s = max(begin_s, self._parts.signals.outage.told_s)
                calm_s = calm_from_s + self._lease_s - clock.monotonic_s()
                if calm_s > 0:
                    await clock.sleep(min(calm_s, self._poll_s))
                elif wait_s or not await self.expire():
                    await clock.sleep(wait_s or AFTER_ERROR_S)
            except (Unavailable, StoreFull, DeadlineExceeded):
                begin_s = None
                raise

        await self._forever(once)

    async def _until_next_lease_end(self) -> float:
        """Seconds until a lease may be over. One that is granted meanwhile lasts for a lease time."""
        longest_s = min(self._poll_s, self._lease_s)
        ends_at = await self._parts.store.next_lease_end_at()
        if ends_at is None:
            return longest_s
        return max(min((ends_at - self._parts.clock.now()).total_seconds(), longest_s), 0.0)

    async def _forever(self, once: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await once()
            except Deposed:
                raise
            except JobServiceError as error:
                self._log.warning("sweep_failed", sweep=once.__name__, error=str(error))
                await self._parts.clock.sleep(AFTER_ERROR_S)
