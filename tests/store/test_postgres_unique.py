"""Unique keys with several servers on one database: there is never more than one job with a key."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from jobservice.model.event import EventKind
from jobservice.model.job import NewJob
from jobservice.model.lifecycle import FINAL
from jobservice.model.unique import OnDuplicate, UniqueKey
from jobservice.store.port import Insertion, StopRequest
from jobservice.store.postgres.store import PostgresStore
from jobservice.testing.invariants import check_invariants
from tests.conformance.values import BEGINNING, TENANT, at, claim, end, finish, new_job
from tests.postgres import Databases

SERVERS = 3


@pytest.fixture
async def stores(postgres: Databases) -> AsyncIterator[list[PostgresStore]]:
    """What several servers have open; afterwards every invariant holds."""
    url = await postgres.new_database()
    opened = [await PostgresStore.open(url) for _ in range(SERVERS)]
    yield opened
    await check_invariants(opened[0], beginning=BEGINNING)
    for store in opened:
        await store.close()
    await postgres.drop(url)


def unique(on_duplicate: OnDuplicate, key: str = "u") -> NewJob:
    return new_job(unique_key=UniqueKey(key, on_duplicate=on_duplicate))


async def most_at_once(store: PostgresStore) -> int:
    """How many jobs were not final at the same time, by what was told in the order of commits."""
    active: set[str] = set()
    most, position = 0, BEGINNING
    while changes := (page := await store.list_changes(position, limit=1000)).changes:
        for change in changes:
            event = change.event
            if event.kind is EventKind.DELETED or event.state in FINAL:
                active.discard(event.job_id)
            else:
                active.add(event.job_id)
            most = max(most, len(active))
        position = page.position
    return most


@pytest.mark.parametrize("on_duplicate", [OnDuplicate.RETURN_EXISTING, OnDuplicate.REJECT])
async def test_many_submitters_create_one_job(
    stores: list[PostgresStore], on_duplicate: OnDuplicate
) -> None:
    for round_ in range(10):
        key = f"u{round_}"
        answers = await asyncio.gather(
            *[store.insert_jobs([unique(on_duplicate, key)]) for _ in range(20) for store in stores]
        )
        [created] = [each for each in answers if each.insertion is Insertion.CREATED]
        assert {each.job_ids for each in answers} == {created.job_ids}


async def test_batches_that_share_keys_create_each_once(stores: list[PostgresStore]) -> None:
    def batch(shift: int) -> list[NewJob]:
        keys = [f"u{(n + shift) % 20}" for n in range(20)]
        return [unique(OnDuplicate.RETURN_EXISTING, each) for each in keys]

    batches = [batch(7 * n) for n in range(9)]
    answers = await asyncio.gather(
        *[stores[n % SERVERS].insert_jobs(each) for n, each in enumerate(batches)]
    )
    by_key: dict[str, set[str]] = {}
    for jobs, answer in zip(batches, answers, strict=True):
        for job, job_id in zip(jobs, answer.job_ids, strict=True):
            assert job.spec.unique_key is not None
            by_key.setdefault(job.spec.unique_key.key, set()).add(job_id)
    assert [len(ids) for ids in by_key.values()] == [1] * 20


@pytest.mark.parametrize("on_duplicate", OnDuplicate)
async def test_never_are_there_two_whatever_happens_to_the_one(
    stores: list[PostgresStore], on_duplicate: OnDuplicate
) -> None:
    created: list[str] = []

    async def submit(store: PostgresStore) -> None:
        for _ in range(40):
            answer = await store.insert_jobs([unique(on_duplicate)])
            if answer.insertion is Insertion.CREATED:
                created.extend(answer.job_ids)

    async def work(store: PostgresStore, name: str) -> None:
        for n in range(40):
            for each in await claim(store, 5, worker_id=name, now=at(n)):
                await finish(store, end(each.fence, n % 2), now=at(n))

    async def cancel(store: PostgresStore) -> None:
        for _ in range(40):
            stops = [StopRequest(TENANT, each) for each in created[-1:]]
            await store.request_stop(stops, now=at(1))

    await asyncio.gather(
        *[submit(store) for store in stores],
        *[work(store, f"w{n}") for n, store in enumerate(stores)],
        cancel(stores[0]),
    )
    assert len(created) > 1, "the key was free again and again"
    assert await most_at_once(stores[0]) == 1
