"""Workers: registered, drained, looked at. What they run is in `claim.py`."""

import dataclasses
import datetime as dt

from jobservice.engine.parts import Parts
from jobservice.errors import WorkerElsewhere, WorkerNotFound
from jobservice.model.placements import resources_words
from jobservice.model.worker import (
    ANYWHERE,
    GRACE,
    Drain,
    Placement,
    Room,
    Worker,
    WorkerInfo,
    WorkerState,
)

JUDGED_WORKERS = 1_000
"""How many are looked at for one that a job fits on."""
PRESENT = dt.timedelta(minutes=5)
"""A worker that was not heard of for so long is none that a job could wait for."""


@dataclasses.dataclass(frozen=True, slots=True)
class Quiet:
    """How long nothing may be heard of a worker before it is SILENT."""

    elsewhere: dt.timedelta
    """Of one on another host."""
    embedded: dt.timedelta
    """Of one in the process of a server, which has less to tell."""

    @classmethod
    def of(cls, lease_s: float, poll_s: float) -> "Quiet":
        """One in the process of a server tells of itself once in this time, or more often."""
        return cls(
            elsewhere=dt.timedelta(seconds=lease_s),
            embedded=dt.timedelta(seconds=lease_s + max(lease_s, poll_s)),
        )

    def judged(self, worker: Worker, now: dt.datetime) -> Worker:
        """A worker with its state."""
        return worker.judged(now, self.embedded if worker.info.embedded else self.elsewhere)

    def is_over(self, worker: Worker, now: dt.datetime) -> bool:
        """Whether a worker is silent for so long that its leases are given to others, too."""
        return self.judged(worker, now - GRACE * self.elsewhere).state is WorkerState.SILENT


async def register_worker(parts: Parts, info: WorkerInfo, quiet: Quiet) -> Worker:
    """Keep what a worker says of itself. One that is drained stays so, whoever starts it again.

    Two workers of one id would each think that the leases of the other are its own lost ones. So one
    with a copy of a data directory waits for as long as the other is heard of.

    Raises:
        WorkerElsewhere: a worker of this id was heard of from another origin, not long ago.
    """
    now = parts.clock.now()
    with parts.signals.outage.noted(parts.clock):
        known = await parts.store.register_worker(info, now=now)
        if known.info.origin == info.origin:
            return known
        if quiet.is_over(known, now):
            known = await parts.store.register_worker(info, now=now, instead_of=known)
    if known.info.origin != info.origin:
        raise _elsewhere(known, now)
    return known


def _elsewhere(known: Worker, now: dt.datetime) -> WorkerElsewhere:
    worker_id, host = known.info.worker_id, known.info.host
    ago_s = max(int((now - known.contact_at).total_seconds()), 0)
    return WorkerElsewhere(
        f"Worker {worker_id} was heard of {ago_s} s ago from another data directory, or another start"
        f" of its host, {host}. If the data directory here is a copy, remove worker-id from it, and a"
        " new id is made. If it was moved, or the host was started anew, wait until nothing was heard"
        " of the other for long enough.",
        worker_id=worker_id,
        host=host,
    )


async def drain_worker(parts: Parts, worker_id: str, reason: str) -> Worker:
    """Keep a worker from taking anything new; one that is drained stays so, for the new reason.

    Raises:
        WorkerNotFound: nobody registered it.
    """
    return await _drain(parts, worker_id, Drain(parts.clock.now(), reason))


async def resume_worker(parts: Parts, worker_id: str) -> Worker:
    """Let a worker take jobs again.

    Raises:
        WorkerNotFound: nobody registered it.
    """
    worker = await _drain(parts, worker_id, None)
    parts.signals.work.ring()
    return worker


async def _drain(parts: Parts, worker_id: str, drain: Drain | None) -> Worker:
    worker = await parts.store.drain_worker(worker_id, drain)
    if worker is None:
        raise unknown_worker(worker_id)
    return worker


async def get_worker(parts: Parts, worker_id: str) -> Worker:
    """One worker.

    Raises:
        WorkerNotFound: nobody registered it.
    """
    worker = await parts.store.find_worker(worker_id)
    if worker is None:
        raise unknown_worker(worker_id)
    return worker


async def list_workers(parts: Parts, *, limit: int, after: str) -> tuple[list[Worker], str | None]:
    """Workers by id behind `after`, and the id behind which the next page begins."""
    found = await parts.store.list_workers(limit=limit + 1, after=after)
    page = found[:limit]
    return page, page[-1].info.worker_id if len(found) > limit else None


def unknown_worker(worker_id: str) -> WorkerNotFound:
    """What to say of a worker that nobody registered."""
    return WorkerNotFound(
        f"There is no worker {worker_id}: it has never registered, or was forgotten.",
        worker_id=worker_id,
    )


# --- why a job waits --------------------------------------------------------------------------


async def find_misfit(parts: Parts, placement: Placement) -> str | None:
    """Why no worker can take a job right now, in words; None where one has what the job asks for."""
    now = parts.clock.now()
    known = await parts.store.list_workers(limit=JUDGED_WORKERS, after="")
    found = [each for each in known if each.drain is None and now - each.contact_at < PRESENT]
    if not found:
        why = "all of them are draining or silent" if known else "there is none that takes jobs"
        return f"waits for a worker: {why}; see jobservice workers list"
    if placement == ANYWHERE:
        return None
    rooms = [(each, Room(each.info.labels, each.info.resources)) for each in found]
    labelled = [each for each in rooms if each[1].has_labels(placement)]
    if not labelled:
        asked = ", ".join(f"{key}={value}" for key, value in placement.labels.items())
        return f"waits for a worker with {asked}: {_none_of(len(found))} has it"
    large = [each for each in labelled if each[1].is_large_enough(placement)]
    asked = resources_words(placement.resources)
    if not large:
        with_labels = " with its labels" if placement.labels else ""
        return (
            f"waits for a worker that is large enough: it takes {asked}, and "
            f"{_none_of(len(labelled))}{with_labels} has so much"
        )
    for worker, room in large:
        for other, count in await parts.store.list_taken(worker.info.worker_id):
            room.take(other, count)
        if room.fits(placement):
            return None
    full = (
        "the one that it fits on is" if len(large) == 1 else f"all {len(large)} that it fits on are"
    )
    return f"waits for room on a worker: it takes {asked}, and {full} full"


def _none_of(count: int) -> str:
    return "no worker" if count < 2 else f"none of {count} workers"
