"""Reads, each of one instant. The functions take a connection; `Readers` gives them one."""

import asyncio
import contextlib
import dataclasses
import datetime as dt
import functools
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import asyncpg

from jobservice.clock import from_us, to_us
from jobservice.errors import JobServiceError, ResumeTokenExpired, StoreBusy, StoreUnavailable
from jobservice.model.attempt import Fence
from jobservice.model.job import AttemptState, Job
from jobservice.model.lifecycle import State
from jobservice.model.limit import KeyRule, Limit, LimitKind, Use
from jobservice.model.operation import Operation, Place
from jobservice.model.queue import Queue
from jobservice.model.spec import JobSpec
from jobservice.store.lead_port import Held
from jobservice.store.lists import Dialect, List, Targets, list_of, targets_of
from jobservice.store.operation_port import OperationKey
from jobservice.store.operation_rows import operation_of
from jobservice.store.port import (
    COUNTED_DEPTH,
    FLOW_EVENTS,
    FLOW_WINDOW,
    ChangePage,
    Deletable,
    Holder,
    JobKey,
    JobPage,
    JobQuery,
    LiveAttempt,
    QueueCounts,
    TargetPage,
)
from jobservice.store.postgres.connect import (
    STATEMENT_PART,
    Connection,
    in_transaction,
    is_away,
    refusal,
    settings,
)
from jobservice.store.postgres.queries import QUERIES
from jobservice.store.rows import (
    RESTORED_LEASE_US,
    attempt_of,
    change_of,
    instant_or_none,
    job_of,
    keys_of,
    live_attempt_of,
    parse_json,
    submitted_of,
    use_of,
)
from jobservice.store.rule_rows import limit_of, queue_of, rule_of

CONNECTIONS = 4
"""How many reads run at the same time."""

_P = ParamSpec("_P")
_T = TypeVar("_T")
Read = Callable[Concatenate[Connection, _P], Awaitable[_T]]


class Readers:
    """The connections for reading."""

    def __init__(self, url: str, *, deadline_s: float) -> None:
        self._url = url
        self._deadline_s = deadline_s
        self._statement_s = deadline_s * STATEMENT_PART
        self._first = in_transaction(url, self._statement_s)
        self._pool: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()
        self._closed = False

    async def run(self, read: "Read[_P, _T]", *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Read; once more, over a new connection, where the old one turns out to be dead.

        Raises:
            StoreUnavailable: the database cannot be read now.
        """
        if self._closed:
            raise StoreUnavailable("The store is closed.")
        try:
            async with asyncio.timeout(self._deadline_s):
                try:
                    return await self._once(read, *args, **kwargs)
                except Exception as error:
                    if isinstance(error, TimeoutError) or not is_away(error):
                        raise
                    if self._pool is not None:
                        await self._pool.expire_connections()
                    return await self._once(read, *args, **kwargs)
        except JobServiceError:
            raise
        except TimeoutError:
            raise StoreBusy("The database is too slow now; the read was given up.") from None
        except Exception as error:
            if is_away(error) or isinstance(error, asyncpg.PostgresError):
                raise refusal(error) from error
            raise

    async def _once(self, read: "Read[_P, _T]", *args: _P.args, **kwargs: _P.kwargs) -> _T:
        pool = await self._opened()
        async with pool.acquire() as connection:
            if not self._first:
                return await read(connection, *args, **kwargs)
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                await connection.execute(self._first)
                return await read(connection, *args, **kwargs)

    async def _opened(self) -> asyncpg.Pool:
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    min_size=0,
                    max_size=CONNECTIONS,
                    reset=_keep if self._first else None,
                    **settings(self._url, self._statement_s),
                )
            return self._pool

    async def close(self) -> None:
        """Let running reads end, and let go of the database."""
        self._closed = True
        if self._pool is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._deadline_s):
                    await self._pool.close()


async def _keep(_: Connection) -> None:
    """Nothing of a session is to be reset where none was set."""


# --- jobs -------------------------------------------------------------------------------------


async def find_job(connection: Connection, key: JobKey) -> Job | None:
    """One job in full, with its attempts."""
    row = await connection.fetchrow(QUERIES["find_job"].text, key.tenant, key.job_id)
    if row is None:
        return None
    *columns, worker_id, claimed_us, started_us, dependencies, ended = row
    attempts = [attempt_of(attempt) for attempt in parse_json(ended)]
    job = job_of(columns, attempts, dependencies)
    if worker_id is not None:
        live = live_attempt_of(job.attempt_count, worker_id, claimed_us, started_us)
        return dataclasses.replace(job, attempts=(*attempts, live))
    return job


async def find_jobs(
    connection: Connection, keys: Sequence[JobKey], name: str = "find_jobs"
) -> list[Job | None]:
    """Jobs without their attempts, in the order asked; `find_jobs_basic` leaves out more."""
    rows = await _rows_of(connection, name, keys)
    if name == "find_jobs_basic":
        found = {(row[0], row[1]): job_of(tuple(row)) for row in rows}
    else:
        found = {(row[0], row[1]): job_of(tuple(row)[:-1], (), row[-1]) for row in rows}
    return [found.get((key.tenant, key.job_id)) for key in keys]


async def find_submitted(connection: Connection, keys: Sequence[JobKey]) -> list[JobSpec | None]:
    """What was submitted, in the order asked."""
    found: dict[tuple[str, str], JobSpec] = {}
    for tenant, job_id, *row in await _rows_of(connection, "find_submitted", keys):
        found[tenant, job_id] = submitted_of(row)
    return [found.get((key.tenant, key.job_id)) for key in keys]


async def _rows_of(
    connection: Connection, name: str, keys: Sequence[JobKey]
) -> Sequence[asyncpg.Record]:
    tenants, job_ids = [key.tenant for key in keys], [key.job_id for key in keys]
    rows: Sequence[asyncpg.Record] = await connection.fetch(QUERIES[name].text, tenants, job_ids)
    return rows


async def list_live(connection: Connection, worker_id: str) -> list[LiveAttempt]:
    """What a worker holds leases on."""
    rows = await connection.fetch(QUERIES["list_live"].text, worker_id)
    return [_live_attempt(*row) for row in rows]


def _live_attempt(
    tenant: str,
    job_id: str,
    attempt: int,
    epoch: int,
    worker_id: str,
    state: int,
    started_us: int | None,
    until_us: int,
) -> LiveAttempt:
    attempt_state = AttemptState.STARTING if started_us is None else AttemptState.RUNNING
    fence = Fence(tenant, job_id, attempt, epoch)
    started_at, is_restored = instant_or_none(started_us), until_us == RESTORED_LEASE_US
    return LiveAttempt(fence, worker_id, attempt_state, State(state), started_at, is_restored)


async def queue_position(connection: Connection, key: JobKey, limit: int) -> int | None:
    """How many queued jobs come before this one, up to `limit`."""
    text = QUERIES["queue_position"].text
    found: int | None = await connection.fetchval(text, limit, key.tenant, key.job_id)
    return found


async def list_held_open(connection: Connection, older_s: float) -> list[Held]:
    """What keeps the database from cleaning up."""
    rows = await connection.fetch(QUERIES["list_held_open"].text, older_s)
    return [
        Held(kind, name, application, user, state, age_s and dt.timedelta(seconds=age_s))
        for kind, name, application, user, state, age_s in rows
    ]


async def list_deletable(
    connection: Connection, after: JobKey | None, limit: int
) -> list[Deletable]:
    """Final jobs whose deletion was asked for, behind one of them."""
    begin = (after.tenant, after.job_id) if after is not None else ("", "")
    rows = await connection.fetch(QUERIES["list_deletable"].text, *begin, limit)
    return [Deletable(JobKey(tenant, job_id), attempts) for tenant, job_id, attempts in rows]


async def next_due(connection: Connection) -> dt.datetime | None:
    """The earliest start of a SCHEDULED job."""
    start_us = await connection.fetchval(QUERIES["next_due"].text)
    return None if start_us is None else from_us(start_us)


async def next_resume(connection: Connection, after: dt.datetime) -> dt.datetime | None:
    """The earliest end of a queue's pause behind an instant."""
    return instant_or_none(await connection.fetchval(QUERIES["next_resume"].text, to_us(after)))


async def next_time_out(connection: Connection) -> dt.datetime | None:
    """When the time of a job is over next."""
    return instant_or_none(await connection.fetchval(QUERIES["next_time_out"].text))


async def next_lease_end(connection: Connection) -> dt.datetime | None:
    """The earliest end of a lease."""
    end_us = await connection.fetchval(QUERIES["next_lease_end"].text)
    return None if end_us is None else from_us(end_us)


# --- queues and limits ------------------------------------------------------------------------


async def find_queue(connection: Connection, tenant: str, name: str) -> Queue | None:
    """The rules of a queue."""
    row = await connection.fetchrow(QUERIES["find_queue"].text, tenant, name)
    return None if row is None else queue_of(row)


async def list_queues(connection: Connection, tenant: str, limit: int, after: str) -> list[Queue]:
    """Queues by name."""
    rows = await connection.fetch(QUERIES["list_queues"].text, tenant, after, limit)
    return [queue_of(row) for row in rows]


async def queue_counts(
    connection: Connection, tenant: str, name: str, now: dt.datetime
) -> QueueCounts:
    """How full a queue is, and how it moves."""
    query, since_us = QUERIES["queue_counts"].text, to_us(now - FLOW_WINDOW)
    [(depth, oldest_us, running)] = await connection.fetch(query, tenant, name, COUNTED_DEPTH)
    [flow] = await connection.fetch(QUERIES["queue_flow"].text, tenant, name, FLOW_EVENTS, since_us)
    return QueueCounts(depth, instant_or_none(oldest_us), running, *flow)


async def list_limits(
    connection: Connection, tenant: str, limit: int, after: tuple[str, int, str]
) -> list[Limit]:
    """Limits of a tenant and of the service."""
    rows = await connection.fetch(QUERIES["list_limits"].text, tenant, *after, limit)
    return [limit_of(row) for row in rows]


async def list_held(connection: Connection, tenant: str, limit: int) -> list[Holder]:
    """What each live lease of a tenant holds."""
    rows = await connection.fetch(QUERIES["list_held"].text, tenant, limit)
    return [Holder(job_id, queue, keys_of(keys)) for job_id, queue, keys in rows]


async def find_limit(
    connection: Connection, tenant: str, kind: LimitKind, name: str
) -> Limit | None:
    """A limit that was set."""
    row = await connection.fetchrow(QUERIES["find_limit"].text, tenant, int(kind), name)
    return None if row is None else limit_of(row)


async def list_use(connection: Connection) -> Use:
    """What the live leases of all tenants hold."""
    return use_of(held for *held, _ in await connection.fetch(QUERIES["find_held"].text, 0))


async def find_rules(
    connection: Connection, tenant: str, keys: Sequence[str]
) -> dict[str, KeyRule]:
    """The limits on keys, where there are any."""
    count = len(keys)
    arrays = list(range(count)), [tenant] * count, [int(LimitKind.KEY)] * count, list(keys)
    rows = await connection.fetch(QUERIES["find_rules"].text, *arrays)
    return {keys[n]: rule_of(rule) for n, *rule in map(tuple, rows)}


async def list_parked_keys(
    connection: Connection, tenant: str, limit: int, after: str
) -> list[str]:
    """Keys that jobs of a tenant are parked for."""
    rows = await connection.fetch(QUERIES["find_parked_keys"].text, tenant, after, limit)
    return [key for owner, key in rows if owner == tenant]


async def count_parked(connection: Connection, tenant: str, keys: Sequence[str]) -> list[int]:
    """How many jobs wait for each key."""
    arrays = list(range(len(keys))), [tenant] * len(keys), list(keys)
    rows = await connection.fetch(QUERIES["count_parked"].text, *arrays)
    return [count for _, count in sorted(tuple(row) for row in rows)]


# --- lists ------------------------------------------------------------------------------------

LISTS = Dialect(
    QUERIES,
    labelled=" AND jobs.labels @> jsonb_build_object(:key{n}::text, :value{n}::text)",
    label='((jobs.labels ->> {key}) COLLATE "C")',
    sorts=True,
)
_NAMED = re.compile(r"(?<!:):([a-z]\w*)")


async def list_jobs(
    connection: Connection, query: JobQuery, limit: int, cursor: str | None
) -> JobPage:
    """A page of a query.

    Raises:
        PageTokenInvalid: the cursor is not one of this query.
    """
    found = list_of(LISTS, query, limit, cursor)
    if found is None:
        return JobPage((), None)
    return found.answer(*await _walk(connection, found))


async def find_targets(
    connection: Connection, query: JobQuery, behind: Place | None, limit: int
) -> TargetPage:
    """The next jobs of a query, by their keys."""
    found = targets_of(LISTS, query, behind, limit)
    return TargetPage((), None) if found is None else found.answer(*await _walk(connection, found))


async def _walk(
    connection: Connection, found: List | Targets
) -> tuple[list[Any], Sequence[Any] | None]:
    """What both statements of a page answer, in the same instant."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        rows = await connection.fetch(*_positional(found.page, found.values))
        end = None
        if not found.is_full(rows):
            end = await connection.fetchrow(*_positional(found.end, found.values))
    return [tuple(row) for row in rows], end


def _positional(sql: str, values: Mapping[str, Any]) -> list[Any]:
    """A statement with `$1` for the first name, and the values in that order."""
    text, names = _numbered(sql)
    return [text, *(values[name] for name in names)]


@functools.lru_cache(maxsize=512)
def _numbered(sql: str) -> tuple[str, tuple[str, ...]]:
    names = tuple(dict.fromkeys(_NAMED.findall(sql)))
    return _NAMED.sub(lambda name: f"${names.index(name[1]) + 1}", sql), names


# --- operations -------------------------------------------------------------------------------


async def find_operation(connection: Connection, key: OperationKey) -> Operation | None:
    """One operation."""
    text = QUERIES["find_operation"].text
    row = await connection.fetchrow(text, key.tenant, key.operation_id)
    return None if row is None else operation_of(tuple(row))


async def list_operations(
    connection: Connection, tenant: str, behind: str, limit: int
) -> list[Operation]:
    """Operations of a tenant, newest first."""
    rows = await connection.fetch(QUERIES["list_operations"].text, tenant, behind, limit)
    return [operation_of(tuple(row)) for row in rows]


async def list_running(connection: Connection, limit: int) -> list[Operation]:
    """Operations that go on."""
    rows = await connection.fetch(QUERIES["list_running"].text, limit)
    return [operation_of(tuple(row)) for row in rows]


# --- changes ----------------------------------------------------------------------------------


async def head_position(connection: Connection) -> int:
    """The position of the newest change."""
    position: int = await connection.fetchval(QUERIES["head_position"].text)
    return position


async def list_changes(connection: Connection, after: int, token: str, limit: int) -> ChangePage:
    """Changes behind a position.

    What was dropped is looked up after the changes were read: what is dropped in between was read.

    Raises:
        ResumeTokenExpired: some of them were dropped, or nothing was ever at that position.
    """
    rows = await connection.fetch(QUERIES["list_changes"].text, after, limit)
    forgotten = await connection.fetchval(QUERIES["forgotten_position"].text)
    unknown = not rows and after > await head_position(connection)
    if after < forgotten or unknown:
        raise ResumeTokenExpired
    changes = tuple(change_of(tuple(row)) for row in rows)
    return ChangePage(changes, changes[-1].position if changes else token)
