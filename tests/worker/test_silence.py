"""How long a worker goes on without an answer, on another host or in a server, on a clock that jumps."""

import asyncio
import contextlib
import datetime as dt
import random
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from jobservice.clock import SystemClock
from jobservice.engine import cancel, submit
from jobservice.engine.claim import Leases
from jobservice.engine.parts import Parts, Signals
from jobservice.engine.sweep import Sweeps
from jobservice.errors import StoreUnavailable, Unavailable
from jobservice.executors.port import Ended
from jobservice.model.attempt import Cause, Fence, Outcome
from jobservice.model.job import AttemptState, Job
from jobservice.model.lease import (
    AttemptEnd,
    AttemptStart,
    Claim,
    LeaseAnswer,
    LiveAttempt,
    ProgressReport,
)
from jobservice.model.lifecycle import State
from jobservice.model.output import LogAppend, Piece, Stream
from jobservice.model.spec import Command, JobSpec
from jobservice.model.worker import COMPANY, WorkerInfo
from jobservice.store.port import JobKey
from jobservice.store.sqlite.store import SqliteStore
from jobservice.testing.clock import JumpClock
from jobservice.testing.executor import ScriptedExecutor
from jobservice.worker.ahead import Ahead
from jobservice.worker.loop import Worker

TENANT = "default"
LEASE_S, SILENT_S, TAKEN_S = 30.0, 20.0, 35.0


class Network:
    """The way to the service: it may be cut, and the service may have lost its store."""

    def __init__(self, leases: Leases, clock: JumpClock) -> None:
        self._leases = leases
        self._clock = clock
        self._hear: Callable[[float], None] = lambda _: None
        self.is_cut = False
        self.has_no_store = False
        self.sleeps_s = 0.0
        """How long the host of the worker sleeps once it was granted a lease; it is cut off then."""
        self.loses_starts = False
        self.finished: list[Fence] = []

    def _pass(self) -> None:
        if self.is_cut:
            raise Unavailable("The server does not answer.")
        if self.has_no_store:
            self._hear(self._clock.monotonic_s())
            raise StoreUnavailable

    async def register(self, info: WorkerInfo) -> float:
        self._pass()
        return await self._leases.register(info)

    async def claim(self, worker_id: str, limit: int, wait_s: float) -> Sequence[Claim]:
        self._pass()
        claims = await self._leases.claim(worker_id, limit, wait_s)
        if claims and self.sleeps_s:
            self.is_cut = True
            sleeps_s, self.sleeps_s = self.sleeps_s, 0.0
            self._clock.advance(sleeps_s)
        return claims

    async def start(self, starts: Sequence[AttemptStart]) -> Sequence[bool]:
        self._pass()
        if self.loses_starts:
            raise StoreUnavailable
        return await self._leases.start(starts)

    async def finish(self, ends: Sequence[AttemptEnd]) -> Sequence[bool]:
        self._pass()
        self.finished += [end.fence for end in ends]
        return await self._leases.finish(ends)

    async def unclaim(self, fences: Sequence[Fence]) -> Sequence[bool]:
        self._pass()
        return await self._leases.unclaim(fences)

    async def extend(self, worker_id: str, fences: Sequence[Fence]) -> Sequence[LeaseAnswer]:
        self._pass()
        called_s = self._clock.monotonic_s()
        answers = await self._leases.extend(worker_id, fences)
        self._hear(called_s)
        return answers

    async def report_progress(self, reports: Sequence[ProgressReport]) -> Sequence[bool]:
        self._pass()
        return await self._leases.report_progress(reports)

    async def append_logs(self, appends: Sequence[LogAppend]) -> Sequence[int | None]:
        self._pass()
        return await self._leases.append_logs(appends)

    async def list_live(self, worker_id: str) -> Sequence[LiveAttempt]:
        self._pass()
        return await self._leases.list_live(worker_id)

    def on_stop(self, hear: Callable[[Sequence[Fence]], None]) -> None:
        self._leases.on_stop(hear)

    def on_contact(self, hear: Callable[[float], None]) -> None:
        self._hear = hear


class Inside(Network):
    """The way of a worker in a server to the store, which may be away."""

    def _pass(self) -> None:
        if self.is_cut:
            raise StoreUnavailable

    def on_contact(self, hear: Callable[[float], None]) -> None:
        self._leases.on_contact(hear)


class Nothing:
    """The output of attempts that write nothing."""

    async def read(self, job_id: str, attempt: int, stream: Stream, offset: int) -> Piece:
        del job_id, attempt, stream
        return Piece(offset)

    async def gap(self, job_id: str, attempt: int, stream: Stream) -> Piece | None:
        del job_id, attempt, stream
        return None


class Bench:
    """A store, and a worker behind a network, or in the server."""

    def __init__(self, store: SqliteStore, *, embedded: bool = False) -> None:
        self.store = store
        self.clock = JumpClock()
        self.parts = Parts(store, self.clock, random.Random(0), Signals())
        self.leases = Leases(self.parts, lease_s=LEASE_S, poll_s=LEASE_S)
        self.network = (Inside if embedded else Network)(self.leases, self.clock)
        self.executor = ScriptedExecutor(self.clock)
        self.sweeps = Sweeps(
            self.parts,
            remove_files=lambda jobs: asyncio.sleep(0, [True] * len(jobs)),
            lease_s=LEASE_S,
            poll_s=5,
            retention=dt.timedelta(days=7),
        )
        self.worker = Worker(
            info=WorkerInfo("w", slots=1, embedded=embedded),
            dispatcher=self.network,
            executor=self.executor,
            directory_of=lambda job_id, attempt: Path("/nowhere") / f"{job_id}-{attempt}",
            clock=self.clock,
            poll_s=5,
            output=Nothing(),
        )

    async def submit(self) -> str:
        [job] = await submit.submit(self.parts, TENANT, [JobSpec(Command(("true",)))], None)
        return job.job_id

    async def job(self, job_id: str) -> Job:
        return await cancel.get_job(self.parts, JobKey(TENANT, job_id))

    async def until(self, fact: Callable[[], object]) -> None:
        """Until something is so, without time passing."""
        async with asyncio.timeout(10):
            while not fact():
                await SystemClock().sleep(0.002)

    async def runs(self) -> Fence:
        await self.until(lambda: self.executor.running)
        [fence] = self.executor.running
        return fence

    async def beats(self, count: int = 1) -> None:
        """Let time pass until the worker was answered so often."""
        for _ in range(count):
            before = self.executor.kept_until_s
            while self.executor.kept_until_s == before:
                self.clock.advance(0.5)
                await SystemClock().sleep(0.005)

    async def pass_alone(self, seconds: float) -> list[Fence]:
        """Let time pass without an answer; what the runner ended in it."""
        ended: list[Fence] = []
        for _ in range(round(seconds)):
            self.clock.advance(1)
            ended += self.executor.end_in_silence()
        return ended

    async def done(self, job_id: str) -> Job:
        """The job once it has succeeded; time passes meanwhile."""
        async with asyncio.timeout(10):
            while (job := await self.job(job_id)).state is not State.SUCCEEDED:
                self.clock.advance(1)
                await SystemClock().sleep(0.005)
        return job

    async def ordered(self) -> Fence:
        """The one attempt that is ordered in the end; time passes, and leases run out."""
        while not self.executor.orders:
            self.clock.advance(1)
            await self.sweeps.expire()
            await SystemClock().sleep(0.01)
        [fence] = self.executor.orders
        return fence

    async def minds(self) -> None:
        """Another worker comes, and the store knows that this one has heard of it."""
        await self.store.register_worker(WorkerInfo("other"), now=self.clock.now())
        await self.beats(2)


@pytest.fixture
async def idle(quick_path: Path) -> AsyncIterator[Bench]:
    """With a worker that has not begun."""
    store = await SqliteStore.open(quick_path / "jobs.db")
    yield Bench(store)
    await store.close()


@contextlib.asynccontextmanager
async def at_work(made: Bench) -> AsyncIterator[Bench]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(made.worker.run())
        yield made
        task.cancel()


@pytest.fixture
async def bench(idle: Bench) -> AsyncIterator[Bench]:
    async with at_work(idle):
        yield idle


async def test_what_runs_goes_on_while_somebody_answers(bench: Bench) -> None:
    await bench.submit()
    fence = await bench.runs()
    await bench.beats(8)
    assert list(bench.executor.running) == [fence]
    assert await bench.sweeps.expire() == 0


async def test_without_an_answer_all_ends_at_twenty_seconds_and_nothing_is_told(
    bench: Bench,
) -> None:
    job_id = await bench.submit()
    fence = await bench.runs()
    await bench.beats(3)
    bench.network.is_cut = True
    assert await bench.pass_alone(SILENT_S - 1) == []
    assert await bench.pass_alone(1) == [fence]
    await bench.until(lambda: not bench.executor.ended)
    bench.network.is_cut = False
    assert await bench.pass_alone(TAKEN_S - SILENT_S - 1) == []
    assert await bench.sweeps.expire() == 0
    bench.network.is_cut = True  # so that what comes of the loss stays where it is
    await bench.pass_alone(1)
    assert await bench.sweeps.expire() == 1
    job = await bench.job(job_id)
    assert [each.state for each in job.attempts] == [AttemptState.LOST]
    assert bench.network.finished == []


async def test_an_answer_that_the_store_is_away_is_an_answer(bench: Bench) -> None:
    await bench.submit()
    fence = await bench.runs()
    bench.network.has_no_store = True
    await bench.beats(8)
    assert list(bench.executor.running) == [fence]
    bench.network.has_no_store = False
    await bench.beats()
    bench.executor.end(fence, exit_code=0)
    await bench.until(lambda: bench.network.finished)


async def test_a_claim_ahead_does_not_end_that(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for a slot, and cannot be handed back while the store is away."""
    monkeypatch.setattr(Ahead, "leases", lambda _: 1)
    await bench.submit()
    await bench.submit()
    await bench.until(lambda: bench.worker._book.pending)
    fence = await bench.runs()
    bench.network.has_no_store = True
    await bench.beats(8)
    assert list(bench.executor.running) == [fence]
    bench.network.has_no_store = False


async def test_a_lease_that_lay_unread_while_the_host_slept_is_not_used(bench: Bench) -> None:
    bench.network.sleeps_s = SILENT_S + 1
    job_id = await bench.submit()
    await bench.until(lambda: bench.network.is_cut)
    assert await bench.pass_alone(1) == []
    assert bench.executor.orders == {}
    bench.network.is_cut = False
    fence = await bench.ordered()
    assert (fence.job_id, fence.epoch) == (job_id, 2)  # handed back, or lost, and claimed anew


@pytest.mark.parametrize("written", [0, 5])
@pytest.mark.parametrize("silenced", [True, False])
async def test_an_end_that_is_told_as_the_worker_begins_is_held_no_longer_than_it_is_told(
    idle: Bench, silenced: bool, written: int
) -> None:
    job_id = await idle.submit()
    await idle.leases.register(WorkerInfo("w", slots=1))
    [claim] = await idle.leases.claim("w", 1, 0.0)
    await idle.leases.start([AttemptStart(claim.fence, idle.clock.now())])
    outcome = Outcome(Cause.EXIT, idle.clock.now(), exit_code=0, stdout_bytes=written)
    idle.executor.ended[claim.fence] = Ended(claim.fence, outcome, silenced=silenced)
    async with at_work(idle):
        await idle.worker.adopted.wait()
        await idle.until(lambda: not idle.executor.ended)
        await idle.until(lambda: not idle.worker._book.held())
        state = (await idle.job(job_id)).state
    assert state is (State.RUNNING if silenced else State.SUCCEEDED)


# --- in a server ------------------------------------------------------------------------------


@pytest.fixture
async def inside(quick_path: Path) -> AsyncIterator[Bench]:
    """With a worker in the process of its server."""
    store = await SqliteStore.open(quick_path / "jobs.db")
    async with at_work(Bench(store, embedded=True)) as made:
        yield made
    await store.close()


async def test_alone_in_a_server_it_goes_on_whatever_the_store_does(inside: Bench) -> None:
    job_id = await inside.submit()
    fence = await inside.runs()
    inside.network.is_cut = True
    assert await inside.pass_alone(10 * LEASE_S) == []
    assert await inside.sweeps.expire() == 0
    inside.executor.end(fence, exit_code=0)
    inside.network.is_cut = False
    assert (await inside.done(job_id)).attempt_count == 1


async def test_in_company_all_ends_at_twenty_seconds_without_the_store_and_nothing_is_told(
    inside: Bench,
) -> None:
    job_id = await inside.submit()
    fence = await inside.runs()
    await inside.minds()
    await inside.beats(8)
    assert list(inside.executor.running) == [fence]
    inside.network.is_cut = True
    assert await inside.pass_alone(SILENT_S - 1) == []
    assert await inside.pass_alone(1) == [fence]
    await inside.until(lambda: not inside.executor.ended)
    assert await inside.pass_alone(TAKEN_S - SILENT_S - 1) == []
    assert await inside.sweeps.expire() == 0
    await inside.pass_alone(1)
    assert await inside.sweeps.expire() == 1
    job = await inside.job(job_id)
    assert [each.state for each in job.attempts] == [AttemptState.LOST]
    assert inside.network.finished == []
    inside.network.is_cut = False
    while len(inside.executor.orders) < 2:
        await inside.pass_alone(1)
        await SystemClock().sleep(0.005)
    assert max(each.epoch for each in inside.executor.orders) == 2


async def test_what_ran_unheard_and_ended_in_silence_is_lost_and_not_handed_back(
    inside: Bench,
) -> None:
    await inside.minds()
    inside.network.sleeps_s = 1.0
    inside.network.loses_starts = True
    job_id = await inside.submit()
    fence = await inside.runs()
    assert await inside.pass_alone(SILENT_S) == [fence]
    await inside.until(lambda: not inside.executor.ended)
    inside.network.is_cut = False
    while len(inside.executor.orders) < 2:
        inside.clock.advance(1)
        await inside.sweeps.expire()
        await SystemClock().sleep(0.005)
    assert (await inside.job(job_id)).lost_count == 1


async def test_who_was_cut_off_before_the_other_came_keeps_its_jobs(inside: Bench) -> None:
    job_id = await inside.submit()
    fence = await inside.runs()
    inside.network.is_cut = True
    await inside.store.register_worker(WorkerInfo("other"), now=inside.clock.now())
    assert await inside.pass_alone(10 * LEASE_S) == []
    assert await inside.sweeps.expire() == 0
    inside.network.is_cut = False
    await inside.beats(2)
    assert await inside.sweeps.expire() == 0
    inside.executor.end(fence, exit_code=0)
    assert (await inside.done(job_id)).attempt_count == 1


async def test_a_lease_is_not_taken_before_the_store_knows_that_its_holder_has_heard(
    inside: Bench,
) -> None:
    await inside.submit()
    fence = await inside.runs()
    await inside.store.register_worker(WorkerInfo("other"), now=inside.clock.now())
    await inside.beats()
    inside.network.is_cut = True  # it has heard, and could not say so
    assert await inside.pass_alone(10 * LEASE_S) == [fence]
    assert await inside.sweeps.expire() == 0
    inside.network.is_cut = False
    await inside.beats()
    assert await inside.sweeps.expire() == 1


async def test_in_company_a_lease_that_lay_unread_while_the_host_slept_is_not_used(
    inside: Bench,
) -> None:
    await inside.minds()
    inside.network.sleeps_s = SILENT_S + 1
    await inside.submit()
    await inside.until(lambda: inside.network.is_cut)
    assert await inside.pass_alone(1) == []
    assert inside.executor.orders == {}
    inside.network.is_cut = False
    fence = await inside.ordered()
    assert fence.epoch == 2


async def test_one_that_is_alone_again_has_its_runner_go_on_for_ever(quick_path: Path) -> None:
    store = await SqliteStore.open(quick_path / "jobs.db")
    before, again = Bench(store, embedded=True), Bench(store, embedded=True)
    async with at_work(before):
        await before.submit()
        fence = await before.runs()
        await before.minds()
    again.clock.advance(COMPANY.total_seconds() + LEASE_S)
    again.executor.running[fence] = again.clock.now()
    again.executor.keep_until(again.clock.monotonic_s() + 1)
    async with at_work(again):
        await again.until(lambda: again.executor.kept_until_s is None)
        assert await again.pass_alone(10 * LEASE_S) == []
    await store.close()
