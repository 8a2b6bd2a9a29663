"""The store at the end of a run: every event, every job, and whether they agree with each other."""

from collections.abc import Mapping
from typing import Any

from jobservice.clock import to_us
from jobservice.model.event import Event
from jobservice.model.job import Job
from jobservice.model.lifecycle import State
from jobservice.model.worker import ANYWHERE
from jobservice.store.port import JobKey, JobQuery, Order, Store
from jobservice.testing.history.record import Recorder
from jobservice.testing.invariants import check_invariants

PAGE = 500
TENANT = "default"


async def record_store(store: Store, recorder: Recorder, *, beginning: str) -> None:
    """Note all that a store knows, while nothing writes to it.

    Args:
        store: Of which nothing was forgotten since `beginning`.
        recorder: Of this observer.
        beginning: The `head_position` of the store when it was empty.
    """
    position, order = beginning, 0
    while changes := (page := await store.list_changes(position, limit=PAGE)).changes:
        for change in changes:
            recorder.note("event", order=order, **_event(change.event))
            order += 1
        position = page.position
    query, cursor = JobQuery(TENANT, Order.CREATED_ASC, frozenset(State)), None
    while True:
        listed = await store.list_jobs(query, limit=PAGE, cursor=cursor)
        for each in listed.jobs:
            job = await store.find_job(JobKey(each.tenant, each.job_id))
            if job is not None:
                recorder.note("job", **_job(job))
        cursor = listed.cursor
        if cursor is None:
            break
    try:
        await check_invariants(store, beginning=beginning)
    except AssertionError as error:
        recorder.note("left", kind="the store does not agree with itself", name=str(error))


def _event(event: Event) -> Mapping[str, Any]:
    return {
        "job_id": event.job_id,
        "revision": event.revision,
        "kind": event.kind.name,
        "state": event.state.name,
        "previous": event.previous_state.name if event.previous_state else None,
        "attempt": event.attempt,
        "wall_us": to_us(event.at),
    }


def _job(job: Job) -> Mapping[str, Any]:
    return {
        "job_id": job.job_id,
        "name": job.spec.name,
        "queue": job.spec.queue,
        "priority": job.spec.priority,
        "fairness_key": job.spec.fairness_key,
        "keys": sorted(each.key for each in job.spec.concurrency_keys),
        "asks": job.spec.placement != ANYWHERE,
        "state": job.state.name,
        "why": job.message or job.reason.name,
        "revision": job.revision,
        "attempt_count": job.attempt_count,
        "failure_count": job.failure_count,
        "lost_count": job.lost_count,
        "max_attempts": job.spec.retry.max_attempts,
        "schedule": job.schedule,
        "schedule_us": to_us(job.schedule_at) if job.schedule_at else None,
        "parents": [each.job_id for each in job.spec.dependencies],
        "array": job.index.array_job_id if job.index else "",
        "attempts": [
            {
                "attempt": each.attempt,
                "state": each.state.name,
                "exit_code": each.exit_code,
                "signal": each.signal,
            }
            for each in job.attempts
        ],
    }
