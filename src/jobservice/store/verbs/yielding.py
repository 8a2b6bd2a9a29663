"""Yielding: jobs that end because a newer one takes their place."""

from collections.abc import Sequence

from jobservice.model.attempt import Fence
from jobservice.model.event import EventKind
from jobservice.model.lifecycle import Reason, State
from jobservice.store.port import JobKey
from jobservice.store.verbs.ends import Ended, after_ends
from jobservice.store.verbs.jobs import asked
from jobservice.store.verbs.keys import leave
from jobservice.store.verbs.transaction import Transaction, change

_MAY_YIELD = frozenset({State.SCHEDULED, State.QUEUED})


async def stop_for(
    tx: Transaction, keys: Sequence[JobKey], reason: Reason, message: str, now_us: int
) -> list[Fence]:
    """Ask for the end of live jobs for a reason of ours; returns the attempts that have to end."""
    jobs = await asked(tx, [(key.tenant, key.job_id) for key in keys])
    running = {ids: job for ids, job in jobs.items() if job.state is State.RUNNING}
    kind, state = EventKind.STOPPING, State.STOPPING
    rows = [
        (*ids, job.tell(tx, ids, kind, state, now_us, reason, message), reason, message, now_us)
        for ids, job in running.items()
    ]
    await change(tx, "stop_running", rows)
    return [fence for ids, job in running.items() if (fence := job.fence(ids)) is not None]


async def end_waiting(
    tx: Transaction, keys: Sequence[JobKey], reason: Reason, message: str, now_us: int
) -> None:
    """Cancel jobs that are QUEUED or SCHEDULED, for a reason of ours."""
    await _end_waiting(tx, keys, _MAY_YIELD, State.CANCELLED, reason, message, now_us)


async def supersede(
    tx: Transaction,
    keys: Sequence[JobKey],
    message: str,
    now_us: int,
    *,
    among: frozenset[State] = _MAY_YIELD,
) -> None:
    """Have jobs that are in one of these states end SKIPPED in favour of newer ones."""
    await _end_waiting(tx, keys, among, State.SKIPPED, Reason.SUPERSEDED, message, now_us)


async def _end_waiting(
    tx: Transaction,
    keys: Sequence[JobKey],
    among: frozenset[State],
    state: State,
    reason: Reason,
    message: str,
    now_us: int,
) -> None:
    found = await asked(tx, [(key.tenant, key.job_id) for key in keys])
    jobs = {ids: job for ids, job in found.items() if job.state in among}
    skipped = state is State.SKIPPED
    kind = EventKind.SKIPPED if skipped else EventKind.CANCELLED
    rows = [
        (*ids, job.tell(tx, ids, kind, state, now_us, reason, message), reason, message, now_us)
        for ids, job in jobs.items()
    ]
    await change(tx, "skip_waiting" if skipped else "cancel_waiting", rows)
    await leave(tx, [(*ids, job.keys) for ids, job in jobs.items()])
    ended = [Ended(*ids, state, job.has_children, job.is_of_schedule) for ids, job in jobs.items()]
    await after_ends(tx, ended, now_us)
