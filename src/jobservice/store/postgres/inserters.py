"""Many new jobs at once, over connections of their own.

Nothing else waits behind a large submit: neither claims nor the ends of attempts. And while PostgreSQL
writes one batch over one connection, the rows of the next are made for another. What other jobs decide
about (dependencies, keys, what is unique, queues with bounds) goes with everything else over the
connection of the writer: there nobody of this server is in its way.
"""

from collections.abc import Sequence

from jobservice.store.port import Inserted
from jobservice.store.postgres.writer import Writer
from jobservice.store.verbs.submit import InsertCall, insert_unbounded
from jobservice.store.verbs.transaction import Verb

CONNECTIONS = 4
"""With more of them they are in each other's way, at the ends of the same indexes."""
LARGE = 50
"""Calls with fewer jobs share the commits of the writer: they hold nothing up."""


class Inserters:
    """Chooses the connection of each call."""

    def __init__(self, writer: Writer, own: Sequence[Writer]) -> None:
        self._writer = writer
        self._own = own
        self._jobs = [0] * len(own)
        """How many are under way on each."""

    async def run(self, verb: Verb[InsertCall, Inserted], call: InsertCall) -> Inserted:
        """Have a call run and committed; durable when this returns. Raises what `Writer.run` does."""
        is_apart = len(call.jobs) >= LARGE and call.is_plain
        answer = await self._insert(call) if is_apart else None
        return await self._writer.run(verb, call) if answer is None else answer

    async def _insert(self, call: InsertCall) -> Inserted | None:
        chosen = self._jobs.index(min(self._jobs))
        self._jobs[chosen] += len(call.jobs)
        try:
            return await self._own[chosen].run(insert_unbounded, call)
        finally:
            self._jobs[chosen] -= len(call.jobs)
