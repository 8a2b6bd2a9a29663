"""The SQLite store: the port's verbs over one writer and a few readers of one file."""

import asyncio
import datetime as dt
from collections.abc import Sequence
from pathlib import Path

from jobservice.errors import ResumeTokenExpired
from jobservice.model.job import Job
from jobservice.model.spec import JobSpec
from jobservice.store import port
from jobservice.store.rows import position_of, position_token
from jobservice.store.sqlite import reads
from jobservice.store.sqlite.connect import open_reader
from jobservice.store.sqlite.migrate import upgrade
from jobservice.store.sqlite.reads import Readers
from jobservice.store.sqlite.writer import Writer
from jobservice.store.verbs.writing import WritingStore

WAITING_LIMIT = 10_000
"""How many writing calls may wait for their commit."""
DEADLINE_S = 5.0
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

    # reads

    async def list_live(self, worker_id: str) -> list[port.LiveAttempt]:
        return await self._readers.away(reads.list_live, worker_id)

    async def list_deletable(self, *, limit: int) -> list[port.Deletable]:
        return await self._readers.away(reads.list_deletable, limit)

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

    async def close(self) -> None:
        await self._readers.close()
        await asyncio.shield(self._writer.close())
