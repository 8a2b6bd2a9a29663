"""The store port's verbs about workers; see the head of `port.py` for what holds for all of them."""

import datetime as dt
from collections.abc import Sequence
from typing import Protocol

from jobservice.model.worker import Drain, Placement, Worker, WorkerInfo


class WorkerStore(Protocol):
    """The verbs about workers. Those that are answered with a worker leave its state to the engine."""

    async def register_worker(
        self, info: WorkerInfo, *, now: dt.datetime, instead_of: Worker | None = None
    ) -> Worker:
        """Keep what a worker says of itself; one that is drained stays so.

        So does whether it minds silence, until its next contact.

        Args:
            info: What it says.
            now: When it was heard of.
            instead_of: One of the same id and another origin that is not heard of any more. Where it
                was after all, nothing is kept.

        Returns:
            The worker as it is known. One of another origin than `info`, where both say one: it is in
            the way, and nothing was kept.
        """

    async def note_contact(
        self, worker_id: str, *, now: dt.datetime, minds_silence: bool = False
    ) -> bool | None:
        """A worker was heard of; None where nobody registered it.

        Args:
            worker_id: The worker.
            now: When that is.
            minds_silence: Of one in the process of a server, whether it ends what it runs when the store
                does not answer, also if this call is the last one that is answered. Its leases expire
                only where it has said so, for else it may be cut off and go on; or where it was drained
                at or after their end, by somebody who knows that nothing of it runs any more; or where
                they are of a backup. Those of workers on other hosts expire in any case.

        Returns:
            Whether another worker was heard of within a day (`COMPANY`).
        """

    async def drain_worker(self, worker_id: str, drain: Drain | None) -> Worker | None:
        """Keep a worker from claiming, or let it claim again; None where nobody registered it.

        A claim that begins after a drain was acknowledged is granted nothing.
        """

    async def forget_workers(self, *, before: dt.datetime) -> int:
        """Drop workers without a lease that were not heard of since; returns how many.

        What is known of files that are left with them goes too.
        """

    async def list_left_files(
        self, worker_id: str, *, after: str, limit: int
    ) -> list[tuple[str, int]]:
        """Deleted jobs whose files are left with a worker, by id, behind one.

        Each comes with the number of its last attempt there. A delete notes them in its transaction,
        for the embedded workers of other servers than the one that leads: that one has removed its own
        files before, and a worker on another host needs nobody. None where there is one server.
        """

    async def forget_left_files(self, worker_id: str, job_ids: Sequence[str]) -> None:
        """The files of these jobs are left with the worker no more."""

    async def find_worker(self, worker_id: str) -> Worker | None:
        """One worker."""

    async def list_taken(self, worker_id: str) -> list[tuple[Placement, int]]:
        """What the live attempts of a worker ask of it, and how many ask for just this."""

    async def list_workers(self, *, limit: int, after: str) -> list[Worker]:
        """Workers by id, behind one."""
