"""The writer: one thread, one connection, and every change in it. Group commit (`verbs/group.py`).

The event loop puts each call into a queue; the thread takes whatever waits, runs all of it in one
transaction, commits, and answers all of it with one wake-up of the loop. While it commits the next
calls gather. A lone call is committed at once, and the busier the store is, the more calls share an
fsync. After a crowd the thread waits for as many calls again, while more keep coming and for PAUSES
times PAUSE_S at most: the callers that were answered together come back one after the other, and
taking the first of them alone would leave the others to wait for a commit of one.

One statement for many rows is where the speed comes from: the GIL is released and taken again around
every step of a statement, and against a busy event loop taking it costs up to
`sys.getswitchinterval()` (5 ms by default; the server sets it lower). Inserting 100 jobs by
`executemany` is 300 such steps, one statement with 100 rows is one. Measured with a loop that never
rests: 278 jobs/s against 3,775, and 21,500 against 33,200 with an interval of 0.1 ms. For the same
reason what is read for many rows comes as one JSON array.

When the disk is full or fails, the whole batch is undone and each of its calls is refused; none is
acknowledged, none is tried again, and the thread goes on with the next batch. That is safe after a
failed fsync too: in WAL mode the frames of the failed transaction lie behind the end that SQLite
knows, and the next transaction writes its own frames over them and syncs these. What was refused
because of a failed fsync may still be found after a crash that follows at once; nothing that was
acknowledged can be missing.

Only this connection checkpoints, after the answers are out, so that a checkpoint delays no answer of
its own batch. SQLite waits 3 s for a lock that another process holds.
"""

import asyncio
import functools
import queue
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import apsw

from jobservice.errors import Internal, JobServiceError, StoreFull, StoreUnavailable
from jobservice.failpoints import failpoint
from jobservice.mutants import mutant
from jobservice.store.sqlite.connect import DATABASE_ERRORS, open_writer
from jobservice.store.sqlite.transaction import Transaction
from jobservice.store.verbs.group import (
    LARGEST_BATCH,
    Call,
    Calls,
    Group,
    run_apart,
    run_together,
)
from jobservice.store.verbs.transaction import Answer, Item, Verb, run_now
from jobservice.telemetry import logger

CHECKPOINT_PAGES = 4_000
"""How long the write-ahead log may grow before it is written back, in pages of 4 KiB."""
CROWD = 4
"""A batch of so many calls or more is a crowd, and its callers are waited for."""
PAUSE_S = 0.002
"""A crowd of which nobody came for so long is not waited for any more."""
PAUSES = 5
"""How many such waits there are for one crowd at most."""


_Run = Callable[[Transaction, Calls], Coroutine[Any, Any, None]]


class Writer:
    """Runs verbs in the writer thread. All methods belong to the event loop that made it.

    Raises, from `run`: `StoreFull` and `StoreUnavailable` (nothing was changed), `LimitExceeded` when
    too many calls wait, `DeadlineExceeded` when the commit itself does not end in time.
    """

    def __init__(
        self,
        path: Path,
        position: int,
        *,
        waiting_limit: int,
        deadline_s: float,
    ) -> None:
        self.position = position
        """Of the newest change that is committed."""
        self._path = path
        self._group = Group(waiting_limit=waiting_limit, deadline_s=deadline_s)
        self.on_commit = self._group.on_commit
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._queue: queue.SimpleQueue[Call[Any, Any] | None] = queue.SimpleQueue()
        self._closing = False
        self._crowd = 0
        self._awaited = 0
        """How many calls in the queue end the wait for a crowd; 0 while there is no such wait."""
        self._gather = threading.Event()
        self._wal_pages = 0
        self._log = logger("store")
        self._connection = self._connect()
        self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)
        self._thread.start()

    async def run(self, verb: Verb[Item, Answer], item: Item) -> Answer:
        """Have a call run and committed; durable when this returns."""
        if self._closing:
            raise StoreUnavailable("The store is closed.")
        call = self._group.add(verb, item)
        self._queue.put(call)
        if self._awaited and self._queue.qsize() >= self._awaited:
            self._gather.set()
        return await call.future

    async def close(self) -> None:
        """Commit what waits, write the log back and end the thread."""
        if not self._closing:
            self._closing = True
            self._queue.put(None)
            self._gather.set()
        await asyncio.shield(self._ended)
        self._thread.join()

    # --- in the thread ------------------------------------------------------------------------

    def _connect(self) -> apsw.Connection:
        connection = open_writer(self._path)
        connection.set_wal_hook(self._note_wal)
        return connection

    def _note_wal(self, _connection: apsw.Connection, _database: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def _work(self) -> None:
        open_ = True
        while open_:
            batch, open_ = self._take()
            if batch:
                changed = self._commit(batch)
                self._tell(self._group.answer, batch, changed)
            self._checkpoint_if_long()
        self._end()

    def _take(self) -> tuple[Calls, bool]:
        """The calls that wait, at least one, and whether more may come."""
        waiting = [self._queue.get()]
        self._await_crowd()
        more = min(self._queue.qsize(), LARGEST_BATCH - 1)
        waiting += [self._queue.get() for _ in range(more)]
        batch = self._group.take(call for call in waiting if call is not None)
        self._crowd = len(batch)
        return batch, None not in waiting

    def _await_crowd(self) -> None:
        """Wait until as many calls are there as were in the last batch, if that was a crowd."""
        if self._crowd < CROWD or self._queue.qsize() >= self._crowd - 1:
            return
        self._gather.clear()
        self._awaited = self._crowd - 1
        came = -1
        for _ in range(PAUSES):
            before, came = came, self._queue.qsize()
            if came == before or self._gather.wait(PAUSE_S):
                break
        self._awaited = 0

    def _commit(self, batch: Calls) -> bool:
        """Run and commit a batch; every call has its answer or its error then."""
        before = self.position
        try:
            self._transact(batch, run_together)
        except DATABASE_ERRORS as error:
            self._refuse(batch, error)
        except Exception as error:  # noqa: BLE001  # whatever a verb raises is its caller's
            self._after_fault(batch, error)
        return self.position != before

    def _after_fault(self, batch: Calls, error: Exception) -> None:
        """A call raised `error`: it alone fails."""
        self._roll_back()
        if len(batch) == 1:
            batch[0].error = _fault(error)
            return
        try:
            self._transact(batch, functools.partial(run_apart, fault=_fault_of_call))
        except Exception as second:  # noqa: BLE001  # the thread must go on
            self._refuse(batch, second)

    def _refuse(self, batch: Calls, error: Exception) -> None:
        """Undo all of a batch."""
        self._roll_back()
        self._log.error("commit_failed", error=str(error), calls=len(batch))
        for call in batch:
            call.error = _refusal(error)

    def _transact(self, batch: Calls, run: _Run) -> None:
        transaction = Transaction(self._connection, self.position)
        self._connection.execute("BEGIN IMMEDIATE")
        run_now(run(transaction, batch))
        run_now(transaction.flush())
        if mutant("commit.answered_early"):
            self._tell(self._group.answer, batch, True)
        failpoint("store.before_commit")
        self._connection.execute("COMMIT")
        failpoint("store.after_commit")
        self.position = transaction.position

    def _roll_back(self) -> None:
        """Leave no transaction open; with a connection that cannot even do that, take a new one."""
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except apsw.Error as error:
            self._log.error("rollback_failed", error=str(error))
            self._connection.close(True)
            self._connection = self._connect()

    def _checkpoint_if_long(self) -> None:
        if self._wal_pages < CHECKPOINT_PAGES:
            return
        self._wal_pages = 0
        try:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.Error as error:
            self._log.warning("checkpoint_failed", error=str(error))

    def _end(self) -> None:
        try:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except apsw.Error as error:
            self._log.warning("checkpoint_failed", error=str(error))
        self._connection.close(True)
        self._tell(self._ended.set_result, None)

    def _tell(self, function: Callable[..., object], *arguments: object) -> None:
        """Call a function in the loop, unless the loop is closed and nobody is left to hear it."""
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            self._log.warning("loop_closed_before_store")


def _refusal(error: Exception) -> JobServiceError:
    if isinstance(error, apsw.FullError):
        return StoreFull()
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return StoreUnavailable("Another process has locked the database; nothing was changed.")
    return StoreUnavailable(f"The database cannot be written: {error}. Nothing was changed.")


def _fault(error: Exception) -> Exception:
    """What the caller of a faulty call is told."""
    if isinstance(error, apsw.Error):
        fault = Internal(f"A statement of the store failed: {error}.")
        fault.__cause__ = error
        return fault
    return error


def _fault_of_call(error: Exception) -> Exception | None:
    return None if isinstance(error, DATABASE_ERRORS) else _fault(error)
