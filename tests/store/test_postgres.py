"""PostgreSQL: several servers on one database, and a database that goes away."""

import asyncio
import contextlib
import itertools
import random
import socket
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

import asyncpg
import pytest

from jobservice.errors import (
    DeadlineExceeded,
    Internal,
    JobServiceError,
    SetupError,
    StoreUnavailable,
)
from jobservice.model.attempt import Cause
from jobservice.model.event import Event
from jobservice.model.job import Job, Progress
from jobservice.model.lifecycle import State
from jobservice.store.migrations import migrations
from jobservice.store.port import (
    Insertion,
    JobKey,
    LeaseAnswer,
    ProgressReport,
    RequestKey,
    StopRequest,
)
from jobservice.store.postgres import connect
from jobservice.store.postgres.connect import redacted
from jobservice.store.postgres.migrate import MIGRATIONS, current, upgrade
from jobservice.store.postgres.queries import QUERIES
from jobservice.store.postgres.store import PostgresStore
from jobservice.testing.invariants import check_invariants
from jobservice.testing.wait import wait_until
from tests.conformance.values import (
    BEGINNING,
    LEASE,
    TENANT,
    at,
    claim,
    end,
    ended,
    finish,
    insert,
    insert_some,
    key_of,
    new_job,
    run,
    settle,
    start,
    states,
)
from tests.postgres import Databases, Postgres

SERVERS = 3

KNOWN = len(migrations(MIGRATIONS))


@pytest.fixture
async def url(postgres: Databases) -> AsyncIterator[str]:
    """A fresh database."""
    made = await postgres.new_database()
    yield made
    await postgres.drop(made)


async def _all_of(url: str) -> dict[str, list[asyncpg.Record]]:
    """Every row of every table, and the next position."""
    connection = await asyncpg.connect(url)
    names = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    rows = {name: await connection.fetch(f"SELECT * FROM {name}") for (name,) in names}
    rows["positions"] = await connection.fetch("SELECT last_value, is_called FROM positions")
    await connection.close()
    return rows


async def test_a_database_that_was_lent_is_as_a_fresh_one(postgres: Databases, url: str) -> None:
    lent = await postgres.lend()
    store = await PostgresStore.open(lent)
    jobs = await insert_some(store, 2)
    await store.request_stop([StopRequest(TENANT, jobs[0].job_id, delete=True)], now=at(1))
    await store.delete_jobs([key_of(jobs[0])], now=at(1))
    await store.forget(before=at(100), limit=10)
    await store.close()
    assert await _all_of(lent) != await _all_of(url)
    await postgres.take_back(lent)
    assert await _all_of(lent) == await _all_of(url)
    assert await postgres.lend() == lent
    await postgres.take_back(lent)


@pytest.fixture
async def opened(url: str) -> AsyncIterator[list[PostgresStore]]:
    """What several servers have open at the same time."""
    stores = [await PostgresStore.open(url) for _ in range(SERVERS)]
    yield stores
    for store in stores:
        await store.close()


@pytest.fixture
async def stores(opened: list[PostgresStore]) -> AsyncIterator[list[PostgresStore]]:
    """The same; afterwards every invariant holds."""
    yield opened
    await check_invariants(opened[0], beginning=BEGINNING)


async def until_there_are(count: int, of: set[str]) -> None:
    await asyncio.to_thread(wait_until, lambda: len(of) >= count)


# --- several servers --------------------------------------------------------------------------


async def test_a_claim_that_waited_while_the_queue_was_emptied_finds_nothing(
    url: str, stores: list[PostgresStore]
) -> None:
    jobs = await insert_some(stores[0], queue="a") + await insert_some(stores[0], queue="b")
    holder = await asyncpg.connect(url)
    await holder.execute("BEGIN")
    await holder.execute(QUERIES["lock_claims"].text)
    waiting = asyncio.create_task(claim(stores[1], 5))  # two lanes: it has to be alone

    async def until_it_waits() -> None:
        while not await holder.fetchval("SELECT 1 FROM pg_locks WHERE NOT granted"):
            assert not waiting.done(), "it did not wait"

    await until_it_waits()
    await stores[0].request_stop([StopRequest(TENANT, job.job_id) for job in jobs], now=at(1))
    await holder.execute("COMMIT")
    await holder.close()
    assert await waiting == []


async def test_nothing_is_claimed_twice(stores: list[PostgresStore]) -> None:
    jobs = [new_job(created_at=at(n)) for n in range(300)]
    await insert(stores[0], *jobs)
    given = await asyncio.gather(
        *[claim(stores[n % SERVERS], 9, worker_id=f"w{n}") for n in range(45)]
    )
    ids = [each.fence.job_id for claims in given for each in claims]
    ids += [each.fence.job_id for each in await claim(stores[0], 300)]
    assert sorted(ids) == sorted(each.job_id for each in jobs)


async def test_a_request_id_creates_once(stores: list[PostgresStore]) -> None:
    for round_ in range(10):
        key = RequestKey(f"r{round_}", b"1")
        calls = [store.insert_jobs([new_job()], request=key) for store in stores for _ in range(5)]
        others = [store.insert_jobs([new_job()]) for store in stores]
        answers, _ = await asyncio.gather(asyncio.gather(*calls), asyncio.gather(*others))
        assert [each.insertion for each in answers].count(Insertion.CREATED) == 1
        assert len({each.job_ids for each in answers}) == 1
    assert len(await states(stores[0])) == 10 * (1 + SERVERS)


async def test_an_end_is_recorded_by_one_of_many(stores: list[PostgresStore]) -> None:
    fences = await run(stores[0], 30)
    ends = [end(each) for each in fences]
    first, second, expired = await asyncio.gather(
        stores[0].finish_attempts(ends, settle, now=at(10)),
        stores[1].finish_attempts(ends[::-1], settle, now=at(10)),
        stores[2].expire_leases(settle, now=at(100), limit=100),
    )
    done = [answer for answer in (*first, *second) if answer is not None]
    assert len(done) + len(expired) == 30


async def test_a_reader_misses_nothing_that_is_committed_meanwhile(
    stores: list[PostgresStore],
) -> None:
    """Numbers drawn in one order and committed in another would be skipped."""
    seen: list[Event] = []
    writing = True

    async def read() -> None:
        position, done = BEGINNING, False
        while not done:
            last_look = not writing
            page = await stores[-1].list_changes(position, limit=7)
            position, done = page.position, last_look and not page.changes
            seen.extend(each.event for each in page.changes)

    async def write(store: PostgresStore) -> None:
        for _ in range(40):
            await run(store, 2)

    reading = asyncio.ensure_future(read())
    await asyncio.gather(*[write(store) for store in stores[:2] for _ in range(2)])
    writing = False
    await reading
    told = [(each.job_id, each.revision) for each in seen]
    page = await stores[-1].list_changes(BEGINNING, limit=10_000)
    assert told == [(each.event.job_id, each.event.revision) for each in page.changes]
    assert len(told) > 2 * 2 * 40 * 2 * 2


async def test_servers_that_want_the_same_jobs_in_other_orders(
    stores: list[PostgresStore], capsys: pytest.CaptureFixture[str]
) -> None:
    """Locked one after the other they would be a deadlock in nearly every round."""
    chance = random.Random(7)
    for _ in range(20):
        jobs = await insert_some(stores[0], 6)
        calls: list[Coroutine[Any, Any, object]] = []
        for store in stores:
            for job in chance.sample(jobs, len(jobs)):
                stop = StopRequest(TENANT, job.job_id)
                calls.append(store.request_stop([stop], now=at(1)))
                key = key_of(job)
                calls.append(store.update_job(key, {"name": "x"}, edit_version=None, now=at(2)))
        await asyncio.gather(*calls)
    assert "deadlock" not in capsys.readouterr().out


async def test_whoever_draws_positions_waits_for_nothing_else(
    opened: list[PostgresStore], capsys: pytest.CaptureFixture[str]
) -> None:
    """Drawn as soon as a change is told they would be a deadlock: one server has them and wants the
    end of the feed, the other has that and wants positions."""
    fences = await run(opened[0], SERVERS)
    gone = [key_of(each) for each in await ended(opened[0], 60)]
    await opened[0].request_stop([StopRequest(TENANT, key.job_id, True) for key in gone], now=at(1))
    assert await opened[0].delete_jobs(gone, now=at(2)) == [True] * len(gone)
    for second in range(20):
        progress = Progress(1.0, "", None, at(second))
        reports = [[ProgressReport(fence, progress)] for fence in fences]
        calls: list[Coroutine[Any, Any, object]] = []
        for n, store in enumerate(opened):
            both: list[Coroutine[Any, Any, object]] = [
                store.record_progress(reports[n]),
                store.forget(before=at(9), limit=1),
            ]
            calls += both[:: 1 if n % 2 else -1]
        await asyncio.gather(*calls)
    assert "deadlock" not in capsys.readouterr().out


async def test_a_faulty_call_is_undone_alone(stores: list[PostgresStore]) -> None:
    [fence] = await run(stores[0])
    bad = ProgressReport(fence, Progress(1.0, "\0", None, at(1)))
    first, faulty, last = await asyncio.gather(
        insert_some(stores[0], 2),
        stores[0].record_progress([bad]),
        finish(stores[0], end(fence)),
        return_exceptions=True,
    )
    assert isinstance(faulty, Internal)
    assert isinstance(first, list)
    assert isinstance(last, list)
    assert [each is not None and each.state for each in last] == [State.SUCCEEDED]
    assert set(await states(stores[0])) == {fence.job_id, *(each.job_id for each in first)}


async def test_migrations_are_applied_once(postgres: Databases) -> None:
    connection = await asyncpg.connect(postgres.url())
    await connection.execute("CREATE DATABASE empty_one")
    await connection.close()
    url = postgres.url("empty_one")
    assert await current(url) == 0
    applied = await asyncio.gather(*[upgrade(url) for _ in range(4)])
    assert sorted(each.version for each in itertools.chain(*applied)) == list(range(1, KNOWN + 1))
    assert await current(url) == KNOWN
    await postgres.drop(url)


async def test_a_newer_schema_is_refused(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("INSERT INTO schema_migrations VALUES ($1, 'later', 'x')", KNOWN + 1)
    await connection.close()
    said = f"version {KNOWN + 1}, and this JobService knows versions up to {KNOWN}"
    with pytest.raises(SetupError, match=said):
        await PostgresStore.open(url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://me:hidden@127.0.0.1:1/jobs", "postgresql://me@127.0.0.1:1/jobs"),
        ("postgresql://me:hidden@127.0.0.1:none/jobs", "postgresql://USER@HOST:5432/NAME"),
        (
            "postgresql://127.0.0.1:1/jobs?sslmode=hid",
            "postgresql://127.0.0.1:1/jobs is no address",
        ),
        ("postgresql:///jobs?host=/nowhere&password=hidden", "postgresql:///jobs"),
    ],
)
async def test_a_database_that_cannot_be_reached(url: str, said: str) -> None:
    with pytest.raises(SetupError) as caught:
        await PostgresStore.open(url)
    assert said in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("letter", list("/?#@[]: %"))
async def test_no_part_of_a_password_is_shown(letter: str) -> None:
    """Where it is not written as it should be, a part of it looks like a host, a port, a path."""
    url = f"postgresql://me:hid{letter}den@127.0.0.1:1/jobs"
    with pytest.raises(SetupError) as caught:
        await PostgresStore.open(url)
    for told in (str(caught.value), redacted(url)):
        assert "hid" not in told
        assert "den" not in told


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p@h:5432/d?sslmode=verify-full", "postgresql://u@h:5432/d"),
        ("postgres://h1:1,h2:2/d", "postgres://h1:1,h2:2/d"),
        ("postgresql://u@[::1]:5432/d", "postgresql://u@[::1]:5432/d"),
        ("postgresql:///d?host=/var/run/postgresql", "postgresql:///d"),
        ("postgresql://u:p%40%2F@%2Fvar%2Frun/d", "postgresql://u@%2Fvar%2Frun/d"),
        ("postgresql://", "postgresql://"),
        ("host=h password=p", "the database"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, shown: str) -> None:
    assert redacted(url) == shown


async def test_a_server_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "FIRST_DEADLINE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(SetupError, match="cannot be used"):
            await PostgresStore.open(f"postgresql://me@127.0.0.1:{port}/jobs")


# --- a database that goes away ----------------------------------------------------------------


async def test_ended_sessions_are_replaced(stores: list[PostgresStore], url: str) -> None:
    store, chance = stores[0], random.Random(3)
    administrator = await asyncpg.connect(url)
    acknowledged: set[str] = set()
    refused: set[str] = set()
    unknown: set[str] = set()

    async def submit() -> None:
        while len(acknowledged) < 400:
            job = new_job()
            try:
                await insert(store, job)
                acknowledged.add(job.job_id)
            except StoreUnavailable:
                refused.add(job.job_id)
            except DeadlineExceeded:
                unknown.add(job.job_id)
            with contextlib.suppress(StoreUnavailable):
                await store.find_job(JobKey(TENANT, job.job_id))

    submitting = [asyncio.ensure_future(submit()) for _ in range(8)]
    while not all(each.done() for each in submitting):
        await administrator.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
        enough = min(400, len(acknowledged) + chance.randrange(60))
        await until_there_are(enough, acknowledged)
    await asyncio.gather(*submitting)
    await administrator.close()
    found = set(await states(store))
    assert acknowledged <= found
    assert not refused & found
    assert found <= acknowledged | unknown


@pytest.fixture
def crashing() -> Iterator[Postgres]:
    """A server of the test's own."""
    server = Postgres()
    yield server
    server.close()


async def test_a_database_that_crashes_loses_nothing_acknowledged(crashing: Postgres) -> None:
    url = await crashing.new_database()
    store = await PostgresStore.open(url)
    acknowledged: set[str] = set()
    refused: set[str] = set()
    stop = False

    async def submit() -> None:
        while not stop:
            job = new_job()
            try:
                await insert(store, job)
                acknowledged.add(job.job_id)
            except DeadlineExceeded:
                pass
            except StoreUnavailable:
                refused.add(job.job_id)

    submitting = [asyncio.ensure_future(submit()) for _ in range(8)]
    for _ in range(4):
        enough = len(acknowledged) + 50
        await until_there_are(enough, acknowledged)
        await asyncio.to_thread(crashing.kill)
        await asyncio.to_thread(crashing.start_again)
    stop = True
    await asyncio.gather(*submitting)
    found = set(await states(store))
    assert acknowledged <= found
    assert not refused & found
    await check_invariants(store, beginning=BEGINNING)
    await store.close()


async def test_leases_are_prolonged_while_the_writer_waits(
    stores: list[PostgresStore], url: str
) -> None:
    fences = await run(stores[0], 2)
    [locked] = await insert_some(stores[0])
    holder = await asyncpg.connect(url)
    await holder.execute("BEGIN")
    await holder.execute("SELECT 1 FROM jobs WHERE job_id = $1 FOR UPDATE", locked.job_id)
    editing = asyncio.ensure_future(
        stores[0].update_job(key_of(locked), {"name": "x"}, edit_version=None, now=at(1))
    )
    while not await holder.fetchval("SELECT 1 FROM pg_locks WHERE NOT granted"):
        assert not editing.done()
    answers = await stores[0].extend_leases(fences, lease_until=at(99))
    assert answers == [LeaseAnswer.KEPT] * 2
    assert (await stores[0].take_lead("a", 0, lease=LEASE)).server == "a"
    assert not editing.done()
    await holder.execute("COMMIT")
    await holder.close()
    assert isinstance(await editing, Job)


async def test_what_runs_is_settled_when_the_database_is_back(crashing: Postgres) -> None:
    store = await PostgresStore.open(await crashing.new_database())
    [fence] = await run(store)
    await asyncio.to_thread(crashing.kill)
    with pytest.raises(StoreUnavailable):
        await store.finish_attempts([end(fence)], settle, now=at(1))
    with pytest.raises(JobServiceError):
        await store.find_job(JobKey(TENANT, fence.job_id))
    await asyncio.to_thread(crashing.start_again)
    [settled] = await store.finish_attempts([end(fence)], settle, now=at(2))
    assert settled is not None
    assert await store.finish_attempts([end(fence)], settle, now=at(2)) == [None]
    [other] = await run(store)
    assert await start(store, other) == [True]
    lost = end(other, cause=Cause.LOST)
    assert await store.finish_attempts([lost], settle, now=at(3)) != [None]
    await store.close()
