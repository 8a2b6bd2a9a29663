"""Reads of workers, and of the output that they brought."""

import apsw

from jobservice.model.output import Piece, Stream
from jobservice.model.placements import placement_of
from jobservice.model.worker import Placement, Worker
from jobservice.store.rows import parse_json
from jobservice.store.sqlite.queries import QUERIES
from jobservice.store.worker_rows import piece_of, with_leases, worker_of


def find_worker(connection: apsw.Connection, worker_id: str) -> Worker | None:
    """One worker."""
    found = parse_json(connection.execute(QUERIES["find_worker"].text, (worker_id,)).get)
    return worker_of(found[0]) if found else None


def list_taken(connection: apsw.Connection, worker_id: str) -> list[tuple[Placement, int]]:
    """What the live attempts of a worker ask of it."""
    found = parse_json(connection.execute(QUERIES["find_taken"].text, (worker_id,)).get)
    return [(placement_of(text), count) for text, count in found]


def list_workers(connection: apsw.Connection, limit: int, after: str) -> list[Worker]:
    """Workers by id."""
    held = dict(connection.execute(QUERIES["count_leases"].text))
    rows = connection.execute(QUERIES["list_workers"].text, (after, limit))
    return list(with_leases(map(worker_of, rows), held))


def read_log(
    connection: apsw.Connection, tenant: str, job_id: str, attempt: int, stream: Stream, offset: int
) -> Piece:
    """The next piece of output."""
    values = tenant, job_id, attempt, int(stream), offset
    row = connection.execute(QUERIES["read_log"].text, values).get
    return Piece(offset) if row is None else piece_of(row, offset)
