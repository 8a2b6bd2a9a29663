"""Workers: kept, heard of, drained, listed with what they hold, forgotten."""

import dataclasses

from jobservice.model.worker import COMPANY, Drain, Resources, Worker, WorkerInfo
from jobservice.store.port import Store
from tests.conformance.values import at, claim, end, finish, insert_some

INFO = WorkerInfo(
    "w1", "host", "0.1.0", 4, {"gpu": "a100"}, Resources(1500, 1 << 33, {"fpga": 2}), embedded=True
)


async def test_a_worker_is_known_by_what_it_said_last(store: Store) -> None:
    assert await store.find_worker("w1") is None
    known = await store.register_worker(INFO, now=at(0))
    assert (known.info, known.registered_at, known.contact_at) == (INFO, at(0), at(0))
    other = WorkerInfo("w1", "elsewhere", slots=1)
    again = await store.register_worker(other, now=at(5))
    assert (again.info, again.registered_at, again.contact_at) == (other, at(0), at(5))
    assert await store.find_worker("w1") == again


async def test_an_id_that_is_said_elsewhere_is_not_taken_while_the_other_is_heard_of(
    store: Store,
) -> None:
    here, there = (dataclasses.replace(INFO, origin=name, slots=n) for n, name in enumerate("ab"))
    first = await store.register_worker(here, now=at(0))
    assert (first.info, await store.register_worker(here, now=at(1))) == (here, await found(store))
    before = await found(store)
    assert await store.register_worker(there, now=at(2)) == before
    await store.note_contact("w1", now=at(3))
    heard = await found(store)
    assert await store.register_worker(there, now=at(4), instead_of=before) == heard
    assert (await store.register_worker(there, now=at(5), instead_of=heard)).info == there
    assert await store.register_worker(here, now=at(6), instead_of=heard) == await found(store)
    nowhere = dataclasses.replace(INFO, origin="")
    assert (await store.register_worker(nowhere, now=at(7))).info == nowhere
    assert (await store.register_worker(here, now=at(8))).info == here


async def found(store: Store) -> Worker:
    known = await store.find_worker("w1")
    assert known is not None
    return known


async def test_a_contact_is_noted_of_those_who_are_known(store: Store) -> None:
    await store.register_worker(INFO, now=at(0))
    assert await store.note_contact("w1", now=at(9)) is False
    assert await store.note_contact("w2", now=at(9)) is None
    found = await store.find_worker("w1")
    assert found is not None
    assert found.contact_at == at(9)


async def test_who_tells_of_itself_hears_whether_there_were_others_within_a_day(
    store: Store,
) -> None:
    await store.register_worker(INFO, now=at(0))
    assert await store.note_contact("w1", now=at(1)) is False
    await store.register_worker(WorkerInfo("w2"), now=at(2))
    assert await store.note_contact("w1", now=at(3)) is True
    day_s = COMPANY.total_seconds()
    assert await store.note_contact("w1", now=at(2 + day_s - 1)) is True
    assert await store.note_contact("w1", now=at(2 + day_s)) is False
    assert await store.note_contact("w2", now=at(2 + day_s)) is True


async def test_a_drained_worker_is_granted_nothing_until_it_is_resumed(store: Store) -> None:
    assert await store.drain_worker("w1", Drain(at(1))) is None
    await store.register_worker(INFO, now=at(0))
    await insert_some(store, 3)
    [held] = await claim(store)
    drained = await store.drain_worker("w1", Drain(at(1), "disks"))
    assert drained is not None
    assert (drained.drain, drained.running) == (Drain(at(1), "disks"), 1)
    assert await claim(store) == []
    assert len(await claim(store, worker_id="w2")) == 1
    again = await store.drain_worker("w1", Drain(at(2), "more disks"))
    assert again is not None
    assert again.drain == Drain(at(1), "more disks")
    assert (await store.register_worker(INFO, now=at(3))).drain == again.drain
    resumed = await store.drain_worker("w1", None)
    assert resumed is not None
    assert resumed.drain is None
    assert len(await claim(store)) == 1
    await finish(store, end(held.fence))


async def test_workers_are_listed_by_id_with_what_they_hold(store: Store) -> None:
    await insert_some(store, 3)
    for name, leases in (("w3", 0), ("w1", 2), ("w2", 1)):
        await store.register_worker(WorkerInfo(name), now=at(0))
        if leases:
            await claim(store, leases, worker_id=name)
    found = await store.list_workers(limit=2, after="")
    assert [(each.info.worker_id, each.running) for each in found] == [("w1", 2), ("w2", 1)]
    found = await store.list_workers(limit=2, after="w2")
    assert [(each.info.worker_id, each.running) for each in found] == [("w3", 0)]


async def test_one_that_is_long_silent_is_forgotten_unless_it_holds_a_lease(store: Store) -> None:
    await insert_some(store, 1)
    for name in ("w1", "w2", "w3"):
        await store.register_worker(WorkerInfo(name), now=at(0))
    await store.note_contact("w3", now=at(100))
    [held] = await claim(store, worker_id="w2")
    assert await store.forget_workers(before=at(100)) == 1
    assert [each.info.worker_id for each in await store.list_workers(limit=9, after="")] == [
        "w2",
        "w3",
    ]
    await finish(store, end(held.fence))
    assert await store.forget_workers(before=at(100)) == 1
