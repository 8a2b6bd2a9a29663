"""The writer: one connection, and changes of this server over it. Group commit.

See `verbs/group.py` for the half that all stores share. A commit is a round trip and an fsync. While
one is under way the next calls gather, so the busier the store is, the more of them share a commit.
Other servers write at the same time: rows that a verb decides upon are locked first, and when two
servers get into each other's way all the same (a deadlock, one request id twice), the batch is undone
and run again.

A connection that breaks refuses its batch, and the next batch takes a new one. Only when it breaks
while the commit itself is under way nobody knows whether it was made: that is said so
(`DeadlineExceeded`), and whoever asked finds out by asking again with the same request id or fence.
"""

import asyncio
import collections
import contextlib
import functools
from collections.abc import Callable, Coroutine
from typing import Any

import asyncpg

from jobservice.errors import DeadlineExceeded, Deposed, StoreBusy, StoreUnavailable
from jobservice.failpoints import failpoint
from jobservice.store.postgres.at_once import AtOnce, NotAtOnce, fits_at_once
from jobservice.store.postgres.connect import (
    STATEMENT_PART,
    Connection,
    connect,
    in_transaction,
    is_away,
    met_another,
    refusal,
    was_undone,
)
from jobservice.store.postgres.floors import Floors
from jobservice.store.postgres.transaction import Transaction
from jobservice.store.verbs.group import (
    LARGEST_BATCH,
    Call,
    Calls,
    Group,
    run_apart,
    run_together,
)
from jobservice.store.verbs.touched import changes_rules, goes_by_rules
from jobservice.store.verbs.transaction import Answer, Item, Verb
from jobservice.telemetry import logger

RULES_LOCK = 7305808869231650165
"""The advisory lock that claims share and changes of rules take alone; `migrate.py` names all."""
TRIES = 5
"""How often a batch is run that another server gets in the way of."""

_Run = Callable[[Transaction, Calls], Coroutine[Any, Any, None]]


class _Unknown(Exception):
    """The commit may have been made."""


class Writer:
    """Runs verbs over the connection that writes. All methods belong to the event loop that made it.

    Raises, from `run`: `StoreFull` and `StoreUnavailable` (nothing was changed), `LimitExceeded` when
    too many calls wait, `DeadlineExceeded` when nobody knows whether the commit was made.
    """

    def __init__(
        self, url: str, *, waiting_limit: int, deadline_s: float, beside: "Writer | None" = None
    ) -> None:
        """With `beside` it shares what it knows of claims, and who is told of commits, with another."""
        self._url = url
        self._statement_s = deadline_s * STATEMENT_PART
        first = in_transaction(url, self._statement_s)
        self._begin = f"BEGIN; {first}" if first else "BEGIN"
        self._is_session = not first
        self._group = Group(waiting_limit=waiting_limit, deadline_s=deadline_s)
        self._group.too_slow = StoreBusy  # others may be served all the same
        self.floors: Floors = Floors() if beside is None else beside.floors
        self._claims = beside is None
        if beside is not None:
            self._group.on_commit = beside._group.on_commit  # noqa: SLF001  # of its own kind
        self.on_commit = self._group.on_commit
        self._queue: collections.deque[Call[Any, Any]] = collections.deque()
        self._wake = asyncio.Event()
        self._closing = False
        self._log = logger("store")
        self._connection: Connection | None = None
        self._task = asyncio.create_task(self._work())  # noqa: TID251  # `close` awaits it

    async def run(
        self, verb: Verb[Item, Answer], item: Item, *, epoch: int | None = None
    ) -> Answer:
        """Have a call run and committed; durable when this returns.

        With `epoch` only while that is the newest one of the lead (`lead.py`), else it raises `Deposed`.
        """
        if self._closing:
            raise StoreUnavailable("The store is closed.")
        call = self._group.add(verb, item, epoch=epoch)
        self._queue.append(call)
        self._wake.set()
        return await call.future

    async def close(self) -> None:
        """Commit what waits, and let go of the database."""
        self._closing = True
        self.floors.close()
        self._wake.set()
        await asyncio.shield(self._task)

    async def _work(self) -> None:
        while self._queue or not self._closing:
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
                continue
            error = await self._try_to_connect()
            count = min(len(self._queue), LARGEST_BATCH)
            batch = self._group.take([self._queue.popleft() for _ in range(count)])
            if batch and error is not None:
                self._refuse(batch, error)
            if batch:
                self._group.answer(batch, error is None and await self._commit(batch))
        if self._connection is not None:
            with contextlib.suppress(OSError, TimeoutError, asyncpg.InterfaceError):
                await self._connection.close(timeout=self._statement_s)

    async def _try_to_connect(self) -> Exception | None:
        """Have a connection before calls are taken: until then they can still be taken back."""
        try:
            await self._connected()
        except Exception as error:  # noqa: BLE001  # it is told to those that wait
            return error
        return None

    async def _commit(self, batch: Calls) -> bool:
        """Run and commit a batch; every call has its answer or its error then."""
        for tries_left in reversed(range(TRIES)):
            for call in batch:
                call.error = None
            try:
                return await self._try_once(batch)
            except _Unknown as unknown:
                return self._leave_open(batch, unknown)
            except Exception as error:  # noqa: BLE001  # the task must go on
                if not met_another(error) or not tries_left:
                    self._refuse(batch, error)
                    break
                self._log.info("commit_repeated", error=str(error), calls=len(batch))
        return False

    async def _try_once(self, batch: Calls) -> bool:
        try:
            if self._is_session and fits_at_once(batch):
                with contextlib.suppress(NotAtOnce):
                    return await self._transact(batch, run_together, at_once=True)
            return await self._transact(batch, run_together)
        except Exception as error:
            if _ends_all(error):
                raise
            if len(batch) == 1:
                batch[0].error = _fault(error)
                return False
        return await self._apart(batch)

    async def _apart(self, batch: Calls) -> bool:
        return await self._transact(batch, functools.partial(run_apart, fault=_fault_of_call))

    async def _transact(self, batch: Calls, run: _Run, *, at_once: bool = False) -> bool:
        connection = await self._connected()
        transaction = (AtOnce if at_once else Transaction)(connection, self.floors)
        try:
            await transaction.begin(self._begin + _in_step(batch))
            obeyed = await _obeyed(transaction, batch)
            await transaction.lock_first(obeyed)
            await run(transaction, obeyed)
            await transaction.flush()
            failpoint("store.before_commit")
        except NotAtOnce:
            raise
        except TimeoutError:
            self._drop(connection)  # it does not even end a statement, so it ends no transaction
            raise
        except BaseException:
            await self._roll_back(connection)
            raise
        try:
            await transaction.commit()
        except asyncpg.PostgresError as error:
            if is_away(error) and not was_undone(error):
                self._drop(connection)
                raise _Unknown from error
            raise
        except BaseException as error:
            self._drop(connection)
            raise _Unknown from error
        finally:
            for rows in transaction.inserted:
                self.floors.insert(rows)
        failpoint("store.after_commit")
        self._group.too_slow = StoreBusy
        if transaction.leases_us is not None:
            self.floors.leases_us = transaction.leases_us
        return transaction.changed

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = None
            if self._claims:
                self.floors.leases_us = 0  # the database may be another, or of an earlier time
            async with asyncio.timeout(self._statement_s):
                self._connection = await connect(self._url, self._statement_s)
        return self._connection

    async def _roll_back(self, connection: Connection) -> None:
        """Leave no transaction open; a connection that cannot even do that is given up."""
        try:
            async with asyncio.timeout(1.0):
                await connection.execute("ROLLBACK")
        except Exception:  # noqa: BLE001  # it is of no use any more
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        connection.terminate()
        self._connection = None

    def _refuse(self, batch: Calls, error: Exception) -> None:
        """All of a batch was undone."""
        self._log.error("commit_failed", error=str(error), calls=len(batch))
        for call in batch:
            call.error = refusal(error)
        if isinstance(refusal(error), StoreUnavailable):
            self._group.too_slow = StoreUnavailable

    def _leave_open(self, batch: Calls, unknown: _Unknown) -> bool:
        self._log.error("commit_unknown", error=str(unknown.__cause__), calls=len(batch))
        self._group.too_slow = StoreUnavailable
        for call in batch:
            call.error = DeadlineExceeded(
                "The connection to the database broke while it committed; it may have done so."
            )
        return True


def _in_step(batch: Calls) -> str:
    """What keeps claims and changes of rules apart, in the round trip of BEGIN.

    A claim that has read that a queue is open commits before the pause of that queue is acknowledged.
    """
    if changes_rules(batch):
        return f"; SELECT pg_advisory_xact_lock({RULES_LOCK})"
    if goes_by_rules(batch):
        return f"; SELECT pg_advisory_xact_lock_shared({RULES_LOCK})"
    return ""


async def _obeyed(transaction: Transaction, batch: Calls) -> Calls:
    """The calls of a batch without those whose epoch is over."""
    if all(call.epoch is None for call in batch):
        return batch
    [(epoch,)] = await transaction.read_all("find_obeyed")
    for call in batch:
        if call.epoch not in {None, epoch}:
            call.error = Deposed()
    return [call for call in batch if call.error is None]


def _fault(error: Exception) -> Exception:
    """What the caller of a faulty call is told."""
    return refusal(error) if isinstance(error, asyncpg.PostgresError) else error


def _fault_of_call(error: Exception) -> Exception | None:
    return None if _ends_all(error) else _fault(error)


def _ends_all(error: Exception) -> bool:
    """Whether an error is nobody's doing, so that the whole batch is undone."""
    return (
        is_away(error) or met_another(error) or isinstance(error, asyncpg.DiskFullError | _Unknown)
    )
