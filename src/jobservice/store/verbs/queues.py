"""Queues and limits: the rules that people make. What they do is in `claim.py` and `submit.py`.

Whoever changes a rule goes alone (`Transaction.alone`), so that no claim that goes on elsewhere obeys
the old one after the change was acknowledged.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jobservice.clock import from_us
from jobservice.model.limit import Limit, LimitKind
from jobservice.model.queue import Queue
from jobservice.model.spec import DEFAULT_QUEUE
from jobservice.store.port import Refusal
from jobservice.store.rule_rows import limit_row, queue_of, queue_row
from jobservice.store.verbs.keys import WOKEN, held, wake
from jobservice.store.verbs.transaction import Transaction, change

QueueEdits = Mapping[str, Any]
"""New values by the name of the field of `Queue`."""


@dataclasses.dataclass(frozen=True, slots=True)
class SaveQueueCall:
    """One call of `save_queue`."""

    tenant: str
    name: str
    edits: QueueEdits
    create: bool
    edit_version: int | None
    now_us: int


async def save_queue(tx: Transaction, calls: Sequence[SaveQueueCall]) -> list[Queue | Refusal]:
    """Make queues, or change their rules."""
    await tx.alone()
    return [await _save_queue(tx, call) for call in calls]


async def _save_queue(tx: Transaction, call: SaveQueueCall) -> Queue | Refusal:
    queue = await find_queue(tx, call.tenant, call.name)
    if call.create and queue is not None:
        return Refusal.EXISTS
    if queue is None:
        if not call.create and call.name != DEFAULT_QUEUE:
            return Refusal.NOT_FOUND
        queue = Queue(call.tenant, call.name, created_at=from_us(call.now_us))
    if call.edit_version not in (None, queue.edit_version):
        return Refusal.STALE
    queue = dataclasses.replace(
        queue,
        **call.edits,
        edit_version=queue.edit_version + 1,
        updated_at=from_us(call.now_us),
    )
    await change(tx, "save_queues", [queue_row(queue)])
    return queue


async def find_queue(tx: Transaction, tenant: str, name: str) -> Queue | None:
    """A queue that was made."""
    for row in await tx.read_all("find_queue", tenant, name):
        return queue_of(row)
    return None


@dataclasses.dataclass(frozen=True, slots=True)
class DeleteQueueCall:
    """One call of `delete_queue`."""

    tenant: str
    name: str
    edit_version: int | None


async def delete_queue(tx: Transaction, calls: Sequence[DeleteQueueCall]) -> list[Refusal | None]:
    """Forget the rules of queues in which nothing waits or runs."""
    await tx.alone()
    return [await _delete_queue(tx, call) for call in calls]


async def _delete_queue(tx: Transaction, call: DeleteQueueCall) -> Refusal | None:
    queue = await find_queue(tx, call.tenant, call.name)
    if queue is None:
        return Refusal.NOT_FOUND
    if call.edit_version not in (None, queue.edit_version):
        return Refusal.STALE
    running = (await held(tx)).queues.get((call.tenant, call.name), 0)
    if running or await tx.read_all("find_first_waiting", call.tenant, call.name):
        return Refusal.WRONG_STATE
    await change(tx, "delete_queues", [(call.tenant, call.name)])
    return None


async def save_limit(tx: Transaction, calls: Sequence[tuple[Limit, int]]) -> list[None]:
    """Make or change limits, and wake who may start now; calls are pairs of limit and instant."""
    await tx.alone()
    for limit, now_us in calls:
        await change(tx, "save_limits", [limit_row(limit, now_us)])
        await _wake_all(tx, limit.tenant, limit.kind, limit.name)
    return [None] * len(calls)


async def delete_limit(tx: Transaction, calls: Sequence[tuple[str, LimitKind, str]]) -> list[bool]:
    """Forget limits, and wake who may start now; False where there was none."""
    await tx.alone()
    answers = []
    for tenant, kind, name in calls:
        answers.append(bool(await tx.write("delete_limits", [(tenant, kind, name)])))
        await _wake_all(tx, tenant, kind, name)
    return answers


async def _wake_all(tx: Transaction, tenant: str, kind: LimitKind, name: str) -> None:
    if kind is LimitKind.KEY:
        await wake(tx, {(tenant, name): WOKEN})
