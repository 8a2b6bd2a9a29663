"""Reads of workers, and of the output that they brought."""

from jobservice.model.output import Piece, Stream
from jobservice.model.placements import placement_of
from jobservice.model.worker import Placement, Worker
from jobservice.store.postgres.connect import Connection
from jobservice.store.postgres.queries import QUERIES
from jobservice.store.worker_rows import piece_of, with_leases, worker_of


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


async def read_log(
    connection: Connection, tenant: str, job_id: str, attempt: int, stream: Stream, offset: int
) -> Piece:
    """The next piece of output."""
    values = tenant, job_id, attempt, int(stream), offset
    row = await connection.fetchrow(QUERIES["read_log"].text, *values)
    return Piece(offset) if row is None else piece_of(row, offset)


async def list_left_files(
    connection: Connection, worker_id: str, after: str, limit: int
) -> list[tuple[str, int]]:
    """Deleted jobs whose files are left with a worker."""
    values = worker_id, after, limit
    rows = await connection.fetch(QUERIES["list_left_files"].text, *values)
    return [(job_id, attempts) for job_id, attempts in rows]
