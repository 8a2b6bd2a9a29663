"""Move: a queued job gets another place in its queue.

The order of a queue is (claim key, rank, job id). The top and the bottom are claim keys beyond any that
priority and age give. Before or after another job is its claim key, and a rank: where the jobs of that
claim key have no room between them, they are all ranked anew.
"""

from collections.abc import Sequence
from typing import NamedTuple

from jobservice.model.event import EventKind
from jobservice.model.job import Job
from jobservice.model.lifecycle import State
from jobservice.model.queue import Move, bottom_key, top_key
from jobservice.store.port import MoveCall, Refusal
from jobservice.store.verbs.jobs import read_job, tell_asked
from jobservice.store.verbs.keys import free
from jobservice.store.verbs.transaction import Transaction, change

PEERS = 100_000
"""How many jobs may have the claim key of one that others are moved next to."""


class _Place(NamedTuple):
    """The columns of `find_places`, without the number of the row."""

    state: int
    queue: str
    fairness_key: str
    placement: str
    blocked_key: str
    claim_key: int
    rank: int
    delete_requested: bool


async def move_job(tx: Transaction, calls: Sequence[MoveCall]) -> list[Job | Refusal]:
    """Give queued jobs other places."""
    return [await _move(tx, call) for call in calls]


async def _move(tx: Transaction, call: MoveCall) -> Job | Refusal:
    rows = [(n, key.tenant, key.job_id) for n, key in enumerate(call.keys)]
    places = {n: _Place._make(row) for n, *row in await tx.read("find_places", rows)}
    if len(places) < len(rows):
        return Refusal.NOT_FOUND if 0 not in places else Refusal.OTHER_NOT_FOUND
    if any(place.state != State.QUEUED for place in places.values()) or places[0].delete_requested:
        return Refusal.WRONG_STATE
    if call.other is None:
        top = call.move is Move.TOP
        target = (top_key if top else bottom_key)(call.now_us), 0
    else:
        beside = places[1]
        if places[0][1:4] != beside[1:4] or call.other == call.key.job_id:
            return Refusal.ELSEWHERE
        target = beside.claim_key, await _rank(tx, call, beside)
    position, keys = await tell_asked(tx, call.key, EventKind.MOVED, call.now_us)
    await change(
        tx, "move_jobs", [(call.key.tenant, call.key.job_id, position, *target, call.now_us)]
    )
    await free(tx, [(call.key.tenant, keys)])
    return await read_job(tx, call.key)


async def _rank(tx: Transaction, call: MoveCall, beside: _Place) -> int:
    """The rank next to another job; room for it is made."""
    tenant, job_id = call.key.tenant, call.key.job_id
    found = await tx.read_all(
        "find_peers",
        tenant,
        beside.queue,
        beside.fairness_key,
        beside.claim_key,
        beside.blocked_key,
        PEERS,
        beside.placement,
    )
    ranks = {other: rank for other, rank in found if other != job_id}
    order = sorted(ranks, key=lambda other: (ranks[other], other))
    assert call.other is not None  # it is moved next to another
    index = order.index(call.other) + (call.move is Move.AFTER)
    order.insert(index, job_id)
    await change(
        tx,
        "rank_jobs",
        [
            (tenant, other, rank)
            for rank, other in enumerate(order)
            if other != job_id and ranks[other] != rank
        ],
    )
    return index
