"""Random steps over a store, beside a small model that says what each of them must answer."""

import asyncio
import dataclasses
import datetime as dt
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
)

from jobservice.model.attempt import Cause, Fence
from jobservice.model.job import Job, Progress
from jobservice.model.lifecycle import FINAL, LIVE, WAITING, State
from jobservice.model.queue import claim_key
from jobservice.model.spec import RetryPolicy
from jobservice.store.port import (
    AttemptStart,
    Insertion,
    JobKey,
    LeaseAnswer,
    ProgressReport,
    Refusal,
    RequestKey,
    Stopped,
    StopRequest,
)
from jobservice.testing.invariants import check_invariants
from tests.conformance.values import LEASE, NOW, TENANT, end, new_job, seconds, settle, states
from tests.machine.homes import Home, PostgresHome, SqliteHome

POLICY = RetryPolicy(max_attempts=2, max_lost=2)


@dataclasses.dataclass
class Modelled:
    """All that the model knows of a job."""

    job_id: str
    priority: int
    queued_at: dt.datetime
    state: State = State.QUEUED
    attempt: int = 0
    epoch: int = 0
    started: bool = False
    lease_until: dt.datetime | None = None
    failures: int = 0
    losses: int = 0
    start_at: dt.datetime | None = None
    edits: int = 1
    unwanted: bool = False
    queue_timeout: dt.timedelta | None = None
    total_timeout: dt.timedelta | None = None
    queue_until: dt.datetime | None = None
    expires: dt.datetime | None = None
    over: bool = False
    """It is STOPPING because its time is over."""

    def count_from(self, now: dt.datetime) -> None:
        self.expires = None if self.total_timeout is None else now + self.total_timeout

    def enqueue(self, now: dt.datetime) -> None:
        self.state, self.start_at = State.QUEUED, None
        self.queue_until = None if self.queue_timeout is None else now + self.queue_timeout

    def waits_too_long(self, now: dt.datetime) -> bool:
        over = self.queue_until is not None and self.queue_until <= now
        return self.state is State.QUEUED and over

    def takes_too_long(self, now: dt.datetime) -> bool:
        over = self.expires is not None and self.expires <= now
        return self.state < State.STOPPING and over

    @property
    def fence(self) -> Fence:
        return Fence(TENANT, self.job_id, self.attempt, self.epoch)

    @property
    def place(self) -> tuple[int, str]:
        return claim_key(self.priority, self.queued_at), self.job_id

    def end(self, cause: Cause, exit_code: int | None, now: dt.datetime) -> None:
        stopping = self.state is State.STOPPING
        lost = cause is Cause.LOST
        if exit_code == 0:
            self.state = State.SUCCEEDED
        elif stopping:
            self.state = State.FAILED if self.over else State.CANCELLED
        elif lost:
            self.losses += 1
            self.state = State.FAILED
            if self.losses < POLICY.max_lost:
                self.enqueue(now)
        else:
            self.failures += 1
            again = self.failures < POLICY.max_attempts
            self.state = State.SCHEDULED if again else State.FAILED
            self.start_at = now + seconds(1) if again else None
        self.started, self.lease_until, self.over = False, None, False


class StoreMachine(RuleBasedStateMachine):
    """Every rule does one call and compares its answer with the model's."""

    home: type[Home] = SqliteHome
    jobs: Bundle[str] = Bundle("jobs")
    fences: Bundle[Fence] = Bundle("fences")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.place = self.home(self.runner)
        self.now = NOW
        self.model: dict[str, Modelled] = {}
        self.requests: dict[str, tuple[bytes, tuple[str, ...]]] = {}
        self.store = self.place.open()
        self.beginning = self.runner.run(self.store.head_position())

    def teardown(self) -> None:
        self.runner.run(self.store.close())
        self.place.remove()
        self.runner.close()

    def live(self, fence: Fence) -> Modelled | None:
        """The job behind a fence, unless that is stale."""
        job = self.model.get(fence.job_id)
        if job is None or job.state not in LIVE or job.fence != fence:
            return None
        return job

    @rule(by=st.floats(0, 40))
    def time_passes(self, by: float) -> None:
        self.now += seconds(by)

    @rule(
        target=jobs,
        count=st.integers(1, 3),
        priority=st.sampled_from([-50, 0, 50]),
        request=st.sampled_from([None, "r1", "r2"]),
        body=st.binary(max_size=1),
        timing=st.fixed_dictionaries(
            {
                "start_delay": st.sampled_from([None, None, seconds(20)]),
                "queue_timeout": st.sampled_from([None, None, seconds(15)]),
                "total_timeout": st.sampled_from([None, None, seconds(45)]),
            }
        ),
    )
    def insert(
        self,
        count: int,
        priority: int,
        request: str | None,
        body: bytes,
        timing: dict[str, Any],
    ) -> MultipleResults[str]:
        new = [
            new_job(created_at=self.now, priority=priority, retry=POLICY, **timing)
            for _ in range(count)
        ]
        ids = tuple(each.job_id for each in new)
        key = RequestKey(request, body) if request else None
        answer = self.runner.run(self.store.insert_jobs(new, request=key))
        if request in self.requests:
            digest, known = self.requests[request]
            same = Insertion.REPEATED if digest == body else Insertion.CONFLICT
            assert (answer.insertion, answer.job_ids) == (same, known)
            return multiple()
        assert (answer.insertion, answer.job_ids) == (Insertion.CREATED, ids)
        if request:
            self.requests[request] = body, ids
        for each in new:
            job = self.model[each.job_id] = Modelled(each.job_id, priority, self.now)
            job.queue_timeout, job.total_timeout = timing["queue_timeout"], timing["total_timeout"]
            job.count_from(each.start_at or self.now)
            job.enqueue(self.now)
            job.state, job.start_at = each.state, each.start_at
        return multiple(*ids)

    @rule(target=fences, limit=st.integers(0, 3), worker_id=st.sampled_from(["w1", "w2"]))
    def claim(self, limit: int, worker_id: str) -> MultipleResults[Fence]:
        queue = sorted(
            (each for each in self.model.values() if each.state is State.QUEUED),
            key=lambda each: each.place,
        )
        claims = self.runner.run(
            self.store.claim_jobs(
                worker_id=worker_id, limit=limit, lease_until=self.now + LEASE, now=self.now
            )
        ).claims
        for job in queue[:limit]:
            job.state, job.lease_until = State.RUNNING, self.now + LEASE
            job.attempt, job.epoch = job.attempt + 1, job.epoch + 1
        assert [each.fence for each in claims] == [each.fence for each in queue[:limit]]
        return multiple(*[each.fence for each in claims])

    @rule(fence=fences)
    def start(self, fence: Fence) -> None:
        job = self.live(fence)
        [answer] = self.runner.run(self.store.start_attempts([AttemptStart(fence, self.now)]))
        assert answer == (job is not None)
        if job is not None:
            job.started = True

    @rule(
        fence=fences,
        cause=st.sampled_from([Cause.EXIT, Cause.LOST, Cause.STOP, Cause.LAUNCH_FAILED]),
        exit_code=st.integers(0, 1),
    )
    def finish(self, fence: Fence, cause: Cause, exit_code: int) -> None:
        code = exit_code if cause is Cause.EXIT else None
        job = self.live(fence)
        ending = end(fence, code, cause=cause, ended_at=self.now)
        [answer] = self.runner.run(self.store.finish_attempts([ending], settle, now=self.now))
        assert (answer is not None) == (job is not None)
        if job is not None:
            job.end(cause, code, self.now)
            assert answer is not None
            assert answer.state is job.state

    @rule(fence=fences)
    def unclaim(self, fence: Fence) -> None:
        job = self.live(fence)
        may = job is not None and job.state is State.RUNNING and not job.started
        assert self.runner.run(self.store.unclaim_attempts([fence], now=self.now)) == [may]
        if job is not None and may:
            job.state, job.attempt, job.lease_until = State.QUEUED, job.attempt - 1, None

    @rule(fence=fences)
    def extend(self, fence: Fence) -> None:
        job, until = self.live(fence), self.now + LEASE
        [answer] = self.runner.run(self.store.extend_leases([fence], lease_until=until))
        if job is None:
            assert answer is LeaseAnswer.REFUSED
        else:
            stopping = job.state is State.STOPPING
            assert answer is (LeaseAnswer.STOP if stopping else LeaseAnswer.KEPT)
            job.lease_until = until

    @rule(fence=fences, percent=st.floats(0, 100))
    def report(self, fence: Fence, percent: float) -> None:
        progress = Progress(percent, "step", None, self.now)
        [answer] = self.runner.run(self.store.record_progress([ProgressReport(fence, progress)]))
        assert answer == (self.live(fence) is not None)

    @rule(limit=st.integers(0, 3))
    def expire(self, limit: int) -> None:
        over = {
            each.fence: each
            for each in self.model.values()
            if each.lease_until is not None and each.lease_until <= self.now
        }
        fences = self.runner.run(self.store.expire_leases(settle, now=self.now, limit=limit))
        assert len(fences) == min(limit, len(over))
        for fence in fences:
            over[fence].end(Cause.LOST, None, self.now)

    @rule(limit=st.integers(0, 3))
    def release(self, limit: int) -> None:
        due = sorted(
            (each.start_at, each.job_id)
            for each in self.model.values()
            if each.start_at is not None
            and each.start_at <= self.now
            and each.state is State.SCHEDULED
        )
        released = self.runner.run(self.store.release_due(now=self.now, limit=limit))
        assert released == min(limit, len(due))
        found = self.runner.run(states(self.store))
        for start_at, job_id in due:
            if found[job_id] is State.QUEUED:
                job = self.model[job_id]
                job.queued_at = start_at
                job.enqueue(self.now)

    @rule(limit=st.integers(0, 3))
    def time_out(self, limit: int) -> None:
        over = [
            job
            for job in self.model.values()
            if job.waits_too_long(self.now) or job.takes_too_long(self.now)
        ]
        timed_out = self.runner.run(self.store.time_out_jobs(now=self.now, limit=limit))
        assert timed_out.count == min(limit, len(over))
        found = self.runner.run(states(self.store))
        ended = [job for job in over if found[job.job_id] is not job.state]
        assert len(ended) == timed_out.count
        for job in ended:
            job.over = job.state is State.RUNNING
            job.state = State.STOPPING if job.over else State.FAILED
            job.start_at = None
        assert set(timed_out.stopping) == {job.fence for job in ended if job.over}

    @rule(job_id=jobs, delete=st.booleans(), edits=st.sampled_from([None, 1, 2]))
    def stop(self, job_id: str, delete: bool, edits: int | None) -> None:
        request = StopRequest(TENANT, job_id, delete, edits)
        [answer] = self.runner.run(self.store.request_stop([request], now=self.now))
        job = self.model.get(job_id)
        if job is None:
            assert answer is Refusal.NOT_FOUND
        elif edits not in (None, job.edits):
            assert answer is Refusal.STALE
        else:
            if job.state in WAITING:
                job.state, job.start_at = State.CANCELLED, None
            elif job.state is State.RUNNING:
                job.state = State.STOPPING
            job.unwanted = job.unwanted or delete
            stopping = job.state is State.STOPPING
            assert answer == Stopped(job.state, job.fence if stopping else None)

    @rule(job_id=jobs, priority=st.sampled_from([-50, 0, 50]))
    def edit(self, job_id: str, priority: int) -> None:
        key, job = JobKey(TENANT, job_id), self.model.get(job_id)
        answer = self.runner.run(
            self.store.update_job(key, {"priority": priority}, edit_version=None, now=self.now)
        )
        if job is None:
            assert answer is Refusal.NOT_FOUND
        elif job.state in FINAL or job.unwanted:
            assert answer is Refusal.WRONG_STATE
        else:
            job.priority, job.edits = priority, job.edits + 1
            assert isinstance(answer, Job)
            assert answer.edit_version == job.edits

    @rule(job_id=jobs)
    def retry(self, job_id: str) -> None:
        job = self.model.get(job_id)
        answer = self.runner.run(self.store.retry_job(JobKey(TENANT, job_id), now=self.now))
        if job is None:
            assert answer is Refusal.NOT_FOUND
        elif job.state not in FINAL or job.unwanted:
            assert answer is Refusal.WRONG_STATE
        else:
            assert isinstance(answer, Job)
            job.queued_at, job.failures, job.losses = self.now, 0, 0
            job.enqueue(self.now)
            job.count_from(self.now)

    @rule(job_id=jobs)
    def hold(self, job_id: str) -> None:
        job = self.model.get(job_id)
        answer = self.runner.run(self.store.hold_job(JobKey(TENANT, job_id), now=self.now))
        if job is None:
            assert answer is Refusal.NOT_FOUND
        elif job.state in WAITING:
            assert isinstance(answer, Job)
            job.state = State.HELD
        else:
            assert answer is Refusal.WRONG_STATE

    @rule(job_id=jobs)
    def let_go(self, job_id: str) -> None:
        job = self.model.get(job_id)
        answer = self.runner.run(self.store.release_job(JobKey(TENANT, job_id), now=self.now))
        if job is None:
            assert answer is Refusal.NOT_FOUND
            return
        if job.state in FINAL:
            assert answer is Refusal.WRONG_STATE
            return
        assert isinstance(answer, Job)
        if job.state is State.HELD and job.start_at is not None and job.start_at > self.now:
            job.state = State.SCHEDULED
        elif job.state is State.HELD:
            job.queued_at = job.start_at or job.queued_at
            job.enqueue(self.now)

    @rule(job_id=jobs)
    def delete(self, job_id: str) -> None:
        job = self.model.get(job_id)
        may = job is not None and job.state in FINAL and job.unwanted
        key = JobKey(TENANT, job_id)
        assert self.runner.run(self.store.delete_jobs([key], now=self.now)) == [may]
        if may:
            del self.model[job_id]

    @rule()
    def reopen(self) -> None:
        self.runner.run(self.store.close())
        self.store = self.place.open()

    @invariant()
    def the_store_keeps_its_promises(self) -> None:
        self.runner.run(check_invariants(self.store, beginning=self.beginning))

    @invariant()
    def the_store_is_as_the_model_says(self) -> None:
        assert self.runner.run(states(self.store)) == {
            job.job_id: job.state for job in self.model.values()
        }
        deletable = self.runner.run(self.store.list_deletable(limit=1_000))
        assert {each.key.job_id for each in deletable} == {
            job.job_id for job in self.model.values() if job.unwanted and job.state in FINAL
        }
        scheduled = [job for job in self.model.values() if job.state is State.SCHEDULED]
        due = [job.start_at for job in scheduled if job.start_at is not None]
        assert self.runner.run(self.store.next_due_at()) == min(due, default=None)


LONGEST_S = 300
"""Thousands of steps, over PostgreSQL a dozen round trips each, and the machine may be busy."""


class PostgresStoreMachine(StoreMachine):
    """The same over PostgreSQL."""

    home: type[Home] = PostgresHome


TestStoreMachine = pytest.mark.timeout(LONGEST_S)(StoreMachine.TestCase)
TestStoreMachine.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestPostgresStoreMachine = pytest.mark.timeout(LONGEST_S)(PostgresStoreMachine.TestCase)
TestPostgresStoreMachine.settings = settings(TestStoreMachine.settings, max_examples=15)
