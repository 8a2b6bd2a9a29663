"""Move: another place in the queue, before, after, at the top, at the bottom."""

from typing import Any

import pytest

from jobservice.clock import to_us
from jobservice.model.event import EventKind
from jobservice.model.job import Job, NewJob
from jobservice.model.lifecycle import State
from jobservice.model.limit import ConcurrencyKey
from jobservice.model.queue import Move, bottom_key, claim_key, top_key
from jobservice.store.port import Refusal, Store
from tests.conformance.values import (
    NOW,
    at,
    changes,
    claim,
    end,
    finish,
    insert,
    insert_some,
    job,
    key_of,
    new_job,
)


async def moved(
    store: Store, which: NewJob, where: Move, other: NewJob | None = None, now: Any = NOW
) -> Job:
    found = await store.move_job(key_of(which), where, other.job_id if other else None, now=now)
    assert isinstance(found, Job)
    return found


async def order(store: Store) -> list[str]:
    return [each.fence.job_id for each in await claim(store, 1000)]


async def test_to_the_top_and_to_the_bottom(store: Store) -> None:
    high = new_job(priority=100)
    a, b, c = [new_job(created_at=at(n)) for n in (1, 2, 3)]
    await insert(store, high, a, b, c)
    await moved(store, c, Move.TOP, now=at(5))
    await moved(store, a, Move.BOTTOM, now=at(5))
    found = await moved(store, b, Move.TOP, now=at(6))
    assert (found.state, found.revision, found.updated_at) == (State.QUEUED, 2, at(6))
    event = (await changes(store))[-1].event
    assert (event.kind, event.state, event.previous_state) == (
        EventKind.MOVED,
        State.QUEUED,
        State.QUEUED,
    )
    assert await order(store) == [each.job_id for each in (b, c, high, a)]


def test_no_priority_and_no_age_reaches_beyond_the_top_and_the_bottom() -> None:
    first, last = claim_key(100, to_us(at(-(10**9)))), claim_key(-100, to_us(at(10**9)))
    assert top_key(0) < first
    assert last < bottom_key(0)


@pytest.mark.parametrize("where", [Move.BEFORE, Move.AFTER])
async def test_beside_any_job_of_one_instant(store: Store, where: Move) -> None:
    jobs = [new_job() for _ in range(6)]
    await insert(store, *jobs)
    wanted = list(jobs)
    for mover, other in ((5, 2), (0, 4), (3, 0), (1, 5), (2, 3)):
        wanted.remove(jobs[mover])
        wanted.insert(wanted.index(jobs[other]) + (where is Move.AFTER), jobs[mover])
        await moved(store, jobs[mover], where, jobs[other])
    assert await order(store) == [each.job_id for each in wanted]


async def test_beside_a_job_of_another_priority(store: Store) -> None:
    high, low, other = new_job(priority=50), new_job(priority=-50), new_job(priority=-100)
    await insert(store, high, low, other)
    await moved(store, other, Move.BEFORE, high)
    assert await order(store) == [each.job_id for each in (other, high, low)]


async def test_among_jobs_that_wait_for_a_key(store: Store) -> None:
    keys = (ConcurrencyKey("k"),)
    holder, *jobs = [new_job(concurrency_keys=keys) for _ in range(4)]
    await insert(store, holder, *jobs)
    [held] = await claim(store)
    assert await order(store) == []
    await moved(store, jobs[2], Move.BEFORE, jobs[0])
    await moved(store, jobs[1], Move.TOP)
    for wanted in (jobs[1], jobs[2], jobs[0]):
        await finish(store, end(held.fence))
        [held] = await claim(store)
        assert held.fence.job_id == wanted.job_id


async def test_what_cannot_be_moved(store: Store) -> None:
    [running] = await insert_some(store)
    await claim(store)
    queued, elsewhere, unfair = new_job(), new_job(queue="q"), new_job(fairness_key="f")
    await insert(store, queued, elsewhere, unfair)
    gone = new_job()

    async def refused(which: NewJob, other: NewJob | None) -> object:
        where = Move.TOP if other is None else Move.AFTER
        return await store.move_job(key_of(which), where, other.job_id if other else None, now=NOW)

    assert await refused(gone, None) is Refusal.NOT_FOUND
    assert await refused(queued, gone) is Refusal.OTHER_NOT_FOUND
    assert await refused(running, None) is Refusal.WRONG_STATE
    assert await refused(queued, running) is Refusal.WRONG_STATE
    for other in (queued, elsewhere, unfair):
        assert await refused(queued, other) is Refusal.ELSEWHERE
    assert (await job(store, queued)).revision == 1


async def test_a_change_of_priority_gives_the_old_place_back(store: Store) -> None:
    first, second = await insert_some(store, 2)
    await moved(store, second, Move.TOP)
    await store.update_job(key_of(second), {"priority": 0}, edit_version=None, now=NOW)
    assert await order(store) == [first.job_id, second.job_id]
