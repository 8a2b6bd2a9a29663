"""New jobs that nothing else decides about are inserted by one statement."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import asyncpg
import pytest

from jobservice.errors import DeadlineExceeded, StoreBusy
from jobservice.model.array import ArraySpec
from jobservice.model.job import NewJob
from jobservice.model.limit import ConcurrencyKey
from jobservice.model.spec import Command
from jobservice.store.port import Insertion, RequestKey
from jobservice.store.postgres.connect import connect
from jobservice.store.postgres.inserters import LARGE
from jobservice.store.postgres.store import PostgresStore
from jobservice.store.postgres.writer import Writer
from tests.conformance.values import NOW, TENANT, insert, key_of, new_job
from tests.postgres import Postgres

DIGEST = b"\1" * 32
POSITIONS_LOCK = 7305808869231650162
WAITS = "wait_event = 'advisory' AND datname = current_database()"
READS, ONE, WHOLE = "SELECT wanted.n", "WITH part_0 AS (INSERT INTO events", "BEGIN"


@pytest.fixture
def store(postgres_store: PostgresStore) -> PostgresStore:
    return postgres_store


@pytest.fixture
async def new_store(postgres: Postgres) -> AsyncIterator[PostgresStore]:
    """In a database that nobody has used: its files have no room left."""
    url = await postgres.new_database()
    opened = await PostgresStore.open(url)
    yield opened
    await opened.close()
    await postgres.drop(url)


class Heard:
    """The statements of a writer, by their first words."""

    def __init__(self) -> None:
        self.statements: list[str] = []

    async def listen(self, writer: Writer) -> None:
        connection = await writer._connected()
        connection.add_query_logger(self._hear)

    def _hear(self, record: asyncpg.connection.LoggedQuery) -> None:
        if "typeinfo" not in record.query and "'jit'" not in record.query:  # of asyncpg itself
            self.statements.append(record.query)

    def are(self, *begins: str) -> bool:
        """Whether they begin with these words, one each, and are forgotten then."""
        heard, self.statements = self.statements, []
        return len(heard) == len(begins) and all(map(str.startswith, heard, begins))


@pytest.mark.parametrize("count", [1, LARGE])
async def test_plain_jobs_take_one_look_and_one_statement(store: PostgresStore, count: int) -> None:
    writer, _, inserters = store._writers
    heard = Heard()
    await heard.listen(writer if count == 1 else inserters[0])
    await insert(store, *[new_job() for _ in range(count)])
    assert heard.are(READS, ONE)
    request = RequestKey("r", DIGEST)
    jobs = [new_job() for _ in range(count)]
    first = await store.insert_jobs(jobs, request=request)
    assert heard.are(READS, "SELECT requests.tenant", ONE)
    again = await store.insert_jobs([new_job() for _ in range(count)], request=request)
    assert heard.are(READS, "SELECT requests.tenant")
    assert (again.insertion, again.job_ids) == (Insertion.REPEATED, first.job_ids)


async def test_an_array_is_plain(store: PostgresStore) -> None:
    heard = Heard()
    await heard.listen(store._writers[0])
    await insert(store, new_job(array=ArraySpec(size=3, items=("a", "b", "c"))))
    assert heard.are(READS, ONE)


@pytest.mark.parametrize("is_bounded", [True, False])
async def test_what_others_decide_about_takes_a_transaction(
    store: PostgresStore, is_bounded: bool
) -> None:
    heard = Heard()
    job = new_job(concurrency_keys=(ConcurrencyKey("k"),))
    if is_bounded:
        await store.save_queue(
            TENANT, "few", {"max_depth": 1}, create=True, edit_version=None, now=NOW
        )
        job = new_job(queue="few")
    await heard.listen(store._writers[0])
    await insert(store, job)
    begin = [READS, WHOLE, READS] if is_bounded else [WHOLE, READS]
    assert all(map(str.startswith, heard.statements, begin))
    assert heard.statements[-1] == "COMMIT"


async def test_whatever_several_calls_insert_at_once_is_theirs(store: PostgresStore) -> None:
    jobs = [new_job(command=Command(("/bin/echo", str(n)))) for n in range(5)]
    heard = Heard()
    await heard.listen(store._writers[0])
    await asyncio.gather(*[insert(store, job) for job in jobs])
    assert len([each for each in heard.statements if each.startswith(ONE)]) < len(jobs)
    found = await store.find_jobs([key_of(job) for job in jobs])
    assert [each.spec.command.argv for each in found if each] == [
        job.spec.command.argv for job in jobs
    ]


async def test_positions_are_drawn_when_everything_else_is_written(
    new_store: PostgresStore,
) -> None:
    jobs = [new_job(command=Command(("/bin/echo", "x" * 500))) for _ in range(LARGE)]
    async with stuck(new_store, jobs) as (future, other):
        found = await sizes(other)
    await future
    assert found["jobs"] > 0
    assert found["job_specs"] > 0
    assert found["events"] == 0


@pytest.mark.parametrize(
    ("signal", "answer", "words"),
    [
        ("pg_cancel_backend", StoreBusy, "Nothing was changed"),
        ("pg_terminate_backend", DeadlineExceeded, "it may have done so"),
    ],
)
async def test_a_statement_that_is_ended_says_what_is_known(
    new_store: PostgresStore, signal: str, answer: type[Exception], words: str
) -> None:
    jobs = [new_job() for _ in range(LARGE)]
    async with stuck(new_store, jobs) as (future, other):
        await other.fetch(f"SELECT {signal}(pid) FROM pg_stat_activity WHERE {WAITS}")
        with pytest.raises(answer, match=words):
            await future
    assert await new_store.find_jobs([key_of(each) for each in jobs]) == [None] * LARGE
    await insert(new_store, *jobs)


async def test_types_are_looked_up_once_for_all_connections(new_store: PostgresStore) -> None:
    asked = []
    for _ in range(2):
        connection = await connect(new_store._writers[0]._url, 5.0)
        connection.add_query_logger(lambda record: asked.append("typeinfo" in record.query))
        await connection.fetch("SELECT * FROM unnest($1::smallint[], $2::time[])", [1], [None])
        await connection.close()
    assert asked.count(True) == 1


@contextlib.asynccontextmanager
async def stuck(
    store: PostgresStore, jobs: Sequence[NewJob]
) -> AsyncIterator[tuple["asyncio.Future[None]", asyncpg.Connection]]:
    """A submit that waits for the lock of positions, until the end of the block."""
    other = await asyncpg.connect(store._writers[0]._url)
    try:
        await other.execute("SELECT pg_advisory_lock($1)", POSITIONS_LOCK)
        future = asyncio.ensure_future(insert(store, *jobs))
        while not await other.fetchval(f"SELECT count(*) FROM pg_stat_activity WHERE {WAITS}"):
            pass
        yield future, other
    finally:
        await other.close()


async def sizes(connection: asyncpg.Connection) -> dict[str, int]:
    return {
        table: await connection.fetchval("SELECT pg_relation_size($1::regclass)", table)
        for table in ("jobs", "job_specs", "events")
    }
