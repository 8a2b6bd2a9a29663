"""The PostgreSQL store: the port's verbs over a few connections that write and a few that read."""

import datetime as dt
import functools
from collections.abc import Callable, Sequence

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
from jobservice.store.lead_port import Held, Lead
from jobservice.store.operation_port import OperationKey, OperationPage
from jobservice.store.operation_rows import BEHIND_ALL
from jobservice.store.postgres import reads, schedule_reads, worker_reads
from jobservice.store.postgres.connect import is_pooled
from jobservice.store.postgres.hints import Hints
from jobservice.store.postgres.inserters import CONNECTIONS, Inserters
from jobservice.store.postgres.lead import Led, TakeCall, leave_lead, take_lead
from jobservice.store.postgres.left_files import forget_left_files
from jobservice.store.postgres.migrate import upgrade
from jobservice.store.postgres.reads import Readers
from jobservice.store.postgres.writer import Writer
from jobservice.store.rows import position_of, position_token
from jobservice.store.schedule_port import RunPage, ScheduleKey, SchedulePage
from jobservice.store.verbs.writing import WritingStore

WAITING_LIMIT = 10_000
"""How many calls may wait for their commit on each connection that writes."""
DEADLINE_S = 4.0
"""How long a call waits for the database at most."""


class PostgresStore(WritingStore[Writer | Led]):
    """Jobs in a PostgreSQL database, which any number of servers may have open.

    Raises, besides what the port says: `LimitExceeded` when more than `waiting_limit` calls wait,
    `DeadlineExceeded` when nobody knows whether a commit was made.
    """

    def __init__(
        self,
        writer: Writer,
        urgent: Writer,
        inserters: Sequence[Writer],
        readers: Readers,
        hints: Hints,
        *,
        lead: Lead | None = None,
    ) -> None:
        self._writers = writer, urgent, inserters
        self._writer = writer if lead is None else Led(writer, lead.epoch)
        self._urgent = urgent
        self._inserter = Inserters(writer, inserters) if lead is None else self._writer
        self._server = "" if lead is None else lead.server
        self._readers = readers
        self._hints = hints

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        direct: str | None = None,
        waiting_limit: int = WAITING_LIMIT,
        deadline_s: float = DEADLINE_S,
    ) -> "PostgresStore":
        """Open a database, with its schema brought up to date.

        Args:
            url: Where the database is, or a pooler before it.
            direct: Where the database itself is; without it hints do not come through a pooler.
            waiting_limit: See the class.
            deadline_s: How long a call waits at most.

        Raises:
            SetupError: it cannot be used, or its schema is newer than this program.
        """
        direct = direct or (None if is_pooled(url) else url)
        await upgrade(direct or url)
        new_writer = functools.partial(
            Writer, url, waiting_limit=waiting_limit, deadline_s=deadline_s
        )
        writer, urgent = new_writer(), new_writer()
        inserters = [new_writer(beside=writer) for _ in range(CONNECTIONS)]
        hints = Hints(direct, deadline_s=deadline_s)
        store = cls(writer, urgent, inserters, Readers(url, deadline_s=deadline_s), hints)
        store.on_commit(hints.note_commit)
        writer.floors.callbacks.append(hints.tell)
        return store

    # the lead

    async def take_lead(self, server: str, epoch: int, *, lease: dt.timedelta) -> Lead:
        call = TakeCall(server, epoch, lease // dt.timedelta(microseconds=1))
        return await self._urgent.run(take_lead, call)

    async def leave_lead(self, lead: Lead) -> None:
        if await self._urgent.run(leave_lead, lead):
            self._hints.note_left()

    def on_left(self, callback: Callable[[], None]) -> None:
        self._hints.left_callbacks.append(callback)

    def led(self, lead: Lead) -> port.Store:
        return PostgresStore(*self._writers, self._readers, self._hints, lead=lead)

    # files that are left with other servers

    async def list_left_files(
        self, worker_id: str, *, after: str, limit: int
    ) -> list[tuple[str, int]]:
        return await self._readers.run(worker_reads.list_left_files, worker_id, after, limit)

    async def forget_left_files(self, worker_id: str, job_ids: Sequence[str]) -> None:
        await self._writer.run(forget_left_files, (worker_id, job_ids))

    # reads

    async def list_held_open(self, *, older: dt.timedelta) -> list[Held]:
        return await self._readers.run(reads.list_held_open, older.total_seconds())

    async def list_live(self, worker_id: str) -> list[port.LiveAttempt]:
        return await self._readers.run(reads.list_live, worker_id)

    async def list_deletable(
        self, *, limit: int, after: port.JobKey | None = None
    ) -> list[port.Deletable]:
        return await self._readers.run(reads.list_deletable, after, limit)

    async def find_job(self, key: port.JobKey) -> Job | None:
        return await self._readers.run(reads.find_job, key)

    async def find_jobs(self, keys: Sequence[port.JobKey]) -> list[Job | None]:
        return await self._readers.run(reads.find_jobs, keys)

    async def find_submitted(self, keys: Sequence[port.JobKey]) -> list[JobSpec | None]:
        return await self._readers.run(reads.find_submitted, keys)

    async def list_jobs(
        self, query: port.JobQuery, *, limit: int, cursor: str | None
    ) -> port.JobPage:
        return await self._readers.run(reads.list_jobs, query, limit, cursor)

    async def find_operation(self, key: OperationKey) -> Operation | None:
        return await self._readers.run(reads.find_operation, key)

    async def list_operations(
        self, tenant: str, *, behind: str | None, limit: int
    ) -> OperationPage:
        begin = behind or BEHIND_ALL
        found = await self._readers.run(reads.list_operations, tenant, begin, limit + 1)
        more = found[limit - 1].operation_id if len(found) > limit else None
        return OperationPage(tuple(found[:limit]), more)

    async def list_running_operations(self, *, limit: int) -> list[Operation]:
        return await self._readers.run(reads.list_running, limit)

    async def find_targets(
        self, query: port.JobQuery, *, behind: Place | None, limit: int
    ) -> port.TargetPage:
        return await self._readers.run(reads.find_targets, query, behind, limit)

    async def queue_position(self, key: port.JobKey, *, limit: int) -> int | None:
        return await self._readers.run(reads.queue_position, key, limit)

    async def find_queue(self, tenant: str, name: str) -> Queue | None:
        return await self._readers.run(reads.find_queue, tenant, name)

    async def list_queues(self, tenant: str, *, limit: int, after: str) -> list[Queue]:
        return await self._readers.run(reads.list_queues, tenant, limit, after)

    async def queue_counts(self, tenant: str, name: str, *, now: dt.datetime) -> port.QueueCounts:
        return await self._readers.run(reads.queue_counts, tenant, name, now)

    async def list_limits(
        self, tenant: str, *, limit: int, after: tuple[str, int, str]
    ) -> list[Limit]:
        return await self._readers.run(reads.list_limits, tenant, limit, after)

    async def list_held(self, tenant: str, *, limit: int) -> list[port.Holder]:
        return await self._readers.run(reads.list_held, tenant, limit)

    async def find_limit(self, tenant: str, kind: LimitKind, name: str) -> Limit | None:
        return await self._readers.run(reads.find_limit, tenant, kind, name)

    async def list_use(self) -> Use:
        return await self._readers.run(reads.list_use)

    async def find_rules(self, tenant: str, keys: Sequence[str]) -> dict[str, KeyRule]:
        return await self._readers.run(reads.find_rules, tenant, keys)

    async def list_parked_keys(self, tenant: str, *, limit: int, after: str) -> list[str]:
        return await self._readers.run(reads.list_parked_keys, tenant, limit, after)

    async def count_parked(self, tenant: str, keys: Sequence[str]) -> list[int]:
        return await self._readers.run(reads.count_parked, tenant, keys)

    async def next_due_at(self) -> dt.datetime | None:
        return await self._readers.run(reads.next_due)

    async def next_resume_at(self, after: dt.datetime) -> dt.datetime | None:
        return await self._readers.run(reads.next_resume, after)

    async def next_time_out_at(self) -> dt.datetime | None:
        return await self._readers.run(reads.next_time_out)

    async def next_lease_end_at(self) -> dt.datetime | None:
        return await self._readers.run(reads.next_lease_end)

    async def find_schedule(self, key: ScheduleKey) -> Schedule | None:
        return await self._readers.run(schedule_reads.find_schedule, key)

    async def list_schedules(self, tenant: str, *, limit: int, cursor: str | None) -> SchedulePage:
        return await self._readers.run(schedule_reads.list_schedules, tenant, limit, cursor)

    async def list_all_schedules(self, after: tuple[str, str], *, limit: int) -> list[Schedule]:
        return await self._readers.run(schedule_reads.list_all_schedules, after, limit)

    async def list_schedule_runs(
        self, key: ScheduleKey, *, limit: int, cursor: str | None
    ) -> RunPage:
        return await self._readers.run(schedule_reads.list_runs, key, limit, cursor)

    async def next_look_at(self) -> dt.datetime | None:
        return await self._readers.run(schedule_reads.next_look)

    async def find_worker(self, worker_id: str) -> Worker | None:
        return await self._readers.run(worker_reads.find_worker, worker_id)

    async def list_taken(self, worker_id: str) -> list[tuple[Placement, int]]:
        return await self._readers.run(worker_reads.list_taken, worker_id)

    async def read_log(
        self, tenant: str, job_id: str, attempt: int, stream: Stream, offset: int
    ) -> Piece:
        return await self._readers.run(
            worker_reads.read_log, tenant, job_id, attempt, stream, offset
        )

    async def list_workers(self, *, limit: int, after: str) -> list[Worker]:
        return await self._readers.run(worker_reads.list_workers, limit, after)

    async def head_position(self) -> str:
        return position_token(await self._readers.run(reads.head_position))

    async def list_changes(self, after: str, *, limit: int) -> port.ChangePage:
        position = position_of(after)
        if position is None:
            raise ResumeTokenExpired
        return await self._readers.run(reads.list_changes, position, after, limit)

    def on_hint(self, callback: Callable[[], None]) -> None:
        self._hints.callbacks.append(callback)

    async def close(self) -> None:
        await self._hints.close()
        await self._readers.close()
        writer, urgent, inserters = self._writers
        for each in (*inserters, writer, urgent):
            await each.close()
