"""Reads of workers."""

from jobservice.model.placements import placement_of
from jobservice.model.worker import Placement, Worker
from jobservice.store.postgres.connect import Connection
from jobservice.store.postgres.queries import QUERIES
from jobservice.store.worker_rows import with_leases, worker_of


async def find_worker(connection: Connection, worker_id: str) -> Worker | None:
    """One worker."""
    row = await connection.fetchrow(QUERIES["find_worker"].text, worker_id)
    return None if row is None else worker_of(row)


async def list_taken(connection: Connection, worker_id: str) -> list[tuple[Placement, int]]:
    """What the live attempts of a worker ask of it."""
    rows = await connection.fetch(QUERIES["find_taken"].text, worker_id)
    return [(placement_of(text), count) for text, count in rows]


async def list_workers(connection: Connection, limit: int, after: str) -> list[Worker]:
    """Workers by id."""
    held = dict(await connection.fetch(QUERIES["count_leases"].text))
    rows = await connection.fetch(QUERIES["list_workers"].text, after, limit)
    return list(with_leases(map(worker_of, rows), held))
