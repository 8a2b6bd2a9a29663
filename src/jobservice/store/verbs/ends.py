"""Ends: what follows, in the same transaction, from jobs that have become final or are run again.

Every verb that makes jobs final calls `after_ends` once it has written them.
"""

import dataclasses
from collections.abc import Sequence

from jobservice.model.lifecycle import State
from jobservice.mutants import mutant
from jobservice.store.verbs.children import Key, Parent, settle_children
from jobservice.store.verbs.transaction import Transaction


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """A job that has become final."""

    tenant: str
    job_id: str
    state: State
    has_children: bool
    """Whether others depend on it."""
    is_of_schedule: bool
    """Whether a schedule made it."""


async def after_ends(tx: Transaction, ended: Sequence[Ended], now_us: int) -> None:
    """Have the ends of jobs known to those that wait for them: jobs, and fires of their schedules."""
    parents = [
        Parent(each.tenant, each.job_id, each.state, now_us, each.job_id)
        for each in ended
        if each.has_children and not mutant("dependency.not_told")
    ]
    await settle_children(tx, parents, now_us)
    made = [(each.tenant, each.job_id, now_us) for each in ended if each.is_of_schedule]
    await tx.write("wake_schedules", made)


async def after_revivals(tx: Transaction, keys: Sequence[Key], now_us: int) -> None:
    """Have those that depend on jobs wait for their new ends, unless they were let go."""
    parents = [Parent(*key, State.QUEUED, None, key[1]) for key in keys]
    await settle_children(tx, parents, now_us)
