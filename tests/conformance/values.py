"""Values for the tests of a store: jobs, instants, ends, and a plain engine's decisions."""

import datetime as dt
import itertools
from typing import Any

from jobservice.clock import EPOCH, to_us
from jobservice.engine import submit
from jobservice.model.attempt import Cause, Fence, Outcome
from jobservice.model.event import Change
from jobservice.model.ids import job_id
from jobservice.model.job import AttemptState, Job, NewJob
from jobservice.model.lifecycle import Reason, State, Trigger, step
from jobservice.model.spec import Command, JobSpec
from jobservice.store.port import (
    AttemptEnd,
    AttemptStart,
    Claim,
    Insertion,
    JobKey,
    JobQuery,
    LiveJob,
    Order,
    Settlement,
    Store,
)

NOW = EPOCH + dt.timedelta(days=20_000)
LEASE = dt.timedelta(seconds=30)
TENANT = "default"
BEGINNING = "p0"

_numbers = itertools.count(1)


def seconds(count: float) -> dt.timedelta:
    return dt.timedelta(seconds=count)


def at(count: float) -> dt.datetime:
    """So many seconds after the tests' beginning of time."""
    return NOW + seconds(count)


def new_job(tenant: str = TENANT, created_at: dt.datetime = NOW, **spec: Any) -> NewJob:
    spec.setdefault("command", Command(("/bin/true",)))
    identity = job_id(to_us(created_at) // 1000, next(_numbers))
    return submit.new_job(tenant, identity, JobSpec(**spec), created_at)


def key_of(job: NewJob | Job | Fence) -> JobKey:
    return JobKey(job.tenant, job.job_id)


async def insert(store: Store, *jobs: NewJob) -> None:
    inserted = await store.insert_jobs(jobs)
    assert inserted.insertion is Insertion.CREATED
    assert inserted.job_ids == tuple(job.job_id for job in jobs)


async def insert_some(store: Store, count: int = 1, **spec: Any) -> list[NewJob]:
    jobs = [new_job(created_at=at(n / 1000), **spec) for n in range(count)]
    await insert(store, *jobs)
    return jobs


async def claim(
    store: Store,
    limit: int = 1,
    *,
    worker_id: str = "w1",
    now: dt.datetime = NOW,
    lease: dt.timedelta = LEASE,
) -> list[Claim]:
    claimed = await store.claim_jobs(
        worker_id=worker_id, limit=limit, lease_until=now + lease, now=now
    )
    return claimed.claims


async def run(store: Store, count: int = 1, **spec: Any) -> list[Fence]:
    """Jobs whose processes exist."""
    await insert_some(store, count, **spec)
    fences = [each.fence for each in await claim(store, count)]
    assert await start(store, *fences) == [True] * count
    return fences


async def start(store: Store, *fences: Fence, started_at: dt.datetime = NOW) -> list[bool]:
    return await store.start_attempts([AttemptStart(fence, started_at) for fence in fences])


def end(fence: Fence, exit_code: int | None = 0, **outcome: Any) -> AttemptEnd:
    outcome.setdefault("ended_at", at(10))
    outcome.setdefault("cause", Cause.EXIT)
    if outcome["cause"] is Cause.EXIT:
        outcome.setdefault("exit_code", exit_code)
    return AttemptEnd(fence, Outcome(**outcome))


async def finish(
    store: Store, *ends: AttemptEnd, now: dt.datetime | None = None
) -> list[Settlement | None]:
    return await store.finish_attempts(ends, settle, now=now or at(10))


async def ended(store: Store, count: int = 1, exit_code: int = 0, **spec: Any) -> list[Fence]:
    """Jobs that ran to their end."""
    fences = await run(store, count, **spec)
    answers = await finish(store, *[end(fence, exit_code) for fence in fences])
    assert None not in answers
    return fences


def settle(live: LiveJob, end: AttemptEnd) -> Settlement:
    """What a plain engine decides: one second of backoff, every limit of the policy kept."""
    outcome = end.outcome
    if outcome.exit_code == 0:
        return _settlement(live, AttemptState.SUCCEEDED, Trigger.SUCCEED)
    if live.state is State.STOPPING:
        if live.reason is Reason.TOTAL_TIMEOUT:
            return _settlement(live, AttemptState.FAILED, Trigger.FAIL, live.reason, failures=1)
        return _settlement(live, AttemptState.CANCELLED, Trigger.CANCEL, Reason.USER)
    if outcome.cause is Cause.LOST:
        last = live.lost_count + 1 >= live.retry.max_lost
        trigger = Trigger.FAIL if last else Trigger.LOSE
        return _settlement(live, AttemptState.LOST, trigger, Reason.LOST, losses=1)
    if live.failure_count + 1 >= live.retry.max_attempts:
        return _settlement(live, AttemptState.FAILED, Trigger.FAIL, Reason.EXIT_CODE, failures=1)
    return _settlement(
        live,
        AttemptState.FAILED,
        Trigger.RETRY_LATER,
        Reason.EXIT_CODE,
        failures=1,
        start_at=outcome.ended_at + seconds(1),
    )


def _settlement(
    live: LiveJob,
    attempt_state: AttemptState,
    trigger: Trigger,
    reason: Reason = Reason.NONE,
    **more: Any,
) -> Settlement:
    message = reason.name.lower().replace("_", " ") if reason else ""
    return Settlement(attempt_state, trigger, step(live.state, trigger), reason, message, **more)


async def job(store: Store, which: NewJob | Job | Fence) -> Job:
    """The job, which must be there."""
    found = await store.find_job(key_of(which))
    assert found is not None
    return found


async def starts(store: Store, *which: NewJob) -> list[dt.datetime | None]:
    return [(await job(store, each)).start_at for each in which]


async def states(store: Store, tenant: str = TENANT) -> dict[str, State]:
    """The state of every job."""
    query = JobQuery(tenant, Order.CREATED_ASC, frozenset(State))
    page = await store.list_jobs(query, limit=10_000, cursor=None)
    assert page.cursor is None
    return {each.job_id: each.state for each in page.jobs}


async def changes(store: Store, after: str = BEGINNING, limit: int = 100_000) -> list[Change]:
    return list((await store.list_changes(after, limit=limit)).changes)
