"""The SQLite store: the port's verbs over one writer and a few readers of one file."""

import asyncio
import datetime as dt
from collections.abc import Callable, Sequence
from pathlib import Path

from jobservice.clock import to_us
from jobservice.errors import ResumeTokenExpired
from jobservice.model.attempt import Fence
from jobservice.model.job import Edits, Job, NewJob
from jobservice.model.spec import JobSpec
from jobservice.store import port
from jobservice.store.rows import position_of, position_token
from jobservice.store.sqlite import reads
from jobservice.store.sqlite.connect import open_reader
from jobservice.store.sqlite.migrate import upgrade
from jobservice.store.sqlite.reads import Readers
from jobservice.store.sqlite.writer import Writer
from jobservice.store.verbs import attempts, jobs, submit

WAITING_LIMIT = 10_000
"""How many writing calls may wait for their commit."""
DEADLINE_S = 5.0
"""How long a call waits for the database at most."""
FEW = 8
"""Up to so many jobs are read in the loop's own thread."""
FEW_CHANGES = 16
"""Up to so many changes, too: they take 0.2 ms, and a hop to another thread 0.25 ms."""


class SqliteStore(port.Store):
    """Jobs in one SQLite file. One process at a time may have it open: the server's lock sees to it.

    Raises, besides what the port says: `LimitExceeded` when more than `waiting_limit` calls wait,
    `DeadlineExceeded` when a commit has begun and does not end in time.
    """

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._readers = readers

    @classmethod
    async def open(
        cls, path: Path, *, waiting_limit: int = WAITING_LIMIT, deadline_s: float = DEADLINE_S
    ) -> "SqliteStore":
        """Open a file, made if need be, with its schema brought up to date.

        Raises:
            SetupError: the file cannot be opened, or its schema is newer than this program.
        """
        upgrade(path)
        connection = open_reader(path)
        head = reads.head_position(connection)
        connection.close()
        writer = Writer(
            path,
            head,
            waiting_limit=waiting_limit,
            deadline_s=deadline_s,
        )
        return cls(writer, Readers(path, deadline_s=deadline_s))

    # submit

    async def insert_jobs(
        self, jobs: Sequence[NewJob], *, request: port.RequestKey | None = None
    ) -> port.Inserted:
        if not jobs:
            return port.Inserted(port.Insertion.CREATED, ())
        return await self._writer.run(submit.insert_jobs, submit.insert_call(jobs, request))

    # attempts

    async def claim_jobs(
        self, *, worker_id: str, limit: int, lease_until: dt.datetime, now: dt.datetime
    ) -> list[port.Claim]:
        call = attempts.ClaimCall(worker_id, limit, to_us(lease_until), to_us(now))
        return await self._writer.run(attempts.claim_jobs, call)

    async def start_attempts(self, starts: Sequence[port.AttemptStart]) -> list[bool]:
        return await self._writer.run(attempts.start_attempts, starts)

    async def finish_attempts(
        self, ends: Sequence[port.AttemptEnd], settle: port.Settle, *, now: dt.datetime
    ) -> list[port.Settlement | None]:
        call = attempts.FinishCall(ends, settle, to_us(now))
        return await self._writer.run(attempts.finish_attempts, call)

    async def unclaim_attempts(self, fences: Sequence[Fence], *, now: dt.datetime) -> list[bool]:
        call = attempts.FencesCall(fences, to_us(now))
        return await self._writer.run(attempts.unclaim_attempts, call)

    async def extend_leases(
        self, fences: Sequence[Fence], *, lease_until: dt.datetime
    ) -> list[port.LeaseAnswer]:
        call = attempts.FencesCall(fences, to_us(lease_until))
        return await self._writer.run(attempts.extend_leases, call)

    async def expire_leases(
        self, settle: port.Settle, *, now: dt.datetime, limit: int
    ) -> list[Fence]:
        call = attempts.ExpireCall(settle, to_us(now), limit)
        return await self._writer.run(attempts.expire_leases, call)

    async def list_live(self, worker_id: str) -> list[port.LiveAttempt]:
        return await self._readers.away(reads.list_live, worker_id)

    async def record_progress(self, reports: Sequence[port.ProgressReport]) -> list[bool]:
        return await self._writer.run(attempts.record_progress, reports)

    async def release_due(self, *, now: dt.datetime, limit: int) -> int:
        return await self._writer.run(jobs.release_due, (to_us(now), limit))

    # what users ask of one job

    async def request_stop(
        self, stops: Sequence[port.StopRequest], *, now: dt.datetime
    ) -> list[port.Stopped | port.Refusal]:
        return await self._writer.run(jobs.request_stop, jobs.StopCall(stops, to_us(now)))

    async def update_job(
        self, key: port.JobKey, edits: Edits, *, edit_version: int | None, now: dt.datetime
    ) -> Job | port.Refusal:
        call = jobs.UpdateCall(key, edits, edit_version, to_us(now))
        return await self._writer.run(jobs.update_job, call)

    async def retry_job(self, key: port.JobKey, *, now: dt.datetime) -> Job | port.Refusal:
        return await self._writer.run(jobs.retry_job, (key, to_us(now)))

    async def hold_job(self, key: port.JobKey, *, now: dt.datetime) -> Job | port.Refusal:
        return await self._writer.run(jobs.hold_job, (key, to_us(now)))

    async def release_job(self, key: port.JobKey, *, now: dt.datetime) -> Job | port.Refusal:
        return await self._writer.run(jobs.release_job, (key, to_us(now)))

    async def list_deletable(self, *, limit: int) -> list[port.Deletable]:
        return await self._readers.away(reads.list_deletable, limit)

    async def delete_jobs(self, keys: Sequence[port.JobKey], *, now: dt.datetime) -> list[bool]:
        return await self._writer.run(jobs.delete_jobs, jobs.DeleteCall(keys, to_us(now)))

    async def forget(self, *, before: dt.datetime, limit: int) -> int:
        return await self._writer.run(jobs.forget, (to_us(before), limit))

    # reads

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

    async def queue_position(self, key: port.JobKey, *, limit: int) -> int | None:
        return await self._readers.away(reads.queue_position, key, limit)

    async def next_due_at(self) -> dt.datetime | None:
        return self._readers.here(reads.next_due)

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

    def on_commit(self, callback: Callable[[], None]) -> None:
        self._writer.on_commit.append(callback)

    async def close(self) -> None:
        await self._readers.close()
        await asyncio.shield(self._writer.close())
