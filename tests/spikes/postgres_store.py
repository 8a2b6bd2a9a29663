"""The main verbs of the store port on PostgreSQL: a spike, to show that the port holds there.

It shares the rows of `store/rows.py` and the shape of the SQLite store: the live attempt in the row
of its job, a decision in Python between a locked read and a guarded write, one event in the same
statement as each change. It keeps no more than the tests need.
"""

import dataclasses
import datetime as dt
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg

from jobservice.clock import from_us, to_us
from jobservice.model.attempt import Cause, Fence, Outcome
from jobservice.model.event import Change, Event, EventKind
from jobservice.model.job import NewJob
from jobservice.model.lifecycle import FINAL, WAITING, Reason, State, Trigger
from jobservice.store.port import (
    AttemptEnd,
    AttemptStart,
    ChangePage,
    Claim,
    Inserted,
    Insertion,
    LiveJob,
    Refusal,
    RequestKey,
    Settle,
    Settlement,
    Stopped,
    StopRequest,
)
from jobservice.store.rows import (
    command_of,
    job_row,
    retry_policy,
    span_or_none,
    spec_row,
    us_or_none,
)
from jobservice.store.sqlfile import load

FOLDER = Path(__file__).parent
QUERIES = load(FOLDER / "queries.sql")
JOB_FIELDS = (
    "tenant",
    "job_id",
    "claim_key",
    "queued_us",
    "created_us",
    "updated_us",
    "priority",
    "timeout_us",
    "stop_grace_us",
    "retry",
    "queue",
    "name",
    "labels",
)
SPEC_FIELDS = (
    "tenant",
    "job_id",
    "cluster",
    "output_limit_bytes",
    "work_dir",
    "argv",
    "env",
    "stdin",
)
KINDS = {
    Trigger.SUCCEED: EventKind.SUCCEEDED,
    Trigger.FAIL: EventKind.FAILED,
    Trigger.CANCEL: EventKind.CANCELLED,
    Trigger.RETRY_LATER: EventKind.RETRYING,
    Trigger.LOSE: EventKind.LOST,
}


class PostgresSpike:
    """Some verbs of `store/port.py`."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self.pool = pool

    async def insert_jobs(
        self, jobs: Sequence[NewJob], *, request: RequestKey | None = None
    ) -> Inserted:
        async with self.pool.acquire() as connection, connection.transaction():
            if request is not None:
                known = await self._repeated(connection, jobs, request)
                if known is not None:
                    return known
            rows = [_fields(job) for job in jobs]
            await connection.execute(QUERIES["insert_jobs"].text, json.dumps(rows))
        return Inserted(Insertion.CREATED, tuple(job.job_id for job in jobs))

    async def _repeated(
        self, connection: Any, jobs: Sequence[NewJob], request: RequestKey
    ) -> Inserted | None:
        """The answer to a request id that is known; else it is known from now on."""
        ids = [job.job_id for job in jobs]
        made = await connection.fetchval(
            QUERIES["insert_request"].text,
            jobs[0].tenant,
            request.request_id,
            request.digest,
            json.dumps(ids),
            to_us(jobs[0].created_at),
        )
        if made is not None:
            return None
        row = await connection.fetchrow(
            QUERIES["find_request"].text, jobs[0].tenant, request.request_id
        )
        same = row["digest"] == request.digest
        insertion = Insertion.REPEATED if same else Insertion.CONFLICT
        return Inserted(insertion, tuple(json.loads(row["job_ids"])))

    async def claim_jobs(
        self, *, worker_id: str, limit: int, lease_until: dt.datetime, now: dt.datetime
    ) -> list[Claim]:
        rows = await self.pool.fetch(
            QUERIES["claim_jobs"].text, limit, worker_id, to_us(lease_until), to_us(now)
        )
        return [
            Claim(
                fence=Fence(row["tenant"], row["job_id"], row["attempt_count"], row["epoch"]),
                command=command_of(row["argv"], row["work_dir"], row["env"], row["stdin"]),
                timeout=span_or_none(row["timeout_us"]),
                stop_grace=dt.timedelta(microseconds=row["stop_grace_us"]),
                output_limit_bytes=row["output_limit_bytes"],
            )
            for row in rows
        ]

    async def start_attempts(self, starts: Sequence[AttemptStart]) -> list[bool]:
        async with self.pool.acquire() as connection, connection.transaction():
            live = await _live(connection, [start.fence for start in starts])
            rows = [
                {
                    "tenant": start.fence.tenant,
                    "job_id": start.fence.job_id,
                    "started_us": to_us(start.started_at),
                }
                for n, start in enumerate(starts)
                if n in live
            ]
            await connection.execute(QUERIES["start_attempts"].text, json.dumps(rows))
        return [n in live for n in range(len(starts))]

    async def finish_attempts(
        self, ends: Sequence[AttemptEnd], settle: Settle, *, now: dt.datetime
    ) -> list[Settlement | None]:
        async with self.pool.acquire() as connection, connection.transaction():
            return await _finish(connection, ends, settle, to_us(now))

    async def expire_leases(self, settle: Settle, *, now: dt.datetime, limit: int) -> list[Fence]:
        async with self.pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(QUERIES["find_expired"].text, to_us(now), limit)
            fences = [Fence(*row) for row in rows]
            ends = [AttemptEnd(each, Outcome(Cause.LOST, ended_at=now)) for each in fences]
            await _finish(connection, ends, settle, to_us(now))
        return fences

    async def request_stop(
        self, stops: Sequence[StopRequest], *, now: dt.datetime
    ) -> list[Stopped | Refusal]:
        async with self.pool.acquire() as connection, connection.transaction():
            keys = json.dumps([{"tenant": stop.tenant, "job_id": stop.job_id} for stop in stops])
            rows = await connection.fetch(QUERIES["lock_asked"].text, keys)
            found = {(row["tenant"], row["job_id"]): row for row in rows}
            writes: list[dict[str, Any]] = []
            answers = [
                _stop(stop, found.get((stop.tenant, stop.job_id)), to_us(now), writes)
                for stop in stops
            ]
            await connection.execute(QUERIES["request_stop"].text, json.dumps(writes))
        return answers

    async def list_states(
        self, tenant: str, states: Sequence[State], *, limit: int, after: tuple[int, str]
    ) -> list[tuple[str, State, int]]:
        """A page of `list_jobs`, as ids, states and instants."""
        numbers = [int(state) for state in states]
        rows = await self.pool.fetch(QUERIES["list_jobs"].text, tenant, numbers, *after, limit)
        return [(row["job_id"], State(row["state"]), row["created_us"]) for row in rows]

    async def head_position(self) -> str:
        xmin = await self.pool.fetchval(QUERIES["head_position"].text)
        return f"p{int(xmin) - 1}-{(1 << 63) - 1}"

    async def list_changes(self, after: str, *, limit: int) -> ChangePage:
        xid, _, seq = after.removeprefix("p").partition("-")
        rows = await self.pool.fetch(QUERIES["list_changes"].text, xid, int(seq), limit)
        changes = tuple(_change(row) for row in rows)
        return ChangePage(changes, changes[-1].position if changes else after)


def _fields(job: NewJob) -> dict[str, Any]:
    fields = dict(zip(SPEC_FIELDS, spec_row(job), strict=True))
    fields["stdin"] = job.spec.command.stdin.hex() or None
    return fields | dict(zip(JOB_FIELDS, job_row(job), strict=True))


async def _live(connection: Any, fences: Sequence[Fence]) -> dict[int, Any]:
    rows = [{"n": n, **dataclasses.asdict(fence)} for n, fence in enumerate(fences)]
    found = await connection.fetch(QUERIES["lock_live"].text, json.dumps(rows))
    return {row["n"]: row for row in found}


async def _finish(
    connection: Any, ends: Sequence[AttemptEnd], settle: Settle, now_us: int
) -> list[Settlement | None]:
    live = await _live(connection, [end.fence for end in ends])
    settled: list[Settlement | None] = [None] * len(ends)
    rows = []
    for n, job in sorted(live.items()):
        end = ends[n]
        settlement = settled[n] = settle(_live_job(end.fence, job), end)
        rows.append(_end_row(end, settlement, job, now_us))
    await connection.execute(QUERIES["finish_attempts"].text, json.dumps(rows))
    return settled


def _live_job(fence: Fence, job: Any) -> LiveJob:
    return LiveJob(
        fence.tenant,
        fence.job_id,
        State(job["state"]),
        retry_policy(job["retry"]),
        job["failure_count"],
        job["lost_count"],
        job["delete_requested"],
    )


def _end_row(end: AttemptEnd, settlement: Settlement, job: Any, now_us: int) -> dict[str, Any]:
    fence, outcome = end.fence, end.outcome
    return {
        "tenant": fence.tenant,
        "job_id": fence.job_id,
        "attempt": fence.attempt,
        "state": settlement.state,
        "previous_state": job["state"],
        "kind": KINDS[settlement.trigger],
        "attempt_state": settlement.attempt_state,
        "reason": settlement.reason,
        "message": settlement.message,
        "failures": settlement.failures,
        "losses": settlement.losses,
        "now_us": now_us,
        "start_us": us_or_none(settlement.start_at),
        "worker_id": job["worker_id"],
        "claimed_us": job["claimed_us"],
        "started_us": job["attempt_started_us"] or us_or_none(outcome.started_at),
        "attempt_ended_us": to_us(outcome.ended_at),
        "ended_us": now_us if settlement.state in FINAL else None,
        "exit_code": outcome.exit_code,
        "signal": outcome.signal,
    }


def _stop(
    stop: StopRequest, job: Any, now_us: int, writes: list[dict[str, Any]]
) -> Stopped | Refusal:
    if job is None:
        return Refusal.NOT_FOUND
    if stop.edit_version not in (None, job["edit_version"]):
        return Refusal.STALE
    state = State(job["state"])
    target = {State.RUNNING: State.STOPPING}.get(state, state)
    target = State.CANCELLED if state in WAITING else target
    if target is not state:
        cancelled = target is State.CANCELLED
        writes.append(
            {
                "tenant": stop.tenant,
                "job_id": stop.job_id,
                "state": target,
                "previous_state": state,
                "reason": Reason.USER,
                "message": "on request",
                "kind": EventKind.CANCELLED if cancelled else EventKind.STOPPING,
                "now_us": now_us,
            }
        )
    fence = Fence(stop.tenant, stop.job_id, job["attempt_count"], job["epoch"])
    return Stopped(target, fence if target is State.STOPPING else None)


def _change(row: Any) -> Change:
    previous = row["previous_state"]
    event = Event(
        tenant=row["tenant"],
        job_id=row["job_id"],
        revision=row["revision"],
        kind=EventKind(row["kind"]),
        state=State(row["state"]),
        at=from_us(row["at_us"]),
        previous_state=None if previous is None else State(previous),
        reason=Reason(row["reason"]),
        message=row["message"],
        attempt=row["attempt"],
        exit_code=row["exit_code"],
        signal=row["signal"],
        start_at=None if row["start_us"] is None else from_us(row["start_us"]),
    )
    return Change(f"p{row['xid']}-{row['seq']}", event)
