"""Group commit, the half that every store shares: calls that wait, are run together, are answered.

Making a change durable is one fsync (0.2 to 10 ms), which is worth hundreds of the changes
themselves. So calls are not committed one by one: whatever waits is run in one transaction, committed
and answered together, and while that commits the next calls gather.

Whole or not at all, each call for itself. The calls of a batch run as the parts of one transaction
without savepoints, because nearly all of them succeed. When one raises, the transaction is rolled
back and the batch is run again with each call inside a savepoint of its own, so that only the faulty
one is undone. A verb must therefore depend on nothing but its arguments and the database.

Calls of the same verb that follow one another are run together, as one call with more rows.

Every wait ends: a call that has waited too long in the queue is taken back and refused.
"""

import asyncio
import collections
import itertools
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, Protocol

from jobservice.errors import (
    DeadlineExceeded,
    JobServiceError,
    LimitExceeded,
    StoreUnavailable,
    Unavailable,
)
from jobservice.store.verbs.transaction import Answer, Item, Transaction, Verb

LARGEST_BATCH = 1_000
"""How many calls are committed together at most."""


class Call(Generic[Item, Answer]):
    """A call that waits for its commit."""

    __slots__ = ("answer", "deadline", "epoch", "error", "future", "item", "taken", "verb")

    def __init__(
        self,
        verb: Verb[Item, Answer],
        item: Item,
        future: "asyncio.Future[Answer]",
        deadline: float,
        epoch: int | None,
    ) -> None:
        self.verb = verb
        self.item = item
        self.future = future
        self.deadline = deadline
        self.epoch = epoch
        """Under which alone it is obeyed; None where that does not matter."""
        self.taken = False
        self.answer: Answer | None = None
        self.error: Exception | None = None


Calls = list[Call[Any, Any]]


class Savepoints(Transaction, Protocol):
    """A transaction that can undo a part of itself."""

    async def begin_part(self) -> None:
        """What comes now can be undone by itself."""

    async def keep_part(self) -> None:
        """What came since `begin_part` stays; raises what it cannot be kept for."""

    async def undo_part(self) -> None:
        """Undo what came since `begin_part`."""


class Group:
    """The calls that wait. All methods but `take` belong to the event loop that made it."""

    def __init__(self, *, waiting_limit: int, deadline_s: float) -> None:
        self.on_commit: list[Callable[[], None]] = []
        self.too_slow: type[Unavailable] = StoreUnavailable
        """What a call is told that has waited too long."""
        self._waiting_limit = waiting_limit
        self._deadline_s = deadline_s
        self._loop = asyncio.get_running_loop()
        self._waiting: collections.deque[Call[Any, Any]] = collections.deque()
        self._watch: asyncio.TimerHandle | None = None
        self._taking = threading.Lock()

    def add(
        self, verb: Verb[Item, Answer], item: Item, *, epoch: int | None = None
    ) -> Call[Item, Answer]:
        """A new call.

        Raises:
            LimitExceeded: too many wait already.
        """
        if len(self._waiting) >= self._waiting_limit:
            self._drop_answered()
            if len(self._waiting) >= self._waiting_limit:
                raise LimitExceeded(
                    f"{self._waiting_limit} calls wait for the database already; try again later."
                )
        future: asyncio.Future[Answer] = self._loop.create_future()
        call = Call(verb, item, future, self._loop.time() + self._deadline_s, epoch)
        self._waiting.append(call)
        if self._watch is None:
            self._watch = self._loop.call_later(self._deadline_s, self._refuse_overdue)
        return call

    def take(self, waiting: "Iterable[Call[Any, Any]]") -> Calls:
        """Those that are still wanted; from now on they are not taken back. From any thread."""
        with self._taking:
            batch = [each for each in waiting if not each.taken and not each.future.cancelled()]
            for call in batch:
                call.taken = True
        return batch

    def answer(self, batch: "Sequence[Call[Any, Any]]", changed: bool) -> None:
        """Give the callers their answers or errors."""
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

    def _overdue(self, call: Call[Any, Any]) -> JobServiceError:
        with self._taking:
            if call.taken:
                return DeadlineExceeded("The database did not commit in time; it may still do so.")
            call.taken = True
        return self.too_slow("The database is too slow now; nothing was changed.")


async def run_together(transaction: Transaction, batch: Calls) -> None:
    """Run calls as parts of one whole: when one raises, all must be undone."""
    for verb, group in itertools.groupby(batch, key=lambda call: call.verb):
        calls = list(group)
        answers = await verb(transaction, [call.item for call in calls])
        for call, answer in zip(calls, answers, strict=True):
            call.answer = answer


async def run_apart(
    transaction: Savepoints, batch: Calls, fault: Callable[[Exception], Exception | None]
) -> None:
    """Run calls one by one: one that raises is undone alone.

    `fault` says what its caller is told; None where it is not the call's doing but the database's,
    which ends it for all.
    """
    for call in batch:
        await transaction.begin_part()
        try:
            [call.answer] = await call.verb(transaction, [call.item])
            await transaction.keep_part()
        except Exception as error:
            call.error = fault(error)
            if call.error is None:
                raise
            await transaction.undo_part()
