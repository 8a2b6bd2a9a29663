"""Random graphs of jobs with random ends, retries, cancels, deletes and holds, beside a small model.

The model knows no verdicts, counters or marks: it looks at all parents of a job each time.
"""

import asyncio
import dataclasses
import datetime as dt

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
)

from jobservice.model.graph import Condition, OnUnmet, Rule
from jobservice.model.job import Job
from jobservice.model.lifecycle import FINAL, WAITING, Reason, State
from jobservice.model.spec import Dependency, DependencyPolicy
from jobservice.store.port import Insertion, JobKey, StopRequest
from jobservice.testing.invariants import check_invariants
from tests.conformance.values import LEASE, NOW, TENANT, end, new_job, seconds, settle
from tests.examples import examples
from tests.machine.homes import Home, PostgresHome, SqliteHome

CONDITIONS = st.sampled_from([Condition.SUCCEEDED, *Condition])
DELAYS = st.sampled_from([0, 0, 2, 20])
ENDED = {OnUnmet.SKIP: State.SKIPPED, OnUnmet.FAIL: State.FAILED, OnUnmet.HOLD: State.HELD}


@dataclasses.dataclass
class Modelled:
    """All that the model knows of a job."""

    job_id: str
    parents: list[Dependency]
    policy: DependencyPolicy
    state: State = State.BLOCKED
    ended_at: dt.datetime | None = None
    start_at: dt.datetime | None = None
    governed: bool = True
    """Whether its parents decide over it."""
    delayed: bool = False
    """Whether they let it go, and it waits for nothing but their delays."""
    by_parents: bool = False
    """Whether they have decided that it does not run."""
    deleted_at: dt.datetime | None = None
    of_deleted: frozenset[str] = frozenset()
    """The parents that were deleted before it was made: these count from then."""
    cause: str = ""


class Model:
    """Jobs and those that they depend on."""

    def __init__(self) -> None:
        self.jobs: dict[str, Modelled] = {}
        self.buried: dict[str, Modelled] = {}
        self.now = NOW

    def parent(self, job_id: str) -> Modelled:
        """A job, or what is known of a deleted one."""
        return self.jobs.get(job_id) or self.buried[job_id]

    def met(self, job: Modelled) -> list[bool | None]:
        """Of each dependency; None while it is open."""
        found: list[bool | None] = []
        for each in job.parents:
            state = self.parent(each.job_id).state
            asked = {Condition.SUCCEEDED: {State.SUCCEEDED}, Condition.FAILED: {State.FAILED}}
            found.append(state in asked.get(each.condition, FINAL) if state in FINAL else None)
        return found

    def allowed(self, job: Modelled) -> bool | None:
        """Whether a job may run; None while that is open."""
        met, policy = self.met(job), job.policy
        if policy.rule is Rule.ALWAYS:
            return None if None in met else True
        need = self.need(job)
        if met.count(True) >= need:
            return True
        return None if met.count(True) + met.count(None) >= need else False

    def need(self, job: Modelled) -> int:
        """How many of its parents a job takes."""
        policy = job.policy
        some = {Rule.ANY: 1, Rule.AT_LEAST: policy.at_least}
        return some.get(policy.rule, len(job.parents))

    def ready_at(self, job: Modelled) -> dt.datetime:
        """From when on the delays let a job run."""
        always, met = job.policy.rule is Rule.ALWAYS, self.met(job)
        instants = sorted(
            self.ended_at(job, each.job_id) + each.delay
            for each, was_met in zip(job.parents, met, strict=True)
            if was_met or always
        )
        return instants[self.need(job) - 1]

    def ended_at(self, job: Modelled, parent_id: str) -> dt.datetime:
        """When a parent of a job ended, as the job counts."""
        parent = self.parent(parent_id)
        ended_at = parent.deleted_at if parent_id in job.of_deleted else parent.ended_at
        assert ended_at is not None
        return ended_at

    def settle(self) -> None:
        """Let every job follow from its parents, until none changes."""
        while sum(map(self._follow, self.jobs.values())):
            pass

    def _follow(self, job: Modelled) -> bool:
        if job.delayed and job.state is State.SCHEDULED:
            return self._advance(job)
        if not job.governed:
            return False
        allowed = self.allowed(job)
        if job.by_parents and job.state in {State.SKIPPED, State.HELD} and allowed is not False:
            job.state, job.by_parents, job.ended_at = State.BLOCKED, False, None
            return True
        if job.state is not State.BLOCKED or allowed is None:
            return False
        if allowed:
            start_at = self.ready_at(job)
            job.governed, job.state = False, State.QUEUED
            if start_at > self.now:
                job.state, job.start_at, job.delayed = State.SCHEDULED, start_at, True
        else:
            job.state, job.by_parents = ENDED[job.policy.on_unmet], True
            job.governed = job.state is not State.FAILED
            job.ended_at = self.now if job.state in FINAL else None
        return True

    def _advance(self, job: Modelled) -> bool:
        start_at = self.ready_at(job) if self.allowed(job) else None
        if start_at is None or job.start_at is None or start_at >= job.start_at:
            return False
        job.start_at = start_at
        if start_at <= self.now:
            job.state, job.start_at = State.QUEUED, None
        return True


class GraphMachine(RuleBasedStateMachine):
    """Every rule does one call, and the whole store is compared with the model."""

    home: type[Home] = SqliteHome
    jobs: Bundle[str] = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.place = self.home(self.runner)
        self.model = Model()
        self.store = self.place.open()
        self.beginning = self.runner.run(self.store.head_position())

    def teardown(self) -> None:
        self.runner.run(self.store.close())
        self.place.remove()
        self.runner.close()

    def settle(self) -> None:
        self.model.settle()
        while self.runner.run(self.store.settle_children(now=self.model.now, limit=3)):
            pass

    @rule(
        target=jobs,
        parents=st.lists(st.tuples(jobs, CONDITIONS, DELAYS), max_size=3),
        inner=st.lists(
            st.lists(st.tuples(st.integers(0, 3), CONDITIONS, DELAYS), max_size=3),
            min_size=1,
            max_size=4,
        ),
        policy=st.builds(
            DependencyPolicy,
            rule=st.sampled_from(Rule),
            at_least=st.integers(1, 2),
            on_unmet=st.sampled_from(OnUnmet),
        ),
    )
    def insert(
        self,
        parents: list[tuple[str, Condition, int]],
        inner: list[list[tuple[int, Condition, int]]],
        policy: DependencyPolicy,
    ) -> MultipleResults[str]:
        """A few jobs in one call: on older ones, and each on those before it in the call."""
        new = [new_job(created_at=self.model.now) for _ in inner]
        known = {**self.model.jobs, **self.model.buried}
        made = []
        for place, above in enumerate(inner):
            asked = {(Dependency(p, c, seconds(d))): None for p, c, d in parents if p in known}
            asked |= {
                Dependency(new[n].job_id, c, seconds(d)): None for n, c, d in above if n < place
            }
            unique = {(each.job_id, each.condition): each for each in asked}
            dependencies = tuple(unique.values())
            at_least = min(policy.at_least, len(dependencies))
            fitting = dataclasses.replace(policy, at_least=at_least)
            spec = dataclasses.replace(
                new[place].spec,
                dependencies=dependencies,
                dependency_policy=fitting if dependencies else DependencyPolicy(),
            )
            made.append(new[place]._replace(spec=spec))
            job = Modelled(new[place].job_id, list(dependencies), spec.dependency_policy)
            job.of_deleted = frozenset({p for p, _, _ in parents} & self.model.buried.keys())
            if not dependencies:
                job.state, job.governed = State.QUEUED, False
            self.model.jobs[job.job_id] = job
        answer = self.runner.run(self.store.insert_jobs(list(reversed(made))))
        assert answer.insertion is Insertion.CREATED
        self.settle()
        for job_id, arrival in answer.arrivals.items():
            assert arrival.state is self.model.jobs[job_id].state
        return multiple(*[each.job_id for each in made])

    @rule(exit_code=st.integers(0, 1), count=st.integers(1, 3))
    def run_some(self, exit_code: int, count: int) -> None:
        """Run what is first in the queue to its end, all in one call."""
        now = self.model.now
        claims = self.runner.run(
            self.store.claim_jobs(worker_id="w", limit=count, lease_until=now + LEASE, now=now)
        ).claims
        ends = [end(each.fence, exit_code, ended_at=now) for each in claims]
        self.runner.run(self.store.finish_attempts(ends, settle, now=now))
        for each in claims:
            job = self.model.jobs[each.fence.job_id]
            assert job.state is State.QUEUED
            job.state = State.FAILED if exit_code else State.SUCCEEDED
            job.ended_at = now
        self.settle()

    @rule(by=st.sampled_from([1, 3, 10]))
    def time_passes(self, by: int) -> None:
        self.model.now += seconds(by)
        self.runner.run(self.store.release_due(now=self.model.now, limit=100))
        for job in self.model.jobs.values():
            if job.state is State.SCHEDULED and job.start_at and job.start_at <= self.model.now:
                job.state, job.start_at = State.QUEUED, None

    @rule(ids=st.lists(jobs, min_size=1, max_size=2), delete=st.booleans())
    def cancel(self, ids: list[str], delete: bool) -> None:
        here = [each for each in dict.fromkeys(ids) if each in self.model.jobs]
        stops = [StopRequest(TENANT, each, delete) for each in here]
        self.runner.run(self.store.request_stop(stops, now=self.model.now))
        for job in [self.model.jobs[each] for each in here]:
            if job.state in WAITING:
                job.state, job.ended_at, job.by_parents = State.CANCELLED, self.model.now, False
                job.start_at, job.delayed = None, False
        self.settle()
        if delete:
            keys = [JobKey(TENANT, each) for each in here]
            gone = self.runner.run(self.store.delete_jobs(keys, now=self.model.now))
            assert all(gone)
            for each in here:
                job = self.model.buried[each] = self.model.jobs.pop(each)
                job.deleted_at = self.model.now

    @rule(job_id=jobs)
    def retry(self, job_id: str) -> None:
        job = self.model.jobs.get(job_id)
        answer = self.runner.run(self.store.retry_job(JobKey(TENANT, job_id), now=self.model.now))
        assert isinstance(answer, Job) == (job is not None and job.state in FINAL)
        if job is not None and job.state in FINAL:
            job.state, job.ended_at, job.governed = State.QUEUED, None, False
            job.by_parents = job.delayed = False
        self.settle()

    @rule(job_id=jobs)
    def hold(self, job_id: str) -> None:
        job = self.model.jobs.get(job_id)
        self.runner.run(self.store.hold_job(JobKey(TENANT, job_id), now=self.model.now))
        if job is not None and job.state in WAITING:
            job.state, job.delayed = State.HELD, False

    @rule(job_id=jobs)
    def release(self, job_id: str) -> None:
        job = self.model.jobs.get(job_id)
        self.runner.run(self.store.release_job(JobKey(TENANT, job_id), now=self.model.now))
        if job is None or job.state is not State.HELD:
            return
        if job.governed and not job.by_parents:
            job.state = State.BLOCKED
        else:
            later = job.start_at is not None and job.start_at > self.model.now
            job.state = State.SCHEDULED if later else State.QUEUED
            job.start_at = job.start_at if later else None
            job.governed = job.by_parents = False
        self.settle()

    @invariant()
    def the_store_keeps_its_promises(self) -> None:
        self.runner.run(check_invariants(self.store, beginning=self.beginning))

    @invariant()
    def the_store_is_as_the_model_says(self) -> None:
        keys = [JobKey(TENANT, each) for each in self.model.jobs]
        found = [each for each in self.runner.run(self.store.find_jobs(keys)) if each]
        assert {each.job_id: (each.state, each.start_at) for each in found} == {
            each.job_id: (each.state, each.start_at) for each in self.model.jobs.values()
        }
        for job in found:
            modelled = self.model.jobs[job.job_id]
            assert (job.reason is Reason.DEPENDENCY) == modelled.by_parents
            if modelled.by_parents:
                self._cause_is_one(job)

    def _cause_is_one(self, job: Job) -> None:
        """The cause is not itself a job that was not run for the end of another."""
        cause = self.model.parent(job.cause_job_id)
        seen, above = set(), [job.job_id]
        while above:
            here = above.pop()
            if here not in seen:
                seen.add(here)
                above += [each.job_id for each in self.model.parent(here).parents]
        assert cause.job_id in seen - {job.job_id}


LONGEST_S = 300


class PostgresGraphMachine(GraphMachine):
    """The same over PostgreSQL."""

    home: type[Home] = PostgresHome


TestGraph = GraphMachine.TestCase
TestGraph.settings = settings(
    max_examples=examples(60),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestPostgresGraph = pytest.mark.timeout(LONGEST_S)(PostgresGraphMachine.TestCase)
TestPostgresGraph.settings = settings(TestGraph.settings, max_examples=examples(10))
