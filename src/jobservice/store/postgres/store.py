"""The PostgreSQL store: the port's verbs over one writing connection and a few reading ones."""

import datetime as dt
from collections.abc import Sequence

from jobservice.errors import ResumeTokenExpired
from jobservice.model.job import Job
from jobservice.model.spec import JobSpec
from jobservice.store import port
from jobservice.store.postgres import reads
from jobservice.store.postgres.migrate import upgrade
from jobservice.store.postgres.reads import Readers
from jobservice.store.postgres.writer import Writer
from jobservice.store.rows import position_of, position_token
from jobservice.store.verbs.writing import WritingStore

WAITING_LIMIT = 10_000
"""How many writing calls may wait for their commit."""
DEADLINE_S = 5.0
"""How long a call waits for the database at most."""


class PostgresStore(WritingStore[Writer]):
    """Jobs in a PostgreSQL database, which any number of servers may have open.

    Raises, besides what the port says: `LimitExceeded` when more than `waiting_limit` calls wait,
    `DeadlineExceeded` when nobody knows whether a commit was made.
    """

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._readers = readers

    @classmethod
    async def open(
        cls, url: str, *, waiting_limit: int = WAITING_LIMIT, deadline_s: float = DEADLINE_S
    ) -> "PostgresStore":
        """Open a database, with its schema brought up to date.

        Raises:
            SetupError: it cannot be used, or its schema is newer than this program.
        """
        await upgrade(url)
        writer = Writer(url, waiting_limit=waiting_limit, deadline_s=deadline_s)
        return cls(writer, Readers(url, deadline_s=deadline_s))

    # reads

    async def list_live(self, worker_id: str) -> list[port.LiveAttempt]:
        return await self._readers.run(reads.list_live, worker_id)

    async def list_deletable(self, *, limit: int) -> list[port.Deletable]:
        return await self._readers.run(reads.list_deletable, limit)

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

    async def queue_position(self, key: port.JobKey, *, limit: int) -> int | None:
        return await self._readers.run(reads.queue_position, key, limit)

    async def next_due_at(self) -> dt.datetime | None:
        return await self._readers.run(reads.next_due)

    async def head_position(self) -> str:
        return position_token(await self._readers.run(reads.head_position))

    async def list_changes(self, after: str, *, limit: int) -> port.ChangePage:
        position = position_of(after)
        if position is None:
            raise ResumeTokenExpired
        return await self._readers.run(reads.list_changes, position, after, limit)

    async def close(self) -> None:
        await self._readers.close()
        await self._writer.close()
