"""When leases are taken away that are over: what holds it up, and what does not."""

import asyncio
import datetime as dt
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from jobservice.clock import SystemClock
from jobservice.engine.claim import Leases
from jobservice.engine.parts import Parts, Signals
from jobservice.engine.sweep import Sweeps
from jobservice.engine.workers import Quiet, register_worker
from jobservice.errors import JobServiceError, StoreFull, StoreUnavailable
from jobservice.model.attempt import Fence
from jobservice.model.lifecycle import State
from jobservice.model.worker import WorkerInfo
from jobservice.store.sqlite.store import SqliteStore
from jobservice.testing.clock import JumpClock
from tests.conformance.values import LEASE, NOW, key_of, run

LEASE_S = LEASE.total_seconds()


class Bench:
    """A job under a lease, and who takes it away; time is passed by hand."""

    def __init__(self, store: SqliteStore, fence: Fence) -> None:
        self.store = store
        self._fence = fence
        self._clock = JumpClock(NOW)
        self._parts = Parts(store, self._clock, random.Random(0), Signals())
        self.adopted = asyncio.Event()
        sweeps = Sweeps(
            self._parts,
            remove_files=self._remove_files,
            lease_s=LEASE_S,
            poll_s=5,
            retention=dt.timedelta(days=7),
        )
        self.expiring = asyncio.ensure_future(sweeps._expire(self.adopted))

    async def _remove_files(self, jobs: Sequence[tuple[str, int]]) -> list[bool]:
        return [True for _ in jobs]

    async def pass_(self, seconds: float) -> None:
        """Second by second, each time until all sleep."""
        for _ in range(round(seconds)):
            await self._rest()
            self._clock.advance(1)
        await self._rest()

    async def _rest(self) -> None:
        async with asyncio.timeout(10):
            while True:
                await SystemClock().sleep(0.001)  # who was woken goes on
                if self._clock.next_alarm_at() is not None:
                    break

    async def extend(self) -> None:
        await Leases(self._parts, lease_s=LEASE_S, poll_s=LEASE_S).extend("w1", [self._fence])

    async def register(self) -> None:
        await register_worker(self._parts, WorkerInfo("w1"), Quiet.of(LEASE_S, LEASE_S))

    async def state(self) -> State:
        [job] = await self.store.find_jobs([key_of(self._fence)])
        assert job is not None
        return job.state


@pytest.fixture
async def bench(quick_path: Path) -> AsyncIterator[Bench]:
    store = await SqliteStore.open(quick_path / "jobs.db")
    [fence] = await run(store)
    made = Bench(store, fence)
    yield made
    made.expiring.cancel()
    await store.close()


@pytest.mark.parametrize("sign_of_life", [Bench.extend, Bench.register])
@pytest.mark.parametrize("error", [StoreFull, StoreUnavailable])
async def test_nothing_is_taken_for_one_lease_after_a_worker_was_told_of_an_outage(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    error: type[JobServiceError],
    sign_of_life: Callable[[Bench], Awaitable[None]],
) -> None:
    """It goes on with what it runs, though reading works, and nothing was to be taken meanwhile."""

    async def refuse(*_args: object, **_options: object) -> None:
        raise error

    bench.adopted.set()
    await bench.pass_(LEASE_S - 2)
    with monkeypatch.context() as patch:
        for verb in ("extend_leases", "note_contact", "register_worker"):
            patch.setattr(bench.store, verb, refuse)
        with pytest.raises(error):
            await sign_of_life(bench)
    await bench.pass_(LEASE_S - 2)
    assert await bench.state() is State.RUNNING
    await bench.pass_(4)
    assert await bench.state() is State.QUEUED


async def test_a_runner_that_cannot_be_had_does_not_keep_the_leases_of_others(bench: Bench) -> None:
    await bench.pass_(2 * LEASE_S - 2)
    assert await bench.state() is State.RUNNING
    await bench.pass_(LEASE_S / 2)
    assert await bench.state() is State.QUEUED
