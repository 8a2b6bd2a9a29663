"""What a store gives to the verbs: one open transaction, and statements over many rows in it.

A verb is written once. It names statements, which each store has in `.sql` files of its own under the
same names with the same fields, and it awaits whatever the database is asked for. On PostgreSQL these
are round trips. On SQLite, whose calls block a thread of their own, nothing is ever awaited: there
`run_now` runs a verb like a plain function.
"""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from jobservice.errors import Internal
from jobservice.model.event import EventKind
from jobservice.model.job import Job
from jobservice.store.port import JobKey

Row = Sequence[Any]
Item = TypeVar("Item")
Answer = TypeVar("Answer")


class EventRow(NamedTuple):
    """Everything of an event but its position, in the order of `insert_events`."""

    previous_position: int | None
    """Of the event before it of the same job."""
    tenant: str
    job_id: str
    revision: int
    kind: EventKind
    state: int
    previous_state: int | None
    at_us: int
    attempt: int = 0
    reason: int = 0
    message: str = ""
    exit_code: int | None = None
    signal: int | None = None
    start_us: int | None = None


class Transaction(Protocol):
    """What is open between BEGIN and COMMIT.

    A store whose positions are only known at the commit gives places within the transaction for them,
    and puts the positions into the rows of the statements that tell changes when it runs these, last.
    """

    def record(self, event: EventRow) -> int:
        """Tell a change; returns its position, for the job's `last_position`."""

    def next_position(self) -> int:
        """The position of a change that is told by another table than `events`."""

    def told(self) -> set[tuple[str, str]]:
        """The jobs, by tenant and id, of which a change is told that is not written yet."""

    async def read(self, name: str, rows: Sequence[Row]) -> Sequence[Row]:
        """Run a query over rows; where it begins with the number of a row, in that order."""

    async def read_all(self, name: str, *values: object) -> Sequence[Row]:
        """Run a query with values."""

    async def write(self, name: str, rows: Sequence[Row]) -> int:
        """Run a statement over rows; returns how many rows of the database it changed.

        A statement that is not over many rows takes one row.
        """

    async def alone(self) -> bool:
        """From here to the commit nobody else claims or changes limits.

        Returns:
            Whether others might have done so since this transaction read of them: read it again.
        """

    async def find_held(self, now_us: int) -> Sequence[Row]:
        """What the live leases hold, for `use_of`; no lease that is granted from now on ends before."""

    async def find_job(self, key: JobKey) -> Job | None:
        """One job in full, as it stands in this transaction."""

    async def find_jobs(self, keys: Sequence[JobKey]) -> list[Job | None]:
        """Jobs without variables, input and attempts, as they stand in this transaction."""


Verb = Callable[[Transaction, Sequence[Item]], Coroutine[Any, Any, Sequence[Answer]]]
"""Runs one or more calls of a kind together; answers each of them, in order.

It must depend on nothing but its arguments and the database, for it may be run again."""


async def change(tx: Transaction, name: str, rows: Sequence[Row]) -> None:
    """Run a statement that must change exactly one row of the database for each of `rows`.

    Raises:
        Internal: its guard stopped it, though what was read in this transaction allowed it.
    """
    changed = await tx.write(name, rows)
    if changed != len(rows):
        raise Internal(f"{name} changed {changed} rows of {len(rows)}.")


def run_now(verb: Coroutine[Any, Any, Answer]) -> Answer:
    """The answer of a coroutine that never has to wait."""
    try:
        verb.send(None)
    except StopIteration as done:
        answer: Answer = done.value
        return answer
    verb.close()
    raise AssertionError("a verb waited for something else than its transaction")
