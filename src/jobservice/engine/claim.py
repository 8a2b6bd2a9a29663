"""Claim: what a worker asks of the engine, from the lease on a job to the end of its attempt.

A lease is a worker's right to one attempt until an instant. It is granted by `claim`, prolonged by
`extend`, handed back by `unclaim` while no process exists, and over with `finish`. Whatever a
worker says of an attempt carries the attempt's fence; when the lease has gone to another the fence
is stale, the answer is False, and nothing was written.
"""

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncIterator, Callable, Sequence

from jobservice.engine.finish import settler
from jobservice.engine.parts import Bell, Parts
from jobservice.engine.workers import Quiet, register_worker, unknown_worker
from jobservice.errors import JobServiceError
from jobservice.model.attempt import Fence
from jobservice.model.lease import (
    AttemptEnd,
    AttemptStart,
    Claim,
    LeaseAnswer,
    LiveAttempt,
    ProgressReport,
)
from jobservice.model.lifecycle import FINAL, State
from jobservice.model.output import LogAppend
from jobservice.model.worker import GRACE, WorkerInfo
from jobservice.mutants import mutant
from jobservice.store.port import LiveJob, Settlement

LONGEST_WAIT_S = 86_400.0
EXTEND_BATCH = 1_000
"""How many leases one call of the store prolongs."""
BETWEEN_LOOKS_S = 0.2
"""Hints that come sooner than this after a look are answered by one look together."""


class Leases:
    """The worker's side of the engine; `worker/port.py` describes it as the worker sees it."""

    def __init__(self, parts: Parts, *, lease_s: float, poll_s: float) -> None:
        self._parts = parts
        self.lease_s = lease_s
        self.quiet = Quiet.of(lease_s, poll_s)
        self._here: str | None = None
        """The worker in this process, once it has registered."""
        self._minds_silence = False
        """Whether that one has heard that there are others."""
        self._hear_contact: Callable[[float], None] = lambda _: None
        self._lease = dt.timedelta(seconds=lease_s * (1 + GRACE))
        """As it is kept: its holder hears of the shorter one, and has ended all before that."""

    async def register(self, info: WorkerInfo) -> float:
        """Keep what the worker here says of itself; returns how many seconds a lease holds."""
        await register_worker(self._parts, info, self.quiet)
        self._here = info.worker_id if info.embedded else None
        return self.lease_s

    async def claim(self, worker_id: str, limit: int, wait_s: float) -> Sequence[Claim]:
        """Lease up to `limit` jobs; if none is queued, look again at a hint or after `wait_s`."""
        with self._parts.signals.work.heard() as bell:
            claims = await self._claim(worker_id, limit)
            if not claims and wait_s > 0:
                await bell.wait(self._parts.clock, wait_s)
                claims = await self._claim(worker_id, limit)
        return claims

    async def _claim(self, worker_id: str, limit: int) -> Sequence[Claim]:
        now = self._parts.clock.now()
        claimed = await self._parts.store.claim_jobs(
            worker_id=worker_id, limit=limit, lease_until=now + self._lease, now=now
        )
        if claimed.opened:
            self._parts.signals.arrays.ring()
        if claimed.waits_for_rate:
            self._parts.signals.timers.ring()
        return claimed.claims

    async def hear_stops(self, worker_id: str) -> None:
        """A loop: have attempts of a worker here stopped whose end another server was asked for.

        It only looks at a hint; a worker that missed one hears of it when it extends its leases.
        """
        signals = self._parts.signals
        with signals.elsewhere.heard() as bell:
            async for fences in self._stopping(worker_id, bell):
                signals.stop(fences)

    async def watch_stops(self, worker_id: str) -> AsyncIterator[Sequence[Fence]]:
        """Attempts of a worker elsewhere that are to end, as soon as that is known; each once."""
        signals = self._parts.signals
        with signals.elsewhere.heard() as bell:

            def hear(_: Sequence[Fence]) -> None:
                bell.ring()

            signals.stops.append(hear)
            try:
                async for fences in self._stopping(worker_id, bell):
                    yield fences
            finally:
                signals.stops.remove(hear)

    async def _stopping(self, worker_id: str, bell: Bell) -> AsyncIterator[Sequence[Fence]]:
        """Look now and at each ring for what is to be stopped and was not told of."""
        parts, told = self._parts, frozenset[Fence]()
        while True:
            with contextlib.suppress(JobServiceError):
                live = await parts.store.list_live(worker_id)
                found = frozenset(each.fence for each in live if each.job_state is State.STOPPING)
                told, new = found, found - told
                if new:
                    yield sorted(new)
            await parts.clock.sleep(BETWEEN_LOOKS_S)
            await bell.wait(parts.clock, LONGEST_WAIT_S)

    async def hear_resumes(self) -> None:
        """A loop: have claims look again when the pause of a queue ends.

        A claim that missed it looks again after a poll of its own.
        """
        parts, resumes_at = self._parts, None
        while True:
            now, wait_s = parts.clock.now(), LONGEST_WAIT_S
            if resumes_at is not None and resumes_at <= now:
                parts.signals.work.ring()
            with contextlib.suppress(JobServiceError):
                resumes_at = await parts.store.next_resume_at(now)
            if resumes_at is not None:
                wait_s = max((resumes_at - now).total_seconds(), BETWEEN_LOOKS_S)
            await parts.signals.timers.resumes.wait(parts.clock, wait_s)

    def on_contact(self, hear: Callable[[float], None]) -> None:
        """Have `hear` called with the instant of each extension, once the store knows of other workers.

        Of those alone, for whatever else is answered prolongs no lease.
        """
        self._hear_contact = hear

    def on_stop(self, hear: Callable[[Sequence[Fence]], None]) -> None:
        """Have `hear` called with attempts that are to end, as soon as that is known."""
        self._parts.signals.stops.append(hear)

    async def start(self, starts: Sequence[AttemptStart]) -> Sequence[bool]:
        """Processes exist."""
        return await self._parts.store.start_attempts(starts)

    async def finish(self, ends: Sequence[AttemptEnd]) -> Sequence[bool]:
        """Processes are gone; what that means for their jobs is decided here."""
        parts = self._parts
        now = parts.clock.now()
        settle = settler(now, parts.random)
        deletable = awaited = scheduled = counted = False

        def settle_and_look(live: LiveJob, end: AttemptEnd) -> Settlement:
            nonlocal deletable, awaited, scheduled, counted
            deletable = deletable or live.delete_requested
            awaited = awaited or live.has_children
            scheduled = scheduled or live.is_of_schedule
            counted = counted or live.is_index
            return settle(live, end)

        settled = await parts.store.finish_attempts(ends, settle_and_look, now=now)
        states = {each.state for each in settled if each is not None}
        if not states <= FINAL:
            parts.signals.timers.ring()
        if states:
            parts.signals.work.ring()  # what ended may have been at a limit
        if deletable:
            parts.signals.deletions.ring()
        if counted:
            parts.signals.arrays.ring()
        if awaited:
            parts.signals.children_moved()
        if scheduled:
            parts.signals.schedules.ring()  # a fire may have waited for the end
        return [each is not None for each in settled]

    async def unclaim(self, fences: Sequence[Fence]) -> Sequence[bool]:
        """Hand leases back that have no process. False: a stop was asked for, so finish it."""
        handed_back = await self._parts.store.unclaim_attempts(fences, now=self._parts.clock.now())
        self._parts.signals.work.ring()
        self._parts.signals.timers.over.ring()
        return handed_back

    async def extend(self, worker_id: str, fences: Sequence[Fence]) -> Sequence[LeaseAnswer]:
        """Prolong leases by a full lease time from now, and note that the worker is there.

        Raises:
            WorkerNotFound: it is not registered; its leases are prolonged all the same.
        """
        with self._parts.signals.outage.noted(self._parts.clock):
            return await self._extend(worker_id, fences)

    async def _extend(self, worker_id: str, fences: Sequence[Fence]) -> Sequence[LeaseAnswer]:
        store, clock = self._parts.store, self._parts.clock
        called_s, answers = clock.monotonic_s(), list[LeaseAnswer]()
        is_here = worker_id == self._here
        for begin in range(0, len(fences), EXTEND_BATCH)[:-1]:
            until = clock.now() + self._lease
            answers += await store.extend_leases(
                fences[begin : begin + EXTEND_BATCH], lease_until=until
            )
        now = clock.now()
        # They wait together, so that the store commits them together.
        company, last = await asyncio.gather(
            store.note_contact(worker_id, now=now, minds_silence=is_here and self._minds_silence),
            store.extend_leases(fences[len(answers) :], lease_until=now + self._lease),
        )
        if company is None:
            raise unknown_worker(worker_id)
        if is_here and (company or self._minds_silence) and not mutant("silence.not_minded"):
            # It is told before the store is, with the next call, and never goes back on it.
            self._minds_silence = True
            self._hear_contact(called_s)
        return answers + list(last)

    async def append_logs(self, appends: Sequence[LogAppend]) -> Sequence[int | None]:
        """Keep output where every server can read it."""
        return await self._parts.store.append_logs(appends)

    async def report_progress(self, reports: Sequence[ProgressReport]) -> Sequence[bool]:
        """Keep what attempts say of themselves."""
        return await self._parts.store.record_progress(reports)

    async def list_live(self, worker_id: str) -> Sequence[LiveAttempt]:
        """What the store thinks the worker runs."""
        return await self._parts.store.list_live(worker_id)
