"""The SQLite store: the port's verbs over one writer and a few readers of one file."""

import asyncio
import datetime as dt
from collections.abc import Callable, Sequence
from pathlib import Path

from jobservice.errors import ResumeTokenExpired
from jobservice.model.job import Job
from jobservice.model.limit import KeyRule, Limit, LimitKind, Use
from jobservice.model.operation import Operation, Place
from jobservice.model.output import Piece, Stream
from jobservice.model.queue import Queue
from jobservice.model.schedule import Schedule
from jobservice.model.spec import JobSpec
from jobservice.model.worker import Placement, Worker
from jobservice.store import port
from jobservice.store.lead_port import Lead
from jobservice.store.operation_port import OperationKey, OperationPage
from jobservice.store.operation_rows import BEHIND_ALL
from jobservice.store.rows import position_of, position_token
from jobservice.store.schedule_port import RunPage, ScheduleKey, SchedulePage
from jobservice.store.sqlite import reads, schedule_reads, worker_reads
from jobservice.store.sqlite.connect import open_reader
from jobservice.store.sqlite.migrate import upgrade
from jobservice.store.sqlite.reads import Readers
from jobservice.store.sqlite.writer import Writer
from jobservice.store.verbs.writing import WritingStore

WAITING_LIMIT = 10_000
"""How many writing calls may wait for their commit."""
DEADLINE_S = 4.0
"""How long a call waits for the database at most."""
FEW = 8
"""Up to so many jobs are read in the loop's own thread."""
FEW_CHANGES = 16
"""Up to so many changes, too: they take 0.2 ms, and a hop to another thread 0.25 ms."""


class SqliteStore(WritingStore[Writer]):
    """Jobs in one SQLite file. One process at a time may have it open: the server's lock sees to it.

    Raises, besides what the port says: `LimitExceeded` when more than `waiting_limit` calls wait,
    `DeadlineExceeded` when a commit has begun and does not end in time.
    """

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = self._urgent = self._inserter = writer
        self._readers = readers

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        waiting_limit: int = WAITING_LIMIT,
        deadline_s: float = DEADLINE_S,
        open_writer: Callable[..., Writer] = Writer,
    ) -> "SqliteStore":
        """Open a file, made if need be, with its schema brought up to date.

        Raises:
            SetupError: the file cannot be opened, or its schema is newer than this program.
        """
        upgrade(path)
        connection = open_reader(path)
        head = reads.head_position(connection)
        connection.close()
        writer = open_writer(
            path,
            head,
            waiting_limit=waiting_limit,
            deadline_s=deadline_s,
        )
        return cls(writer, Readers(path, deadline_s=deadline_s))

    # the lead: of one server

    async def take_lead(self, server: str, epoch: int, *, lease: dt.timedelta) -> Lead:
        del epoch, lease
        return Lead(server, 1, for_ever=True)

    async def leave_lead(self, lead: Lead) -> None:
        del lead

    def on_left(self, callback: Callable[[], None]) -> None:
        del callback

    async def list_held_open(self, *, older: dt.timedelta) -> None:
        del older  # nobody else has the file open

    def led(self, lead: Lead) -> port.Store:
        del lead
        return self

    # files that are left with other servers: there are none

    async def list_left_files(
        self, worker_id: str, *, after: str, limit: int
    ) -> list[tuple[str, int]]:
        del worker_id, after, limit
        return []

    async def forget_left_files(self, worker_id: str, job_ids: Sequence[str]) -> None:
        del worker_id, job_ids

    # reads

    async def list_live(self, worker_id: str) -> list[port.LiveAttempt]:
        return await self._readers.away(reads.list_live, worker_id)

    async def list_deletable(
        self, *, limit: int, after: port.JobKey | None = None
    ) -> list[port.Deletable]:
        return await self._readers.away(reads.list_deletable, after, limit)

    async def find_job(self, key: port.JobKey) -> Job | None:
        return self._readers.here(reads.find_job, key)

    async def find_jobs(self, keys: Sequence[port.JobKey]) -> list[Job | None]:
        if len(keys) <= FEW:
            return self._readers.here(reads.find_jobs, keys)
        return await self._readers.away(reads.find_jobs, keys)

    async def find_submitted(self, keys: Sequence[port.JobKey]) -> list[JobSpec | None]:
        return await self._readers.away(reads.find_submitted, keys)

    async def list_jobs(
        self, query: port.JobQuery, *, limit: int, cursor: str | None
    ) -> port.JobPage:
        return await self._readers.away(reads.list_jobs, query, limit, cursor)

    async def find_operation(self, key: OperationKey) -> Operation | None:
        return self._readers.here(reads.find_operation, key)

    async def list_operations(
        self, tenant: str, *, behind: str | None, limit: int
    ) -> OperationPage:
        begin = behind or BEHIND_ALL
        found = self._readers.here(reads.list_operations, tenant, begin, limit + 1)
        more = found[limit - 1].operation_id if len(found) > limit else None
        return OperationPage(tuple(found[:limit]), more)

    async def list_running_operations(self, *, limit: int) -> list[Operation]:
        return self._readers.here(reads.list_running, limit)

    async def find_targets(
        self, query: port.JobQuery, *, behind: Place | None, limit: int
    ) -> port.TargetPage:
        return await self._readers.away(reads.find_targets, query, behind, limit)

    async def queue_position(self, key: port.JobKey, *, limit: int) -> int | None:
        return await self._readers.away(reads.queue_position, key, limit)

    async def find_queue(self, tenant: str, name: str) -> Queue | None:
        return self._readers.here(reads.find_queue, tenant, name)

    async def list_queues(self, tenant: str, *, limit: int, after: str) -> list[Queue]:
        return await self._readers.away(reads.list_queues, tenant, limit, after)

    async def queue_counts(self, tenant: str, name: str, *, now: dt.datetime) -> port.QueueCounts:
        return await self._readers.away(reads.queue_counts, tenant, name, now)

    async def list_limits(
        self, tenant: str, *, limit: int, after: tuple[str, int, str]
    ) -> list[Limit]:
        return await self._readers.away(reads.list_limits, tenant, limit, after)

    async def list_held(self, tenant: str, *, limit: int) -> list[port.Holder]:
        return await self._readers.away(reads.list_held, tenant, limit)

    async def find_limit(self, tenant: str, kind: LimitKind, name: str) -> Limit | None:
        return await self._readers.away(reads.find_limit, tenant, kind, name)

    async def list_use(self) -> Use:
        return await self._readers.away(reads.list_use)

    async def find_rules(self, tenant: str, keys: Sequence[str]) -> dict[str, KeyRule]:
        return await self._readers.away(reads.find_rules, tenant, keys)

    async def list_parked_keys(self, tenant: str, *, limit: int, after: str) -> list[str]:
        return await self._readers.away(reads.list_parked_keys, tenant, limit, after)

    async def count_parked(self, tenant: str, keys: Sequence[str]) -> list[int]:
        return await self._readers.away(reads.count_parked, tenant, keys)

    async def next_due_at(self) -> dt.datetime | None:
        return self._readers.here(reads.next_due)

    async def next_resume_at(self, after: dt.datetime) -> dt.datetime | None:
        return self._readers.here(reads.next_resume, after)

    async def next_time_out_at(self) -> dt.datetime | None:
        return self._readers.here(reads.next_time_out)

    async def next_lease_end_at(self) -> dt.datetime | None:
        return self._readers.here(reads.next_lease_end)

    async def find_schedule(self, key: ScheduleKey) -> Schedule | None:
        return self._readers.here(schedule_reads.find_schedule, key)

    async def list_schedules(self, tenant: str, *, limit: int, cursor: str | None) -> SchedulePage:
        return await self._readers.away(schedule_reads.list_schedules, tenant, limit, cursor)

    async def list_all_schedules(self, after: tuple[str, str], *, limit: int) -> list[Schedule]:
        return await self._readers.away(schedule_reads.list_all_schedules, after, limit)

    async def list_schedule_runs(
        self, key: ScheduleKey, *, limit: int, cursor: str | None
    ) -> RunPage:
        return await self._readers.away(schedule_reads.list_runs, key, limit, cursor)

    async def next_look_at(self) -> dt.datetime | None:
        return self._readers.here(schedule_reads.next_look)

    async def find_worker(self, worker_id: str) -> Worker | None:
        return await self._readers.away(worker_reads.find_worker, worker_id)

    async def list_taken(self, worker_id: str) -> list[tuple[Placement, int]]:
        return await self._readers.away(worker_reads.list_taken, worker_id)

    async def read_log(
        self, tenant: str, job_id: str, attempt: int, stream: Stream, offset: int
    ) -> Piece:
        return self._readers.here(worker_reads.read_log, tenant, job_id, attempt, stream, offset)

    async def list_workers(self, *, limit: int, after: str) -> list[Worker]:
        return await self._readers.away(worker_reads.list_workers, limit, after)

    async def head_position(self) -> str:
        return position_token(self._writer.position)

    async def list_changes(self, after: str, *, limit: int) -> port.ChangePage:
        position = position_of(after)
        if position is None:
            raise ResumeTokenExpired
        if position == self._writer.position:
            return port.ChangePage((), after)
        few = min(limit, FEW_CHANGES)
        page = self._readers.here(reads.list_changes, position, after, few)
        if len(page.changes) < few or few == limit:
            return page
        return await self._readers.away(reads.list_changes, position, after, limit)

    def on_hint(self, callback: Callable[[], None]) -> None:
        pass  # there is no other server on a file

    async def close(self) -> None:
        await self._readers.close()
        await asyncio.shield(self._writer.close())
