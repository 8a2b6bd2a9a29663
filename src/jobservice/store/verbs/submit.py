"""Submit: jobs come to be, once for each request id."""

import dataclasses
from collections.abc import Sequence

from jobservice.clock import to_us
from jobservice.model.event import EventKind
from jobservice.model.job import NewJob
from jobservice.model.lifecycle import State
from jobservice.store.port import Inserted, Insertion, RequestKey
from jobservice.store.rows import Columns, dump_json, job_row, parse_json, spec_row
from jobservice.store.verbs.transaction import EventRow, Transaction

_Known = dict[tuple[str, str], tuple[bytes, tuple[str, ...]]]
"""What request ids made: digest and job ids by tenant and request id."""


@dataclasses.dataclass(frozen=True, slots=True)
class InsertCall:
    """One call of `insert_jobs`, with its rows made in the caller's thread."""

    tenant: str
    job_ids: tuple[str, ...]
    created_us: int
    jobs: Sequence[Columns]
    specs: Sequence[Columns]
    request: RequestKey | None


def insert_call(jobs: Sequence[NewJob], request: RequestKey | None) -> InsertCall:
    """The rows of new jobs; there is at least one, and all are of one tenant."""
    return InsertCall(
        tenant=jobs[0].tenant,
        job_ids=tuple(job.job_id for job in jobs),
        created_us=to_us(jobs[0].created_at),
        jobs=[job_row(job) for job in jobs],
        specs=[spec_row(job) for job in jobs],
        request=request,
    )


async def insert_jobs(tx: Transaction, calls: Sequence[InsertCall]) -> list[Inserted]:
    """Store the jobs of calls that are not repeats."""
    known = await _known_requests(tx, calls)
    answers, created = [], []
    for call in calls:
        answer = _repeat(call, known)
        if answer is None:
            answer = Inserted(Insertion.CREATED, call.job_ids)
            created.append(call)
        answers.append(answer)
    await _write(tx, created)
    return answers


async def _known_requests(tx: Transaction, calls: Sequence[InsertCall]) -> _Known:
    wanted = [(call.tenant, call.request.request_id) for call in calls if call.request]
    return {
        (tenant, request_id): (bytes.fromhex(digest), tuple(parse_json(job_ids)))
        for tenant, request_id, digest, job_ids in await tx.read("find_requests", wanted)
    }


def _repeat(call: InsertCall, known: _Known) -> Inserted | None:
    """The answer to a call whose request id is known; else it is known from now on."""
    if call.request is None:
        return None
    key = call.tenant, call.request.request_id
    if key not in known:
        known[key] = call.request.digest, call.job_ids
        return None
    digest, job_ids = known[key]
    same = digest == call.request.digest
    return Inserted(Insertion.REPEATED if same else Insertion.CONFLICT, job_ids)


async def _write(tx: Transaction, calls: Sequence[InsertCall]) -> None:
    created = EventKind.CREATED
    await tx.write(
        "insert_jobs",
        [
            (
                *row[:6],
                tx.record(EventRow(None, row[0], row[1], 1, created, State.QUEUED, None, row[4])),
                *row[6:],
            )
            for call in calls
            for row in call.jobs
        ],
    )
    await tx.write("insert_specs", [row for call in calls for row in call.specs])
    await tx.write(
        "insert_requests",
        [
            (
                call.tenant,
                call.request.request_id,
                call.request.digest,
                dump_json(call.job_ids),
                call.created_us,
            )
            for call in calls
            if call.request is not None
        ],
    )
