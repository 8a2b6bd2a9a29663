"""Jobs that depend on others: made, ended, retried."""

from typing import Any

from jobservice.model.event import EventKind
from jobservice.model.graph import Condition
from jobservice.model.ids import job_id
from jobservice.model.job import Job, NewJob
from jobservice.model.spec import Dependency, DependencyPolicy
from jobservice.store.port import Refusal, StopRequest, Store
from jobservice.testing.invariants import check_invariants
from tests.conformance.values import (
    BEGINNING,
    at,
    changes,
    claim,
    end,
    finish,
    key_of,
    new_job,
    seconds,
)

SUCCEEDED, FAILED, FINISHED = Condition
STRANGER = job_id(1, 1)


def after(*parents: NewJob | Dependency | str, **more: Any) -> NewJob:
    """A job that waits for others."""
    policy = {key: more.pop(key) for key in ("rule", "at_least", "on_unmet") if key in more}
    dependencies = [
        each
        if isinstance(each, Dependency)
        else Dependency(each if isinstance(each, str) else each.job_id)
        for each in parents
    ]
    return new_job(
        dependencies=tuple(dependencies), dependency_policy=DependencyPolicy(**policy), **more
    )


def on(parent: Any, condition: Condition = SUCCEEDED, delay_s: float = 0) -> Dependency:
    return Dependency(parent.job_id, condition, seconds(delay_s))


async def finished(store: Store, parent: NewJob, exit_code: int = 0, now: float = 10) -> None:
    """Have a queued job run to its end; it must be the first in order."""
    [claimed] = await claim(store)
    assert claimed.fence.job_id == parent.job_id
    [answer] = await finish(store, end(claimed.fence, exit_code, ended_at=at(now)), now=at(now))
    assert answer is not None


async def cancel(store: Store, which: Any, *, delete: bool = False, now: float = 10) -> None:
    stop = StopRequest(which.tenant, which.job_id, delete)
    [answer] = await store.request_stop([stop], now=at(now))
    assert not isinstance(answer, Refusal)


async def retry(store: Store, which: Any, now: float = 20) -> Job:
    answer = await store.retry_job(key_of(which), now=at(now))
    assert isinstance(answer, Job)
    return answer


async def hold(store: Store, which: Any) -> Job:
    answer = await store.hold_job(key_of(which), now=at(5))
    assert isinstance(answer, Job)
    return answer


async def release(store: Store, which: Any, now: float = 30) -> Job:
    answer = await store.release_job(key_of(which), now=at(now))
    assert isinstance(answer, Job)
    return answer


async def settled(store: Store) -> None:
    while await store.settle_children(now=at(40), limit=100):
        pass
    await check_invariants(store, beginning=BEGINNING)


async def kinds(store: Store, which: Any) -> list[EventKind]:
    events = [each.event for each in await changes(store)]
    return [each.kind for each in events if each.job_id == which.job_id]
