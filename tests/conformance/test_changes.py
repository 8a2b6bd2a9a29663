"""Changes: told once each, in order, and again from wherever one left off."""

import asyncio
import itertools

import pytest

from jobservice.errors import ResumeTokenExpired
from jobservice.model.attempt import Fence
from jobservice.model.event import Change, EventKind
from jobservice.model.job import Progress
from jobservice.model.lifecycle import State
from jobservice.model.spec import RetryPolicy
from jobservice.store.port import ProgressReport, StopRequest, Store
from tests.conformance.values import (
    BEGINNING,
    at,
    changes,
    claim,
    end,
    finish,
    insert_some,
    job,
    key_of,
    run,
    start,
)


async def report(store: Store, fence: Fence, percent: float, seconds: float) -> None:
    progress = Progress(percent, f"at {percent}", at(99), at(seconds))
    assert await store.record_progress([ProgressReport(fence, progress)]) == [True]


async def busy_history(store: Store) -> None:
    fences = await run(store, 4, retry=RetryPolicy(max_attempts=2))
    for n, fence in enumerate(fences):
        await report(store, fence, 10.0 * n, n)
    await report(store, fences[0], 99.0, 9)
    await finish(store, *[end(each, n % 2) for n, each in enumerate(fences)])
    await store.release_due(now=at(60), limit=1)
    stops = [StopRequest(each.tenant, each.job_id, delete=True) for each in fences[:2]]
    await store.request_stop(stops, now=at(61))
    await store.delete_jobs([key_of(fences[0])], now=at(62))
    await insert_some(store, 3)


async def test_changes_are_in_order_and_each_has_its_place(store: Store) -> None:
    await busy_history(store)
    told = await changes(store)
    assert len({each.position for each in told}) == len(told)
    assert told[-1].position == await store.head_position()
    for n, each in enumerate(told):
        assert await changes(store, each.position) == told[n + 1 :]


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
async def test_changes_can_be_read_piece_by_piece(store: Store, limit: int) -> None:
    await busy_history(store)
    told: list[Change] = []
    position = BEGINNING
    while True:
        page = await store.list_changes(position, limit=limit)
        if not page.changes:
            break
        assert len(page.changes) <= limit
        assert page.position == page.changes[-1].position
        told += page.changes
        position = page.position
    assert told == await changes(store)
    assert page.position == position == await store.head_position()


async def test_the_events_of_a_job_have_no_gap(store: Store) -> None:
    await busy_history(store)
    revisions: dict[str, list[int]] = {}
    passing = {EventKind.PROGRESS, EventKind.DELETED}
    for change in await changes(store):
        if change.event.kind not in passing:
            revisions.setdefault(change.event.job_id, []).append(change.event.revision)
    for numbers in revisions.values():
        assert numbers == list(range(1, len(numbers) + 1))


async def test_the_whole_life_of_a_job_is_told(store: Store) -> None:
    [new] = await insert_some(store, retry=RetryPolicy(max_attempts=2))
    [first] = await claim(store)
    await start(store, first.fence)
    await finish(store, end(first.fence, 1))
    await store.release_due(now=at(60), limit=1)
    [second] = await claim(store, now=at(60))
    await store.unclaim_attempts([second.fence], now=at(60))
    [third] = await claim(store, now=at(61))
    await store.request_stop([StopRequest(new.tenant, new.job_id)], now=at(62))
    await finish(store, end(third.fence, 1), now=at(63))
    told = [each.event for each in await changes(store)]
    kinds = [
        EventKind.CREATED,
        EventKind.CLAIMED,
        EventKind.STARTED,
        EventKind.RETRYING,
        EventKind.DUE,
        EventKind.CLAIMED,
        EventKind.UNCLAIMED,
        EventKind.CLAIMED,
        EventKind.STOPPING,
        EventKind.CANCELLED,
    ]
    assert [each.kind for each in told] == kinds
    assert [each.revision for each in told] == list(range(1, 11))
    assert [each.attempt for each in told] == [0, 1, 1, 1, 1, 2, 2, 2, 2, 2]
    for before, after in itertools.pairwise(told):
        assert after.previous_state is before.state
    found = await job(store, new)
    assert (found.state, found.revision) == (told[-1].state, told[-1].revision)


async def test_of_progress_only_the_newest_is_told(store: Store) -> None:
    one, two = await run(store, 2)
    head = await store.head_position()
    await report(store, one, 1.0, 1)
    await report(store, two, 2.0, 2)
    between = await store.head_position()
    await report(store, one, 3.0, 3)
    told = [each.event for each in await changes(store, head)]
    assert [(each.job_id, each.kind) for each in told] == [
        (two.job_id, EventKind.PROGRESS),
        (one.job_id, EventKind.PROGRESS),
    ]
    assert told[1].progress == Progress(3.0, "at 3.0", at(99), at(3))
    assert (told[1].revision, told[1].state, told[1].attempt) == (3, State.RUNNING, 1)
    assert told[1].at == at(3)
    assert len(await changes(store, between)) == 1


async def test_calls_that_are_committed_together_are_told_in_their_order(store: Store) -> None:
    """The worker tells of a start, a progress and an end in one go."""
    await insert_some(store, 2)
    one, two = [each.fence for each in await claim(store, 2)]
    head = await store.head_position()
    progress = Progress(1.0, "begun", None, at(1))
    await asyncio.gather(
        start(store, one),
        store.record_progress([ProgressReport(one, progress)]),
        start(store, two),
        store.record_progress([ProgressReport(two, progress)]),
        finish(store, end(one)),
    )
    told = [(each.event.job_id, each.event.kind) for each in await changes(store, head)]
    assert told == [
        (one.job_id, EventKind.STARTED),
        (one.job_id, EventKind.PROGRESS),
        (two.job_id, EventKind.STARTED),
        (two.job_id, EventKind.PROGRESS),
        (one.job_id, EventKind.SUCCEEDED),
    ]


async def test_an_older_report_does_not_replace_a_newer_one(store: Store) -> None:
    [fence] = await run(store)
    await report(store, fence, 50.0, 5)
    await report(store, fence, 40.0, 4)
    found = await job(store, fence)
    assert found.progress is not None
    assert found.progress.percent == 50.0


async def test_progress_is_no_transition(store: Store) -> None:
    [fence] = await run(store)
    before = await job(store, fence)
    await report(store, fence, 50.0, 5)
    after = await job(store, fence)
    assert (after.revision, after.updated_at) == (before.revision, before.updated_at)


async def test_a_new_attempt_has_no_progress_yet(store: Store) -> None:
    [fence] = await run(store, retry=RetryPolicy(max_attempts=2))
    await report(store, fence, 50.0, 5)
    await finish(store, end(fence, 1))
    assert (await job(store, fence)).progress is not None
    await store.release_due(now=at(60), limit=1)
    [again] = await claim(store, now=at(60))
    assert (await job(store, fence)).progress is None
    await report(store, again.fence, 1.0, 1)
    found = await job(store, fence)
    assert found.progress is not None
    assert found.progress.percent == 1.0


@pytest.mark.parametrize(
    "token", ["", "p", "0", "x0", "p-1", "pg", "p 1", "P0", "p0x", "p" + "f" * 40, "p1\n", "pfffff"]
)
async def test_what_is_no_position_is_refused(store: Store, token: str) -> None:
    await insert_some(store)
    with pytest.raises(ResumeTokenExpired):
        await store.list_changes(token, limit=10)


async def test_an_empty_store_has_a_position(store: Store) -> None:
    head = await store.head_position()
    page = await store.list_changes(head, limit=10)
    assert (page.changes, page.position) == ((), head)
    await insert_some(store)
    assert len(await changes(store, head)) == 1


async def test_a_reader_beside_writers_misses_nothing(store: Store) -> None:
    """What one reader is told while others write is what is told afterwards."""
    told: list[Change] = []
    done, news = asyncio.Event(), asyncio.Event()
    store.on_commit(news.set)

    async def read() -> None:
        position = BEGINNING
        while True:
            over = done.is_set()
            news.clear()
            page = await store.list_changes(position, limit=7)
            told.extend(page.changes)
            position = page.position
            if over and not page.changes:
                return
            if not page.changes:
                await news.wait()

    async def write() -> None:
        try:
            for _ in range(15):
                await asyncio.gather(*[insert_some(store, 3) for _ in range(4)])
                given = await claim(store, 6)
                await asyncio.gather(*[finish(store, end(each.fence)) for each in given])
        finally:
            done.set()
            news.set()

    await asyncio.gather(read(), write())
    assert told == await changes(store)


async def test_a_commit_is_announced(store: Store) -> None:
    heard = asyncio.Event()
    store.on_commit(heard.set)
    await insert_some(store)
    async with asyncio.timeout(5):
        await heard.wait()
    heard.clear()
    assert await claim(store, 0) == []
    assert not heard.is_set()
