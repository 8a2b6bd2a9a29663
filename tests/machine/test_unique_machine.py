"""Random submits of jobs with unique keys, beside a model that looks at all jobs there are.

The model reads where the jobs are, and says by the words of the proto alone which of them count.
"""

import asyncio
import dataclasses
import datetime as dt
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from jobservice.model.attempt import Fence
from jobservice.model.job import Job, NewJob
from jobservice.model.lifecycle import ACTIVE, FINAL, WAITING, Reason, State
from jobservice.model.spec import Dependency
from jobservice.model.unique import OnDuplicate, UniqueKey, UniqueScope
from jobservice.store.port import Inserted, Insertion, JobQuery, Order, StopRequest
from jobservice.testing.invariants import check_invariants
from tests.conformance.values import BEGINNING, NOW, TENANT, claim, end, finish, key_of, new_job
from tests.examples import examples
from tests.machine.homes import Home, PostgresHome, SqliteHome

QUEUES = "a", "b"
STEP = dt.timedelta(seconds=10)

unique_keys = st.builds(
    UniqueKey,
    key=st.sampled_from("uuv"),
    scope=st.sampled_from(UniqueScope),
    window=st.none() | st.integers(1, 6).map(lambda steps: steps * STEP),
    states=st.just(())
    | st.sets(st.sampled_from(State), max_size=4).map(lambda s: tuple(sorted(s))),
    on_duplicate=st.sampled_from(OnDuplicate),
)
queues = st.sampled_from(QUEUES)
delays = st.sampled_from([None, None, dt.timedelta(hours=1)])


class UniqueMachine(RuleBasedStateMachine):
    """See the head of the file."""

    home: type[Home] = SqliteHome

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.place = self.home(self.runner)
        self.store = self.place.open()
        self.now = NOW
        self.fences: list[Fence] = []

    def teardown(self) -> None:
        self.runner.run(self.store.close())
        self.place.remove()
        self.runner.close()

    # --- what the model says ------------------------------------------------------------------

    def jobs(self) -> list[Job]:
        """All jobs, oldest first."""
        query = JobQuery(TENANT, Order.CREATED_ASC, frozenset(State))
        return list(self.runner.run(self.store.list_jobs(query, limit=1000, cursor=None)).jobs)

    def in_the_way(self, new: NewJob, jobs: list[Job]) -> list[Job]:
        """Those that count, oldest first."""
        key = new.spec.unique_key
        assert key is not None
        return [
            each
            for each in jobs
            if each.spec.unique_key is not None
            and each.spec.unique_key.key == key.key
            and each.state in (key.states or ACTIVE)
            and (key.scope is UniqueScope.TENANT or each.spec.queue == new.spec.queue)
            and (key.window is None or each.created_at + key.window > new.created_at)
        ]

    # --- steps --------------------------------------------------------------------------------

    @rule(key=unique_keys, queue=queues, delay=delays, depends=st.booleans())
    def submit(
        self, key: UniqueKey, queue: str, delay: dt.timedelta | None, *, depends: bool
    ) -> None:
        self.now += STEP
        before = self.jobs()
        parents = (Dependency(before[0].job_id),) if before and depends else ()
        new = self.new(key, queue, start_delay=delay, dependencies=parents)
        others = self.in_the_way(new, before)
        answer = self.insert(new)
        if not others:
            assert answer.insertion is Insertion.CREATED
        elif key.on_duplicate is OnDuplicate.RETURN_EXISTING:
            assert answer.insertion is Insertion.STOOD_FOR
            assert answer.job_ids == (others[-1].job_id,)
        elif key.on_duplicate is OnDuplicate.REJECT or any(
            each.state not in WAITING for each in others
        ):
            assert answer.insertion is Insertion.DUPLICATE
            assert set(answer.job_ids) <= {each.job_id for each in others}
        else:
            assert answer.insertion is Insertion.CREATED
            now = {each.job_id: each for each in self.jobs()}
            for each in others:
                found = now[each.job_id]
                assert (found.state, found.reason) == (State.SKIPPED, Reason.SUPERSEDED)
            return
        after = {each.job_id: each.state for each in self.jobs() if each.job_id != new.job_id}
        assert after == {each.job_id: each.state for each in before}

    @rule(keys=st.lists(st.tuples(unique_keys, queues, delays), min_size=2, max_size=5))
    def submit_batch(self, keys: list[tuple[UniqueKey, str, dt.timedelta | None]]) -> None:
        self.now += STEP
        existing = OnDuplicate.RETURN_EXISTING
        new = [
            self.new(dataclasses.replace(key, on_duplicate=existing), queue, start_delay=delay)
            for key, queue, delay in keys
        ]
        known, expected = self.jobs(), []
        for each in new:
            others = self.in_the_way(each, known)
            expected.append(others[-1].job_id if others else each.job_id)
            if not others:
                known.append(
                    Job(
                        TENANT, each.job_id, each.spec, each.state, each.created_at,
                        each.created_at, edit_version=1, revision=1,
                    )
                )  # fmt: skip
        assert self.insert(*new).job_ids == tuple(expected)

    def new(self, key: UniqueKey, queue: str, **spec: Any) -> NewJob:
        return new_job(created_at=self.now, unique_key=key, queue=queue, **spec)

    def insert(self, *new: NewJob) -> Inserted:
        return self.runner.run(self.store.insert_jobs(new))

    @rule()
    def start(self) -> None:
        claims = self.runner.run(claim(self.store, 1, now=self.now, lease=dt.timedelta(days=1)))
        self.fences += [each.fence for each in claims]

    @precondition(lambda self: self.fences)
    @rule(exit_code=st.sampled_from([0, 0, 1]))
    def finish(self, exit_code: int) -> None:
        ended = end(self.fences.pop(0), exit_code, ended_at=self.now)
        self.runner.run(finish(self.store, ended, now=self.now))

    @rule(data=st.data(), what=st.sampled_from(["cancel", "delete", "hold", "retry", "elsewhere"]))
    def change(self, data: st.DataObject, what: str) -> None:
        jobs = self.jobs()
        if not jobs:
            return
        job = data.draw(st.sampled_from(jobs))
        run, store, key = self.runner.run, self.store, key_of(job)
        if what in {"cancel", "delete"}:
            run(
                store.request_stop(
                    [StopRequest(TENANT, job.job_id, what == "delete")], now=self.now
                )
            )
            if what == "delete" and job.state in FINAL:
                run(store.delete_jobs([key], now=self.now))
        elif what == "hold":
            change = store.release_job if job.state is State.HELD else store.hold_job
            run(change(key, now=self.now))
        elif what == "retry":
            run(store.retry_job(key, now=self.now))
        elif job.state not in FINAL:
            queue = QUEUES[job.spec.queue == QUEUES[0]]
            run(store.update_job(key, {"queue": queue}, edit_version=None, now=self.now))

    @invariant()
    def all_holds(self) -> None:
        self.runner.run(check_invariants(self.store, beginning=BEGINNING))


class PostgresUniqueMachine(UniqueMachine):
    """The same over PostgreSQL."""

    home: type[Home] = PostgresHome


TestUniqueMachine = UniqueMachine.TestCase
TestUniqueMachine.settings = settings(
    max_examples=examples(60),
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestPostgresUniqueMachine = PostgresUniqueMachine.TestCase
TestPostgresUniqueMachine.settings = settings(TestUniqueMachine.settings, max_examples=examples(10))
