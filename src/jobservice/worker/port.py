"""What a worker needs of the service: leases on jobs, and someone to tell what became of them.

In one process with the server it is the engine's `Leases`; on another host, a gRPC client.
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


class Dispatcher(Protocol):
    """The worker's side of the service. Every call may raise `Unavailable`: try it again."""

    async def claim(self, worker_id: str, limit: int, wait_s: float) -> Sequence[Claim]:
        """Lease up to `limit` jobs; waits up to `wait_s` for the first."""

    async def start(self, starts: Sequence[AttemptStart]) -> Sequence[bool]:
        """Processes exist. False: the fence is stale."""

    async def finish(self, ends: Sequence[AttemptEnd]) -> Sequence[bool]:
        """Processes are gone. False: the fence is stale."""

    async def unclaim(self, fences: Sequence[Fence]) -> Sequence[bool]:
        """Hand leases back that have no process. False: finish it, or the fence is stale."""

    async def extend(self, fences: Sequence[Fence]) -> Sequence[LeaseAnswer]:
        """Prolong leases."""

    async def report_progress(self, reports: Sequence[ProgressReport]) -> Sequence[bool]:
        """What attempts say of themselves."""

    async def list_live(self, worker_id: str) -> Sequence[LiveAttempt]:
        """Every lease that this worker holds."""

    def on_stop(self, hear: Callable[[Sequence[Fence]], None]) -> None:
        """Have `hear` called with attempts that are to end. A hint: `extend` tells it too."""
