"""The store port's verbs about output; see the head of `port.py` for what holds for all of them."""

from collections.abc import Sequence
from typing import Protocol

from jobservice.model.output import LogAppend, Piece, Stream


class LogStore(Protocol):
    """The verbs about output that is kept in the store. It goes when its job is deleted."""

    async def append_logs(self, appends: Sequence[LogAppend]) -> list[int | None]:
        """Keep what of pieces is new; returns where each stream ends then. None: the fence is stale.

        What is there already is left as it is, so a repeat does no harm; a piece that begins behind
        the end is not kept.
        """

    async def read_log(
        self, tenant: str, job_id: str, attempt: int, stream: Stream, offset: int
    ) -> Piece:
        """The next piece from `offset` on, as far as it is kept; an empty one where nothing is."""
