"""What rules cannot say of arrays: their items, and what does not go together with them."""

from collections.abc import Iterator

from jobservice.errors import Violation
from jobservice.model.array import LONGEST_ITEM_BYTES, MOST_INDICES
from jobservice.wire._gen.v1 import job_pb2

SHOWN_ITEMS = 10
"""How many bad items are told of."""


def check_array(job: job_pb2.Job, path: str) -> Iterator[Violation]:
    """What is wrong with the array of a job."""
    if not job.HasField("array"):
        return
    array, path_ = job.array, f"{path}.array"
    if array.items and array.size not in {0, len(array.items)}:
        count = f"{len(array.items):,}"
        text = f"must be left out beside items, of which there are {count}; got {array.size:,}"
        yield Violation(f"{path_}.size", text, "NOT_WITH_ITEMS")
    if not array.items and not array.size:
        text = f"must be from 1 to {MOST_INDICES:,}, or give items instead"
        yield Violation(f"{path_}.size", text, "REQUIRED")
    yield from _check_items(array, path_)
    for n, key in enumerate(job.concurrency_keys):
        if key.on_conflict not in {
            job_pb2.ON_CONFLICT_UNSPECIFIED,
            job_pb2.ON_CONFLICT_QUEUE,
        }:
            text = (
                "must be QUEUE (the default) for an array: its indices wait for the key one by one"
            )
            yield Violation(f"{path}.concurrency_keys[{n}].on_conflict", text, "NOT_FOR_AN_ARRAY")


def _check_items(array: job_pb2.Array, path: str) -> Iterator[Violation]:
    if len(array.items) > MOST_INDICES:
        text = f"must be at most {MOST_INDICES:,} items; got {len(array.items):,}"
        yield Violation(f"{path}.items", text, "REPEATED_MAX_ITEMS")
    told = 0
    for n, item in enumerate(array.items):
        problem = _problem(item)
        if problem:
            told += 1
            yield Violation(f"{path}.items[{n}]", problem, "ITEM")
        if told == SHOWN_ITEMS:
            return


def _problem(item: str) -> str:
    if "\0" in item:
        return "must not hold a NUL character"
    if len(item) * 4 > LONGEST_ITEM_BYTES and (size := len(item.encode())) > LONGEST_ITEM_BYTES:
        return f"must be at most {LONGEST_ITEM_BYTES:,} bytes; got {size:,}"
    return ""
