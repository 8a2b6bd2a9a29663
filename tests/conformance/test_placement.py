"""Jobs that ask for labels and resources go to workers that have them, and are in nobody's way."""

from typing import Any

import pytest

from jobservice.model.lifecycle import State
from jobservice.model.limit import ConcurrencyKey
from jobservice.model.placements import placement_of, placement_text
from jobservice.model.worker import ANYWHERE, Placement, Resources, WorkerInfo
from jobservice.store.port import Claim, Store
from tests.conformance.values import (
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
)

GPU = Placement({"gpu": "a100"})


def asks(cpu: float = 0, memory: int = 0, **counts: int) -> Placement:
    return Placement(resources=Resources(round(cpu * 1000), memory, counts))


async def worker(
    store: Store, name: str = "w1", cpu: float = 4, memory: int = 100, **more: Any
) -> None:
    labels, counts = more.pop("labels", {}), more
    offered = Resources(round(cpu * 1000), memory, counts)
    await store.register_worker(
        WorkerInfo(name, slots=100, labels=labels, resources=offered), now=at(0)
    )


def names(claims: list[Claim]) -> list[str]:
    return [each.fence.job_id for each in claims]


async def test_a_job_goes_to_a_worker_with_its_labels(store: Store) -> None:
    await worker(store, "w1", labels={"gpu": "h100", "disk": "ssd"})
    await worker(store, "w2", labels={"gpu": "a100", "disk": "ssd"})
    both = Placement({"disk": "ssd", "gpu": "a100"})
    first, second = new_job(placement=GPU), new_job(placement=both, created_at=at(1))
    await insert(store, first, second)
    assert await claim(store, 9) == []
    assert await claim(store, 9, worker_id="nobody") == []
    assert names(await claim(store, 9, worker_id="w2")) == [first.job_id, second.job_id]
    assert (await job(store, first)).spec.placement == GPU
    assert (await job(store, second)).spec.placement == both


@pytest.mark.parametrize(
    "asked", [asks(cpu=4.5), asks(memory=101), asks(gpu=3), asks(tape=1)], ids=str
)
async def test_one_that_fits_nowhere_is_in_nobodys_way(store: Store, asked: Placement) -> None:
    await worker(store, gpu=2)
    large = await insert_some(store, 20, placement=asked, priority=50)
    small = await insert_some(store, 3)
    fits = await insert_some(store, 1, placement=asks(4, 100, gpu=2))
    claimed = names(await claim(store, 9))
    assert sorted(claimed) == sorted(each.job_id for each in (*small, *fits))
    assert (await job(store, large[0])).state is State.QUEUED
    await worker(store, cpu=5, memory=200, gpu=9, tape=1)
    await finish(store, *[end(each.fence) for each in await claim(store, 1)])


async def test_what_runs_takes_of_what_there_is_until_it_ends(store: Store) -> None:
    await worker(store, gpu=2)
    await insert_some(store, 5, placement=asks(1, 30, gpu=1))
    first, _ = await claim(store, 9)
    assert await claim(store, 9) == []
    await finish(store, end(first.fence))
    [third] = await claim(store, 9)
    assert await claim(store, 9) == []
    assert await store.unclaim_attempts([third.fence], now=at(1)) == [True]
    assert len(await claim(store, 9)) == 1
    assert await store.list_taken("w1") == [(asks(1, 30, gpu=1), 2)]
    await store.expire_leases(settle, now=at(1000), limit=9)
    assert len(await claim(store, 9)) == 2


async def test_one_claim_fills_a_worker_and_no_more(store: Store) -> None:
    await worker(store, cpu=4)
    await insert_some(store, 3, placement=asks(1.5), queue="a")
    await insert_some(store, 3, placement=asks(1), queue="b")
    await insert_some(store, 3, queue="c")
    taken = [(await job(store, each.fence)).spec for each in await claim(store, 9)]
    cpu = sum(each.placement.resources.cpu_millis for each in taken)
    assert cpu <= 4000
    assert 4000 - cpu < 1000
    assert sum(each.placement == ANYWHERE for each in taken) == 3
    await worker(store, "w2", cpu=1)
    [other] = await claim(store, 9, worker_id="w2")
    assert (await job(store, other.fence)).spec.placement == asks(1)


async def test_within_what_fits_the_order_is_that_of_the_queue(store: Store) -> None:
    await worker(store, labels={"gpu": "a100"})
    late = new_job(placement=GPU, created_at=at(3), priority=10)
    jobs = [new_job(created_at=at(1)), new_job(placement=GPU, created_at=at(2)), late]
    await insert(store, *jobs)
    assert names(await claim(store, 9)) == [late.job_id, jobs[0].job_id, jobs[1].job_id]


async def test_a_key_goes_to_one_that_fits(store: Store) -> None:
    await worker(store)
    key = (ConcurrencyKey("k"),)
    await insert_some(store, 2, placement=GPU, concurrency_keys=key, priority=50)
    [fits] = await insert_some(store, 1, concurrency_keys=key)
    assert names(await claim(store, 9)) == [fits.job_id]


async def test_a_place_is_among_those_that_ask_for_the_same(store: Store) -> None:
    await insert_some(store, 2)
    placed = await insert_some(store, 2, placement=GPU)
    positions = [await store.queue_position(key_of(each), limit=9) for each in placed]
    assert positions == [0, 1]


def test_the_text_of_a_placement_has_one_form() -> None:
    one = Placement({"a": "1", "b": "2"}, Resources(1, 2, {"x": 1, "y": 2}))
    other = Placement({"b": "2", "a": "1"}, Resources(1, 2, {"y": 2, "x": 1}))
    assert placement_text(one) == placement_text(other)
    assert placement_of(placement_text(one)) == one
    assert placement_text(ANYWHERE) == ""
    assert placement_of("") == ANYWHERE
