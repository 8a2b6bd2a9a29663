"""Jobs that wait for a concurrency key: whoever may have it is woken, whatever the others wait for."""

import datetime as dt

import pytest

from jobservice.model.attempt import Cause
from jobservice.model.lifecycle import State
from jobservice.model.limit import ConcurrencyKey, Rate
from jobservice.model.queue import Move, Pause, PauseMode
from jobservice.store.port import StopRequest, Store
from tests.conformance.test_limits import done, ids, keyed, limit_key, limit_queue, taken
from tests.conformance.values import NOW, TENANT, at, end, finish, insert, job, key_of

HOLD = Pause(PauseMode.HOLD, NOW)


async def test_a_waiter_in_a_paused_queue_is_in_nobodys_way(store: Store) -> None:
    await insert(store, keyed("k", queue="q"))
    [holder] = await taken(store)
    other = keyed("k", queue="other")
    await insert(store, *[keyed("k", queue="q", priority=100) for _ in range(200)], other)
    assert await taken(store) == []
    await limit_queue(store, "q", pause=HOLD)
    await done(store, holder)
    assert await ids(store) == [other.job_id]


async def test_a_waiter_in_a_full_queue_is_in_nobodys_way(store: Store) -> None:
    await limit_queue(store, "q", max_running=1)
    await insert(store, keyed("k", queue="other"))
    [holder] = await taken(store)
    waiter = keyed("k", queue="other")
    await insert(store, keyed("k", queue="q", priority=100), waiter)
    await insert(store, keyed(queue="q"))
    assert len(await taken(store)) == 1
    await done(store, holder)
    assert await ids(store) == [waiter.job_id]


async def test_a_new_job_does_not_line_up_behind_those_of_another_queue(store: Store) -> None:
    await insert(store, keyed("k", queue="q"))
    [holder] = await taken(store)
    await insert(store, keyed("k", queue="q"), keyed("k", queue="q"))
    assert await taken(store) == []
    await limit_queue(store, "q", pause=HOLD)
    await done(store, holder)
    new = keyed("k", queue="other")
    await insert(store, new)
    assert await ids(store) == [new.job_id]


async def test_a_new_job_lines_up_behind_no_later_one(store: Store) -> None:
    await limit_key(store, "k", 2)
    await insert(store, keyed("k"))
    assert len(await taken(store)) == 1
    await insert(store, keyed(ConcurrencyKey("k", weight=2)))
    assert await taken(store) == []
    urgent = keyed("k", priority=100)
    await insert(store, urgent)
    assert await ids(store) == [urgent.job_id]


@pytest.mark.parametrize("how", ["unclaimed", "lost"])
async def test_a_job_that_is_queued_again_leaves_its_key_to_other_queues(
    store: Store, how: str
) -> None:
    await insert(store, keyed("k", queue="q"))
    [holder] = await taken(store)
    other = keyed("k", queue="other")
    await insert(store, other)
    assert await taken(store) == []
    await limit_queue(store, "q", pause=HOLD)
    if how == "unclaimed":
        assert await store.unclaim_attempts([holder], now=at(1)) == [True]
    else:
        await finish(store, end(holder, exit_code=None, cause=Cause.LOST))
        assert (await job(store, holder)).state is State.QUEUED
    assert await ids(store) == [other.job_id]


@pytest.mark.parametrize("how", ["moved", "edited", "sent to another queue"])
async def test_those_behind_a_heavy_job_go_on_when_it_gives_its_place_up(
    store: Store, how: str
) -> None:
    """While it stands first they wait with it, so that it is not passed by for ever."""
    await limit_key(store, "k", 3)
    await insert(store, keyed("k"))
    assert len(await taken(store)) == 1
    heavy = keyed(ConcurrencyKey("k", weight=3))
    await insert(store, heavy)
    assert await taken(store) == []
    light = [keyed("k"), keyed("k")]
    await insert(store, *light)
    assert await taken(store) == []
    if how == "moved":
        await store.move_job(key_of(heavy), Move.BOTTOM, None, now=at(1))
    else:
        edits = {"priority": -1} if how == "edited" else {"queue": "other"}
        await store.update_job(key_of(heavy), edits, edit_version=None, now=at(1))
    assert await ids(store) == [each.job_id for each in light]


async def test_the_first_of_several_starts_that_a_rate_allows_is_remembered(store: Store) -> None:
    await limit_key(store, "k", rate=Rate(1, dt.timedelta(seconds=10), burst=3))
    await insert(store, *[keyed("k") for _ in range(3)])
    assert len(await taken(store)) == 3
    light, heavy = keyed("k"), keyed(ConcurrencyKey("k", weight=3), queue="other")
    await insert(store, light)
    assert await taken(store) == []
    await insert(store, heavy)
    assert await taken(store) == []
    assert await store.next_due_at() == at(10)
    await store.wake_rates(now=at(10), limit=10)
    assert await ids(store, now=at(10)) == [light.job_id]


@pytest.mark.parametrize("how", ["cancel", "hold"])
async def test_a_job_that_no_longer_waits_is_parked_for_nothing(store: Store, how: str) -> None:
    waiting = keyed("k")
    await insert(store, keyed("k"))
    await taken(store)
    await insert(store, waiting)
    await taken(store)
    assert (await job(store, waiting)).blocked_key == "k"
    if how == "cancel":
        await store.request_stop([StopRequest(TENANT, waiting.job_id)], now=at(1))
    else:
        await store.hold_job(key_of(waiting), now=at(1))
    assert (await job(store, waiting)).blocked_key == ""
