"""A random life of jobs through the engine on a real SQLite file, beside a model of forty lines.

Workers claim, start, finish, lose and come late; users submit, cancel, edit, retry and delete; time
passes. After each step the store is compared with the model and its invariants are checked.
"""

import asyncio
import dataclasses
import datetime as dt
import random
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
)

from jobservice.engine import cancel, edit, hold, submit
from jobservice.engine.claim import Leases
from jobservice.engine.parts import Parts, Signals
from jobservice.engine.sweep import Sweeps
from jobservice.errors import InvalidTransition, NotFound
from jobservice.model.attempt import Cause, Fence, Outcome
from jobservice.model.lease import AttemptEnd, AttemptStart, LeaseAnswer
from jobservice.model.lifecycle import FINAL, LIVE, State
from jobservice.model.spec import Command, JobSpec, RetryPolicy
from jobservice.model.worker import GRACE, WorkerInfo
from jobservice.store.port import JobKey, Refusal, StopRequest
from jobservice.testing.clock import JumpClock
from jobservice.testing.invariants import check_invariants
from tests.examples import examples
from tests.machine.homes import Home, PostgresHome, SqliteHome

LEASE_S = 30.25
KEPT_S = LEASE_S * (1 + GRACE)
"""Never a sum of the steps that time takes, so that it is over or not."""
FOREVER = float("inf")
TENANT = "default"
T = TypeVar("T")


@dataclasses.dataclass
class Modelled:
    """What the model knows of a job."""

    spec: JobSpec
    state: State = State.QUEUED
    fence: Fence | None = None
    attempts: int = 0
    failures: int = 0
    losses: int = 0
    deleting: bool = False
    queue_until: float = FOREVER
    expires: float = FOREVER
    over: bool = False
    """It is STOPPING because its time is over."""

    def count_from(self, now: float) -> None:
        """Its total time begins."""
        if self.spec.total_timeout is not None:
            self.expires = now + self.spec.total_timeout.total_seconds()

    def enqueue(self, now: float) -> None:
        """It waits for a worker from now on."""
        self.state = State.QUEUED
        if self.spec.queue_timeout is not None:
            self.queue_until = now + self.spec.queue_timeout.total_seconds()

    def time_out(self, now: float) -> None:
        """What becomes of it when somebody looks at its time."""
        if self.state is State.QUEUED and self.queue_until < now:
            self.state = State.FAILED
        elif self.state < State.STOPPING and self.expires < now:
            self.over = self.state is State.RUNNING
            self.state = State.STOPPING if self.over else State.FAILED

    def end(self, cause: Cause, exit_code: int | None, now: float) -> None:
        """The attempt is over."""
        stopping = self.state is State.STOPPING
        self.fence = None
        if cause is Cause.EXIT and exit_code == 0:
            self.state = State.SUCCEEDED
        elif cause is Cause.LOST:
            self.losses += 1
            if self.losses < self.spec.retry.max_lost:
                self.enqueue(now)
            else:
                self.state = State.FAILED
        elif cause is Cause.STOP:
            self.failures += self.over
            self.enqueue(now)
        else:
            self.failures += 1
            over = self.failures >= self.spec.retry.max_attempts
            self.state = State.FAILED if over else State.SCHEDULED
        if stopping and self.state is not State.SUCCEEDED:
            self.state = State.FAILED if self.over else State.CANCELLED
        self.over = False


class EngineMachine(RuleBasedStateMachine):
    """See the head of the file."""

    jobs = Bundle("jobs")
    fences = Bundle("fences")
    home: type[Home] = SqliteHome

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.place = self.home(self.loop)
        self.clock = JumpClock()
        self.store = self.place.open()
        self.beginning = self.run(self.store.head_position())
        self.parts = Parts(self.store, self.clock, random.Random(0), Signals())
        self.leases = Leases(self.parts, lease_s=LEASE_S, poll_s=LEASE_S)
        self.sweeps = Sweeps(
            self.parts,
            remove_files=self.remove_files,
            lease_s=LEASE_S,
            poll_s=1,
            retention=dt.timedelta(days=7),
        )
        self.run(self.leases.register(WorkerInfo("w", slots=1)))
        self.model: dict[str, Modelled] = {}
        self.lease_until: dict[Fence, float] = {}

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        return self.loop.run(step)

    async def remove_files(self, jobs: Sequence[tuple[str, int]]) -> list[bool]:
        return [True] * len(jobs)

    def teardown(self) -> None:
        self.run(self.store.close())
        self.place.remove()
        self.loop.close()

    # --- users

    @rule(
        target=jobs,
        count=st.integers(1, 3),
        attempts=st.integers(1, 3),
        lost=st.integers(1, 2),
        priority=st.sampled_from([-50, 0, 50]),
        delay_s=st.sampled_from([None, None, 10]),
        queue_s=st.sampled_from([None, None, 15.25]),
        total_s=st.sampled_from([None, None, 45.25, 1250.25]),
    )
    def submit(
        self,
        count: int,
        attempts: int,
        lost: int,
        priority: int,
        delay_s: float | None,
        queue_s: float | None,
        total_s: float | None,
    ) -> Any:
        retry = RetryPolicy(max_attempts=attempts, max_lost=lost)
        spec = JobSpec(
            Command(("true",)),
            priority=priority,
            retry=retry,
            start_delay=length(delay_s),
            queue_timeout=length(queue_s),
            total_timeout=length(total_s),
        )
        made = self.run(submit.submit(self.parts, TENANT, [spec] * count, None))
        now = self.clock.monotonic_s()
        for job in made:
            known = self.model[job.job_id] = Modelled(spec, State.SCHEDULED)
            known.count_from(now + (delay_s or 0))
            if delay_s is None:
                known.enqueue(now)
            assert job.state is known.state
        return multiple(*[job.job_id for job in made])

    @rule(job_id=jobs)
    def cancel(self, job_id: str) -> None:
        key = JobKey(TENANT, job_id)
        known = self.model.get(job_id)
        if known is None:
            self.refused(cancel.cancel(self.parts, key), NotFound)
            return
        job = self.run(cancel.cancel(self.parts, key))
        self.stop(known)
        assert job.state is known.state

    @rule(job_id=jobs)
    def delete(self, job_id: str) -> None:
        request = StopRequest(TENANT, job_id, delete=True)
        [answer] = self.run(self.store.request_stop([request], now=self.clock.now()))
        known = self.model.get(job_id)
        if known is None:
            assert answer is Refusal.NOT_FOUND
            return
        known.deleting = True
        self.stop(known)

    @rule()
    def collect_deleted(self) -> None:
        self.parts.signals.deletions.ring()
        self.run(self.sweeps.collect_deleted())
        for job_id in [i for i, job in self.model.items() if job.deleting and job.state in FINAL]:
            del self.model[job_id]

    @rule(job_id=jobs)
    def retry(self, job_id: str) -> None:
        known = self.model.get(job_id)
        action = edit.retry(self.parts, JobKey(TENANT, job_id))
        if known is None:
            self.refused(action, NotFound)
        elif known.state not in FINAL or known.deleting:
            self.refused(action, InvalidTransition)
        else:
            self.run(action)
            known.failures, known.losses = 0, 0
            known.enqueue(self.clock.monotonic_s())
            known.count_from(self.clock.monotonic_s())

    @rule(job_id=jobs)
    def hold(self, job_id: str) -> None:
        known = self.model.get(job_id)
        action = hold.hold(self.parts, JobKey(TENANT, job_id))
        if known is None:
            self.refused(action, NotFound)
        elif known.state in FINAL | LIVE:
            self.refused(action, InvalidTransition)
        else:
            self.run(action)
            known.state = State.HELD

    @rule(job_id=jobs)
    def release(self, job_id: str) -> None:
        known = self.model.get(job_id)
        action = hold.release(self.parts, JobKey(TENANT, job_id))
        if known is None:
            self.refused(action, NotFound)
        elif known.state in FINAL:
            self.refused(action, InvalidTransition)
        else:
            released = self.run(action)
            if known.state is State.HELD:
                assert released.state in {State.QUEUED, State.SCHEDULED}
                known.state = released.state
                if known.state is State.QUEUED:
                    known.enqueue(self.clock.monotonic_s())

    @rule(job_id=jobs, priority=st.integers(-100, 100))
    def reprioritise(self, job_id: str, priority: int) -> None:
        known = self.model.get(job_id)
        action = edit.update(
            self.parts, JobKey(TENANT, job_id), {"priority": priority}, edit_version=None
        )
        if known is None:
            self.refused(action, NotFound)
        elif known.state in FINAL or known.deleting:
            self.refused(action, InvalidTransition)
        else:
            assert self.run(action).spec.priority == priority

    # --- workers

    @rule(target=fences, worker=st.sampled_from(["a", "b"]), limit=st.integers(1, 4))
    def claim(self, worker: str, limit: int) -> Any:
        self.parts.signals.work.ring()
        claims = self.run(self.leases.claim(worker, limit, 0.0))
        waiting = sum(job.state is State.QUEUED for job in self.model.values())
        assert len(claims) == min(limit, waiting)
        for claim in claims:
            known = self.model[claim.fence.job_id]
            assert known.state is State.QUEUED
            known.state, known.fence = State.RUNNING, claim.fence
            known.attempts += 1
            assert claim.fence.attempt == known.attempts
            self.lease_until[claim.fence] = self.clock.monotonic_s() + KEPT_S
        return multiple(*[claim.fence for claim in claims])

    @rule(fence=fences)
    def start(self, fence: Fence) -> None:
        [accepted] = self.run(self.leases.start([AttemptStart(fence, self.clock.now())]))
        assert not accepted or self.is_current(fence)

    @rule(fence=fences)
    def unclaim(self, fence: Fence) -> None:
        live = self.run(self.store.list_live("a")) + self.run(self.store.list_live("b"))
        started = {each.fence: each.started_at is not None for each in live}
        if started.get(fence):
            return
        [accepted] = self.run(self.leases.unclaim([fence]))
        known = self.model.get(fence.job_id)
        expected = self.is_current(fence) and known is not None and known.state is State.RUNNING
        assert accepted == expected
        if accepted and known is not None:
            known.state, known.fence = State.QUEUED, None
            known.attempts -= 1

    @rule(
        fence=fences,
        how=st.sampled_from(
            [
                (Cause.EXIT, 0),
                (Cause.EXIT, 1),
                (Cause.STOP, None),
                (Cause.LOST, None),
                (Cause.RUN_TIMEOUT, None),
                (Cause.LAUNCH_FAILED, None),
            ]
        ),
    )
    def finish(self, fence: Fence, how: tuple[Cause, int | None]) -> None:
        cause, exit_code = how
        outcome = Outcome(cause, self.clock.now(), exit_code=exit_code)
        [accepted] = self.run(self.leases.finish([AttemptEnd(fence, outcome)]))
        assert accepted == self.is_current(fence)
        if accepted:
            self.model[fence.job_id].end(cause, exit_code, self.clock.monotonic_s())

    @rule(fence=consumes(fences))
    def finish_twice(self, fence: Fence) -> None:
        outcome = Outcome(Cause.EXIT, self.clock.now(), exit_code=0)
        end = AttemptEnd(fence, outcome)
        answers = self.run(self.leases.finish([end])), self.run(self.leases.finish([end]))
        assert answers[1] == [False]
        if answers[0] == [True]:
            self.model[fence.job_id].end(Cause.EXIT, 0, self.clock.monotonic_s())

    @rule(fence=fences)
    def extend(self, fence: Fence) -> None:
        [answer] = self.run(self.leases.extend("w", [fence]))
        if not self.is_current(fence):
            assert answer is LeaseAnswer.REFUSED
            return
        stopping = self.model[fence.job_id].state is State.STOPPING
        assert answer is (LeaseAnswer.STOP if stopping else LeaseAnswer.KEPT)
        self.lease_until[fence] = self.clock.monotonic_s() + KEPT_S

    # --- time

    @rule(seconds=st.sampled_from([0.5, 5.0, 20.0, 40.0]))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def expire(self) -> None:
        self.run(self.sweeps.expire())
        for known in self.model.values():
            fence = known.fence
            if fence and known.state in LIVE and self.lease_until[fence] < self.clock.monotonic_s():
                known.end(Cause.LOST, None, self.clock.monotonic_s())

    @rule()
    def time_out(self) -> None:
        self.run(self.sweeps.time_out())
        for known in self.model.values():
            known.time_out(self.clock.monotonic_s())

    @precondition(lambda self: any(j.state is State.SCHEDULED for j in self.model.values()))
    @rule()
    def release_due(self) -> None:
        self.clock.advance(1200.0)
        self.run(self.store.release_due(now=self.clock.now(), limit=100))
        for known in self.model.values():
            if known.state is State.SCHEDULED:
                known.enqueue(self.clock.monotonic_s())

    # --- the store is what the model is

    @invariant()
    def agrees(self) -> None:
        keys = [JobKey(TENANT, job_id) for job_id in self.model]
        for key, job in zip(keys, self.run(self.store.find_jobs(keys)), strict=True):
            known = self.model[key.job_id]
            assert job is not None
            assert (job.state, job.attempt_count, job.failure_count, job.lost_count) == (
                known.state,
                known.attempts,
                known.failures,
                known.losses,
            )
        self.run(check_invariants(self.store, beginning=self.beginning))

    # --- helpers

    def stop(self, known: Modelled) -> None:
        if known.state is State.RUNNING:
            known.state = State.STOPPING
        elif known.state not in FINAL | LIVE:
            known.state = State.CANCELLED

    def is_current(self, fence: Fence) -> bool:
        known = self.model.get(fence.job_id)
        return known is not None and known.fence == fence and known.state in LIVE

    def refused(self, action: Coroutine[Any, Any, object], error: type[Exception]) -> None:
        try:
            self.run(action)
        except error:
            return
        raise AssertionError(f"{error.__name__} was not raised")


def length(seconds: float | None) -> dt.timedelta | None:
    return None if seconds is None else dt.timedelta(seconds=seconds)


LONGEST_S = 300
"""Thousands of steps, over PostgreSQL a dozen round trips each, and the machine may be busy."""


class PostgresEngineMachine(EngineMachine):
    """The same over PostgreSQL."""

    home: type[Home] = PostgresHome


TestEngine = pytest.mark.timeout(LONGEST_S)(EngineMachine.TestCase)
TestEngine.settings = settings(
    max_examples=examples(60),
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestPostgresEngine = pytest.mark.timeout(LONGEST_S)(PostgresEngineMachine.TestCase)
TestPostgresEngine.settings = settings(TestEngine.settings, max_examples=examples(12))
