"""The writer: one thread, one connection, and every change in it. Group commit.

Making a change durable is one fsync (0.2 to 10 ms), which is worth hundreds of the changes
themselves. So calls are not committed one by one. The event loop puts each call into a queue; the
thread takes whatever waits, runs all of it in one transaction, commits, and answers all of it with
one wake-up of the loop. While it commits the next calls gather. A lone call is committed at once, and
the busier the store is, the more calls share an fsync. After a crowd the thread waits for as many calls
again, while more keep coming and for PAUSES times PAUSE_S at most: the callers that were answered
together come back one after the other, and taking the first of them alone would leave the others to
wait for a commit of one.

Whole or not at all, each call for itself. The calls of a batch run as the parts of one transaction
without savepoints, because nearly all of them succeed. When one raises, the transaction is rolled
back and the batch is run again with each call inside a savepoint of its own, so that only the faulty
one is undone. A verb must therefore depend on nothing but its arguments and the database.

Calls of the same verb that follow one another are run together, as one call with more rows. This is
where the speed comes from: the GIL is released and taken again around every step of a statement, and
against a busy event loop taking it costs up to `sys.getswitchinterval()` (5 ms by default; the server
sets it lower). Inserting 100 jobs by `executemany` is 300 such steps, one statement with 100 rows is
one. Measured with a loop that never rests: 278 jobs/s against 3,775, and 21,500 against 33,200 with an
interval of 0.1 ms. For the same reason what is read for many rows comes as one JSON array.

When the disk is full or fails, the whole batch is undone and each of its calls is refused; none is
acknowledged, none is tried again, and the thread goes on with the next batch. That is safe after a
failed fsync too: in WAL mode the frames of the failed transaction lie behind the end that SQLite
knows, and the next transaction writes its own frames over them and syncs these. What was refused
because of a failed fsync may still be found after a crash that follows at once; nothing that was
acknowledged can be missing.

Only this connection checkpoints, after the answers are out, so that a checkpoint delays no answer of
its own batch. Every wait ends: SQLite waits 3 s for a lock that another process holds, and a call that
has waited too long in the queue is taken back and refused.
"""

import asyncio
import collections
import itertools
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import apsw

from jobservice.errors import (
    DeadlineExceeded,
    Internal,
    JobServiceError,
    LimitExceeded,
    StoreFull,
    StoreUnavailable,
)
from jobservice.failpoints import failpoint
from jobservice.store.sqlfile import Query
from jobservice.store.sqlite.connect import DATABASE_ERRORS, open_writer
from jobservice.store.sqlite.transaction import Transaction
from jobservice.telemetry import logger

CHECKPOINT_PAGES = 4_000
"""How long the write-ahead log may grow before it is written back, in pages of 4 KiB."""
LARGEST_BATCH = 1_000
"""How many calls are committed together at most."""
CROWD = 4
"""A batch of so many calls or more is a crowd, and its callers are waited for."""
PAUSE_S = 0.002
"""A crowd of which nobody came for so long is not waited for any more."""
PAUSES = 5
"""How many such waits there are for one crowd at most."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Verb = Callable[[Transaction, Sequence[Item]], Sequence[Answer]]
"""Runs one or more calls of a kind together; answers each of them, in order."""


class _Call(Generic[Item, Answer]):
    """A call that waits for its commit."""

    __slots__ = ("answer", "deadline", "error", "future", "item", "taken", "verb")

    def __init__(
        self,
        verb: Verb[Item, Answer],
        item: Item,
        future: "asyncio.Future[Answer]",
        deadline: float,
    ) -> None:
        self.verb = verb
        self.item = item
        self.future = future
        self.deadline = deadline
        self.taken = False
        self.answer: Answer | None = None
        self.error: Exception | None = None


_Calls = list[_Call[Any, Any]]


class Writer:
    """Runs verbs in the writer thread. All methods belong to the event loop that made it.

    Raises, from `run`: `StoreFull` and `StoreUnavailable` (nothing was changed), `LimitExceeded` when
    too many calls wait, `DeadlineExceeded` when the commit itself does not end in time.
    """

    def __init__(
        self,
        path: Path,
        insert_events: Query,
        position: int,
        *,
        waiting_limit: int,
        deadline_s: float,
    ) -> None:
        self.position = position
        """Of the newest change that is committed."""
        self.on_commit: list[Callable[[], None]] = []
        self._path = path
        self._insert_events = insert_events
        self._waiting_limit = waiting_limit
        self._deadline_s = deadline_s
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._queue: queue.SimpleQueue[_Call[Any, Any] | None] = queue.SimpleQueue()
        self._waiting: collections.deque[_Call[Any, Any]] = collections.deque()
        self._watch: asyncio.TimerHandle | None = None
        self._taking = threading.Lock()
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
        if len(self._waiting) >= self._waiting_limit:
            self._drop_answered()
            if len(self._waiting) >= self._waiting_limit:
                raise LimitExceeded(
                    f"{self._waiting_limit} calls wait for the database already; try again later."
                )
        future: asyncio.Future[Answer] = self._loop.create_future()
        call = _Call(verb, item, future, self._loop.time() + self._deadline_s)
        self._waiting.append(call)
        self._queue.put(call)
        if self._awaited and self._queue.qsize() >= self._awaited:
            self._gather.set()
        if self._watch is None:
            self._watch = self._loop.call_later(self._deadline_s, self._refuse_overdue)
        return await future

    async def close(self) -> None:
        """Commit what waits, write the log back and end the thread."""
        if not self._closing:
            self._closing = True
            self._queue.put(None)
            self._gather.set()
        await asyncio.shield(self._ended)
        self._thread.join()

    # --- in the event loop --------------------------------------------------------------------

    def _answer(self, batch: _Calls, changed: bool) -> None:
        for call in batch:
            if call.future.done():
                continue
            if call.error is not None:
                call.future.set_exception(call.error)
            else:
                call.future.set_result(call.answer)
        self._drop_answered()
        if changed:
            for callback in self.on_commit:
                callback()

    def _drop_answered(self) -> None:
        waiting = self._waiting
        while waiting and waiting[0].future.done():
            waiting.popleft()

    def _refuse_overdue(self) -> None:
        """Give up on the calls whose time is over; armed only while calls wait."""
        self._drop_answered()
        self._watch = None
        now = self._loop.time()
        for call in self._waiting:
            if call.deadline > now:
                break
            if not call.future.done():
                call.future.set_exception(self._overdue(call))
        if self._waiting:
            wait_s = max(self._waiting[0].deadline - now, self._deadline_s / 10)
            self._watch = self._loop.call_later(wait_s, self._refuse_overdue)

    def _overdue(self, call: _Call[Any, Any]) -> JobServiceError:
        with self._taking:
            if call.taken:
                return DeadlineExceeded("The database did not commit in time; it may still do so.")
            call.taken = True
        return StoreUnavailable("The database is too slow now; nothing was changed.")

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
                self._tell(self._answer, batch, changed)
            if self._wal_pages >= CHECKPOINT_PAGES:
                self._checkpoint()
        self._end()

    def _take(self) -> tuple[_Calls, bool]:
        """The calls that wait, at least one, and whether more may come."""
        waiting = [self._queue.get()]
        self._await_crowd()
        more = min(self._queue.qsize(), LARGEST_BATCH - 1)
        waiting += [self._queue.get() for _ in range(more)]
        batch: _Calls = []
        with self._taking:
            for call in waiting:
                if call is not None and not call.taken and not call.future.cancelled():
                    call.taken = True
                    batch.append(call)
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

    def _commit(self, batch: _Calls) -> bool:
        """Run and commit a batch; every call has its answer or its error then."""
        before = self.position
        try:
            self._transact(batch, self._run_together)
        except DATABASE_ERRORS as error:
            self._refuse(batch, error)
        except Exception as error:  # noqa: BLE001  # whatever a verb raises is its caller's
            self._after_fault(batch, error)
        return self.position != before

    def _after_fault(self, batch: _Calls, error: Exception) -> None:
        """A call raised `error`: it alone fails."""
        self._roll_back()
        if len(batch) == 1:
            batch[0].error = _fault(error)
            return
        try:
            self._transact(batch, self._run_apart)
        except Exception as second:  # noqa: BLE001  # the thread must go on
            self._refuse(batch, second)

    def _refuse(self, batch: _Calls, error: Exception) -> None:
        """Undo all of a batch."""
        self._roll_back()
        self._log.error("commit_failed", error=str(error), calls=len(batch))
        for call in batch:
            call.error = _refusal(error)

    def _transact(self, batch: _Calls, run: Callable[[Transaction, _Calls], None]) -> None:
        transaction = Transaction(self._connection, self.position, self._insert_events)
        self._connection.execute("BEGIN IMMEDIATE")
        run(transaction, batch)
        transaction.flush()
        failpoint("store.before_commit")
        self._connection.execute("COMMIT")
        failpoint("store.after_commit")
        self.position = transaction.position

    @staticmethod
    def _run_together(transaction: Transaction, batch: _Calls) -> None:
        for verb, group in itertools.groupby(batch, key=lambda call: call.verb):
            calls = list(group)
            answers = verb(transaction, [call.item for call in calls])
            for call, answer in zip(calls, answers, strict=True):
                call.answer = answer

    def _run_apart(self, transaction: Transaction, batch: _Calls) -> None:
        execute = self._connection.execute
        for call in batch:
            mark = transaction.mark()
            execute("SAVEPOINT call")
            try:
                [call.answer] = call.verb(transaction, [call.item])
            except DATABASE_ERRORS:
                raise
            except Exception as error:  # noqa: BLE001  # as above
                execute("ROLLBACK TO call")
                transaction.restore(mark)
                call.error = _fault(error)
            execute("RELEASE call")

    def _roll_back(self) -> None:
        """Leave no transaction open; with a connection that cannot even do that, take a new one."""
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except apsw.Error as error:
            self._log.error("rollback_failed", error=str(error))
            self._connection.close(True)
            self._connection = self._connect()

    def _checkpoint(self) -> None:
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
