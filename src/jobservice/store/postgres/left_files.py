"""Files of deleted jobs that are left with workers of other servers, noted by `delete_attempts`."""

from collections.abc import Sequence

from jobservice.store.verbs.transaction import Transaction


async def forget_left_files(
    tx: Transaction, calls: Sequence[tuple[str, Sequence[str]]]
) -> list[None]:
    """They are left no more; calls are pairs of a worker and jobs."""
    for call in calls:
        await tx.write("forget_left_files", [call])
    return [None] * len(calls)
