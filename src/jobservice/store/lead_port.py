"""The store port's verbs about which server leads, and for it alone; see the head of `port.py`."""

import dataclasses
import datetime as dt
from collections.abc import Callable, Sequence
from typing import Protocol


@dataclasses.dataclass(frozen=True, slots=True)
class Lead:
    """Who leads the servers on one database."""

    server: str
    epoch: int
    """Counted on whenever another leads, or the same one anew."""
    for_ever: bool = False
    """There can be no other: the lease need not be renewed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Held:
    """A transaction that has been open for long. What it says, its statements, is nobody's business."""

    kind: str
    """`session`, `prepared` (a transaction in two phases) or `slot` (of a replication)."""
    name: str
    """The process id of a session; the name of the others."""
    application: str
    user: str
    state: str
    """Such as `idle in transaction`."""
    age: dt.timedelta | None
    """Since when; None of a slot, which does not say."""


class LeadStore(Protocol):
    """The lease on the lead. Time is the database's, for the clocks of servers differ."""

    async def take_lead(self, server: str, epoch: int, *, lease: dt.timedelta) -> Lead:
        """Lead on under an epoch, or take the lead where nobody has it; answers who leads now.

        Args:
            server: The name of a server; no two processes bear it at the same time. One that is
                started anew takes over from itself at once, under the next epoch.
            epoch: Under which it leads as far as it knows; 0 where it does not.
            lease: How long it leads from now on.
        """

    async def leave_lead(self, lead: Lead) -> None:
        """Lead no more, and let the others know; nothing where another leads already."""

    def on_left(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when another server leads no more. A hint: it may be missing."""

    async def list_held_open(self, *, older: dt.timedelta) -> Sequence[Held] | None:
        """The transactions that are open for longer, the oldest first; None where there are never any.

        At most 20 of them.
        """
