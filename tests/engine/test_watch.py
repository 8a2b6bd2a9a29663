"""The change feed: no gap, no repeat, for those who keep up, fall behind, begin late or again."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jobservice.engine import submit
from jobservice.engine.parts import Parts, Signals
from jobservice.engine.watch import ChangeFeed, Subscription
from jobservice.errors import ResumeTokenExpired
from jobservice.model.spec import Command, JobSpec
from jobservice.store.sqlite.store import SqliteStore
from jobservice.testing.clock import JumpClock

SPEC = JobSpec(Command(("true",)))


class Watched:
    """A store with a feed on it."""

    def __init__(self, store: SqliteStore, capacity: int) -> None:
        self.store = store
        self.feed = ChangeFeed(store, capacity=capacity, poll_s=5.0)
        self.parts = Parts(store, JumpClock(), random.Random(0), Signals())

    async def submit(self, count: int) -> list[str]:
        made = await submit.submit(self.parts, "default", [SPEC] * count, None)
        return [job.job_id for job in made]


@pytest.fixture(params=[4, 1000], ids=["small ring", "large ring"])
async def watched(quick_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Watched]:
    store = await SqliteStore.open(quick_path / "jobs.db")
    made = Watched(store, request.param)
    async with asyncio.TaskGroup() as group:
        loop = group.create_task(made.feed.run())
        yield made
        loop.cancel()
    await store.close()


async def take(subscription: Subscription, count: int) -> list[str]:
    taken: list[str] = []
    async with asyncio.timeout(10):
        while len(taken) < count:
            taken += [change.event.job_id for change in await subscription.next()]
    return taken


async def test_a_subscriber_hears_what_comes_after_it(watched: Watched) -> None:
    await watched.submit(3)
    async with watched.feed.subscribe() as subscription:
        ids = await watched.submit(5)
        assert await take(subscription, 5) == ids
        ids = await watched.submit(20)
        assert await take(subscription, 20) == ids


async def test_one_who_falls_behind_the_ring_misses_nothing(watched: Watched) -> None:
    async with watched.feed.subscribe() as slow, watched.feed.subscribe() as quick:
        ids = []
        for _ in range(5):
            new = await watched.submit(3)
            ids += new
            assert await take(quick, 3) == new
        assert await take(slow, 15) == ids


async def test_one_who_comes_back_goes_on_where_it_was(watched: Watched) -> None:
    async with watched.feed.subscribe() as subscription:
        first = await watched.submit(2)
        assert await take(subscription, 2) == first
        position = subscription.position
    missed = await watched.submit(7)
    async with watched.feed.subscribe(position) as subscription:
        later = await watched.submit(2)
        assert await take(subscription, 9) == missed + later


async def test_two_hundred_watchers_hear_the_same(watched: Watched) -> None:
    async def watch(ready: asyncio.Semaphore) -> list[str]:
        async with watched.feed.subscribe() as subscription:
            ready.release()
            return await take(subscription, 30)

    ready = asyncio.Semaphore(0)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(watch(ready)) for _ in range(200)]
        for _ in tasks:
            await ready.acquire()
        ids = [job_id for _ in range(10) for job_id in await watched.submit(3)]
    assert all(task.result() == ids for task in tasks)


async def test_a_position_that_is_none_of_ours_is_refused(watched: Watched) -> None:
    async with watched.feed.subscribe("nonsense") as subscription:
        with pytest.raises(ResumeTokenExpired):
            await subscription.next()


async def test_look_gives_what_is_in_memory_and_nothing_else(watched: Watched) -> None:
    async with watched.feed.subscribe() as subscription, watched.feed.subscribe() as other:
        assert subscription.look() == []
        [job_id] = await watched.submit(1)
        assert await take(other, 1) == [job_id]
        seen = subscription.look() or []
        assert [change.event.job_id for change in seen] == [job_id]
        assert subscription.look() == []
