"""The store port's verb that moves arrays on; see the head of `port.py` for all of them."""

import dataclasses
import datetime as dt
from typing import Protocol

from jobservice.model.attempt import Fence


@dataclasses.dataclass(frozen=True, slots=True)
class SettledArrays:
    """What became of arrays that were looked at."""

    after: tuple[str, str] | None
    """Tenant and job behind which the next call goes on; None after the last one."""
    again: bool
    """There is more to do at once."""
    queued: bool
    """Indices may start."""
    ended: bool
    """Arrays are final."""
    deletable: bool
    """Jobs are to be deleted."""
    stopping: tuple[Fence, ...]
    """Of the attempts that have to end."""


class ArrayStore(Protocol):
    """The verb of arrays that were opened."""

    async def settle_arrays(
        self, after: tuple[str, str], *, now: dt.datetime, randomness: int
    ) -> SettledArrays:
        """Move arrays on: make their next indices, count those that ended, stop or revive them, end.

        Each call does a bounded piece. `randomness` tells the ids of the indices apart that are made.
        """
