"""Reads: each is one statement, so it is of one instant, on a connection that cannot write."""

import asyncio
import concurrent.futures
import dataclasses
import datetime as dt
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import apsw

from jobservice.clock import from_us, to_us
from jobservice.errors import (
    Internal,
    JobServiceError,
    ResumeTokenExpired,
    StoreBusy,
    StoreUnavailable,
)
from jobservice.model.attempt import Fence
from jobservice.model.job import AttemptState, Job
from jobservice.model.lifecycle import State
from jobservice.model.limit import KeyRule, Limit, LimitKind, Use
from jobservice.model.operation import Operation, Place
from jobservice.model.queue import Queue
from jobservice.model.spec import JobSpec
from jobservice.store.lists import WALK, Dialect, List, Targets, list_of, targets_of
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
from jobservice.store.sqlite.connect import DATABASE_ERRORS, ROWS_A_STATEMENT, open_reader
from jobservice.store.sqlite.queries import QUERIES

THREADS = 2
"""How many long reads run at the same time."""

_P = ParamSpec("_P")
_T = TypeVar("_T")
Read = Callable[Concatenate[apsw.Connection, _P], _T]


class Readers:
    """The connections for reading. All methods belong to the event loop.

    A read by key takes 5 to 30 µs, a twentieth of a hop to another thread and back, and is done in
    the loop's own thread (`here`). Whatever grows with the data is done in a thread (`away`), with a
    deadline after which it is interrupted.
    """

    def __init__(self, path: Path, *, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._here = open_reader(path)
        self._all = [open_reader(path) for _ in range(THREADS)]
        self._free: queue.SimpleQueue[apsw.Connection] = queue.SimpleQueue()
        for connection in self._all:
            self._free.put(connection)
        self._pool = concurrent.futures.ThreadPoolExecutor(THREADS, "store-reader")
        self._closed = False

    def here(self, read: "Read[_P, _T]", *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Read in this thread."""
        if self._closed:
            raise StoreUnavailable("The store is closed.")
        try:
            return read(self._here, *args, **kwargs)
        except apsw.Error as error:
            raise _unreadable(error) from error

    async def away(self, read: "Read[_P, _T]", *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Read in another thread."""
        if self._closed:
            raise StoreUnavailable("The store is closed.")
        turn = _Turn(self._free)
        loop = asyncio.get_running_loop()
        done = loop.run_in_executor(self._pool, lambda: turn.run(read, *args, **kwargs))
        try:
            async with asyncio.timeout(self._deadline_s):
                return await done
        except TimeoutError:
            raise StoreBusy("The database is too slow now; the read was given up.") from None
        except apsw.Error as error:
            raise _unreadable(error) from error
        finally:
            turn.interrupt()

    async def close(self) -> None:
        """Let running reads end, and let go of the file."""
        self._closed = True
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._pool.shutdown)
        for connection in (self._here, *self._all):
            connection.close(True)


class _Turn:
    """One use of a free connection by a thread."""

    def __init__(self, free: "queue.SimpleQueue[apsw.Connection]") -> None:
        self._free = free
        self._lock = threading.Lock()
        self._connection: apsw.Connection | None = None
        self._given_up = False

    def run(self, read: "Read[_P, _T]", *args: _P.args, **kwargs: _P.kwargs) -> _T:
        connection = self._free.get()
        try:
            with self._lock:
                if self._given_up:
                    raise apsw.InterruptError
                self._connection = connection
            return read(connection, *args, **kwargs)
        finally:
            with self._lock:
                self._connection = None
            self._free.put(connection)

    def interrupt(self) -> None:
        """End the read if it still runs, or never begin it."""
        with self._lock:
            self._given_up = True
            if self._connection is not None:
                self._connection.interrupt()


def _unreadable(error: apsw.Error) -> JobServiceError:
    if isinstance(error, DATABASE_ERRORS):
        return StoreUnavailable(f"The database cannot be read: {error}.")
    return Internal(f"A statement of the store failed: {error}.")


# --- jobs -------------------------------------------------------------------------------------


def find_job(connection: apsw.Connection, key: JobKey) -> Job | None:
    """One job in full, with its attempts."""
    row = connection.execute(QUERIES["find_job"].text, (key.tenant, key.job_id)).get
    if row is None:
        return None
    *columns, worker_id, claimed_us, started_us, dependencies, ended = row
    attempts = [attempt_of(attempt) for attempt in parse_json(ended)]
    job = job_of(columns, attempts, dependencies)
    if worker_id is not None:
        live = live_attempt_of(job.attempt_count, worker_id, claimed_us, started_us)
        return dataclasses.replace(job, attempts=(*attempts, live))
    return job


def find_jobs(
    connection: apsw.Connection, keys: Sequence[JobKey], name: str = "find_jobs"
) -> list[Job | None]:
    """Jobs without their attempts, in the order asked; `find_jobs_basic` leaves out more."""
    rows = _rows_of(connection, name, keys)
    if name == "find_jobs_basic":
        found = {(row[0], row[1]): job_of(row) for row in rows}
    else:
        found = {(row[0], row[1]): job_of(row[:-1], (), row[-1]) for row in rows}
    return [found.get((key.tenant, key.job_id)) for key in keys]


def find_submitted(connection: apsw.Connection, keys: Sequence[JobKey]) -> list[JobSpec | None]:
    """What was submitted, in the order asked."""
    found: dict[tuple[str, str], JobSpec] = {}
    for tenant, job_id, *row in _rows_of(connection, "find_submitted", keys):
        found[tenant, job_id] = submitted_of(row)
    return [found.get((key.tenant, key.job_id)) for key in keys]


def _rows_of(
    connection: apsw.Connection, name: str, keys: Sequence[JobKey]
) -> Iterator[Sequence[Any]]:
    """The rows of a query about given jobs."""
    for begin in range(0, len(keys), ROWS_A_STATEMENT):
        chunk = keys[begin : begin + ROWS_A_STATEMENT]
        values = [value for key in chunk for value in (key.tenant, key.job_id)]
        yield from connection.execute(QUERIES[name].for_rows(len(chunk)), values)


def list_live(connection: apsw.Connection, worker_id: str) -> list[LiveAttempt]:
    """What a worker holds leases on."""
    rows = connection.execute(QUERIES["list_live"].text, (worker_id,))
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


def queue_position(connection: apsw.Connection, key: JobKey, limit: int) -> int | None:
    """How many queued jobs come before this one, up to `limit`."""
    values = limit, key.tenant, key.job_id
    found: int | None = connection.execute(QUERIES["queue_position"].text, values).get
    return found


def list_deletable(
    connection: apsw.Connection, after: JobKey | None, limit: int
) -> list[Deletable]:
    """Final jobs whose deletion was asked for, behind one of them."""
    begin = (after.tenant, after.job_id) if after is not None else ("", "")
    rows = connection.execute(QUERIES["list_deletable"].text, (*begin, limit))
    return [Deletable(JobKey(tenant, job_id), attempts) for tenant, job_id, attempts in rows]


def next_due(connection: apsw.Connection) -> dt.datetime | None:
    """The earliest start of a SCHEDULED job."""
    start_us = connection.execute(QUERIES["next_due"].text).get
    return None if start_us is None else from_us(start_us)


def next_resume(connection: apsw.Connection, after: dt.datetime) -> dt.datetime | None:
    """The earliest end of a queue's pause behind an instant."""
    return instant_or_none(connection.execute(QUERIES["next_resume"].text, (to_us(after),)).get)


def next_time_out(connection: apsw.Connection) -> dt.datetime | None:
    """When the time of a job is over next."""
    return instant_or_none(connection.execute(QUERIES["next_time_out"].text).get)


def next_lease_end(connection: apsw.Connection) -> dt.datetime | None:
    """The earliest end of a lease."""
    end_us = connection.execute(QUERIES["next_lease_end"].text).get
    return None if end_us is None else from_us(end_us)


# --- queues and limits ------------------------------------------------------------------------


def find_queue(connection: apsw.Connection, tenant: str, name: str) -> Queue | None:
    """The rules of a queue."""
    found = parse_json(connection.execute(QUERIES["find_queue"].text, (tenant, name)).get)
    return queue_of(found[0]) if found else None


def list_queues(connection: apsw.Connection, tenant: str, limit: int, after: str) -> list[Queue]:
    """Queues by name."""
    rows = connection.execute(QUERIES["list_queues"].text, (tenant, after, limit))
    return [queue_of(row) for row in rows]


def queue_counts(
    connection: apsw.Connection, tenant: str, name: str, now: dt.datetime
) -> QueueCounts:
    """How full a queue is, and how it moves."""
    counts = connection.execute(QUERIES["queue_counts"].text, (tenant, name, COUNTED_DEPTH)).get
    since_us = to_us(now - FLOW_WINDOW)
    flow = connection.execute(QUERIES["queue_flow"].text, (tenant, name, FLOW_EVENTS, since_us)).get
    depth, oldest_us, running = counts
    return QueueCounts(depth, instant_or_none(oldest_us), running, *flow)


def list_limits(
    connection: apsw.Connection, tenant: str, limit: int, after: tuple[str, int, str]
) -> list[Limit]:
    """Limits of a tenant and of the service."""
    rows = connection.execute(QUERIES["list_limits"].text, (tenant, *after, limit))
    return [limit_of(row) for row in rows]


def list_held(connection: apsw.Connection, tenant: str, limit: int) -> list[Holder]:
    """What each live lease of a tenant holds."""
    rows = connection.execute(QUERIES["list_held"].text, (tenant, limit))
    return [Holder(job_id, queue, keys_of(keys)) for job_id, queue, keys in rows]


def find_limit(
    connection: apsw.Connection, tenant: str, kind: LimitKind, name: str
) -> Limit | None:
    """A limit that was set."""
    row = connection.execute(QUERIES["find_limit"].text, (tenant, kind, name)).fetchone()
    return None if row is None else limit_of(row)


def list_use(connection: apsw.Connection) -> Use:
    """What the live leases of all tenants hold."""
    return use_of(parse_json(connection.execute(QUERIES["find_held"].text).get))


def find_rules(connection: apsw.Connection, tenant: str, keys: Sequence[str]) -> dict[str, KeyRule]:
    """The limits on keys, where there are any."""
    found: dict[str, KeyRule] = {}
    for begin in range(0, len(keys), ROWS_A_STATEMENT):
        chunk = keys[begin : begin + ROWS_A_STATEMENT]
        values = [v for n, key in enumerate(chunk, begin) for v in (n, tenant, LimitKind.KEY, key)]
        rows = connection.execute(QUERIES["find_rules"].for_rows(len(chunk)), values).get
        found |= {keys[n]: rule_of(rule) for n, *rule in parse_json(rows)}
    return found


def list_parked_keys(connection: apsw.Connection, tenant: str, limit: int, after: str) -> list[str]:
    """Keys that jobs of a tenant are parked for."""
    rows = connection.execute(QUERIES["find_parked_keys"].text, (tenant, after, limit)).get
    return [key for owner, key in parse_json(rows) if owner == tenant]


def count_parked(connection: apsw.Connection, tenant: str, keys: Sequence[str]) -> list[int]:
    """How many jobs wait for each key."""
    counts = [0] * len(keys)
    for begin in range(0, len(keys), ROWS_A_STATEMENT):
        chunk = keys[begin : begin + ROWS_A_STATEMENT]
        values = [v for n, key in enumerate(chunk, begin) for v in (n, tenant, key)]
        for n, count in connection.execute(QUERIES["count_parked"].for_rows(len(chunk)), values):
            counts[n] = count
    return counts


# --- lists ------------------------------------------------------------------------------------

LISTS = Dialect(
    QUERIES,
    labelled=" AND EXISTS (SELECT 1 FROM json_each(jobs.labels) AS label"
    " WHERE label.key = :key{n} AND label.value = :value{n})",
    label="(SELECT label.value FROM json_each(jobs.labels) AS label WHERE label.key = {key})",
    sorts=False,
)


def list_jobs(
    connection: apsw.Connection, query: JobQuery, limit: int, cursor: str | None, walk: int = WALK
) -> JobPage:
    """A page of a query.

    Raises:
        PageTokenInvalid: the cursor is not one of this query.
    """
    found = list_of(LISTS, query, limit, cursor, walk)
    if found is None:
        return JobPage((), None)
    return found.answer(*_walk(connection, found))


def find_targets(
    connection: apsw.Connection, query: JobQuery, behind: Place | None, limit: int
) -> TargetPage:
    """The next jobs of a query, by their keys."""
    found = targets_of(LISTS, query, behind, limit)
    return TargetPage((), None) if found is None else found.answer(*_walk(connection, found))


def _walk(
    connection: apsw.Connection, found: List | Targets
) -> tuple[list[Any], Sequence[Any] | None]:
    """What both statements of a page answer, in the same instant."""
    connection.execute("BEGIN")
    try:
        rows = connection.execute(found.page, found.values).fetchall()
        end = None if found.is_full(rows) else connection.execute(found.end, found.values).get
    finally:
        connection.execute("COMMIT")
    return rows, end


# --- operations -------------------------------------------------------------------------------


def find_operation(connection: apsw.Connection, key: OperationKey) -> Operation | None:
    """One operation."""
    row = connection.execute(QUERIES["find_operation"].text, (key.tenant, key.operation_id)).get
    return None if row is None else operation_of(row)


def list_operations(
    connection: apsw.Connection, tenant: str, behind: str, limit: int
) -> list[Operation]:
    """Operations of a tenant, newest first."""
    rows = connection.execute(QUERIES["list_operations"].text, (tenant, behind, limit))
    return [operation_of(row) for row in rows]


def list_running(connection: apsw.Connection, limit: int) -> list[Operation]:
    """Operations that go on."""
    return [operation_of(row) for row in connection.execute(QUERIES["list_running"].text, (limit,))]


# --- changes ----------------------------------------------------------------------------------


def head_position(connection: apsw.Connection) -> int:
    """The position of the newest change."""
    position: int = connection.execute(QUERIES["head_position"].text).get
    return position


def list_changes(connection: apsw.Connection, after: int, token: str, limit: int) -> ChangePage:
    """Changes behind a position.

    Raises:
        ResumeTokenExpired: some of them were dropped, or nothing was ever at that position.
    """
    values = {"after": after, "limit": limit}
    connection.execute("BEGIN")
    try:
        rows = connection.execute(QUERIES["list_changes"].text, values).fetchall()
        forgotten = connection.execute(QUERIES["forgotten_position"].text).get
        unknown = not rows and after > head_position(connection)
    finally:
        connection.execute("COMMIT")
    if after < forgotten or unknown:
        raise ResumeTokenExpired
    changes = tuple(change_of(row) for row in rows)
    return ChangePage(changes, changes[-1].position if changes else token)
