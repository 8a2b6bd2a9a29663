"""The store port's verbs about operations; see the head of `port.py` for what holds for all of them."""

import dataclasses
import datetime as dt
from collections.abc import Callable, Sequence
from typing import Protocol

from jobservice.model.attempt import Fence
from jobservice.model.job import Job
from jobservice.model.operation import BulkChange, Operation, Place


@dataclasses.dataclass(frozen=True, slots=True)
class OperationKey:
    """An operation of a tenant."""

    tenant: str
    operation_id: str


@dataclasses.dataclass(frozen=True, slots=True)
class OperationStep:
    """A batch of jobs that an operation is to change now."""

    key: OperationKey
    behind: Place | None
    """Where the operation must be."""
    job_ids: Sequence[str]
    place: Place | None
    """Where it is afterwards; None: it has come to its end."""
    matches: Callable[[Job], bool]
    """Pure and quick: it runs inside the transaction, on jobs without variables and input."""
    give_up: bool = False
    """Change no job, and count those that match as failed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stepped:
    """An operation behind a batch."""

    operation: Operation
    fences: tuple[Fence, ...]
    """Of the attempts that have to end."""


@dataclasses.dataclass(frozen=True, slots=True)
class OperationPage:
    """Some operations, newest first."""

    operations: tuple[Operation, ...]
    behind: str | None
    """The id where the next page goes on; None when there are no more."""


class OperationStore(Protocol):
    """The verbs about operations."""

    async def begin_operation(
        self,
        key: OperationKey,
        change: BulkChange,
        *,
        request_id: str,
        limit: int,
        now: dt.datetime,
    ) -> Operation | None:
        """Remember an operation that goes on from now; None when `limit` of the tenant's do already.

        With a `request_id` that is known, returns the operation that it began, whatever was asked for.
        """

    async def step_operation(self, step: OperationStep, *, now: dt.datetime) -> Stepped | None:
        """Change the jobs of a batch that match still, and move the operation on behind them.

        Each action is that of the verb about one job. None, and nothing is changed, where the operation
        is not at `step.behind` or does not go on.
        """

    async def cancel_operation(self, key: OperationKey, *, now: dt.datetime) -> Operation | None:
        """End an operation where it is; one that has ended is returned as it is."""

    async def forget_operations(self, *, before: dt.datetime, limit: int) -> int:
        """Drop operations that ended before; returns how many."""

    async def find_operation(self, key: OperationKey) -> Operation | None:
        """One operation."""

    async def list_operations(
        self, tenant: str, *, behind: str | None, limit: int
    ) -> OperationPage:
        """The operations that are older than the one with the id `behind`, newest first."""

    async def list_running_operations(self, *, limit: int) -> list[Operation]:
        """The operations of all tenants that go on, the one that is due first in front."""
