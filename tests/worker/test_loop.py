"""The worker against a real store and a scripted executor: slots, adoption, losses, shutdown."""

import asyncio
import contextlib
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pytest
import structlog.testing

from jobservice.clock import SystemClock
from jobservice.engine import cancel, submit
from jobservice.engine.claim import Leases
from jobservice.engine.parts import Parts, Signals
from jobservice.errors import StoreUnavailable
from jobservice.executors.port import Ended, KnownAttempt, Progressed, Report
from jobservice.model.attempt import Cause, Fence, Outcome
from jobservice.model.job import Attempt, AttemptState, Job
from jobservice.model.lease import AttemptEnd, Claim, LiveAttempt
from jobservice.model.lifecycle import State
from jobservice.model.spec import Command, JobSpec, RetryPolicy
from jobservice.model.worker import WorkerInfo
from jobservice.store.port import Claimed, JobKey
from jobservice.store.sqlite import writer
from jobservice.store.sqlite.backup import backup, restore
from jobservice.store.sqlite.store import SqliteStore
from jobservice.store.verbs import claim as verbs
from jobservice.store.verbs.transaction import Transaction
from jobservice.testing.executor import ScriptedExecutor
from jobservice.testing.invariants import check_invariants
from jobservice.worker import loop
from jobservice.worker.book import Book
from jobservice.worker.loop import Worker

T = TypeVar("T")
TENANT = "default"
SPEC = JobSpec(Command(("true",)))


class Bench:
    """A store, an executor and workers on them."""

    def __init__(self, store: SqliteStore) -> None:
        self.clock = SystemClock()
        self.parts = Parts(store, self.clock, random.Random(0), Signals())
        self.executor = ScriptedExecutor(self.clock)
        self.leases = Leases(self.parts, lease_s=30, poll_s=30)

    def worker(self, slots: int = 2) -> Worker:
        return Worker(
            info=WorkerInfo("w", slots=slots, embedded=True),
            dispatcher=self.leases,
            executor=self.executor,
            directory_of=lambda job_id, attempt: Path("/nowhere") / f"{job_id}-{attempt}",
            clock=self.clock,
            poll_s=0.2,
        )

    async def submit(self, count: int = 1, spec: JobSpec = SPEC) -> list[str]:
        return [job.job_id for job in await submit.submit(self.parts, TENANT, [spec] * count, None)]

    async def job(self, job_id: str) -> Job:
        return await cancel.get_job(self.parts, JobKey(TENANT, job_id))

    async def state(self, job_id: str, state: State) -> Job:
        async def look() -> Job | None:
            job = await self.job(job_id)
            return job if job.state is state else None

        return await until(look)

    async def attempts_are(self, job_id: str, *states: AttemptState) -> Sequence[Attempt]:
        """What is recorded of them, which may be a moment after what happened."""

        async def look() -> Sequence[Attempt] | None:
            attempts = (await self.job(job_id)).attempts
            return attempts if tuple(each.state for each in attempts) == states else None

        return await until(look)

    async def all_acknowledged(self) -> None:
        async def look() -> bool | None:
            return not self.executor.ended or None

        await until(look)

    async def runs(self, count: int) -> list[Fence]:
        async def look() -> list[Fence] | None:
            running = list(self.executor.running)
            return running if len(running) == count else None

        return await until(look)


async def until(look: Callable[[], Awaitable[T | None]]) -> T:
    async with asyncio.timeout(10):
        while True:
            found = await look()
            if found is not None:
                return found
            await SystemClock().sleep(0.005)


@pytest.fixture
async def bench(quick_path: Path) -> AsyncIterator[Bench]:
    store = await SqliteStore.open(quick_path / "jobs.db")
    beginning = await store.head_position()
    yield Bench(store)
    await check_invariants(store, beginning=beginning)
    await store.close()


@contextlib.asynccontextmanager
async def running(worker: Worker) -> AsyncIterator[Worker]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(worker.run())
        await worker.adopted.wait()
        yield worker
        task.cancel()


async def test_no_more_run_than_there_are_slots_and_every_end_is_recorded(bench: Bench) -> None:
    ids = await bench.submit(5)
    async with running(bench.worker(slots=2)):
        for _ in range(5):
            fence = (await bench.runs(min(2, 5 - _)))[0]
            bench.executor.end(fence, exit_code=0)
        for job_id in ids:
            await bench.state(job_id, State.SUCCEEDED)
        await bench.all_acknowledged()


async def test_zero_slots_run_nothing_and_need_no_executor(bench: Bench) -> None:
    [job_id] = await bench.submit()
    async with running(bench.worker(slots=0)):
        assert (await bench.job(job_id)).state is State.QUEUED
    assert bench.executor.connections == 0


async def test_a_stop_reaches_a_running_attempt_at_once(bench: Bench) -> None:
    [job_id] = await bench.submit()
    async with running(bench.worker()):
        await bench.runs(1)
        await cancel.cancel(bench.parts, JobKey(TENANT, job_id))
        job = await bench.state(job_id, State.CANCELLED)
    assert len(bench.executor.stops) == 1
    assert job.attempts[0].signal == 15


async def test_progress_gets_an_estimate_and_is_recorded(bench: Bench) -> None:
    [job_id] = await bench.submit()
    async with running(bench.worker()):
        [fence] = await bench.runs(1)
        bench.executor.progress(fence, 50, "half")

        async def look() -> Job | None:
            job = await bench.job(job_id)
            return job if job.progress else None

        job = await until(look)
        assert job.progress is not None
        assert (job.progress.percent, job.progress.step) == (50, "half")
        assert job.progress.estimated_completion is not None
        bench.executor.end(fence, exit_code=0)
        await bench.state(job_id, State.SUCCEEDED)


async def test_a_report_that_cannot_be_heard_keeps_no_other_one_away(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await bench.submit(2)
    async with running(bench.worker(slots=2)):
        first, second = await bench.runs(2)
        heard = Book.hear

        def hear(book: Book, reports: Sequence[Report]) -> int:
            if any(report.fence == first for report in reports if isinstance(report, Progressed)):
                raise OverflowError
            return heard(book, reports)

        monkeypatch.setattr(Book, "hear", hear)
        now = bench.clock.now()
        with structlog.testing.capture_logs() as lines:
            bench.executor.report([Progressed(each, now, 10, "") for each in (first, second)])
            for fence in (first, second):
                bench.executor.end(fence, exit_code=0)
        for job_id in ids:
            await bench.state(job_id, State.SUCCEEDED)
    assert [line["attempt"] for line in lines if line["event"] == "report_not_heard"] == [
        str(first)
    ]
    assert all(line["exc_info"] for line in lines)


async def test_a_restarted_worker_adopts_what_runs(bench: Bench) -> None:
    [job_id] = await bench.submit()
    async with running(bench.worker()):
        [fence] = await bench.runs(1)
    async with running(bench.worker()):
        assert list(bench.executor.running) == [fence]
        bench.executor.end(fence, exit_code=7)
        job = await bench.state(job_id, State.FAILED)
    assert (job.exit_code, job.attempt_count) == (7, 1)


async def test_an_end_while_no_worker_was_there_is_recorded_once(bench: Bench) -> None:
    [job_id] = await bench.submit()
    async with running(bench.worker()):
        [fence] = await bench.runs(1)
    bench.executor._on_reports = lambda _reports: None
    bench.executor.end(fence, exit_code=0)
    async with running(bench.worker()):
        job = await bench.state(job_id, State.SUCCEEDED)
    assert job.attempt_count == 1


async def test_a_claim_that_never_reached_the_executor_goes_back_without_a_trace(
    bench: Bench,
) -> None:
    [job_id] = await bench.submit()
    [claim] = await bench.leases.claim("w", 1, 0.0)
    async with running(bench.worker()):
        [fence] = await bench.runs(1)
        assert fence.attempt == claim.fence.attempt == 1
        assert fence.epoch > claim.fence.epoch
        bench.executor.end(fence, exit_code=0)
        job = await bench.state(job_id, State.SUCCEEDED)
    assert (job.attempt_count, job.lost_count) == (1, 0)


async def test_a_claim_that_was_to_be_stopped_and_never_ran_is_cancelled(bench: Bench) -> None:
    [job_id] = await bench.submit()
    await bench.leases.claim("w", 1, 0.0)
    await cancel.cancel(bench.parts, JobKey(TENANT, job_id))
    async with running(bench.worker()):
        await bench.state(job_id, State.CANCELLED)
    assert bench.executor.orders == {}


async def test_an_attempt_that_nobody_wants_any_more_is_stopped_and_forgotten(
    bench: Bench,
) -> None:
    [job_id] = await bench.submit(spec=JobSpec(Command(("true",)), retry=RetryPolicy(max_lost=1)))
    async with running(bench.worker()):
        [fence] = await bench.runs(1)
    outcome_elsewhere = bench.executor.ended.copy()
    assert outcome_elsewhere == {}
    await bench.leases.finish([AttemptEnd(fence, lost(bench))])
    async with running(bench.worker()):

        async def gone() -> bool | None:
            return True if not bench.executor.running and not bench.executor.ended else None

        await until(gone)
    assert (await bench.job(job_id)).state is State.FAILED


async def test_a_lost_runner_is_replaced_and_its_jobs_run_again(bench: Bench) -> None:
    ids = await bench.submit(2)
    async with running(bench.worker()):
        first = await bench.runs(2)
        bench.executor.lose()
        second = await bench.runs(2)
        assert {fence.attempt for fence in second} == {2}
        assert not set(first) & set(second)
        for fence in second:
            bench.executor.end(fence, exit_code=0)
        for job_id in ids:
            job = await bench.state(job_id, State.SUCCEEDED)
            assert (job.attempt_count, job.failure_count, job.lost_count) == (2, 0, 1)


async def test_ends_wait_for_a_store_that_is_away(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    [job_id] = await bench.submit()
    finish, failures = bench.leases.finish, iter([True, True])

    async def failing(ends: Sequence[AttemptEnd]) -> Sequence[bool]:
        if next(failures, False):
            raise StoreUnavailable
        return await finish(ends)

    monkeypatch.setattr(bench.leases, "finish", failing)
    monkeypatch.setattr(loop, "RETRY_S", (0.01,) * len(loop.RETRY_S))
    async with running(bench.worker()):
        [fence] = await bench.runs(1)
        bench.executor.end(fence, exit_code=0)
        await bench.state(job_id, State.SUCCEEDED)
        await bench.all_acknowledged()


async def test_a_lease_whose_end_is_on_its_way_is_not_handed_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ran and ended while the worker was away, and nobody has told the store that it began."""
    bench.leases.lease_s = 0.1  # so often it is looked for leases that nobody holds
    connect, told = bench.executor.connect, list[Report]()

    async def tell_later(
        on_reports: Callable[[Sequence[Report]], None], on_lost: Callable[[], None]
    ) -> Sequence[KnownAttempt]:
        known = await connect(told.extend, on_lost)
        bench.executor._on_reports = on_reports
        return known

    looks, list_live = 0, bench.leases.list_live

    async def look(worker_id: str) -> Sequence[LiveAttempt]:
        nonlocal looks
        looks += 1
        return await list_live(worker_id)

    monkeypatch.setattr(bench.executor, "connect", tell_later)
    monkeypatch.setattr(bench.leases, "list_live", look)
    [job_id] = await bench.submit()
    await bench.leases.register(WorkerInfo("w", slots=2, embedded=True))
    [claim] = await bench.leases.claim("w", 1, 0.0)
    outcome = Outcome(Cause.EXIT, bench.clock.now(), exit_code=0)
    bench.executor.ended[claim.fence] = Ended(claim.fence, outcome)
    async with running(bench.worker()):

        async def has_looked() -> bool | None:
            return looks > 2 or None

        await until(has_looked)
        bench.executor._on_reports(told)
        await bench.state(job_id, State.SUCCEEDED)
    assert bench.executor.orders == {}


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_lease_that_no_claim_told_of_is_found(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, is_cancelled: bool
) -> None:
    """As of a claim that the store wrote after it was given up."""
    bench.leases.lease_s = 0.2  # so often it is looked for
    claim, granted = bench.leases.claim, asyncio.Event()

    async def deaf(worker_id: str, limit: int, wait_s: float) -> Sequence[Claim]:
        claims = await claim(worker_id, limit, wait_s)
        if claims and not granted.is_set():
            granted.set()
            if is_cancelled:
                await cancel.cancel(bench.parts, JobKey(TENANT, job_id))
            return []
        return claims

    monkeypatch.setattr(bench.leases, "claim", deaf)
    async with running(bench.worker()):
        [job_id] = await bench.submit()
        await granted.wait()
        if is_cancelled:
            await bench.state(job_id, State.CANCELLED)
        else:
            [fence] = await bench.runs(1)
            bench.executor.end(fence, exit_code=0)
            assert (await bench.state(job_id, State.SUCCEEDED)).lost_count == 0


async def test_a_claim_that_is_written_late_is_found(
    quick_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk stalls while a claim is committed, until the worker has looked for it in vain."""
    store = await SqliteStore.open(quick_path / "slow.db", deadline_s=0.2)
    bench = Bench(store)
    monkeypatch.setattr(loop, "RETRY_S", (0.01,) * len(loop.RETRY_S))
    stalls, goes_on, claim_jobs = threading.Event(), threading.Event(), verbs.claim_jobs

    async def claim(tx: Transaction, calls: Sequence[verbs.ClaimCall]) -> list[Claimed]:
        found = await claim_jobs(tx, calls)
        if any(each.claims for each in found):
            stalls.set()
        return found

    def stall(place: str) -> None:
        if place == "store.before_commit" and stalls.is_set():
            goes_on.wait(10)

    monkeypatch.setattr(verbs, "claim_jobs", claim)

    monkeypatch.setattr(writer, "failpoint", stall)
    unclaim, list_live, failures = bench.leases.unclaim, bench.leases.list_live, 0

    async def look(worker_id: str) -> Sequence[LiveAttempt]:
        live = await list_live(worker_id)
        if stalls.is_set():
            goes_on.set()
        return live

    async def queue_up(fences: Sequence[Fence]) -> Sequence[bool]:
        nonlocal failures
        try:
            return await unclaim(fences)
        except StoreUnavailable:
            failures += 1
            if failures == 2:
                goes_on.set()
            raise

    monkeypatch.setattr(bench.leases, "list_live", look)
    monkeypatch.setattr(bench.leases, "unclaim", queue_up)
    [job_id] = await bench.submit()
    async with running(bench.worker()):
        [fence] = await bench.runs(1)
        bench.executor.end(fence, exit_code=0)
        await bench.state(job_id, State.SUCCEEDED)
    await store.close()


async def test_a_drain_leaves_running_attempts_alone_and_hands_the_rest_back(
    bench: Bench,
) -> None:
    ids = await bench.submit(3)
    worker = bench.worker(slots=1)
    async with running(worker):
        [fence] = await bench.runs(1)
        await worker.drain(stop_jobs=False, timeout_s=5)
        assert list(bench.executor.running) == [fence]
    states = sorted([(await bench.job(job_id)).state for job_id in ids])
    assert states == [State.QUEUED, State.QUEUED, State.RUNNING]


async def test_a_drain_with_its_jobs_stops_them_and_queues_them_again(bench: Bench) -> None:
    [job_id] = await bench.submit()
    worker = bench.worker()
    async with running(worker):
        await bench.runs(1)
        await worker.drain(stop_jobs=True, timeout_s=5)
        job = await bench.job(job_id)
    assert (job.state, job.lost_count, job.failure_count) == (State.QUEUED, 0, 0)


def lost(bench: Bench) -> Outcome:
    return Outcome(Cause.LOST, bench.clock.now())


async def test_a_job_is_not_run_anew_while_an_attempt_that_lost_its_lease_lives(
    bench: Bench,
) -> None:
    [job_id, other] = await bench.submit(2)
    async with running(bench.worker(slots=1)):
        [old] = await bench.runs(1)
    bench.executor.heedless.add(old)
    lost = AttemptEnd(old, Outcome(Cause.LOST, bench.clock.now()))
    await bench.leases.finish([lost])
    assert old.job_id == job_id
    async with running(bench.worker(slots=4)):
        first, second = await bench.runs(2)
        assert (first, second.job_id) == (old, other)
        await bench.state(job_id, State.RUNNING)
        [third] = await bench.submit()
        assert [each.job_id for each in await bench.runs(3)] == [job_id, other, third]
        assert (await bench.job(job_id)).state is State.RUNNING  # claimed, and waits
        bench.executor.end(old, Cause.STOP, signal=9)
        bench.executor.end(second, exit_code=0)
        _, new = await bench.runs(2)
        assert new.job_id == job_id
        assert new != old
        assert (await bench.job(job_id)).attempt_count == 2


async def test_a_claim_of_a_backup_is_lost_even_where_nothing_had_started(quick_path: Path) -> None:
    path, file = quick_path / "jobs.db", quick_path / "backup"
    store = await SqliteStore.open(path)
    before = Bench(store)
    [job_id] = await before.submit()
    [claim] = await before.leases.claim("w", 1, 1)
    await store.close()
    backup(path, file, force=False)
    restore(file, path, force=True)
    store = await SqliteStore.open(path)
    bench = Bench(store)
    async with running(bench.worker()):
        [fence] = await bench.runs(1)
        lost, _ = await bench.attempts_are(job_id, AttemptState.LOST, AttemptState.RUNNING)
    assert bench.executor.stops == [claim.fence]
    assert (lost.attempt, fence.attempt) == (1, 2)
    await store.close()
