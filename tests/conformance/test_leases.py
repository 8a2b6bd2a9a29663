"""Leases: prolonged, over, and listed by their holder."""

from jobservice.clock import from_us
from jobservice.model.attempt import Fence
from jobservice.model.event import EventKind
from jobservice.model.job import AttemptState
from jobservice.model.lifecycle import Reason, State
from jobservice.model.spec import RetryPolicy
from jobservice.model.worker import Drain, WorkerInfo
from jobservice.store.port import LeaseAnswer, LiveAttempt, StopRequest, Store
from jobservice.store.rows import RESTORED_LEASE_US
from tests.conformance.values import (
    NOW,
    at,
    changes,
    claim,
    end,
    finish,
    insert_some,
    job,
    run,
    seconds,
    settle,
    start,
)


async def test_a_lease_is_over_at_its_instant(store: Store) -> None:
    [fence] = await run(store)
    assert await store.expire_leases(settle, now=at(29.999), limit=10) == []
    assert await store.expire_leases(settle, now=at(30), limit=10) == [fence]
    found = await job(store, fence)
    assert (found.state, found.reason, found.lost_count) == (State.QUEUED, Reason.LOST, 1)
    [attempt] = found.attempts
    assert (attempt.state, attempt.ended_at, attempt.started_at) == (AttemptState.LOST, at(30), NOW)
    event = (await changes(store))[-1].event
    assert (event.kind, event.at, event.attempt) == (EventKind.LOST, at(30), 1)
    assert await store.expire_leases(settle, now=at(99), limit=10) == []


async def _held_by(store: Store, info: WorkerInfo) -> Fence:
    await store.register_worker(info, now=NOW)
    await insert_some(store)
    [claimed] = await claim(store, worker_id=info.worker_id)
    return claimed.fence


async def _expired(store: Store, now_s: float) -> list[Fence]:
    return await store.expire_leases(settle, now=at(now_s), limit=10)


async def test_what_a_worker_in_a_server_holds_is_not_lost_until_it_says_that_it_minds(
    store: Store,
) -> None:
    fence = await _held_by(store, WorkerInfo("w", embedded=True))
    other = await _held_by(store, WorkerInfo("elsewhere"))
    assert await _expired(store, 9_999) == [other]
    await store.note_contact("w", now=at(1))
    assert await _expired(store, 9_999) == []
    await store.note_contact("w", now=at(2), minds_silence=True)
    assert await _expired(store, 29.999) == []
    assert await _expired(store, 30) == [fence]


async def test_who_registers_again_minds_until_it_says_otherwise(store: Store) -> None:
    info = WorkerInfo("w", embedded=True)
    fence = await _held_by(store, info)
    await store.note_contact("w", now=at(2), minds_silence=True)
    await store.register_worker(info, now=at(3))
    await store.note_contact("w", now=at(4))
    assert await _expired(store, 9_999) == []
    await store.note_contact("w", now=at(5), minds_silence=True)
    await store.register_worker(info, now=at(6))
    assert await _expired(store, 9_999) == [fence]


async def test_a_worker_in_a_server_that_is_drained_after_its_lease_is_given_up(
    store: Store,
) -> None:
    fence = await _held_by(store, WorkerInfo("w", embedded=True))
    await store.drain_worker("w", Drain(at(29)))
    assert await _expired(store, 9_999) == []  # it was there then, and was to take nothing new
    await store.drain_worker("w", None)
    await store.drain_worker("w", Drain(at(30), "its host is gone"))
    assert await _expired(store, 9_999) == [fence]


async def test_a_lease_of_a_backup_is_over_whoever_held_it(store: Store) -> None:
    fence = await _held_by(store, WorkerInfo("w", embedded=True))
    await store.extend_leases([fence], lease_until=from_us(RESTORED_LEASE_US))
    assert await _expired(store, 0) == [fence]


async def test_the_next_end_of_a_lease_is_known(store: Store) -> None:
    assert await store.next_lease_end_at() is None
    first, second = await run(store, 2)
    assert await store.next_lease_end_at() == at(30)
    await store.extend_leases([first], lease_until=at(60))
    await finish(store, end(second))
    assert await store.next_lease_end_at() == at(60)
    await finish(store, end(first))
    assert await store.next_lease_end_at() is None


async def test_an_extended_lease_lives_on(store: Store) -> None:
    kept, lost = await run(store, 2)
    before = await changes(store)
    answers = await store.extend_leases([kept, kept], lease_until=at(60))
    assert answers == [LeaseAnswer.KEPT, LeaseAnswer.KEPT]
    assert await changes(store) == before
    assert await store.expire_leases(settle, now=at(59), limit=10) == [lost]
    assert await store.extend_leases([kept, lost], lease_until=at(90)) == [
        LeaseAnswer.KEPT,
        LeaseAnswer.REFUSED,
    ]


async def test_a_late_call_does_not_shorten_a_lease(store: Store) -> None:
    [fence] = await run(store, 1)
    await store.extend_leases([fence], lease_until=at(60))
    assert await store.extend_leases([fence], lease_until=at(40)) == [LeaseAnswer.KEPT]
    assert await store.expire_leases(settle, now=at(59.999), limit=10) == []
    assert await store.expire_leases(settle, now=at(60), limit=10) == [fence]


async def test_a_lease_by_a_clock_that_was_far_ahead_is_put_right(store: Store) -> None:
    [fence] = await run(store, 1)
    await store.extend_leases([fence], lease_until=at(3_660))
    await store.extend_leases([fence], lease_until=at(60))
    assert await store.expire_leases(settle, now=at(60), limit=10) == [fence]


async def test_a_holder_hears_of_a_stop(store: Store) -> None:
    [fence] = await run(store)
    await store.request_stop([StopRequest(fence.tenant, fence.job_id)], now=at(1))
    assert await store.extend_leases([fence], lease_until=at(60)) == [LeaseAnswer.STOP]
    assert await store.expire_leases(settle, now=at(31), limit=10) == []


async def test_a_job_that_was_to_stop_is_cancelled_when_its_holder_is_lost(store: Store) -> None:
    [fence] = await run(store)
    await store.request_stop([StopRequest(fence.tenant, fence.job_id)], now=at(1))
    assert await store.expire_leases(settle, now=at(31), limit=10) == [fence]
    assert (await job(store, fence)).state is State.CANCELLED


async def test_leases_expire_oldest_first_and_so_many(store: Store) -> None:
    await insert_some(store, 4)
    fences = [(await claim(store, lease=seconds(lease)))[0].fence for lease in (40, 10, 30, 20)]
    first = await store.expire_leases(settle, now=at(100), limit=3)
    assert first == [fences[1], fences[3], fences[2]]
    assert await store.expire_leases(settle, now=at(100), limit=3) == [fences[0]]


async def test_a_job_lost_too_often_fails(store: Store) -> None:
    [new] = await insert_some(store, retry=RetryPolicy(max_lost=2))
    for now in (0, 100):
        assert len(await claim(store, now=at(now))) == 1
        await store.expire_leases(settle, now=at(now + 50), limit=10)
    found = await job(store, new)
    assert (found.state, found.reason, found.lost_count) == (State.FAILED, Reason.LOST, 2)
    assert found.ended_at == at(150)


async def test_a_holder_is_told_what_it_holds(store: Store) -> None:
    await insert_some(store, 4)
    fences = [each.fence for each in await claim(store, 3, worker_id="mine")]
    await claim(store, 1, worker_id="theirs")
    await start(store, fences[0], started_at=at(2))
    await store.request_stop([StopRequest(fences[1].tenant, fences[1].job_id)], now=at(3))
    held = await store.list_live("mine")
    starting, running = AttemptState.STARTING, AttemptState.RUNNING
    assert sorted(held, key=lambda each: each.fence) == [
        LiveAttempt(fences[0], "mine", running, State.RUNNING, at(2)),
        LiveAttempt(fences[1], "mine", starting, State.STOPPING, None),
        LiveAttempt(fences[2], "mine", starting, State.RUNNING, None),
    ]
    await finish(store, *[end(each) for each in fences])
    assert await store.list_live("mine") == []
    assert await store.list_live("nobody") == []
