"""New jobs that nothing else decides about, in one statement that is a transaction by itself.

A transaction of BEGIN, three inserts and COMMIT is five round trips, and between any two of them the
database waits for the server. What such a submit reads (is its queue bounded, is its request known)
needs no lock, so it is read before.
"""

import functools
import re
from collections.abc import Sequence
from typing import Any

from jobservice.store.postgres.connect import Connection
from jobservice.store.postgres.floors import Floors
from jobservice.store.postgres.queries import QUERIES
from jobservice.store.postgres.transaction import Transaction
from jobservice.store.verbs.group import Calls
from jobservice.store.verbs.submit import InsertCall
from jobservice.store.verbs.transaction import Row

_READ = frozenset({"find_bounded", "find_requests"})
_WRITTEN = frozenset(
    {"insert_jobs", "insert_specs", "insert_requests", "insert_arrays", "insert_array_items"}
)
_PARAMETER = re.compile(r"\$(\d+)")


class NotAtOnce(Exception):
    """It needs a transaction with more in it. Nothing was written."""


def fits_at_once(batch: Calls) -> bool:
    """Whether calls only insert jobs, as far as can be seen before they are run."""
    return all(
        isinstance(call.item, InsertCall) and call.item.is_plain and call.epoch is None
        for call in batch
    )


class AtOnce(Transaction):
    """Gathers what is to be inserted, and inserts it at the commit. Raises `NotAtOnce` at all else."""

    def __init__(self, connection: Connection, begin_at: Floors) -> None:
        super().__init__(connection, begin_at)
        self._texts: list[str] = []
        self._values: list[Sequence[Any]] = []

    async def begin(self, settings: str) -> None:
        """Nothing is open before the commit."""
        del settings

    async def read(self, name: str, rows: Sequence[Row]) -> Sequence[Any]:
        if rows and name not in _READ:
            raise NotAtOnce
        return await super().read(name, rows)

    async def read_all(self, name: str, *values: object) -> Sequence[Any]:
        del name, values
        raise NotAtOnce

    async def write(self, name: str, rows: Sequence[Row]) -> int:
        if rows and name not in _WRITTEN:
            raise NotAtOnce
        return await super().write(name, rows)

    async def _write(self, name: str, rows: Sequence[Row]) -> int:
        text, values = QUERIES[name].bound(rows)
        self._texts.append(text)
        self._values.append(values)
        if name == "insert_jobs":
            self.inserted.append(rows)
        return len(rows)

    async def commit(self) -> None:
        """Make it durable; where it raises what PostgreSQL says, nothing was written."""
        if self._texts:
            text = _joined(tuple(self._texts), tuple(map(len, self._values)))
            await self._connection.execute(
                text, *[each for given in self._values for each in given]
            )


@functools.lru_cache(maxsize=256)
def _joined(texts: Sequence[str], counts: Sequence[int]) -> str:
    """One statement out of several, each with so many parameters.

    The last one, which tells the changes and so takes the lock of positions, is run last: PostgreSQL
    runs the main one first, and then the others from the last to the first.
    """
    main, *others = [_renumbered(text, sum(counts[:n])) for n, text in enumerate(texts)]
    if not others:
        return main
    parts = ", ".join(f"part_{n} AS ({text})" for n, text in enumerate(reversed(others)))
    return f"WITH {parts} {main}"


def _renumbered(text: str, behind: int) -> str:
    return _PARAMETER.sub(lambda found: f"${int(found[1]) + behind}", text)
