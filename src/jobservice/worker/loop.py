"""The worker: claims jobs while slots are free, has them run, and records what became of them.

Three loops share one book: claim, record, extend. When the connection to the executor breaks, all
three end, the executor is connected again, and what it knows is reconciled with the leases of the
store before anything new is claimed (`adopt`).

A worker on another host also minds the time since its leases were prolonged, or all servers said that
their database is away. After two thirds of a lease everything is ended at once that it runs, for it may
be given to another soon; nothing is told of that, and the leases run out. It is the executor that does
so, which is told each time how long it may go on: so this holds also while the worker is frozen or dead.
A worker in the process of a server does the same, from the first answer of the store on that tells of
other workers.
"""

import asyncio
import contextlib
import datetime as dt
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from jobservice.clock import Clock
from jobservice.errors import JobServiceError, WorkerNotFound
from jobservice.executors.port import (
    Ended,
    Executor,
    KnownAttempt,
    Phase,
    Report,
    Started,
    StartOrder,
)
from jobservice.failpoints import failpoint
from jobservice.model.attempt import Cause, Fence, Outcome
from jobservice.model.job import AttemptState
from jobservice.model.lease import AttemptEnd, Claim, LeaseAnswer, LiveAttempt
from jobservice.model.lifecycle import State
from jobservice.model.worker import BEAT, LONGEST_POLL, SILENCE, WorkerInfo
from jobservice.mutants import mutant
from jobservice.telemetry import attempt_fields, logger
from jobservice.worker.ahead import Ahead
from jobservice.worker.book import Book, Records
from jobservice.worker.logs import LogShipper
from jobservice.worker.port import Dispatcher, Files, Output

CLAIM_BATCH = 256
"""The most jobs of one claim."""
UNRECORDED = 20_000
"""How many ends may wait for the store before no more is claimed."""
RETRY_S = (0.1, 0.5, 1.0, 2.0, 5.0)
"""Waits between tries when the store or the executor is away; the last one repeats."""


class Worker:
    """Runs attempts on one executor."""

    def __init__(
        self,
        *,
        info: WorkerInfo,
        dispatcher: Dispatcher,
        executor: Executor,
        directory_of: Callable[[str, int], Path],
        clock: Clock,
        poll_s: float,
        output: Output | None = None,
        files: Files | None = None,
    ) -> None:
        """With `output` what attempts write is appended; with `files` none of them is kept here."""
        self._info = info
        self._worker_id = info.worker_id
        self._slots = info.slots
        self._dispatcher = dispatcher
        self._executor = executor
        self._directory_of = directory_of
        self._clock = clock
        self._log = logger("worker")
        self._lease_s = 0.0
        """As the service said when the worker was registered; 0 before."""
        self._poll_s = poll_s
        self._book = Book()
        self._ahead = Ahead(clock)
        self._room = asyncio.Event()
        self._holding = asyncio.Event()
        """Set when leases were taken; there is nothing to extend before that."""
        self._records = asyncio.Event()
        self._idle = asyncio.Event()
        self._lost = asyncio.Event()
        self._connected = False
        self._claiming: asyncio.Task[None] | None = None
        self.adopted = asyncio.Event()
        """Set while the executor is connected and reconciled."""
        self._files = files
        self._discarded: list[Fence] = []
        self._has_discarded = asyncio.Event()
        self._shipper: LogShipper | None = None
        if output is not None:
            self._shipper = LogShipper(output, dispatcher, clock, self._hear_ended)
        self._minds = not info.embedded
        """Whether to end everything in silence: for good once there was an answer to count it from."""
        self._answered_s = 0.0
        """Since when no lease of ours can have been given away, of the monotonic clock."""
        self._kept_until_s = 0.0
        self._look_s = 0.0
        """When to look for leases that no claim told us of, of the monotonic clock; 0: now."""
        dispatcher.on_stop(self.stop)
        dispatcher.on_contact(self._hear_answer)

    async def run(self) -> None:
        """Work until cancelled. Only a cancel ends this."""
        failures = 0
        while True:
            try:
                await self._connect()
                failures = 0
                await self._work()
            except (JobServiceError, ExceptionGroup) as error:
                self._log.warning("worker_waits", error=str(error), exc_info=_unexpected(error))
                await self._clock.sleep(RETRY_S[min(failures, len(RETRY_S) - 1)])
                failures += 1
            finally:
                self._connected = False
                self.adopted.clear()

    def stop(self, fences: Sequence[Fence]) -> None:
        """These attempts are to end."""
        running = self._book.stop(fences, self._clock.now())
        if running and self._connected:
            self._executor.stop(running)
        self._records.set()

    def held_jobs(self) -> set[str]:
        """The jobs of which it has an attempt that runs, is about to, or is still to be told of."""
        return {fence.job_id for fence in self._book.held()}

    async def drain(self, *, stop_jobs: bool, timeout_s: float) -> None:
        """Claim nothing more, hand back what has no process, record what ended.

        With `stop_jobs` the running attempts are stopped first, for `timeout_s` at the longest.
        """
        if self._claiming is not None:
            self._claiming.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._claiming
        with contextlib.suppress(TimeoutError, JobServiceError):
            async with asyncio.timeout(timeout_s):
                await self._hand_back(list(self._book.pending))
                if self._lease_s:  # else what the store has under this id may be another's
                    live = await self._dispatcher.list_live(self._worker_id)
                    await self._account_for(self._unheld(live), only_unstarted=True)
                if stop_jobs and self._book.running and self._connected:
                    self._executor.stop(list(self._book.running))
                    await self._until_idle()
                while self._book.unrecorded:
                    await self._record_once()

    async def _until_idle(self) -> None:
        while self._book.running:
            self._idle.clear()
            await self._idle.wait()

    # --- connect and adopt --------------------------------------------------------------------

    async def _connect(self) -> None:
        """Reach the executor and bring its knowledge and the store's together."""
        while self._slots == 0 and not await self._dispatcher.list_live(self._worker_id):
            self.adopted.set()
            await self._clock.sleep(self._poll_s)
        self._lease_s = await self._dispatcher.register(self._info)
        self._lost.clear()
        self._book.forget_held()
        known = await self._executor.connect(self._hear, self._lost.set)
        self._connected = True
        self._kept_until_s = 0.0
        await self._adopt(known, await self._dispatcher.list_live(self._worker_id))
        await self._prolong(self._book.held())
        if not self._minds:  # and the store knows it now: one of before may have had company
            self._executor.keep_until(None)
        self._look_s = self._clock.monotonic_s() + self._lease_s
        if self._files is not None:
            await self._files.keep_only([(each.fence.job_id, each.fence.attempt) for each in known])
        self.adopted.set()

    async def _adopt(self, known: Sequence[KnownAttempt], live: Sequence[LiveAttempt]) -> None:
        """Take over what runs, stop what nobody wants, and account for what never came to be.

        A lease that the executor does not know never had a process: intents are journaled before
        the spawn, and a runner that died is reported by its successor.
        """
        leases = {each.fence: each for each in live}
        unacknowledged = [each.fence for each in known if each.phase is Phase.ENDED]
        to_stop = []
        told = {*self._book.held(), *self._book.silenced}
        for attempt in () if mutant("adopt.forgets") else known:
            lease = leases.pop(attempt.fence, None)
            if attempt.phase is Phase.ENDED:
                if attempt.fence not in told:  # its end is on its way
                    self._book.adopt(attempt.fence, attempt.started_at)
                    self._holding.set()
                continue
            self._watch(attempt.fence, is_new=False)
            self._book.adopt(attempt.fence, attempt.started_at)
            self._holding.set()
            if lease is None or lease.job_state is State.STOPPING:
                to_stop.append(attempt.fence)
            if lease is None:
                self._book.disown(attempt.fence)
        unknown = self._unheld(list(leases.values()))
        restored = [each for each in unknown if each.is_restored]
        for each in restored:
            self._book.adopt(each.fence, each.started_at)
            self._holding.set()
        # Of those that ended after the backup it tells the end again, and of others that they are lost.
        to_stop += [each.fence for each in restored]
        if to_stop:
            self._executor.stop(to_stop)
        await self._account_for([each for each in unknown if not each.is_restored])
        if known or unknown:
            self._log.info(
                "adopted",
                running=len(self._book.running),
                stopped=len(to_stop),
                ended=len(unacknowledged),
                unknown=len(unknown),
            )

    def _unheld(self, live: Sequence[LiveAttempt]) -> list[LiveAttempt]:
        held = set(self._book.held())
        return [each for each in live if each.fence not in held]

    async def _account_for(
        self, unknown: Sequence[LiveAttempt], *, only_unstarted: bool = False
    ) -> None:
        """Hand back what never had a process, but end what of it is to stop; the rest is lost."""
        unstarted = {
            each.fence: each.job_state
            for each in unknown
            if each.attempt_state is AttemptState.STARTING and not each.is_restored
        }
        wanted = [fence for fence, state in unstarted.items() if state is State.RUNNING]
        answers = await self._dispatcher.unclaim(wanted) if wanted else ()
        gone = {fence for fence, done in zip(wanted, answers, strict=True) if done}
        now = self._clock.now()
        ends = [
            AttemptEnd(each.fence, _missing(each, now))
            for each in unknown
            if each.fence not in gone and (each.fence in unstarted or not only_unstarted)
        ]
        if ends:
            await self._dispatcher.finish(ends)

    # --- the loops ----------------------------------------------------------------------------

    async def _work(self) -> None:
        """Run the loops until the executor is lost."""
        async with asyncio.TaskGroup() as group:
            self._claiming = group.create_task(self._claim_loop())
            loops = [
                self._claiming,
                group.create_task(self._record_loop()),
                group.create_task(self._extend_loop()),
            ]
            if self._shipper is not None:
                loops.append(group.create_task(self._shipper.run()))
            if self._files is not None:
                loops.append(group.create_task(self._discard_loop(self._files)))
            await self._lost.wait()
            self._log.warning("executor_lost")
            for task in loops:
                task.cancel()

    async def _claim_loop(self) -> None:
        while True:
            room = self._claimable()
            try:
                if room <= 0:
                    await self._wait_for_room()
                    continue
                if self._clock.monotonic_s() >= self._look_s:
                    await self._hand_back_unknown()
                claims = await self._dispatcher.claim(self._worker_id, room, self._longest_poll_s())
            except JobServiceError as error:
                self._look_s = 0.0
                self._log.warning("claim_failed", error=str(error))
                await self._clock.sleep(RETRY_S[2])
                continue
            if claims:
                failpoint("worker.claimed_unsent")
                lost = self._book.take(claims, self._clock.now())
                if lost:
                    self.stop(lost)
                self._holding.set()
                self._pump()
                self._records.set()

    def _longest_poll_s(self) -> float:
        if self._info.embedded:
            return self._poll_s
        return min(self._poll_s, self._lease_s * LONGEST_POLL)

    async def _hand_back_unknown(self) -> None:
        """A claim that failed may have been granted all the same: nobody would start what it leased.

        It may even be granted later, after a stall of the database: so this is looked for once in each
        lease time. What ended in silence is left to run out as lost: it had a process, which nobody may
        know yet.
        """
        # Nothing is handed back; but in a server the store has written the claim once this returns.
        await self._dispatcher.unclaim(())
        live = await self._dispatcher.list_live(self._worker_id)
        silenced = self._book.keep_silenced(each.fence for each in live)
        unheld = [each for each in self._unheld(live) if each.fence not in silenced]
        await self._account_for(unheld, only_unstarted=True)
        self._look_s = self._clock.monotonic_s() + self._lease_s

    def _claimable(self) -> int:
        book = self._book
        if self._slots == 0 or len(book.unrecorded.ends) > UNRECORDED or self._is_silent():
            return 0
        wanted = self._slots + self._ahead.leases() - len(book.running) - len(book.pending)
        return min(wanted, CLAIM_BATCH)

    async def _wait_for_room(self) -> None:
        """Until an attempt ends. Claims that wait too long for a slot go back meanwhile."""
        self._room.clear()
        timeout_s = self._ahead.PATIENCE_S if self._book.pending else self._poll_s
        try:
            async with self._clock.timeout(timeout_s):
                await self._room.wait()
        except TimeoutError:
            await self._hand_back(self._book.sendable())

    async def _hand_back(self, claims: Sequence[Claim]) -> None:
        fences = [claim.fence for claim in claims]
        if not fences:
            return
        self._book.drop(fences)
        answers = await self._dispatcher.unclaim(fences)
        now = self._clock.now()
        for fence, handed_back in zip(fences, answers, strict=True):
            if not handed_back:
                self._book.end_unstarted(fence, now)
        self._records.set()

    def _pump(self) -> None:
        """Fill the free slots with waiting claims."""
        if self._is_silent():
            return
        room = self._slots - len(self._book.running)
        if room > 0 and self._book.pending and self._connected:
            self._executor.start([self._order(claim) for claim in self._book.send(room)])

    def _hear(self, reports: Sequence[Report]) -> None:
        """The executor says what happened."""
        silenced = [
            each.fence
            for each in reports
            if isinstance(each, Ended) and each.silenced and self._minds
        ]
        if silenced:
            self._book.silence(silenced)
            self._executor.acknowledge(silenced)
            self._log.warning(
                "attempts_ended_in_silence", attempts=[str(each) for each in silenced]
            )
            reports = [each for each in reports if each.fence not in set(silenced)]
            self._room.set()
            if self._shipper is not None:
                self._shipper.forget(silenced)
            self._discard(silenced)
        if self._shipper is not None:
            reports = self._through(self._shipper, reports)
        self._hear_told(reports)

    def _watch(self, fence: Fence, *, is_new: bool) -> None:
        if self._shipper is not None:
            self._shipper.watch(fence, is_new=is_new)

    def _through(self, shipper: LogShipper, reports: Sequence[Report]) -> Sequence[Report]:
        """Ends wait until the output before them is told; the rest goes on."""
        for report in reports:
            if isinstance(report, Started):
                shipper.watch(report.fence, is_new=True)
        ends = [each for each in reports if isinstance(each, Ended)]
        for end in ends:
            self._book.adopt(end.fence, end.outcome.started_at)  # until its output is told
            self._holding.set()
        shipper.end(ends)
        return [each for each in reports if not isinstance(each, Ended)]

    def _hear_ended(self, reports: Sequence[Ended]) -> None:
        """Attempts have ended, and their output is told."""
        self._hear_told(reports)

    def _hear_told(self, reports: Sequence[Report]) -> None:
        ended = sum(map(self._hear_one, reports))
        if ended:
            self._ahead.ended(ended)
            self._pump()
            self._room.set()
            if not self._book.running:
                self._idle.set()
        self._records.set()

    def _hear_one(self, report: Report) -> int:
        """Note a report; a fault in one must not keep the others of its frame away."""
        try:
            return self._book.hear([report])
        except Exception:  # noqa: BLE001  # one must not keep the others away
            self._log.exception("report_not_heard", attempt=str(report.fence))
            return 0

    async def _record_loop(self) -> None:
        while True:
            await self._records.wait()
            self._records.clear()
            while self._book.unrecorded:
                await self._record_once()

    async def _record_once(self) -> None:
        """Tell the service what happened since the last time; one commit for all of it."""
        records = self._book.begin_recording()
        if records.ends:
            failpoint("worker.end_received_unrecorded")
        try:
            accepted = await self._tell(records)
        except JobServiceError as error:
            if not mutant("end.told_once"):
                self._book.not_recorded()
            self._log.warning("record_failed", error=str(error), ends=len(records.ends))
            await self._clock.sleep(RETRY_S[2])
            return
        except BaseException:
            self._book.not_recorded()
            raise
        self._book.recorded()
        if records.ends:
            failpoint("worker.recorded_unacknowledged")
            if self._connected:
                self._executor.acknowledge([end.fence for end in records.ends])
            self._discard([end.fence for end in records.ends])
        self._log_ends(records.ends, accepted)

    async def _tell(self, records: Records) -> Sequence[bool]:
        """All calls wait together, so that the store commits them together, in this order."""
        dispatcher = self._dispatcher
        calls: list[Awaitable[Sequence[bool]]] = []
        if records.starts:
            calls.append(dispatcher.start(records.starts))
        if records.progress:
            calls.append(dispatcher.report_progress(records.progress))
        if records.ends:
            calls.append(dispatcher.finish(records.ends))
        answers = await asyncio.gather(*calls)
        return answers[-1] if records.ends else ()

    async def _extend_loop(self) -> None:
        is_answered = True
        while True:
            await self._until_beat(is_answered=is_answered)
            fences = self._book.held()
            if not fences:
                self._holding.clear()
            is_answered = await self._extend(fences)

    async def _until_beat(self, *, is_answered: bool) -> None:
        """Until it is time for a sign of life; these are rare where nothing is to be kept alive."""
        if self._minds:
            beat_s = self._lease_s * BEAT
            await self._clock.sleep(beat_s if is_answered else min(beat_s, RETRY_S[2]))
            return
        with contextlib.suppress(TimeoutError):
            async with self._clock.timeout(max(self._lease_s, self._poll_s)):
                await self._holding.wait()
                await self._clock.sleep(self._lease_s / 3)

    async def _extend(self, fences: Sequence[Fence]) -> bool:
        """Prolong leases; returns whether that was answered."""
        try:
            await self._prolong(fences)
        except WorkerNotFound:
            self._log.warning("worker_was_forgotten")
            with contextlib.suppress(JobServiceError):
                await self._dispatcher.register(self._info)
        except JobServiceError as error:
            self._log.warning("extend_failed", error=str(error))
            return False
        return True

    async def _prolong(self, fences: Sequence[Fence]) -> None:
        answers = await self._dispatcher.extend(self._worker_id, fences)
        ending = [
            fence
            for fence, answer in zip(fences, answers, strict=True)
            if answer is not LeaseAnswer.KEPT
        ]
        for fence, answer in zip(fences, answers, strict=True):
            if answer is LeaseAnswer.REFUSED:
                self._book.disown(fence)
        if ending:
            self.stop(ending)

    # --- files ----------------------------------------------------------------------------------

    def _discard(self, fences: Sequence[Fence]) -> None:
        """Nothing of these attempts is needed here any more."""
        if self._files is not None:
            self._discarded += fences
            self._has_discarded.set()

    async def _discard_loop(self, files: Files) -> None:
        while True:
            await self._has_discarded.wait()
            self._has_discarded.clear()
            fences, self._discarded = self._discarded, []
            await files.discard([(fence.job_id, fence.attempt) for fence in fences])

    # --- how long without an answer -----------------------------------------------------------

    def _hear_answer(self, called_s: float) -> None:
        """Nobody can have been given a lease of ours until then, and for one lease after it."""
        if self._is_silent(called_s):
            self._book.pending.clear()  # those that have not gone to another are handed back
            self._look_s = 0.0
            self._room.set()
        self._answered_s = max(self._answered_s, called_s)
        if not self._minds:
            self._minds = True
            self._log.info("minds_silence", lease_s=self._lease_s)
        if self._connected:
            self._keep()

    def _is_silent(self, at_s: float | None = None) -> bool:
        """Whether there was no answer for too long, now or at an instant."""
        if not self._minds or not self._lease_s:
            return False
        at_s = self._clock.monotonic_s() if at_s is None else at_s
        return at_s >= self._answered_s + self._lease_s * SILENCE

    def _keep(self) -> None:
        """Tell the executor how long it may go on, but not at each of many answers."""
        if not self._minds:
            return
        until_s = self._answered_s + self._lease_s * SILENCE
        if until_s - self._kept_until_s >= self._lease_s * BEAT / 10:
            self._kept_until_s = until_s
            self._executor.keep_until(until_s)

    # --- helpers ------------------------------------------------------------------------------

    def _order(self, claim: Claim) -> StartOrder:
        fence, command = claim.fence, claim.command
        return StartOrder(
            fence=fence,
            directory=self._directory_of(fence.job_id, fence.attempt),
            argv=command.argv,
            env=dict(command.env),
            stdin=command.stdin,
            work_dir=command.work_dir or None,
            run_timeout_s=claim.timeout.total_seconds() if claim.timeout else None,
            stop_grace_s=claim.stop_grace.total_seconds(),
            output_limit_bytes=claim.output_limit_bytes,
            idle_timeout_s=claim.idle_timeout.total_seconds() if claim.idle_timeout else None,
        )

    def _log_ends(self, ends: Sequence[AttemptEnd], accepted: Sequence[bool]) -> None:
        for end, known in zip(ends, accepted, strict=True):
            fence, outcome = end.fence, end.outcome
            self._log.info(
                "attempt_ended" if known else "stale_end_refused",
                **attempt_fields(fence.tenant, fence.job_id, fence.attempt),
                cause=outcome.cause.value,
                exit_code=outcome.exit_code,
                signal=outcome.signal,
            )


def _missing(live: LiveAttempt, now: dt.datetime) -> Outcome:
    """The end of a lease that its executor knows nothing of."""
    if live.attempt_state is AttemptState.STARTING:
        return Outcome(Cause.STOP, now)
    return Outcome(Cause.LOST, now, started_at=live.started_at, message="its runner forgot it")


def _unexpected(error: Exception) -> bool:
    """Whether the log should show where it came from."""
    return not isinstance(error, JobServiceError)
