"""Any two things that may happen to a job, meeting at one job in every state: one of them comes first.

For each pair and each state, the first before the second, the second before the first, and both in one
batch, behind a call that keeps the writer busy. Together they must do what one of the two orders does.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jobservice.model.attempt import Cause, Fence
from jobservice.model.event import EventKind
from jobservice.model.job import Job, NewJob
from jobservice.model.lifecycle import FINAL, State
from jobservice.model.spec import RetryPolicy
from jobservice.store.port import StopRequest, Store
from jobservice.testing.invariants import check_invariants
from tests.conformance.values import (
    BEGINNING,
    at,
    changes,
    claim,
    end,
    finish,
    insert,
    key_of,
    new_job,
    seconds,
    settle,
    start,
)

pytestmark = pytest.mark.slow  # not one of them, but all together

NOW = at(100)
"""When everything is over: leases, timeouts, waits."""
LIMIT = 1_000

Act = Callable[[Store, Job], Awaitable[Any]]
Outcome = tuple[Any, ...]


# --- what may happen --------------------------------------------------------------------------


def fence_of(job: Job) -> Fence:
    """Of the live attempt, or of the newest."""
    return Fence(job.tenant, job.job_id, job.attempt_count, job.attempt_count)


async def cancel(store: Store, job: Job) -> Any:
    return await store.request_stop([StopRequest(job.tenant, job.job_id)], now=NOW)


async def delete(store: Store, job: Job) -> Any:
    return await store.request_stop([StopRequest(job.tenant, job.job_id, delete=True)], now=NOW)


async def remove(store: Store, job: Job) -> Any:
    return await store.delete_jobs([key_of(job)], now=NOW)


async def succeed(store: Store, job: Job) -> Any:
    return await finish(store, end(fence_of(job)), now=NOW)


async def stopped(store: Store, job: Job) -> Any:
    return await finish(store, end(fence_of(job), None, cause=Cause.STOP), now=NOW)


async def fail(store: Store, job: Job) -> Any:
    return await finish(store, end(fence_of(job), 1, ended_at=NOW), now=NOW)


async def time_out(store: Store, job: Job) -> Any:
    del job
    return await store.time_out_jobs(now=NOW, limit=LIMIT)


async def expire(store: Store, job: Job) -> Any:
    del job
    return await store.expire_leases(settle, now=NOW, limit=LIMIT)


async def due(store: Store, job: Job) -> Any:
    del job
    return await store.release_due(now=NOW, limit=LIMIT)


async def retry(store: Store, job: Job) -> Any:
    return await store.retry_job(key_of(job), now=NOW)


async def hold(store: Store, job: Job) -> Any:
    return await store.hold_job(key_of(job), now=NOW)


async def release(store: Store, job: Job) -> Any:
    return await store.release_job(key_of(job), now=NOW)


async def unclaim(store: Store, job: Job) -> Any:
    return await store.unclaim_attempts([fence_of(job)], now=NOW)


async def take(store: Store, job: Job) -> Any:
    del job
    return [each.fence for each in await claim(store, LIMIT, now=NOW)]


ACTS: dict[str, tuple[Act, dict[str, Any]]] = {
    "cancel": (cancel, {}),
    "delete": (delete, {}),
    "remove": (remove, {}),
    "succeed": (succeed, {}),
    "fail": (fail, {}),
    "stopped": (stopped, {}),
    "queue timeout": (time_out, {"queue_timeout": seconds(50)}),
    "total timeout": (time_out, {"total_timeout": seconds(50)}),
    "expire": (expire, {}),
    "due": (due, {}),
    "retry": (retry, {}),
    "hold": (hold, {}),
    "release": (release, {}),
    "unclaim": (unclaim, {}),
    "claim": (take, {}),
}
"""Each with what a job must have for it to happen."""
PAIRS = list(itertools.combinations_with_replacement(ACTS, 2))


# --- where it meets them ----------------------------------------------------------------------

PLACES = ["queued", "scheduled", "held", "starting", "running", "stopping", "failed", "unwanted"]


async def brought_to(store: Store, place: str, spec: dict[str, Any]) -> Job:
    """A job in some state, before anything is over."""
    tries = 2 if place == "scheduled" else 1
    new = new_job(retry=RetryPolicy(max_attempts=tries), **spec)
    await insert(store, new)
    if place == "held":
        await store.hold_job(key_of(new), now=at(1))
    elif place != "queued":
        [claimed] = await claim(store, LIMIT, now=at(1))
        fence = claimed.fence
        if place != "starting":
            await start(store, fence)
        if place == "stopping":
            await store.request_stop([StopRequest(new.tenant, new.job_id)], now=at(2))
        if place in {"scheduled", "failed", "unwanted"}:
            await finish(store, end(fence, 1), now=at(10))
        if place == "unwanted":
            await store.request_stop([StopRequest(new.tenant, new.job_id, delete=True)], now=at(11))
    found = await store.find_job(key_of(new))
    assert found is not None
    return found


def plain(answer: Any, new: NewJob | Job) -> Any:
    """An answer, without what differs from one job to the next."""
    if isinstance(answer, Job):
        return "job", answer.state, answer.reason
    return repr(answer).replace(new.job_id, "JOB")


async def outcome(store: Store, job: Job, answers: list[Any]) -> Outcome:
    """What became of a job, and what was said of it."""
    told = [each.event for each in await changes(store) if each.event.job_id == job.job_id]
    states = Counter(each.state in FINAL for each in told if each.previous_state is not each.state)
    revivals = sum(each.kind is EventKind.RETRIED for each in told)
    assert states[True] <= 1 + revivals, "it ended more than once"
    found = await store.find_job(key_of(job))
    said = tuple(plain(each, job) for each in answers)
    kinds = tuple(each.kind.name for each in told)
    if found is None:
        return said, kinds, None
    counts = found.attempt_count, found.failure_count, found.lost_count
    return said, kinds, (found.state, found.reason, counts, found.start_at, found.delete_requested)


async def clear(store: Store, job: Job) -> None:
    """Leave nothing that the sweeps of the next round would find."""
    await store.request_stop([StopRequest(job.tenant, job.job_id, delete=True)], now=NOW)
    found = await store.find_job(key_of(job))
    if found is not None and found.state is State.STOPPING:
        lived = [each for each in await store.list_live("w1") if each.fence.job_id == job.job_id]
        await finish(store, *[end(each.fence) for each in lived], now=NOW)


@pytest.mark.parametrize("pair", PAIRS, ids=" and ".join)
async def test_two_that_meet_come_one_after_the_other(store: Store, pair: tuple[str, str]) -> None:
    (first, one), (second, two) = (ACTS[name] for name in pair)
    for place in PLACES:
        outcomes: list[Outcome] = []
        for order in ("first", "second", "together"):
            job = await brought_to(store, place, one | two)
            match order:
                case "first":
                    answers = [await first(store, job), await second(store, job)]
                case "second":
                    behind = await second(store, job)
                    answers = [await first(store, job), behind]
                case _:
                    busy = store.forget(before=at(-1), limit=0)
                    _, *answers = await asyncio.gather(busy, first(store, job), second(store, job))
            outcomes.append(await outcome(store, job, answers))
            await clear(store, job)
        in_order, turned, together = outcomes
        assert together in (in_order, turned), place
    await check_invariants(store, beginning=BEGINNING)
