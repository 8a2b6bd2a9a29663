"""Arrays: one job that stands for up to a million of the same command. Pure values, no I/O.

An array is a row until its turn comes; then its indices are made into jobs of their own, a few ahead of
their start, and each lives the life of any job: limits, retries, timeouts, output. The array is RUNNING
while that goes on and final once every index is; it never has an attempt itself.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from jobservice.model.lifecycle import Reason, State, Trigger
from jobservice.model.limit import ConcurrencyKey

MOST_INDICES = 1_000_000
LONGEST_ITEM_BYTES = 4_096
AHEAD = 200
"""How many indices are QUEUED at most before a worker takes them."""
NAMED = 10
"""How many indices that did not succeed are named by the array that failed for them."""


@dataclasses.dataclass(frozen=True, slots=True)
class ArraySpec:
    """What a user says of an array."""

    size: int
    items: tuple[str, ...] = dataclasses.field(default=(), compare=False)
    """One for each index, or none at all; empty in what is read."""
    max_parallel: int | None = None
    """How many indices may run at once; None is without a limit."""
    max_failures: int | None = None
    """Once more indices have failed the array is stopped; None is never."""


@dataclasses.dataclass(frozen=True, slots=True)
class ArrayCounts:
    """How far an array is."""

    made: int = 0
    """The indices below it are jobs, or were."""
    succeeded: int = 0
    failed: int = 0
    dropped: int = 0
    """CANCELLED or SKIPPED."""

    @property
    def ended(self) -> int:
        """How many indices are final."""
        return self.succeeded + self.failed + self.dropped

    @property
    def active(self) -> int:
        """How many are made and not final."""
        return self.made - self.ended


COUNTED: Mapping[State, str] = MappingProxyType(
    {
        State.SUCCEEDED: "succeeded",
        State.FAILED: "failed",
        State.CANCELLED: "dropped",
        State.SKIPPED: "dropped",
    }
)
"""As what an index in a final state is counted."""


@dataclasses.dataclass(frozen=True, slots=True)
class Index:
    """Which index of which array a job is."""

    array_job_id: str
    index: int
    size: int
    item: str | None = None

    @property
    def env(self) -> dict[str, str]:
        """What its process is told of it."""
        told = {
            "JOBSERVICE_ARRAY_JOB_ID": self.array_job_id,
            "JOBSERVICE_ARRAY_INDEX": str(self.index),
            "JOBSERVICE_ARRAY_SIZE": str(self.size),
        }
        return told if self.item is None else {**told, "JOBSERVICE_ARRAY_ITEM": self.item}


def parallel_key(array_job_id: str, max_parallel: int) -> ConcurrencyKey:
    """The concurrency key that all indices of an array share, where only so many may run at once."""
    return ConcurrencyKey(f"array:{array_job_id}", max_parallel)


def index_name(name: str, index: int) -> str:
    """The name of the job of an index; empty where the array has none."""
    return f"{name}[{index}]" if name else ""


def percent(counts: ArrayCounts, size: int) -> float:
    """How much of an array is final."""
    return 100.0 * counts.ended / size


def step_text(counts: ArrayCounts, size: int) -> str:
    """How far an array is, for a person."""
    unmet = counts.failed + counts.dropped
    failed = f", {unmet:,} did not succeed" if unmet else ""
    return f"{counts.ended:,} of {size:,} indices are done{failed}"


def too_many_failed(counts: ArrayCounts, max_failures: int | None) -> bool:
    """Whether an array is to be stopped because of what failed."""
    return max_failures is not None and counts.failed > max_failures


def failures_message(max_failures: int) -> str:
    """Why an array was stopped, for a person."""
    indices = "1 index" if max_failures == 1 else f"{max_failures:,} indices"
    return f"more than {indices} failed"


def unmet_message(counts: ArrayCounts, size: int, named: Iterable[int]) -> str:
    """Why an array failed, for a person.

    `named` are the first indices that did not succeed, without those that were deleted.
    """
    unmet = counts.failed + counts.dropped
    first = list(map(str, named))
    more = unmet - len(first)
    which = f": {', '.join(first)}{f' and {more:,} more' if more else ''}" if first else ""
    return f"{unmet:,} of {size:,} indices did not succeed{which}"


def end(counts: ArrayCounts, size: int, stopped_for: Reason | None) -> Trigger:
    """What becomes of an array none of whose indices is left; `stopped_for` where it is STOPPING."""
    if counts.succeeded == size:
        return Trigger.SUCCEED
    if stopped_for is Reason.USER:
        return Trigger.CANCEL
    return Trigger.FAIL


def items_of(text: str) -> list[str]:
    """Items out of a piece of them, as `items_text` wrote it."""
    found: list[str] = json.loads(text)
    return found
