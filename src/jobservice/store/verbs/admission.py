"""Admission: whether a queue takes new jobs, judged in the transaction of their insert.

A queue that is drained takes none. One with bounds on its depth or on the age of its oldest job is full
where these are reached; then its rule says who gives way. Nobody does before all of the call is judged.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from jobservice.model.job import NewJob
from jobservice.model.lifecycle import State
from jobservice.model.queue import OnFull, PauseMode
from jobservice.store.port import Inserted, Insertion, JobKey
from jobservice.store.rows import Columns, spec_row
from jobservice.store.verbs.transaction import Transaction
from jobservice.store.verbs.yielding import supersede

REPLACED_MESSAGE = "made room in a full queue for {}"


@dataclasses.dataclass(slots=True)
class Room:
    """What queues say to new jobs."""

    refusal: Inserted | None = None
    giving_way: list[JobKey] = dataclasses.field(default_factory=list)
    """Jobs that are to end for them."""


class Arriving(NamedTuple):
    """What a call brings to a queue."""

    queue: str
    jobs: int
    """Of the jobs that are QUEUED at once; others come when their time has come, full or not."""


class _Bound(NamedTuple):
    """The columns of `find_bounds`, without the number of the row."""

    pause_mode: int | None
    pause_until_us: int | None
    max_depth: int | None
    max_age_us: int | None
    on_full: int
    depth: int
    oldest_us: int | None

    def is_drained(self, now_us: int) -> bool:
        """Whether it takes nothing."""
        in_force = self.pause_until_us is None or now_us < self.pause_until_us
        return self.pause_mode == PauseMode.DRAIN and in_force

    def is_old(self, now_us: int) -> bool:
        """Whether its oldest job has waited too long."""
        return (
            self.max_age_us is not None
            and self.oldest_us is not None
            and now_us - self.oldest_us > self.max_age_us
        )

    def full(self, count: int, now_us: int) -> str:
        """Why it does not take so many more, in words."""
        if self.is_old(now_us):
            assert self.max_age_us is not None
            most_s = self.max_age_us / 1e6
            return f"its oldest job has been queued for longer than {most_s:,.15g} s"
        more = f", and {count:,} more do not fit" if count > 1 else ""
        return f"{self.depth:,} of {self.max_depth:,} jobs are queued{more}"

    def surplus(self, count: int, now_us: int) -> int:
        """How many jobs would have to give way to so many new ones."""
        if not count:
            return 0
        over = 0 if self.max_depth is None else max(0, self.depth + count - self.max_depth)
        return max(over, min(count, self.depth)) if self.is_old(now_us) else over


def arriving(jobs: Sequence[NewJob]) -> tuple[Arriving, ...]:
    """What new jobs bring to each of their queues."""
    counts: dict[str, int] = {}
    for job in jobs:
        queued = job.state is State.QUEUED and not job.spec.dependencies
        counts[job.spec.queue] = counts.get(job.spec.queue, 0) + queued
    return tuple(Arriving(*each) for each in counts.items())


async def find_bounded(tx: Transaction, queues: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """Which of these queues, with their tenants, may refuse anything at all."""
    wanted = list(dict.fromkeys(queues))
    rows = await tx.read("find_bounded", [(n, *key) for n, key in enumerate(wanted)])
    return {wanted[n] for [n] in rows}


async def admit(
    tx: Transaction, tenant: str, coming: Sequence[Arriving], jobs: Sequence[NewJob], now_us: int
) -> Room:
    """Whether the queues of a call have room for it, or who makes some; nothing is written.

    Everything that was accepted before must be written.
    """
    rows = [(n, tenant, each.queue) for n, each in enumerate(coming)]
    bounds = {coming[n]: _Bound._make(row) for n, *row in await tx.read("find_bounds", rows)}
    room = Room()
    for each, bound in bounds.items():
        if bound.is_drained(now_us):
            return Room(Inserted(Insertion.DRAINED, (), queue=each.queue))
        surplus = bound.surplus(each.jobs, now_us)
        if not surplus:
            continue
        if bound.on_full == OnFull.COALESCE and len(jobs) == 1:
            return Room(await _coalesce(tx, jobs[0], bound.full(each.jobs, now_us)))
        replaces = bound.on_full in {OnFull.REPLACE_OLDEST, OnFull.REPLACE_NEWEST}
        if not replaces or surplus > bound.depth:
            return Room(_full(each.queue, bound.full(each.jobs, now_us)))
        oldest = bound.on_full == OnFull.REPLACE_OLDEST
        name = "find_oldest_waiting" if oldest else "find_newest_waiting"
        found = await tx.read_all(name, tenant, each.queue, surplus)
        if len(found) < surplus:  # another server is at them
            return Room(_full(each.queue, bound.full(each.jobs, now_us)))
        room.giving_way += [JobKey(tenant, job_id) for [job_id] in found]
    return room


async def make_room(tx: Transaction, room: Room, job: NewJob, now_us: int) -> None:
    """End the jobs that give way to new ones, the first of which is `job`."""
    message = REPLACED_MESSAGE.format(f"job {job.job_id}")
    await supersede(tx, room.giving_way, message, now_us)


def _full(queue: str, bound: str) -> Inserted:
    return Inserted(Insertion.QUEUE_FULL, (), queue=queue, bound=bound)


async def _coalesce(tx: Transaction, job: NewJob, bound: str) -> Inserted:
    """The newest waiting job with the same command stands for a new one."""
    row: Columns = spec_row(job)
    _, _, _, _, work_dir, argv, env, stdin, _ = row
    found = await tx.read_all(
        "find_same_command", job.tenant, job.spec.queue, argv, env, work_dir, stdin
    )
    if not found:
        return _full(job.spec.queue, f"{bound}, none of them with the same command")
    [[job_id]] = found
    return Inserted(Insertion.STOOD_FOR, (job_id,), queue=job.spec.queue)
