"""No-op attempts on PostgreSQL, from the claim to the recorded end, beside those of peers."""

import asyncio
import dataclasses
import sys

import uvloop

import bench.drain_worker
from bench.peers import Peer, drain
from bench.postgres import empty_database
from bench.report import Ratio, Row, Samples, per_round
from bench.rows.postgres_submit import BATCH, submit_batches
from bench.workplace import Workplace
from jobservice.store.postgres.store import PostgresStore


@dataclasses.dataclass
class _Side:
    """One that is measured, with what came of it."""

    name: str
    peer: Peer | None
    at_once: int
    """How many jobs it takes a time: its slots, its batch, or how many it runs at once."""
    processes: int
    """Of a peer as many as make it the fastest on two cores, and of ours as many as of the peer."""
    jobs: int
    rates: list[float] = dataclasses.field(default_factory=list)


def measure(place: Workplace) -> list[Row]:
    """Jobs a second of workers that find a full queue: ours and the peers, in turns."""
    return uvloop.run(_measure(place))


async def _measure(place: Workplace) -> list[Row]:
    jobs = place.amount(20_000, 4_000)
    url = await empty_database(place, "drain")
    pgqueuer = Peer("peer_pgqueuer", await empty_database(place, "drain_pgqueuer"))
    procrastinate = Peer("peer_procrastinate", await empty_database(place, "drain_procrastinate"))
    for peer in (pgqueuer, procrastinate):
        peer.tell("install")
    store = await PostgresStore.open(url)
    few = _Side("ours", None, 10, 1, jobs)
    many = _Side("ours", None, 100, 2, jobs)
    peers = [
        _Side("PgQueuer, batch of 10", pgqueuer, 10, 1, jobs),
        _Side("Procrastinate, 10 at once", procrastinate, 10, 1, jobs // 10),
        _Side("PgQueuer, batch of 100", pgqueuer, 100, 2, jobs),
    ]
    sides = [few, peers[0], peers[1], many, peers[2]]
    for number in place.rounds(5, 3):
        for side in sides if number % 2 else reversed(sides):
            await _fill(side, store)
            side.rates.append(await asyncio.to_thread(_drain, place, side, url))
    await store.close()

    def row(name: str, ours: _Side, peer: _Side, *, required: float | None) -> Row:
        return Row(
            name,
            f"claim to end of no-op attempts, {ours.at_once} slots / {peer.name}",
            Samples(ours.rates, "jobs/s"),
            Samples(peer.rates, "jobs/s"),
            Ratio(per_round(ours.rates, peer.rates), required=required, aim=1.0),
        )

    return [
        row("postgres_drain", few, peers[0], required=1.0),
        row("", few, peers[1], required=1.0),
        row("", many, peers[2], required=None),
    ]


async def _fill(side: _Side, store: PostgresStore) -> None:
    calls = side.jobs // BATCH
    if side.peer is None:
        await submit_batches(store, calls)
    else:
        side.peer.tell("enqueue", calls, BATCH)


def _drain(place: Workplace, side: _Side, url: str) -> float:
    """Jobs a second."""
    log = place.path("worker.log")
    if side.peer is not None:
        return side.peer.drain(side.at_once, log, processes=side.processes, least=side.jobs)
    worker = [sys.executable, bench.drain_worker.__file__, url, str(side.at_once)]
    count, took_s = drain([worker] * side.processes, log)
    assert count == side.jobs, f"{count} ends of {side.jobs} are recorded"
    return count / took_s
