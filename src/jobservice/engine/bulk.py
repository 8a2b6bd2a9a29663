"""Bulk: changes of many jobs by a filter, as operations that are durable and go on in small batches.

A batch is read as a page of a list is, from the place where the operation is, and changed in one
transaction that also moves the operation on (`store/verbs/operations.py`). So the writer is held for
milliseconds, whatever the number of jobs, and a crash loses and repeats nothing.
"""

import dataclasses
import datetime as dt
from collections.abc import Awaitable, Callable, Coroutine

from jobservice.engine.parts import Parts
from jobservice.errors import (
    AlreadyExists,
    Deposed,
    Internal,
    JobServiceError,
    LimitExceeded,
    OperationNotFound,
)
from jobservice.failpoints import failpoint
from jobservice.model.filter import Filter, matches, parse
from jobservice.model.ids import RANDOM_BITS, operation_id
from jobservice.model.lifecycle import State
from jobservice.model.operation import Action, BulkChange, Operation, Place
from jobservice.store.operation_port import OperationKey, OperationPage, OperationStep, Stepped
from jobservice.store.port import JobQuery, Order
from jobservice.telemetry import Logger, logger

BATCH = 200
"""How many jobs one transaction changes at most."""
RUNNING_LIMIT = 100
"""How many operations of a tenant may go on at the same time."""
AT_ONCE = 1_000
"""How many operations of all tenants are looked at in a round."""
COUNTED_JOBS = 100_000
COUNTED_PAGES = 50
"""A count looks at so many pages at most, of 20,000 jobs each (`store/lists.py`)."""
COUNT_PAGE = 10_000
FORGET_BATCH = 500
FORGET_EVERY_S = 3600.0
AFTER_ERROR_S = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Count:
    """For how many jobs a filter holds."""

    count: int
    is_at_least: bool
    """There may be more: the count ended there."""


async def begin(parts: Parts, tenant: str, asked: BulkChange, request_id: str) -> Operation:
    """Accept an operation; durable on return.

    Raises:
        AlreadyExists: the request id began another one.
        LimitExceeded: too many go on already.
    """
    now = parts.clock.now()
    unix_ms = int(now.timestamp() * 1000)
    key = OperationKey(tenant, operation_id(unix_ms, parts.random.getrandbits(RANDOM_BITS)))
    begun = await parts.store.begin_operation(
        key, asked, request_id=request_id, limit=RUNNING_LIMIT, now=now
    )
    if begun is None:
        raise LimitExceeded(
            f"{RUNNING_LIMIT} operations go on already, which is the limit; cancel one, or try again "
            "when one has ended."
        )
    if begun.change != asked:
        differs = [
            field.name
            for field in dataclasses.fields(BulkChange)
            if getattr(begun.change, field.name) != getattr(asked, field.name)
        ]
        raise AlreadyExists(
            f"The request_id was used to begin operation {begun.operation_id} with another "
            f"{', '.join(differs)}; use another request_id for another operation.",
            operation_id=begun.operation_id,
            fields=",".join(differs),
        )
    parts.signals.operations.ring()
    return begun


async def count(parts: Parts, tenant: str, filter_: Filter) -> Count:
    """For how many jobs a filter holds now, up to a bound."""
    query = _query(tenant, filter_, parts.clock.now())
    found, place = 0, None
    for _ in range(COUNTED_PAGES):
        page = await parts.store.find_targets(query, behind=place, limit=COUNT_PAGE)
        found += len(page.jobs)
        place = page.place
        if place is None or found >= COUNTED_JOBS:
            break
    return Count(min(found, COUNTED_JOBS), place is not None or found > COUNTED_JOBS)


async def get(parts: Parts, key: OperationKey) -> Operation:
    """An operation as it is now.

    Raises:
        OperationNotFound: there is none.
    """
    return _known(key, await parts.store.find_operation(key))


async def list_(parts: Parts, tenant: str, *, behind: str | None, limit: int) -> OperationPage:
    """A page of operations, newest first, behind the id where the page before ended."""
    return await parts.store.list_operations(tenant, behind=behind, limit=limit)


async def cancel(parts: Parts, key: OperationKey) -> Operation:
    """End an operation where it is; one that has ended stays as it is.

    Raises:
        OperationNotFound: there is none.
    """
    return _known(key, await parts.store.cancel_operation(key, now=parts.clock.now()))


def _known(key: OperationKey, found: Operation | None) -> Operation:
    if found is None:
        raise OperationNotFound(
            f"There is no operation {key.operation_id}.", operation_id=key.operation_id
        )
    return found


def _query(tenant: str, filter_: Filter, before: dt.datetime) -> JobQuery:
    return JobQuery(
        tenant, Order.CREATED_ASC, frozenset(State), created_before=before, filter=filter_
    )


# --- the loop ---------------------------------------------------------------------------------


class Operations:
    """The loops of who leads that carry operations on. Each can be stopped and begun again."""

    def __init__(self, parts: Parts, *, poll_s: float, retention: dt.timedelta) -> None:
        self._parts = parts
        self._poll_s = poll_s
        self._retention = retention
        self._log: Logger = logger("bulk")

    def loops(self) -> list[Coroutine[object, object, None]]:
        """All loops."""
        return [self._forever(self.advance), self._forever(self._forget)]

    async def _forever(self, once: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await once()
            except Deposed:
                raise
            except JobServiceError as error:
                self._log.warning("bulk_failed", error=str(error))
                await self._parts.clock.sleep(AFTER_ERROR_S)

    async def _forget(self) -> None:
        if await self.forget() < FORGET_BATCH:
            await self._parts.clock.sleep(FORGET_EVERY_S)

    async def forget(self) -> int:
        """Drop some operations that ended long ago; returns how many."""
        before = self._parts.clock.now() - self._retention
        return await self._parts.store.forget_operations(before=before, limit=FORGET_BATCH)

    async def advance(self) -> None:
        """One batch of each operation that is due; where none is, wait until one may be."""
        parts = self._parts
        now = parts.clock.now()
        running = await parts.store.list_running_operations(limit=AT_ONCE)
        due = [operation for operation in running if operation.due_at <= now]
        for operation in due:
            await self.step(operation)
        if not due:
            wait_s = self._poll_s * 12
            if running:
                wait_s = min(wait_s, (running[0].due_at - now).total_seconds())
            await parts.signals.operations.wait(parts.clock, wait_s)

    async def step(self, operation: Operation) -> Stepped | None:
        """One batch of an operation; None where somebody else has moved it on meanwhile."""
        limit = min(BATCH, operation.change.max_per_second or BATCH)
        step = await self._read(operation, limit)
        failpoint("bulk.batch_read")
        now = self._parts.clock.now
        try:
            stepped = await self._parts.store.step_operation(step, now=now())
        except Internal as error:
            # One of the jobs is at fault: alone it can be told from the others.
            self._log.error("bulk_step_failed", operation=operation.operation_id, error=str(error))
            stepped = await self._step_alone(operation)
        failpoint("bulk.batch_done")
        if stepped is not None:
            self._tell(stepped)
        return stepped

    async def _step_alone(self, operation: Operation) -> Stepped | None:
        """The first job of a batch by itself; counted as failed where it is the one at fault."""
        step = await self._read(operation, 1)
        now = self._parts.clock.now
        try:
            return await self._parts.store.step_operation(step, now=now())
        except Internal:
            given_up = dataclasses.replace(step, give_up=True)
            return await self._parts.store.step_operation(given_up, now=now())

    async def _read(self, operation: Operation, limit: int) -> OperationStep:
        filter_ = parse(operation.change.filter)
        place: Place | None = operation.place
        page = await self._parts.store.find_targets(
            _query(operation.tenant, filter_, operation.created_at), behind=place, limit=limit
        )
        return OperationStep(
            key=OperationKey(operation.tenant, operation.operation_id),
            behind=place,
            job_ids=[key.job_id for key in page.jobs],
            place=page.place,
            matches=lambda job: matches(filter_, job),
        )

    def _tell(self, stepped: Stepped) -> None:
        """Hint at what there is to do now."""
        signals, action = self._parts.signals, stepped.operation.change.action
        if stepped.fences:
            signals.stop(stepped.fences)
        if action is Action.DELETE:
            signals.deletions.ring()
        if action in {Action.DELETE, Action.CANCEL}:
            signals.schedules.ring()
            signals.children_moved()
        else:
            signals.work.ring()
            signals.timers.ring()
