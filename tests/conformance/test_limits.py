"""Limits: what may run at once, what waits for it, and what lets it go on."""

import asyncio
import collections
import dataclasses
import datetime as dt
import random
from typing import Any

import pytest

from jobservice.clock import to_us
from jobservice.engine.limits import Slots, list_limits
from jobservice.engine.parts import Parts, Signals
from jobservice.model.attempt import Fence
from jobservice.model.lifecycle import State
from jobservice.model.limit import ConcurrencyKey, KeyRule, Limit, LimitKind, Rate, type_key
from jobservice.model.queue import OnFull, Pause, PauseMode, Queue
from jobservice.model.spec import DEFAULT_QUEUE
from jobservice.store.port import Refusal, StopRequest, Store
from jobservice.store.verbs.keys import WOKEN
from jobservice.testing.clock import JumpClock
from tests.conformance.values import (
    NOW,
    TENANT,
    at,
    claim,
    end,
    finish,
    insert,
    insert_some,
    job,
    key_of,
    new_job,
    settle,
    start,
)

HOUR = dt.timedelta(hours=1)


async def limit_queue(store: Store, name: str = DEFAULT_QUEUE, **rules: Any) -> None:
    queue = await store.save_queue(
        TENANT, name, rules, create=name != DEFAULT_QUEUE, edit_version=None, now=NOW
    )
    assert not isinstance(queue, Refusal)


async def limit_key(store: Store, key: str, most: int | None = None, **more: Any) -> None:
    await store.save_limit(Limit(TENANT, LimitKind.KEY, key, most, **more), now=NOW)


def keyed(*keys: ConcurrencyKey | str, **spec: Any) -> Any:
    found = tuple(ConcurrencyKey(key) if isinstance(key, str) else key for key in keys)
    return new_job(concurrency_keys=found, **spec)


async def taken(store: Store, count: int = 100, now: dt.datetime = NOW) -> list[Fence]:
    return [each.fence for each in await claim(store, count, now=now, lease=HOUR)]


async def ids(store: Store, count: int = 100, now: dt.datetime = NOW) -> list[str]:
    return [fence.job_id for fence in await taken(store, count, now)]


async def done(store: Store, *fences: Fence) -> None:
    await start(store, *fences)
    assert None not in await finish(store, *[end(fence) for fence in fences])


# --- queues, tenants, the service -------------------------------------------------------------


async def test_a_queue_runs_no_more_than_it_may(store: Store) -> None:
    await limit_queue(store, max_running=3)
    jobs = await insert_some(store, 8)
    first = await taken(store)
    assert [each.job_id for each in first] == [each.job_id for each in jobs[:3]]
    assert await taken(store) == []
    await done(store, *first[:2])
    assert await ids(store) == [each.job_id for each in jobs[3:5]]


async def test_a_full_queue_holds_up_no_other(store: Store) -> None:
    await limit_queue(store, "small", max_running=1)
    small = [new_job(queue="small", priority=100) for _ in range(500)]
    other = new_job(queue="large")
    await insert(store, *small, other)
    assert set(await ids(store, 2)) == {small[0].job_id, other.job_id}
    assert await ids(store) == []


async def test_a_limit_that_is_lowered_ends_nothing_and_starts_nothing(store: Store) -> None:
    await limit_queue(store, max_running=4)
    await insert_some(store, 8)
    running = await taken(store)
    await limit_queue(store, max_running=2)
    await done(store, running[0], running[1])
    assert await taken(store) == []
    await done(store, running[2])
    assert len(await taken(store)) == 1


async def test_a_type_without_a_limit_holds_up_nothing(store: Store) -> None:
    await insert(store, *[new_job(job_type="render") for _ in range(6)])
    assert len(await taken(store)) == 6


async def test_a_type_runs_no_more_than_it_may_in_all_queues(store: Store) -> None:
    key = type_key("render").key
    await limit_key(store, key, 2)
    queues = ["one", "two", "one", "two"]
    typed = [new_job(queue=queue, job_type="render", priority=50) for queue in queues]
    others = [new_job(queue="one", job_type="index"), new_job("other", job_type="render")]
    await insert(store, *typed, *others[:1])
    await insert(store, *others[1:])
    running = await taken(store)
    started = {each.job_id for each in running}
    assert len(started & {each.job_id for each in typed}) == 2
    assert started >= {each.job_id for each in others}, "another type, and another tenant"
    [one] = [each for each in running if each.job_id == typed[0].job_id]
    await done(store, one)
    [next_] = await ids(store)
    assert next_ in {each.job_id for each in typed} - started
    assert await store.delete_limit(TENANT, LimitKind.KEY, key)
    assert len(await ids(store)) == 1


async def test_many_that_wait_for_a_type_go_on_once_its_limit_is_gone(store: Store) -> None:
    key = type_key("render").key
    await limit_key(store, key, 1)
    await insert(store, *[new_job(job_type="render") for _ in range(WOKEN + 20)])
    assert len(await taken(store, 1_000)) == 1
    assert await store.delete_limit(TENANT, LimitKind.KEY, key)
    assert len(await taken(store, 1_000)) == WOKEN
    await store.wake_parked(("", ""), now=NOW)
    assert len(await taken(store, 1_000)) == 19


async def test_a_job_is_read_with_its_type_and_its_own_keys(store: Store) -> None:
    new = keyed("db", job_type="render")
    await insert(store, new)
    found = await store.find_job(key_of(new))
    assert found is not None
    assert found.spec == new.spec
    [submitted] = await store.find_submitted([key_of(new)])
    assert submitted == new.spec


async def test_a_tenant_and_the_service_have_limits(store: Store) -> None:
    for tenant in ("one", "two"):
        await insert(store, *[new_job(tenant) for _ in range(10)])
    await store.save_limit(Limit("one", LimitKind.TENANT, max_running=2), now=NOW)
    await store.save_limit(Limit("", LimitKind.SERVICE, max_running=7), now=NOW)
    running = await taken(store)
    counts = collections.Counter(fence.tenant for fence in running)
    assert counts == {"one": 2, "two": 5}
    assert await store.delete_limit("", LimitKind.SERVICE, "")
    assert len(await taken(store)) == 5


async def test_leases_are_counted_whatever_becomes_of_them(store: Store) -> None:
    """A stop, an expiry and a lease handed back: each gives its place free when it is over."""
    await limit_queue(store, max_running=2)
    await insert_some(store, 6)
    first, second = await taken(store)
    await store.request_stop([StopRequest(TENANT, first.job_id)], now=at(1))
    assert await taken(store) == [], "its processes may still be there"
    await finish(store, end(first, exit_code=None, signal=15))
    assert len(await taken(store)) == 1
    await store.unclaim_attempts([second], now=at(2))
    assert [each.job_id for each in await taken(store)] == [second.job_id]
    await store.expire_leases(settle, now=at(2) + HOUR, limit=100)
    assert len(await taken(store, now=at(3) + HOUR)) == 2


# --- pauses -----------------------------------------------------------------------------------


async def pause(store: Store, mode: PauseMode, until: dt.datetime | None = None) -> None:
    await limit_queue(store, pause=Pause(mode, NOW, "upgrade", until))


async def test_nothing_starts_from_a_queue_on_hold(store: Store) -> None:
    await insert_some(store, 3)
    [running] = await taken(store, 1)
    await pause(store, PauseMode.HOLD)
    await insert_some(store)
    assert await taken(store) == []
    assert await start(store, running) == [True], "what was leased goes on"
    await limit_queue(store, pause=None)
    assert len(await taken(store)) == 3


async def test_a_hold_ends_at_its_time(store: Store) -> None:
    await insert_some(store, 3)
    assert await store.next_resume_at(NOW) is None
    await pause(store, PauseMode.HOLD, until=at(60))
    assert await store.next_resume_at(at(59.9)) == at(60)
    assert await store.next_resume_at(at(60)) is None
    assert await taken(store, now=at(59.9)) == []
    assert len(await taken(store, now=at(60))) == 3


async def test_what_waits_in_a_draining_queue_is_run(store: Store) -> None:
    await insert_some(store, 3)
    await pause(store, PauseMode.DRAIN)
    assert len(await taken(store)) == 3


# --- the rules of queues ----------------------------------------------------------------------


async def test_a_queue_is_made_changed_and_deleted(store: Store) -> None:
    made = await store.save_queue(
        TENANT, "gpu", {"max_running": 2}, create=True, edit_version=None, now=NOW
    )
    assert isinstance(made, Queue)
    assert made == Queue(
        TENANT, "gpu", max_running=2, created_at=NOW, updated_at=NOW, edit_version=1
    )
    again = await store.save_queue(TENANT, "gpu", {}, create=True, edit_version=None, now=NOW)
    assert again is Refusal.EXISTS
    every: dict[str, Any] = {
        "description": "of the cards",
        "max_running": None,
        "max_depth": 7,
        "max_age": HOUR,
        "on_full": OnFull.COALESCE,
        "pause": Pause(PauseMode.DRAIN, at(1), "why", at(2)),
    }
    edited = await store.save_queue(TENANT, "gpu", every, create=False, edit_version=1, now=at(5))
    assert edited == dataclasses.replace(made, **every, updated_at=at(5), edit_version=2)
    assert await store.find_queue(TENANT, "gpu") == edited
    stale = await store.save_queue(TENANT, "gpu", {}, create=False, edit_version=1, now=at(6))
    assert stale is Refusal.STALE
    assert await store.delete_queue(TENANT, "gpu", edit_version=1) is Refusal.STALE
    assert await store.delete_queue(TENANT, "gpu", edit_version=2) is None
    assert await store.delete_queue(TENANT, "gpu", edit_version=None) is Refusal.NOT_FOUND
    gone = await store.save_queue(TENANT, "gpu", {}, create=False, edit_version=None, now=NOW)
    assert gone is Refusal.NOT_FOUND


async def test_queues_are_those_of_the_tenant_and_come_by_name(store: Store) -> None:
    for tenant, name in ((TENANT, "c"), (TENANT, "a"), ("other", "b"), (TENANT, "b")):
        await store.save_queue(tenant, name, {}, create=True, edit_version=None, now=NOW)
    listed = await store.list_queues(TENANT, limit=2, after="")
    assert [each.name for each in listed] == ["a", "b"]
    assert [each.name for each in await store.list_queues(TENANT, limit=2, after="b")] == ["c"]
    assert await store.find_queue("other", "a") is None


async def test_a_queue_with_jobs_is_not_deleted(store: Store) -> None:
    await store.save_queue(TENANT, "q", {}, create=True, edit_version=None, now=NOW)
    await insert_some(store, queue="q")
    assert await store.delete_queue(TENANT, "q", edit_version=None) is Refusal.WRONG_STATE
    [running] = await taken(store)
    assert await store.delete_queue(TENANT, "q", edit_version=None) is Refusal.WRONG_STATE
    await done(store, running)
    assert await store.delete_queue(TENANT, "q", edit_version=None) is None


async def test_a_queue_is_counted(store: Store) -> None:
    await insert_some(store, 5, queue="q")
    await insert_some(store, 3, queue="other")
    await taken(store, 1, now=at(1))
    counts = await store.queue_counts(TENANT, "q", now=at(2))
    found = counts.depth, counts.oldest_queued_at, counts.running, counts.created, counts.claimed
    assert found in {(4, at(0.001), 1, 5, 1), (5, at(0), 0, 5, 0)}
    later = await store.queue_counts(TENANT, "q", now=at(500))
    assert (later.created, later.claimed) == (0, 0)


async def test_limits_are_listed_with_what_is_held(store: Store) -> None:
    rate = Rate(5, HOUR, 2)
    await limit_key(store, "k", 3, rate=rate)
    await store.save_limit(Limit("", LimitKind.SERVICE, max_running=9), now=at(1))
    await store.save_limit(Limit("other", LimitKind.TENANT, max_running=1), now=at(1))
    listed = await store.list_limits(TENANT, limit=10, after=("", 0, ""))
    assert listed == [
        Limit("", LimitKind.SERVICE, max_running=9, updated_at=at(1)),
        Limit(TENANT, LimitKind.KEY, "k", 3, rate, updated_at=NOW),
    ]
    jobs = [keyed("k") for _ in range(4)]
    await insert(store, *jobs)
    await taken(store)
    held = await store.list_held(TENANT, limit=10)
    assert [(each.job_id, [key.key for key in each.keys]) for each in held] == [
        (jobs[0].job_id, ["k"]),
        (jobs[1].job_id, ["k"]),
    ]
    assert await store.count_parked(TENANT, ["x", "k"]) == [0, 2]
    assert await store.find_limit(TENANT, LimitKind.KEY, "k") == listed[1]
    assert await store.find_limit("", LimitKind.SERVICE, "") == listed[0]
    assert await store.find_limit(TENANT, LimitKind.KEY, "x") is None
    use = await store.list_use()
    assert (use.service, use.tenants, use.keys) == (2, {TENANT: 2}, {(TENANT, "k"): 2})
    rules = await store.find_rules(TENANT, ["x", "k"])
    assert rules == {"k": KeyRule(3, rate, to_us(NOW + 2 * HOUR / 5))}


async def test_keys_are_listed_that_jobs_are_parked_for(store: Store) -> None:
    for tenant in (TENANT, "other"):
        await insert(store, *[keyed(key, tenant=tenant) for key in ("a", "b", "c") for _ in "12"])
    await taken(store)
    assert await store.list_parked_keys(TENANT, limit=2, after="") == ["a", "b"]
    assert await store.list_parked_keys(TENANT, limit=9, after="b") == ["c"]
    assert await store.list_parked_keys("other", limit=9, after="") == ["a", "b", "c"]
    assert await store.list_parked_keys("nobody", limit=9, after="") == []


# --- keys -------------------------------------------------------------------------------------


async def test_a_key_is_for_one_job_at_a_time(store: Store) -> None:
    jobs = [keyed("db") for _ in range(3)]
    await insert(store, *jobs)
    for each in jobs:
        [fence] = await taken(store)
        assert fence.job_id == each.job_id
        assert await taken(store) == []
        await done(store, fence)
    assert await taken(store) == []


async def test_what_waits_for_a_key_holds_up_nobody(store: Store) -> None:
    await insert(store, *[keyed("db", priority=100) for _ in range(300)])
    free = [new_job() for _ in range(5)]
    await insert(store, *free)
    assert len(await taken(store, 6)) == 6
    assert [(await job(store, each)).state for each in free] == [State.RUNNING] * 5


async def test_all_keys_of_a_job_are_had_at_once(store: Store) -> None:
    """Two that want the same two keys in two orders, and none of them holds one and waits."""
    await insert(store, keyed("a", "b"), keyed("b", "a"), keyed("a"), keyed("b"), keyed("c"))
    seen = []
    while running := await taken(store):
        seen.append(len(running))
        await done(store, *running)
    assert sum(seen) == 5
    assert seen[0] == 2, "one of them, and the one with the third key"


async def test_a_key_that_a_parked_job_leaves_free_is_had_by_the_next(store: Store) -> None:
    holder = keyed("a")
    await insert(store, holder)
    [held] = await taken(store)
    await insert(store, keyed("a", "b", priority=50), keyed("b"), keyed("b"))
    [second] = await taken(store)
    await done(store, second)
    [third] = await taken(store)
    await done(store, held)
    assert await taken(store) == [], "the key b is held"
    await done(store, third)
    assert len(await taken(store)) == 1


@pytest.mark.parametrize("how", ["cancel", "hold"])
async def test_a_job_that_was_woken_and_leaves_wakes_the_next(store: Store, how: str) -> None:
    first, second, third = keyed("a"), keyed("a"), keyed("a")
    await insert(store, first, second, third)
    [held] = await taken(store)
    assert await taken(store) == []
    await done(store, held)
    if how == "cancel":
        await store.request_stop([StopRequest(TENANT, second.job_id)], now=at(1))
    else:
        await store.hold_job(key_of(second), now=at(1))
    assert await ids(store) == [third.job_id]


async def test_weights_add_up(store: Store) -> None:
    await limit_key(store, "gpu", 4)
    jobs = [keyed(ConcurrencyKey("gpu", weight=weight)) for weight in (3, 2, 1, 1, 4)]
    await insert(store, *jobs)
    first = await taken(store)
    assert [each.job_id for each in first] == [jobs[0].job_id, jobs[2].job_id]
    await done(store, first[0])
    assert set(await ids(store)) <= {jobs[1].job_id, jobs[3].job_id}


async def test_a_limit_of_a_key_changes_at_run_time(store: Store) -> None:
    await limit_key(store, "k", 1)
    await insert(store, *[keyed("k") for _ in range(10)])
    assert len(await taken(store)) == 1
    await limit_key(store, "k", 4)
    assert len(await taken(store)) == 3
    await limit_key(store, "k", 2)
    assert await taken(store) == []
    assert await store.delete_limit(TENANT, LimitKind.KEY, "k")
    assert await taken(store) == []
    assert not await store.delete_limit(TENANT, LimitKind.KEY, "k")


async def test_the_smaller_of_two_limits_of_a_key_holds(store: Store) -> None:
    await limit_key(store, "k", 3)
    await insert(store, *[keyed(ConcurrencyKey("k", limit=2)) for _ in range(5)])
    assert len(await taken(store)) == 2
    await insert(
        store, keyed(ConcurrencyKey("own", limit=2)), keyed(ConcurrencyKey("own", limit=2))
    )
    assert len(await taken(store)) == 2


async def test_keys_are_those_of_the_tenant(store: Store) -> None:
    await insert(store, keyed("k", tenant="one"))
    await insert(store, keyed("k", tenant="two"))
    assert len(await taken(store)) == 2


async def test_a_lost_wake_is_found_by_the_sweep(store: Store) -> None:
    await insert(store, keyed("a"), keyed("a"), keyed("a"))
    [held] = await taken(store)
    assert await taken(store) == []
    woken = await store.wake_parked(("", ""), now=at(1))
    assert (woken.count, woken.after) == (0, None), "it is held"
    await store.unclaim_attempts([held], now=at(1))
    assert (await store.wake_parked(("", ""), now=at(1))).count == 1


# --- rates ------------------------------------------------------------------------------------

EVERY_TEN_S = Rate(6, dt.timedelta(minutes=1))


async def test_a_rate_waits_and_does_not_fail(store: Store) -> None:
    await limit_key(store, "api", rate=EVERY_TEN_S)
    jobs = [keyed("api") for _ in range(4)]
    await insert(store, *jobs)
    assert await ids(store) == [jobs[0].job_id]
    for n, each in enumerate(jobs[1:], 1):
        assert await store.next_due_at() == at(10 * n)
        assert await store.wake_rates(now=at(10 * n - 1), limit=10) == 0
        assert await ids(store, now=at(10 * n - 1)) == []
        assert await store.wake_rates(now=at(10 * n), limit=10) == 1
        assert await ids(store, now=at(10 * n)) == [each.job_id]
    assert await store.wake_rates(now=at(100), limit=10) == 0
    assert await store.next_due_at() is None


async def test_a_rate_that_is_taken_away_is_forgotten(store: Store) -> None:
    await limit_key(store, "api", rate=EVERY_TEN_S)
    jobs = [keyed("api") for _ in range(3)]
    await insert(store, *jobs)
    assert await ids(store) == [jobs[0].job_id]
    await limit_key(store, "api", 1)
    assert await ids(store) == []
    assert await store.next_due_at() is None
    assert await store.wake_rates(now=at(10), limit=10) == 0
    await limit_key(store, "api", rate=EVERY_TEN_S)
    assert await ids(store) == [jobs[1].job_id]
    assert await store.next_due_at() == at(10)


async def test_a_burst_goes_at_once(store: Store) -> None:
    await limit_key(store, "api", rate=Rate(6, dt.timedelta(minutes=1), burst=3))
    await insert(store, *[keyed("api") for _ in range(9)])
    assert len(await taken(store)) == 3
    await store.wake_rates(now=at(25), limit=10)
    assert len(await taken(store, now=at(25))) == 2
    await store.wake_rates(now=at(1000), limit=10)
    assert len(await taken(store, now=at(1000))) == 3


# --- turns ------------------------------------------------------------------------------------


async def test_a_flood_of_one_tenant_delays_no_other(store: Store) -> None:
    await insert(store, *[new_job("a", priority=100) for _ in range(1_000)])
    await taken(store, 10)
    lone = new_job("b", created_at=at(1))
    await insert(store, lone)
    assert lone.job_id in await ids(store, 2, now=at(1))


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_flood_of_a_hundred_thousand_delays_no_other(store: Store) -> None:
    for n in range(100):
        await insert(store, *[new_job("a", at(n), priority=100) for _ in range(1_000)])
    await taken(store, 10, now=at(100))
    lone = new_job("b", created_at=at(101), priority=-100)
    await insert(store, lone)
    assert lone.job_id in await ids(store, 2, now=at(101))


async def test_tenants_share_by_weight(store: Store) -> None:
    for tenant in ("a", "b"):
        await insert(store, *[new_job(tenant) for _ in range(200)])
    await store.save_limit(Limit("b", LimitKind.TENANT, weight=3000), now=NOW)
    running = [fence for _ in range(20) for fence in await taken(store, 5)]
    assert collections.Counter(fence.tenant for fence in running) == {"a": 25, "b": 75}


async def test_fairness_keys_of_a_tenant_take_turns(store: Store) -> None:
    jobs = {
        key: [new_job(fairness_key=key, fairness_weight=weight) for _ in range(100)]
        for key, weight in (("x", 1000), ("y", 2000), ("", 1000))
    }
    await insert(store, *[each for some in jobs.values() for each in some])
    whose = {each.job_id: key for key, some in jobs.items() for each in some}
    given = [each for _ in range(10) for each in await ids(store, 8)]
    counts = collections.Counter(whose[each] for each in given)
    assert counts == {"x": 20, "y": 40, "": 20}


async def test_a_thousand_tenants_have_the_same_share(store: Store) -> None:
    names = [f"t{n}" for n in range(300)]
    for name in names:
        await insert(store, new_job(name), new_job(name))
    running = [fence for _ in range(6) for fence in await taken(store, 50)]
    assert sorted(fence.tenant for fence in running) == sorted(names)


async def test_priority_is_global_across_the_queues_of_a_tenant(store: Store) -> None:
    jobs = [new_job(queue=f"q{n}", priority=n) for n in (1, 5, 3, 4, 2)]
    await insert(store, *jobs)
    wanted = sorted(jobs, key=lambda each: -each.spec.priority)
    assert [await ids(store, 1) for _ in jobs] == [[each.job_id] for each in wanted]


async def test_a_lease_ahead_of_a_slot_takes_none(store: Store) -> None:
    parts = Parts(store, JumpClock(), random.Random(1), Signals())
    await insert_some(store, 3)
    first, *_ = await taken(store)
    await start(store, first)
    found, _ = await list_limits(parts, TENANT, Slots("w1", 2), limit=10, after="")
    shown = {use.limit.kind: (use.running, use.holders) for use in found}
    assert shown[LimitKind.SLOTS] == (1, (first.job_id,))
    assert shown[LimitKind.SERVICE][0] == 3


async def test_many_claimers_keep_every_limit(store: Store) -> None:
    await limit_queue(store, max_running=9)
    await limit_key(store, "k", 4)
    await insert(store, *[keyed("k", "l") if n % 3 else keyed("m") for n in range(60)])
    given = await asyncio.gather(*[claim(store, 3, worker_id=f"w{n}") for n in range(32)])
    fences = [each.fence for some in given for each in some]
    jobs = [await job(store, fence) for fence in fences]
    held = collections.Counter(key.key for each in jobs for key in each.spec.concurrency_keys)
    assert held == {"k": 1, "l": 1, "m": 1}
