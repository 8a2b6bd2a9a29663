"""Lists: every job of a query once, in order, page by page."""

import base64
import itertools
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobservice.errors import PageTokenInvalid
from jobservice.model.job import Job, Progress
from jobservice.model.lifecycle import ACTIVE, FINAL, LIVE, WAITING, State
from jobservice.model.spec import Command
from jobservice.store.port import (
    JobKey,
    JobQuery,
    Order,
    ProgressReport,
    StopRequest,
    Store,
)
from tests.conformance.values import (
    TENANT,
    at,
    claim,
    end,
    finish,
    insert,
    insert_some,
    key_of,
    new_job,
    run,
    start,
)

EVERY = frozenset(State)


async def pages(store: Store, query: JobQuery, limit: int) -> list[Job]:
    """All jobs of a query, read in pages."""
    jobs: list[Job] = []
    cursor = None
    for _ in range(1_000):
        page = await store.list_jobs(query, limit=limit, cursor=cursor)
        assert len(page.jobs) <= limit
        jobs += page.jobs
        cursor = page.cursor
        if cursor is None:
            return jobs
    raise AssertionError("the pages do not end")


async def names(store: Store, order: Order = Order.CREATED_ASC, **query: object) -> list[str]:
    query.setdefault("states", EVERY)
    found = await pages(store, JobQuery(TENANT, order, **query), 3)  # type: ignore[arg-type]
    return [each.spec.name for each in found]


async def many_states(store: Store) -> None:
    """Jobs a to n in several states; they end in another order than they were made in."""
    jobs = [new_job(created_at=at(n), name=name) for n, name in enumerate("abcdefghijklmn")]
    await insert(store, *jobs)
    fences = [each.fence for each in await claim(store, 8)]
    await start(store, *fences)
    for second, n in enumerate((5, 1, 3, 0)):
        await finish(store, end(fences[n], n % 2), now=at(100 + second))
    stops = [StopRequest(TENANT, jobs[n].job_id) for n in (7, 9)]
    await store.request_stop(stops, now=at(200))


async def test_a_list_is_in_the_order_of_creation(store: Store) -> None:
    await many_states(store)
    assert await names(store) == list("abcdefghijklmn")
    assert await names(store, Order.CREATED_DESC) == list("nmlkjihgfedcba")


async def test_the_history_is_in_the_order_of_the_end(store: Store) -> None:
    await many_states(store)
    assert await names(store, Order.ENDED_DESC) == list("jadbf")
    assert await names(store, Order.ENDED_DESC, states=frozenset({State.FAILED})) == list("dbf")
    assert await names(store, Order.ENDED_DESC, states=ACTIVE) == []


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (ACTIVE, "ceghiklmn"),
        (LIVE, "cegh"),
        (WAITING, "iklmn"),
        (FINAL, "abdfj"),
        ({State.RUNNING}, "ceg"),
        ({State.STOPPING}, "h"),
        ({State.QUEUED, State.FAILED}, "bdfiklmn"),
        ({State.BLOCKED}, ""),
        ({State.CANCELLED, State.SUCCEEDED}, "aj"),
    ],
)
async def test_a_list_has_only_the_states_asked_for(
    store: Store, states: frozenset[State], expected: str
) -> None:
    await many_states(store)
    chosen = frozenset(states)
    assert await names(store, states=chosen) == list(expected)
    assert await names(store, Order.CREATED_DESC, states=chosen) == list(reversed(expected))


async def test_jobs_of_one_instant_are_in_the_order_of_their_ids(store: Store) -> None:
    jobs = [new_job() for _ in range(20)]
    await insert(store, *jobs)
    ascending = sorted(each.job_id for each in jobs)
    for order, expected in ((Order.CREATED_ASC, ascending), (Order.CREATED_DESC, ascending[::-1])):
        found = await pages(store, JobQuery(TENANT, order, EVERY), 7)
        assert [each.job_id for each in found] == expected


async def test_jobs_that_ended_together_are_in_the_order_of_their_ids(store: Store) -> None:
    fences = await run(store, 20)
    await finish(store, *[end(each, n % 2) for n, each in enumerate(fences)])
    found = await pages(store, JobQuery(TENANT, Order.ENDED_DESC, FINAL), 3)
    assert [each.job_id for each in found] == sorted((f.job_id for f in fences), reverse=True)


@pytest.mark.parametrize("limit", [1, 2, 5, 6, 7, 100])
async def test_the_last_page_has_no_cursor(store: Store, limit: int) -> None:
    await insert_some(store, 6)
    query = JobQuery(TENANT, Order.CREATED_DESC, EVERY)
    assert len(await pages(store, query, limit)) == 6


async def test_a_page_is_not_moved_by_what_happens_meanwhile(store: Store) -> None:
    jobs = await insert_some(store, 6)
    query = JobQuery(TENANT, Order.CREATED_DESC, EVERY)
    first = await store.list_jobs(query, limit=3, cursor=None)
    await insert(store, new_job(created_at=at(100)))
    await claim(store, 10)
    second = await store.list_jobs(query, limit=3, cursor=first.cursor)
    ids = [each.job_id for each in (*first.jobs, *second.jobs)]
    assert ids == [each.job_id for each in reversed(jobs)]


async def test_names_are_matched_whole_or_by_their_beginning(store: Store) -> None:
    jobs = ["a%b", "a_b", "axb", "a%", "A%b", "b", "", "a\U0010ffff", "a\ud7ffz", "ab*"]
    await insert(store, *[new_job(created_at=at(n), name=name) for n, name in enumerate(jobs)])
    assert await names(store, name="a%") == ["a%"]
    assert await names(store, name="a%", name_is_prefix=True) == ["a%b", "a%"]
    assert await names(store, name="a_", name_is_prefix=True) == ["a_b"]
    assert await names(store, name="a\U0010ffff", name_is_prefix=True) == ["a\U0010ffff"]
    assert await names(store, name="a\ud7ff", name_is_prefix=True) == ["a\ud7ffz"]
    assert await names(store, name="ab*") == ["ab*"]
    assert len(await names(store, name="a", name_is_prefix=True)) == 7
    assert len(await names(store)) == len(jobs)


async def test_labels_must_all_be_there(store: Store) -> None:
    odd = 'x"y.z/$[0]'
    for name, labels in {
        "none": {},
        "one": {"a": "1"},
        "both": {"a": "1", "b": "2"},
        "other": {"a": "2"},
        "odd": {odd: "it's"},
    }.items():
        await insert_some(store, name=name, labels=labels)
    assert set(await names(store, labels={"a": "1"})) == {"one", "both"}
    assert await names(store, labels={"a": "1", "b": "2"}) == ["both"]
    assert await names(store, labels={odd: "it's"}) == ["odd"]
    assert await names(store, labels={"a": "3"}) == []


async def test_filters_hold_together(store: Store) -> None:
    await insert_some(store, name="yes", queue="q", labels={"a": "1"})
    await insert_some(store, name="yes", queue="other", labels={"a": "1"})
    await insert_some(store, name="no", queue="q", labels={"a": "1"})
    await insert_some(store, name="yes", queue="q")
    assert await names(store, name="yes", queue="q", labels={"a": "1"}) == ["yes"]


async def test_the_history_is_cut_by_time(store: Store) -> None:
    await many_states(store)
    found = await names(store, Order.ENDED_DESC, ended_from=at(101), ended_before=at(103))
    assert found == ["d", "b"]
    assert await names(store, Order.ENDED_DESC, ended_from=at(103)) == ["j", "a"]


@pytest.mark.parametrize("order", [Order.CREATED_ASC, Order.CREATED_DESC])
async def test_jobs_that_end_between_two_pages_are_on_one_page(store: Store, order: Order) -> None:
    jobs = await insert_some(store, 9)
    query = JobQuery(TENANT, order, EVERY)
    first = await store.list_jobs(query, limit=4, cursor=None)
    claims = await claim(store, 9)
    ending = [each.fence for each in claims[::2]]  # before the cursor and behind it
    await start(store, *ending)
    await finish(store, *[end(each) for each in ending])
    second = await store.list_jobs(query, limit=9, cursor=first.cursor)
    assert second.cursor is None
    found = [each.job_id for each in (*first.jobs, *second.jobs)]
    assert found == [each.job_id for each in (jobs if order is Order.CREATED_ASC else jobs[::-1])]


@pytest.mark.parametrize("limit", [1, 2, 3, 20])
@pytest.mark.parametrize("states", [EVERY, FINAL, ACTIVE])
async def test_targets_are_those_made_before_an_instant(
    store: Store, states: frozenset[State], limit: int
) -> None:
    await many_states(store)
    query = JobQuery(TENANT, Order.CREATED_ASC, states, created_before=at(9))
    found: list[JobKey] = []
    behind = None
    for _ in range(20):
        page = await store.find_targets(query, behind=behind, limit=limit)
        found += page.jobs
        behind = page.place
        if behind is None:
            break
    jobs = [await store.find_job(each) for each in found]
    asked = {EVERY: "abcdefghi", FINAL: "abdf", ACTIVE: "ceghi"}
    assert [each and each.spec.name for each in jobs] == list(asked[states])


async def test_a_basic_read_leaves_variables_and_input_out(store: Store) -> None:
    command = Command(("a", "b"), {"SECRET": "s"}, b"input", "/tmp")
    await insert_some(store, command=command)
    basic, full = (
        JobQuery(TENANT, Order.CREATED_ASC, EVERY),
        JobQuery(TENANT, Order.CREATED_ASC, EVERY, full=True),
    )
    [found] = (await store.list_jobs(basic, limit=5, cursor=None)).jobs
    assert found.spec.command == Command(("a", "b"), {}, b"", "/tmp")
    [found] = (await store.list_jobs(full, limit=5, cursor=None)).jobs
    assert found.spec.command == command


async def test_a_list_has_progress_and_no_attempts(store: Store) -> None:
    [fence] = await run(store)
    progress = Progress(12.5, "unpacking", at(60), at(3))
    await store.record_progress([ProgressReport(fence, progress)])
    [found] = await pages(store, JobQuery(TENANT, Order.CREATED_ASC, LIVE), 5)
    assert (found.progress, found.attempts) == (progress, ())


async def test_a_cursor_is_bound_to_its_query(store: Store) -> None:
    await insert_some(store, 5)
    query = JobQuery(TENANT, Order.CREATED_ASC, EVERY)
    cursor = (await store.list_jobs(query, limit=2, cursor=None)).cursor
    for other in (
        JobQuery(TENANT, Order.CREATED_DESC, EVERY),
        JobQuery(TENANT, Order.ENDED_DESC, EVERY),
        JobQuery("other", Order.CREATED_ASC, EVERY),
        JobQuery(TENANT, Order.CREATED_ASC, EVERY, name="x"),
    ):
        with pytest.raises(PageTokenInvalid):
            await store.list_jobs(other, limit=2, cursor=cursor)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(cursor=st.text() | st.text(alphabet="abcdefABC0189-_=", max_size=80))
async def test_a_forged_cursor_is_refused(store: Store, cursor: str) -> None:
    query = JobQuery(TENANT, Order.CREATED_ASC, EVERY)
    with pytest.raises(PageTokenInvalid):
        await store.list_jobs(query, limit=2, cursor=cursor)


@pytest.mark.parametrize("job_id", ["\0", "\ud800", "j\u00e4", ""])
async def test_a_cursor_with_what_is_no_job_id_is_refused(store: Store, job_id: str) -> None:
    await insert_some(store, 3)
    query = JobQuery(TENANT, Order.CREATED_ASC, EVERY)
    cursor = (await store.list_jobs(query, limit=2, cursor=None)).cursor
    assert cursor is not None
    digest, *_ = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    text = json.dumps([digest, 1, job_id])
    forged = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    with pytest.raises(PageTokenInvalid):
        await store.list_jobs(query, limit=2, cursor=forged)


async def test_a_filter_with_a_nul_matches_nothing(store: Store) -> None:
    await insert_some(store, name="a", queue="q", labels={"a": "1"})
    assert await names(store, name="a\0") == []
    assert await names(store, name="\0", name_is_prefix=True) == []
    assert await names(store, queue="\0") == []
    assert await names(store, labels={"a": "\0"}) == []
    assert await names(store, labels={"\0": "1"}) == []


async def test_the_place_in_the_queue(store: Store) -> None:
    jobs = await insert_some(store, 5)
    await insert(store, *[new_job("other", at(0)) for _ in range(5)])
    last = key_of(jobs[4])
    assert await store.queue_position(last, limit=100) == 4
    assert await store.queue_position(last, limit=3) == 3
    assert await store.queue_position(key_of(jobs[0]), limit=100) == 0
    await store.update_job(last, {"priority": 50}, edit_version=None, now=at(1))
    assert await store.queue_position(last, limit=100) == 0
    await claim(store, 1)
    assert await store.queue_position(last, limit=100) is None
    assert await store.queue_position(key_of(new_job()), limit=100) is None


async def test_a_thousand_filters_still_page(store: Store) -> None:
    """Every combination of order, states and filter reads each job once."""
    await many_states(store)
    for order, states, prefix in itertools.product(
        Order, (EVERY, ACTIVE, FINAL, LIVE), ("", "c", "zz")
    ):
        query = JobQuery(TENANT, order, states, name=prefix, name_is_prefix=True)
        by_one = await pages(store, query, 1)
        at_once = await pages(store, query, 1_000)
        assert by_one == at_once
        assert len({each.job_id for each in at_once}) == len(at_once)
