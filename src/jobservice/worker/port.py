"""What a worker needs of the service: leases on jobs, and someone to tell what became of them.

In one process with the server it is the engine's `Leases`; on another host, the gRPC client of
`remote.py`.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from jobservice.model.attempt import Fence
from jobservice.model.lease import (
    AttemptEnd,
    AttemptStart,
    Claim,
    LeaseAnswer,
    LiveAttempt,
    ProgressReport,
)
from jobservice.model.output import LogAppend, Piece, Stream
from jobservice.model.worker import WorkerInfo


class Dispatcher(Protocol):
    """The worker's side of the service. Every call may raise `Unavailable`: try it again."""

    async def register(self, info: WorkerInfo) -> float:
        """Say who the worker is; returns how many seconds a lease holds.

        Raises:
            WorkerElsewhere: another one of this id is heard of, on another host or in another directory.
        """

    async def claim(self, worker_id: str, limit: int, wait_s: float) -> Sequence[Claim]:
        """Lease up to `limit` jobs; waits up to `wait_s` for the first."""

    async def start(self, starts: Sequence[AttemptStart]) -> Sequence[bool]:
        """Processes exist. False: the fence is stale."""

    async def finish(self, ends: Sequence[AttemptEnd]) -> Sequence[bool]:
        """Processes are gone. False: the fence is stale."""

    async def unclaim(self, fences: Sequence[Fence]) -> Sequence[bool]:
        """Hand leases back that have no process. False: finish it, or the fence is stale."""

    async def extend(self, worker_id: str, fences: Sequence[Fence]) -> Sequence[LeaseAnswer]:
        """Prolong leases; the sign of life of the worker, also without any.

        Raises:
            WorkerNotFound: nobody knows the worker (any more): register it.
        """

    async def report_progress(self, reports: Sequence[ProgressReport]) -> Sequence[bool]:
        """What attempts say of themselves."""

    async def append_logs(self, appends: Sequence[LogAppend]) -> Sequence[int | None]:
        """Bring output to where every server can read it; where each stream ends. None: stale fence."""

    async def list_live(self, worker_id: str) -> Sequence[LiveAttempt]:
        """Every lease that this worker holds."""

    def on_stop(self, hear: Callable[[Sequence[Fence]], None]) -> None:
        """Have `hear` called with attempts that are to end. A hint: `extend` tells it too."""

    def on_contact(self, hear: Callable[[float], None]) -> None:
        """Have `hear` called with the monotonic instant since which the leases are known to be safe.

        That is when `extend` was called and prolonged them, or when all servers were asked and said that
        their database is away. In the process of a server the first alone, and only once the store knows
        of other workers: whoever is told so ends what it runs when it is told nothing more.
        """


class Output(Protocol):
    """What attempts on this host have written, as their runner keeps it."""

    async def read(self, job_id: str, attempt: int, stream: Stream, offset: int) -> Piece:
        """The next piece of a stream; an empty one where nothing is there (yet)."""

    async def gap(self, job_id: str, attempt: int, stream: Stream) -> Piece | None:
        """What of a stream was dropped for the limit until now; it grows. None: nothing."""


class Files(Protocol):
    """The directories of attempts on this host, which are of no use once all of an attempt is told."""

    async def keep_only(self, attempts: Sequence[tuple[str, int]]) -> None:
        """Remove those of all other attempts, given by job and number."""

    async def discard(self, attempts: Sequence[tuple[str, int]]) -> None:
        """Remove those of these attempts."""
