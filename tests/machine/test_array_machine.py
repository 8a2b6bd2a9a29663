"""Random arrays with random ends, losses, retries, cancels, holds, deletes and crashes.

Now and then everything is let run out: then each array has ended, and what it counted of its indices is
what they are.
"""

import asyncio

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from jobservice.model.array import ArrayCounts, ArraySpec
from jobservice.model.attempt import Cause, Fence
from jobservice.model.job import Job
from jobservice.model.lifecycle import FINAL, State
from jobservice.model.spec import RetryPolicy
from jobservice.store.port import JobKey, JobQuery, Order, Refusal, StopRequest
from jobservice.testing.invariants import check_invariants
from tests.conformance.values import LEASE, NOW, TENANT, end, new_job, seconds, settle
from tests.examples import examples
from tests.machine.homes import Home, PostgresHome, SqliteHome

MOST_PARALLEL = 2
MOST_ARRAYS = 2
LONGEST_S = 300


class ArrayMachine(RuleBasedStateMachine):
    """Every rule does one call; whatever is not yet counted is counted by `look`, or at the end."""

    home: type[Home] = SqliteHome
    arrays: Bundle[str] = Bundle("arrays")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.place = self.home(self.runner)
        self.store = self.place.open()
        self.beginning = self.runner.run(self.store.head_position())
        self.now = NOW
        self.live: list[Fence] = []
        self.number = 0
        self.number_of_arrays = 0

    def teardown(self) -> None:
        self.runner.run(self.store.close())
        self.place.remove()
        self.runner.close()

    def key(self, job_id: str) -> JobKey:
        return JobKey(TENANT, job_id)

    def find(self, job_id: str) -> Job | None:
        return self.runner.run(self.store.find_job(self.key(job_id)))

    def all_jobs(self) -> list[Job]:
        query = JobQuery(TENANT, Order.CREATED_ASC, frozenset(State))
        page = self.runner.run(self.store.list_jobs(query, limit=10_000, cursor=None))
        assert page.cursor is None
        return list(page.jobs)

    def indices(self, job_id: str) -> list[Job]:
        return [
            each for each in self.all_jobs() if each.index and each.index.array_job_id == job_id
        ]

    # --- rules ------------------------------------------------------------------------------------

    @precondition(lambda self: self.number_of_arrays < MOST_ARRAYS)
    @rule(
        target=arrays,
        size=st.integers(1, 5),
        limited=st.booleans(),
        most_failed=st.none() | st.integers(0, 2),
        attempts=st.integers(1, 2),
    )
    def insert(self, size: int, *, limited: bool, most_failed: int | None, attempts: int) -> str:
        self.number_of_arrays += 1
        array = ArraySpec(size, (), MOST_PARALLEL if limited else None, most_failed)
        retry = RetryPolicy(max_attempts=attempts)
        job = new_job(array=array, retry=retry, created_at=self.now)
        self.runner.run(self.store.insert_jobs([job]))
        return job.job_id

    @rule(codes=st.lists(st.sampled_from([0, 1]), min_size=1, max_size=4), looks=st.integers(0, 2))
    def work(self, codes: list[int], looks: int) -> None:
        """Some indices run to their ends; the array may not have been looked at since."""
        self.claim(len(codes))
        self.look(1)
        self.claim(len(codes))
        for code in codes:
            self.finish(code, lost=False)
        self.look(looks)

    @rule(count=st.integers(1, 4))
    def claim(self, count: int) -> None:
        claimed = self.runner.run(
            self.store.claim_jobs(
                worker_id="w", limit=count, lease_until=self.now + LEASE, now=self.now
            )
        )
        self.live += [each.fence for each in claimed.claims]

    @rule(code=st.sampled_from([0, 0, 1]), lost=st.booleans())
    def finish(self, code: int, *, lost: bool) -> None:
        if not self.live:
            return
        fence = self.live.pop(0)
        cause = Cause.LOST if lost and code else Cause.EXIT
        outcome = end(fence, code, cause=cause, ended_at=self.now)
        self.runner.run(self.store.finish_attempts([outcome], settle, now=self.now))

    @rule(job_id=arrays, delete=st.booleans())
    def stop(self, job_id: str, *, delete: bool) -> None:
        stop = StopRequest(TENANT, job_id, delete)
        [answer] = self.runner.run(self.store.request_stop([stop], now=self.now))
        assert isinstance(answer, Refusal) or answer.fence is None

    @rule(job_id=arrays)
    def retry(self, job_id: str) -> None:
        before = self.find(job_id)
        answer = self.runner.run(self.store.retry_job(self.key(job_id), now=self.now))
        may = before is not None and before.state in FINAL - {State.SUCCEEDED}
        assert isinstance(answer, Job) is (may and not (before and before.delete_requested))

    @rule(job_id=arrays, number=st.integers(0, 4), what=st.sampled_from(["stop", "retry", "hold"]))
    def touch_an_index(self, job_id: str, number: int, what: str) -> None:
        array = self.find(job_id)
        found = [each for each in self.indices(job_id) if each.index and each.index.index == number]
        for each in found:
            key = self.key(each.job_id)
            if what == "stop":
                self.runner.run(
                    self.store.request_stop([StopRequest(TENANT, each.job_id)], now=self.now)
                )
            elif what == "retry":
                answer = self.runner.run(self.store.retry_job(key, now=self.now))
                may = each.state in FINAL and not each.delete_requested
                goes_on = array is not None and array.state is State.RUNNING
                assert isinstance(answer, Job) is (may and goes_on)
            else:
                self.runner.run(self.store.hold_job(key, now=self.now))

    @rule(count=st.integers(1, 3))
    def look(self, count: int) -> None:
        """Move arrays on, as the sweep does."""
        for _ in range(count):
            self.number += 1_000
            self.runner.run(
                self.store.settle_arrays(("", ""), now=self.now, randomness=self.number)
            )

    @rule()
    def collect(self) -> None:
        found = self.runner.run(self.store.list_deletable(limit=100))
        self.runner.run(self.store.delete_jobs([each.key for each in found], now=self.now))

    @rule(by=st.integers(1, 40))
    def wait(self, by: int) -> None:
        self.now += seconds(by)
        self.runner.run(self.store.release_due(now=self.now, limit=100))
        self.runner.run(self.store.expire_leases(settle, now=self.now, limit=100))

    @rule()
    def crash(self) -> None:
        self.runner.run(self.store.close())
        self.store = self.place.open()

    # --- what must hold ---------------------------------------------------------------------------

    @invariant()
    def nothing_is_broken(self) -> None:
        self.runner.run(check_invariants(self.store, beginning=self.beginning))
        running = [
            each for each in self.all_jobs() if each.state in {State.RUNNING, State.STOPPING}
        ]
        for job in running:
            if job.spec.array is not None and job.spec.array.max_parallel is not None:
                leased = [
                    each for each in running if each.index and each.index.array_job_id == job.job_id
                ]
                assert len(leased) <= job.spec.array.max_parallel

    @rule()
    def run_out(self) -> None:
        """Let go of whatever is held, and let all of it come to its end."""
        for job in self.all_jobs():
            if job.state is State.HELD:
                self.runner.run(self.store.release_job(self.key(job.job_id), now=self.now))
        for _ in range(200):
            self.wait(40)
            self.look(1)
            self.claim(4)
            while self.live:
                self.finish(0, lost=False)
            self.collect()
            if all(each.state in FINAL and not each.delete_requested for each in self.all_jobs()):
                break
        self.look(1)
        self.nothing_is_broken()
        for array in self.all_jobs():
            if array.spec.array is None:
                continue
            assert array.state in FINAL, f"{array.job_id} never ended"
            counted = array.array_counts or ArrayCounts()
            states = [each.state for each in self.indices(array.job_id)]
            found = ArrayCounts(
                counted.made,
                states.count(State.SUCCEEDED),
                states.count(State.FAILED),
                states.count(State.CANCELLED) + states.count(State.SKIPPED),
            )
            assert counted == found, f"{array.job_id}: {states}"


class PostgresArrayMachine(ArrayMachine):
    """The same over PostgreSQL."""

    home: type[Home] = PostgresHome


TestArrays = pytest.mark.timeout(LONGEST_S)(ArrayMachine.TestCase)
TestArrays.settings = settings(
    max_examples=examples(40),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestPostgresArrays = pytest.mark.timeout(LONGEST_S)(PostgresArrayMachine.TestCase)
TestPostgresArrays.settings = settings(TestArrays.settings, max_examples=examples(10))
