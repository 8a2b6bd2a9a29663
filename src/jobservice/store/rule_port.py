"""The store port's verbs that read queues and limits; see the head of `port.py` for all of them."""

import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Protocol

from jobservice.model.limit import ConcurrencyKey, KeyRule, Limit, LimitKind, Use
from jobservice.model.queue import Queue

COUNTED_DEPTH = 100_000
"""A queue with more jobs is said to have so many."""
FLOW_WINDOW = dt.timedelta(minutes=1)
"""What the rates of a queue are taken over."""
FLOW_EVENTS = 20_000
"""And how many changes of the store at most."""


@dataclasses.dataclass(frozen=True, slots=True)
class QueueCounts:
    """How full a queue is, and how it moves."""

    depth: int
    """QUEUED jobs, counted to `COUNTED_DEPTH`."""
    oldest_queued_at: dt.datetime | None
    running: int
    created: int
    """Jobs that were created in the last `FLOW_WINDOW`, or `FLOW_EVENTS` changes of the store."""
    claimed: int
    """Attempts that were claimed in the same time."""


@dataclasses.dataclass(frozen=True, slots=True)
class Holder:
    """A job with a live lease, and what it holds."""

    job_id: str
    queue: str
    keys: tuple[ConcurrencyKey, ...]


class RuleStore(Protocol):
    """The verbs that read the rules and what is in use."""

    async def find_queue(self, tenant: str, name: str) -> Queue | None:
        """The rules of a queue that was made."""

    async def list_queues(self, tenant: str, *, limit: int, after: str) -> list[Queue]:
        """Queues that were made, by name, behind `after`."""

    async def queue_counts(self, tenant: str, name: str, *, now: dt.datetime) -> QueueCounts:
        """How full a queue is, and how it moves."""

    async def list_limits(
        self, tenant: str, *, limit: int, after: tuple[str, int, str]
    ) -> list[Limit]:
        """Limits of a tenant and of the service, in the order of tenant, kind and name, behind one."""

    async def list_held(self, tenant: str, *, limit: int) -> list[Holder]:
        """What each live lease of a tenant holds."""

    async def find_limit(self, tenant: str, kind: LimitKind, name: str) -> Limit | None:
        """A limit that was set; the tenant of that of the service is empty."""

    async def list_use(self) -> Use:
        """What the live leases of all tenants hold."""

    async def find_rules(self, tenant: str, keys: Sequence[str]) -> dict[str, KeyRule]:
        """The limits on keys, where there are any, with how far their rates are used up."""

    async def list_parked_keys(self, tenant: str, *, limit: int, after: str) -> list[str]:
        """Keys that jobs of a tenant are parked for, in order, behind `after`."""

    async def count_parked(self, tenant: str, keys: Sequence[str]) -> list[int]:
        """How many jobs wait for each key, as far as a claim has found out; counted to 10,000."""
