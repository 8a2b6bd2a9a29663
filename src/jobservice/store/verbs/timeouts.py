"""Timeouts: jobs that waited, or took, longer than they may."""

import dataclasses
from collections.abc import Sequence

from jobservice.model.attempt import Fence
from jobservice.model.event import EventKind
from jobservice.model.lifecycle import Reason, State
from jobservice.mutants import mutant
from jobservice.store.port import TimedOut
from jobservice.store.verbs.ends import Ended, after_ends
from jobservice.store.verbs.keys import leave
from jobservice.store.verbs.transaction import EventRow, Row, Transaction, change

QUEUE_MESSAGE = "waited longer than its queue timeout"
TOTAL_MESSAGE = "took longer than its total timeout"
DEADLINE_MESSAGE = "its deadline has passed"


async def time_out_jobs(tx: Transaction, calls: Sequence[tuple[int, int]]) -> list[TimedOut]:
    """End the jobs whose time is over; calls are pairs of instant and limit."""
    return [await _time_out(tx, now_us, limit) for now_us, limit in calls]


async def _time_out(tx: Transaction, now_us: int, limit: int) -> TimedOut:
    over = _Over()
    now_us += mutant("timeout.early")
    for row in await tx.read_all("find_waiting_too_long", now_us, limit):
        tenant, job_id, revision, last, attempts, has_children, keys, scheduled = row
        event = EventRow(
            last, tenant, job_id, revision + 1, EventKind.FAILED, State.FAILED, State.QUEUED,
            now_us, attempts, Reason.QUEUE_TIMEOUT, QUEUE_MESSAGE,
        )  # fmt: skip
        over.fail(tx, event, keys, has_children, scheduled)
    await change(tx, "fail_waiting", over.failed)
    waited = len(over.failed)
    for row in await tx.read_all("find_overdue", now_us, limit - waited):
        (
            tenant,
            job_id,
            state,
            revision,
            last,
            attempts,
            epoch,
            has_children,
            keys,
            scheduled,
            late,
        ) = row
        running = state == State.RUNNING
        event = EventRow(
            last, tenant, job_id, revision + 1,
            EventKind.STOPPING if running else EventKind.FAILED,
            State.STOPPING if running else State.FAILED,
            state, now_us, attempts, Reason.TOTAL_TIMEOUT,
            DEADLINE_MESSAGE if late else TOTAL_MESSAGE,
        )  # fmt: skip
        if running:
            over.stop(tx, event, Fence(tenant, job_id, attempts, epoch))
        else:
            over.fail(tx, event, keys, has_children, scheduled)
    await change(tx, "fail_waiting", over.failed[waited:])
    await change(tx, "stop_running", over.stopping)
    await leave(tx, over.left)
    await after_ends(tx, over.ended, now_us)
    return TimedOut(len(over.failed) + len(over.stopping), tuple(over.fences))


@dataclasses.dataclass(frozen=True, slots=True)
class _Over:
    """The rows to be written, and what follows from them."""

    failed: list[Row] = dataclasses.field(default_factory=list)
    stopping: list[Row] = dataclasses.field(default_factory=list)
    fences: list[Fence] = dataclasses.field(default_factory=list)
    left: list[tuple[str, str, str]] = dataclasses.field(default_factory=list)
    ended: list[Ended] = dataclasses.field(default_factory=list)

    def fail(
        self, tx: Transaction, event: EventRow, keys: str, has_children: object, scheduled: object
    ) -> None:
        self.failed.append(_row(tx, event))
        self.left.append((event.tenant, event.job_id, keys))
        self.ended.append(
            Ended(event.tenant, event.job_id, State.FAILED, bool(has_children), bool(scheduled))
        )

    def stop(self, tx: Transaction, event: EventRow, fence: Fence) -> None:
        self.stopping.append(_row(tx, event))
        if fence.attempt:  # an array has none
            self.fences.append(fence)


def _row(tx: Transaction, event: EventRow) -> Row:
    position = tx.record(event)
    return event.tenant, event.job_id, position, event.reason, event.message, event.at_us
