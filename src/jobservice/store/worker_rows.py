"""Rows and values of workers, and of the output that they bring; see `rows.py`."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jobservice.clock import from_us, to_us
from jobservice.model.output import Piece
from jobservice.model.worker import Drain, Resources, Worker, WorkerInfo
from jobservice.store.rows import Columns, dump_json, instant_or_none, parse_json


def resources_text(resources: Resources) -> str:
    """Resources as JSON text: processors, memory, and what is counted."""
    counts = dict(sorted(resources.counts.items()))
    return dump_json([resources.cpu_millis, resources.memory_bytes, counts])


def resources_of(text: str) -> Resources:
    """The value of `resources_text`."""
    return Resources(*parse_json(text))


def worker_row(info: WorkerInfo, now_us: int) -> Columns:
    """The fields of `register_workers`."""
    return (
        info.worker_id,
        info.host,
        info.version,
        info.slots,
        dump_json(dict(sorted(info.labels.items()))),
        resources_text(info.resources),
        info.embedded,
        now_us,
        info.origin,
    )


def origin_row(worker: Worker) -> Columns:
    """The fields of `leave_origins`."""
    return worker.info.worker_id, worker.info.origin, to_us(worker.contact_at)


def worker_of(row: Columns) -> Worker:
    """A worker out of the columns of `worker_columns`."""
    (
        worker_id,
        host,
        version,
        slots,
        labels,
        resources,
        embedded,
        registered_us,
        contact_us,
        drain_us,
        drain_reason,
        origin,
        running,
    ) = row
    since = instant_or_none(drain_us)
    said: dict[str, Any] = {"labels": parse_json(labels), "resources": resources_of(resources)}
    return Worker(
        WorkerInfo(worker_id, host, version, slots, embedded=bool(embedded), origin=origin, **said),
        registered_at=from_us(registered_us),
        contact_at=from_us(contact_us),
        drain=None if since is None else Drain(since, drain_reason),
        running=running,
    )


def with_leases(workers: Iterable[Worker], held: Mapping[str, int]) -> Iterator[Worker]:
    """The workers, each with how many leases it holds."""
    for worker in workers:
        yield dataclasses.replace(worker, running=held.get(worker.info.worker_id, 0))


def piece_of(row: Columns, offset: int) -> Piece:
    """What is behind a position, out of the piece that begins there or before."""
    begin, end, data = row
    if end <= offset:
        return Piece(offset)
    whole = Piece(begin, dropped_bytes=end - begin) if data is None else Piece(begin, bytes(data))
    return whole.behind(offset)


def drain_row(worker_id: str, drain: Drain | None) -> Columns:
    """The fields of `drain_workers`."""
    if drain is None:
        return worker_id, None, ""
    return worker_id, to_us(drain.since), drain.reason
