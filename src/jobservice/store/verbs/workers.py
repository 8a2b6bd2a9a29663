"""Workers: known by what they say of themselves, heard of, kept from claiming, forgotten."""

import dataclasses
import datetime as dt
from collections.abc import Sequence

from jobservice.model.worker import COMPANY, Drain, Worker, WorkerInfo
from jobservice.store.verbs.transaction import Transaction
from jobservice.store.worker_rows import drain_row, origin_row, worker_of, worker_row


@dataclasses.dataclass(frozen=True, slots=True)
class RegisterCall:
    """One call of `register_worker`."""

    info: WorkerInfo
    instead_of: Worker | None
    now_us: int


async def register_worker(tx: Transaction, calls: Sequence[RegisterCall]) -> list[Worker]:
    """Keep what workers say of themselves, unless somebody says their ids elsewhere."""
    answers = []
    for call in calls:
        if call.instead_of is not None:
            await tx.write("leave_origins", [origin_row(call.instead_of)])
        await tx.write("register_workers", [worker_row(call.info, call.now_us)])
        answers.append(await _found(tx, call.info.worker_id))
    return answers


@dataclasses.dataclass(frozen=True, slots=True)
class ContactCall:
    """One call of `note_contact`."""

    worker_id: str
    now_us: int
    minds_silence: bool


async def note_contact(tx: Transaction, calls: Sequence[ContactCall]) -> list[bool | None]:
    """Workers were heard of; answers whether others were too, and None of those that nobody knows."""
    answers: list[bool | None] = []
    for call in calls:
        row = call.worker_id, call.now_us, call.minds_silence
        known = await tx.write("note_contacts", [row])
        answers.append(await _has_company(tx, call) if known else None)
    return answers


async def drain_worker(
    tx: Transaction, calls: Sequence[tuple[str, Drain | None]]
) -> list[Worker | None]:
    """Keep workers from claiming, or let them again; calls are pairs of worker and drain."""
    answers: list[Worker | None] = []
    for worker_id, drain in calls:
        known = await tx.write("drain_workers", [drain_row(worker_id, drain)])
        answers.append(await _found(tx, worker_id) if known else None)
    return answers


async def forget_workers(tx: Transaction, calls: Sequence[int]) -> list[int]:
    """Drop workers that were not heard of since an instant and hold no lease."""
    return [await tx.write("forget_workers", [(before_us,)]) for before_us in calls]


async def _has_company(tx: Transaction, call: ContactCall) -> bool:
    since_us = call.now_us - COMPANY // dt.timedelta(microseconds=1)
    [[others]] = await tx.read_all("find_company", call.worker_id, since_us)
    return bool(others)


async def _found(tx: Transaction, worker_id: str) -> Worker:
    [row] = await tx.read_all("find_worker", worker_id)
    return worker_of(row)
