"""Claim: who goes first, how many, and what a worker is given."""

import asyncio
import datetime as dt

from jobservice.clock import to_us
from jobservice.model.attempt import Cause
from jobservice.model.event import EventKind
from jobservice.model.job import AttemptState
from jobservice.model.lifecycle import Reason, State
from jobservice.model.queue import AGEING_S_PER_POINT, claim_key
from jobservice.model.spec import Command
from jobservice.store.port import Store
from tests.conformance.values import (
    LEASE,
    NOW,
    at,
    changes,
    claim,
    end,
    finish,
    insert,
    insert_some,
    job,
    new_job,
    run,
    states,
)


async def claimed_ids(store: Store, limit: int = 100) -> list[str]:
    return [each.fence.job_id for each in await claim(store, limit)]


async def test_a_claim_has_all_that_is_needed_to_run(store: Store) -> None:
    command = Command(("sh", "-c", "exit 3"), {"K": "'v' \"ü\" \\"}, b"\x00\xffin", "/tmp")
    new = new_job(
        command=command,
        timeout=dt.timedelta(seconds=90),
        stop_grace=dt.timedelta(seconds=4),
        output_limit_bytes=12_345,
        idle_timeout=dt.timedelta(seconds=30),
    )
    await insert(store, new)
    [given] = await claim(store)
    assert given.command == command
    assert given.timeout == dt.timedelta(seconds=90)
    assert given.idle_timeout == dt.timedelta(seconds=30)
    assert given.stop_grace == dt.timedelta(seconds=4)
    assert given.output_limit_bytes == 12_345
    assert (given.fence.job_id, given.fence.attempt, given.fence.epoch) == (new.job_id, 1, 1)


async def test_a_claimed_job_runs_with_an_attempt_that_starts(store: Store) -> None:
    [new] = await insert_some(store)
    await claim(store, worker_id="w7", now=at(5))
    found = await job(store, new)
    assert (found.state, found.attempt_count, found.started_at) == (State.RUNNING, 1, None)
    [attempt] = found.attempts
    assert (attempt.attempt, attempt.state) == (1, AttemptState.STARTING)
    assert (attempt.worker_id, attempt.claimed_at) == ("w7", at(5))
    event = (await changes(store))[-1].event
    assert (event.kind, event.previous_state, event.state) == (
        EventKind.CLAIMED,
        State.QUEUED,
        State.RUNNING,
    )
    assert (event.attempt, event.at, event.revision) == (1, at(5), 2)


async def test_the_first_in_the_queue_goes_first(store: Store) -> None:
    jobs = [new_job(created_at=at(n)) for n in (3, 1, 2)]
    await insert(store, *jobs)
    assert await claimed_ids(store) == [jobs[1].job_id, jobs[2].job_id, jobs[0].job_id]


async def test_jobs_of_one_instant_go_by_id(store: Store) -> None:
    jobs = [new_job() for _ in range(50)]
    await insert(store, *reversed(jobs))
    assert await claimed_ids(store) == sorted(each.job_id for each in jobs)


async def test_a_higher_priority_goes_first(store: Store) -> None:
    low, medium, high = (new_job(created_at=at(n), priority=p) for n, p in enumerate((-50, 0, 50)))
    await insert(store, low, medium, high)
    assert await claimed_ids(store) == [high.job_id, medium.job_id, low.job_id]


async def test_a_long_wait_outweighs_priority(store: Store) -> None:
    old = new_job(created_at=NOW, priority=0)
    young = new_job(created_at=at(AGEING_S_PER_POINT * 10 + 1), priority=10)
    assert claim_key(0, to_us(old.created_at)) < claim_key(10, to_us(young.created_at))
    await insert(store, young, old)
    assert await claimed_ids(store, 1) == [old.job_id]


async def test_a_claim_takes_no_more_than_it_may(store: Store) -> None:
    await insert_some(store, 300)
    assert len(await claim(store, 0)) == 0
    assert len(await claim(store, 7)) == 7
    assert len(await claim(store, 200)) == 200
    assert len(await claim(store, 200)) == 93
    assert await claim(store, 200) == []


async def test_nothing_is_claimed_twice(store: Store) -> None:
    jobs = await insert_some(store, 200)
    claims = await asyncio.gather(*[claim(store, 7, worker_id=f"w{n}") for n in range(40)])
    ids = [each.fence.job_id for given in claims for each in given]
    assert sorted(ids) == sorted(each.job_id for each in jobs)


async def test_all_tenants_are_served(store: Store) -> None:
    await insert(store, new_job("one"))
    await insert(store, new_job("two"))
    assert {each.fence.tenant for each in await claim(store, 10)} == {"one", "two"}


async def test_only_queued_jobs_are_claimed(store: Store) -> None:
    fences = await run(store, 2)
    await finish(store, end(fences[0]))
    assert await claim(store, 10, now=at(1000)) == []
    assert set((await states(store)).values()) == {State.SUCCEEDED, State.RUNNING}


async def test_a_claim_takes_the_reason_of_the_last_end_away(store: Store) -> None:
    [fence] = await run(store)
    await finish(store, end(fence, exit_code=None, cause=Cause.LOST))
    assert (await job(store, fence)).reason is Reason.LOST
    [again] = await claim(store, now=at(20), lease=LEASE)
    found = await job(store, fence)
    assert (found.reason, found.message) == (Reason.NONE, "")
    assert (again.fence.attempt, again.fence.epoch) == (2, 2)
