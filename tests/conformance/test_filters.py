"""Filters: a list by a filter has exactly the jobs for which `matches` says so."""

import dataclasses
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobservice.errors import PageTokenInvalid
from jobservice.model.filter import Filter, matches, parse
from jobservice.model.job import Job
from jobservice.model.lifecycle import ACTIVE, FINAL, State
from jobservice.store.port import JobKey, JobQuery, Order, StopRequest, Store
from tests.conformance.test_lists import pages
from tests.conformance.values import at, claim, end, finish, insert, key_of, new_job, start
from tests.examples import examples
from tests.model.filters import FILTERS, KEYS, NUMBERS, QUEUES, TEXTS

EVERY = frozenset(State)


@dataclasses.dataclass(frozen=True)
class Life:
    """A job and what becomes of it."""

    name: str
    queue: str
    labels: dict[str, str]
    priority: int
    fate: str
    exit_code: int


LIVES = st.builds(
    Life,
    name=st.sampled_from(TEXTS),
    queue=st.sampled_from(QUEUES),
    labels=st.dictionaries(st.sampled_from(KEYS), st.sampled_from(TEXTS), max_size=2),
    priority=st.sampled_from(NUMBERS),
    fate=st.sampled_from(["queued", "held", "cancelled", "claimed", "running", "ended", "ended"]),
    exit_code=st.sampled_from([0, 1, 2]),
)
_tenants = itertools.count(1)


async def live(store: Store, lives: list[Life]) -> tuple[str, list[Job]]:
    """The jobs of a tenant of their own, as they stand then."""
    tenant = f"t{next(_tenants)}"
    lives = sorted(lives, key=lambda life: life.fate in {"queued", "held", "cancelled"})
    jobs = [
        new_job(
            tenant, at(n / 2), name=life.name, queue=life.queue, labels=life.labels,
            priority=life.priority,
        )
        for n, life in enumerate(lives)
    ]  # fmt: skip
    fates = {job.job_id: life for job, life in zip(jobs, lives, strict=True)}
    ran = [job for job in jobs if fates[job.job_id].fate in {"claimed", "running", "ended"}]
    if ran:
        await insert(store, *ran)
    for fence in [each.fence for each in await claim(store, len(ran) + 1)]:
        life = fates[fence.job_id]
        if life.fate != "claimed":
            await start(store, fence, started_at=at(2))
        if life.fate == "ended":
            await finish(store, end(fence, life.exit_code), now=at(3))
    waiting = [job for job in jobs if job not in ran]
    if waiting:
        await insert(store, *waiting)
    for job in waiting:
        if fates[job.job_id].fate == "held":
            await store.hold_job(key_of(job), now=at(4))
        if fates[job.job_id].fate == "cancelled":
            await store.request_stop([StopRequest(tenant, job.job_id)], now=at(4))
    found = [await store.find_job(JobKey(tenant, job.job_id)) for job in jobs]
    return tenant, [job for job in found if job is not None]


async def park(store: Store, jobs: list[Job]) -> None:
    """Leave nothing that another example would claim."""
    stops = [StopRequest(job.tenant, job.job_id) for job in jobs]
    await store.request_stop(stops, now=at(5))


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
    max_examples=examples(60),
)
@given(
    lives=st.lists(LIVES, min_size=1, max_size=8), filters=st.lists(FILTERS, min_size=3, max_size=8)
)
async def test_sql_and_python_agree(store: Store, lives: list[Life], filters: list[Filter]) -> None:
    tenant, jobs = await live(store, lives)
    for filter_ in filters:
        expected = {job.job_id for job in jobs if matches(filter_, job)}
        for order, states in (
            (Order.CREATED_DESC, EVERY),
            (Order.CREATED_ASC, ACTIVE),
            (Order.ENDED_DESC, FINAL),
        ):
            found = await pages(store, JobQuery(tenant, order, states, filter=filter_), 3)
            there = {job.job_id for job in jobs if job.state in states}
            assert {each.job_id for each in found} == expected & there, str(filter_)
            assert len(found) == len(expected & there)
    await park(store, jobs)


async def test_a_cursor_is_bound_to_the_filter(store: Store) -> None:
    await insert(store, *[new_job(created_at=at(n), name="a") for n in range(3)])
    queries = [
        JobQuery("default", Order.CREATED_ASC, EVERY, filter=parse(text))
        for text in ("name = a", "name = a*")
    ]
    cursor = (await store.list_jobs(queries[0], limit=2, cursor=None)).cursor
    assert len((await store.list_jobs(queries[0], limit=2, cursor=cursor)).jobs) == 1
    with pytest.raises(PageTokenInvalid):
        await store.list_jobs(queries[1], limit=2, cursor=cursor)


async def test_a_filter_that_no_state_fulfils_reads_nothing(store: Store) -> None:
    await insert(store, new_job())
    query = JobQuery(
        "default", Order.CREATED_ASC, EVERY, filter=parse("state = QUEUED AND state = HELD")
    )
    page = await store.list_jobs(query, limit=2, cursor=None)
    assert (page.jobs, page.cursor) == ((), None)
