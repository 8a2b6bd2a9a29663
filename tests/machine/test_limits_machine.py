"""Random steps over queues, limits, keys and rates, beside a model that counts what is live.

The model knows the fences that were given out and what became of them, never how the store parks and
wakes jobs. Of each lease it checks that nothing was in its way; and when a claim of everything gives
nothing more, that something is in the way of each job that waits.
"""

import asyncio
import collections
import dataclasses
import datetime as dt
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from jobservice.clock import to_us
from jobservice.model.attempt import Cause, Fence
from jobservice.model.job import Job
from jobservice.model.lifecycle import FINAL, LIVE, WAITING, State
from jobservice.model.limit import ConcurrencyKey, Limit, LimitKind, Rate, type_key
from jobservice.model.queue import Move, Pause, PauseMode, Queue, bottom_key, claim_key, top_key
from jobservice.model.spec import JobSpec, RetryPolicy
from jobservice.store.port import AttemptStart, Insertion, JobKey, Refusal, StopRequest
from jobservice.testing.invariants import check_invariants
from tests.conformance.values import LEASE, NOW, end, new_job, seconds, settle, states
from tests.machine.homes import Home, PostgresHome, SqliteHome

TENANTS = ("one", "two")
QUEUES = ("default", "a", "b")
KEYS = ("k", "l", "m")
POLICY = RetryPolicy(max_attempts=2, max_lost=2)
ALL = 1_000
CLAIMS = 6
"""How many claims of everything come to rest: a claim looks a few times at what it has woken itself."""

tenants = st.sampled_from([TENANTS[0], TENANTS[0], TENANTS[0], TENANTS[1]])
queues = st.sampled_from(QUEUES)
keys = st.sampled_from(["k", "k", "l", "m"])
limited = st.sampled_from(["k", "k", "l", "m", type_key("t").key])
"""What has a limit of its own: a key, or a type of job."""
some = st.sampled_from([None, None, 4, 3, 2, 1, 0])
rates = st.one_of(
    st.none(),
    st.builds(
        Rate, st.integers(1, 3), st.sampled_from([seconds(1), seconds(30)]), st.integers(1, 3)
    ),
)
wanted_keys = st.lists(
    st.tuples(keys, st.sampled_from([1, 1, 1, 2, 3])),
    max_size=2,
    unique_by=lambda each: each[0],
)


@dataclasses.dataclass
class Modelled:
    """All that the model knows of a job."""

    tenant: str
    job_id: str
    spec: JobSpec
    queued_at: dt.datetime
    claim_key: int
    state: State = State.QUEUED
    attempt: int = 0
    epoch: int = 0
    started: bool = False
    lease_until: dt.datetime | None = None
    failures: int = 0
    losses: int = 0
    start_at: dt.datetime | None = None

    @property
    def key(self) -> JobKey:
        return JobKey(self.tenant, self.job_id)

    @property
    def fence(self) -> Fence:
        return Fence(self.tenant, self.job_id, self.attempt, self.epoch)

    @property
    def lane(self) -> tuple[str, str, str]:
        return self.tenant, self.spec.queue, self.spec.fairness_key

    def queue_up(self, queued_at: dt.datetime) -> None:
        self.state, self.queued_at, self.start_at = State.QUEUED, queued_at, None
        self.claim_key = claim_key(self.spec.priority, queued_at)

    def end(self, cause: Cause, exit_code: int | None, now: dt.datetime) -> None:
        stopping = self.state is State.STOPPING
        if exit_code == 0:
            self.state = State.SUCCEEDED
        elif stopping:
            self.state = State.CANCELLED
        elif cause is Cause.LOST:
            self.losses += 1
            self.state = State.FAILED if self.losses >= POLICY.max_lost else State.QUEUED
        else:
            self.failures += 1
            again = self.failures < POLICY.max_attempts
            self.state = State.SCHEDULED if again else State.FAILED
            self.start_at = now + seconds(1) if again else None
        self.started, self.lease_until = False, None


class Meter:
    """A rate as the model has it: by the instants of the starts, in exact numbers of microseconds."""

    def __init__(self, rate: Rate, used_until_us: float = 0) -> None:
        self.rate = rate
        self.used_until_us = used_until_us
        self.cost_us = rate.period / dt.timedelta(microseconds=1) / rate.starts

    def is_free(self, now_us: int, weight: int) -> bool:
        """Whether there is room for a start; a microsecond is nothing."""
        room_us = (self.rate.burst - min(weight, self.rate.burst)) * self.cost_us
        return self.used_until_us - room_us <= now_us + 1

    def start(self, now_us: int, weight: int) -> None:
        self.used_until_us = max(self.used_until_us, now_us) + weight * self.cost_us


class LimitsMachine(RuleBasedStateMachine):
    """See the head of the file."""

    home: type[Home] = SqliteHome
    jobs: Bundle[str] = Bundle("jobs")
    fences: Bundle[Fence] = Bundle("fences")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.place = self.home(self.runner)
        self.now = NOW
        self.model: dict[str, Modelled] = {}
        self.queues: dict[tuple[str, str], Queue] = {}
        self.limits: dict[tuple[str, LimitKind, str], Limit] = {}
        self.meters: dict[tuple[str, str], Meter] = {}
        self.own: dict[str, int] = {}
        self.store = self.place.open()
        self.beginning = self.runner.run(self.store.head_position())

    def teardown(self) -> None:
        self.runner.run(self.store.close())
        self.place.remove()
        self.runner.close()

    # --- what the model says ------------------------------------------------------------------

    def running(self) -> list[Modelled]:
        return [job for job in self.model.values() if job.state in LIVE]

    def most(self, tenant: str, kind: LimitKind, name: str = "") -> int | None:
        limit = self.limits.get((tenant, kind, name))
        return None if limit is None else limit.max_running

    def is_paused(self, tenant: str, name: str, mode: PauseMode) -> bool:
        queue = self.queues.get((tenant, name))
        pause = None if queue is None else queue.pause
        return pause is not None and pause.mode is mode and pause.holds(self.now)

    def in_the_way(self, job: Modelled) -> Iterator[str]:
        """All that keeps a job from starting now; a key by its name, all else in capitals."""
        queue = self.queues.get((job.tenant, job.spec.queue))
        live = self.running()
        of_tenant = [each for each in live if each.tenant == job.tenant]
        of_queue = [each for each in of_tenant if each.spec.queue == job.spec.queue]
        if self.is_paused(job.tenant, job.spec.queue, PauseMode.HOLD):
            yield "PAUSE"
        for name, most, used in (
            ("QUEUE", None if queue is None else queue.max_running, len(of_queue)),
            ("TENANT", self.most(job.tenant, LimitKind.TENANT), len(of_tenant)),
            ("SERVICE", self.most("", LimitKind.SERVICE), len(live)),
        ):
            if most is not None and used >= most:
                yield name
        for key in job.spec.held_keys:
            if self.is_taken(job.tenant, key, of_tenant):
                yield key.key

    def is_taken(self, tenant: str, key: ConcurrencyKey, live: list[Modelled]) -> bool:
        used = sum(
            held.weight for each in live for held in each.spec.held_keys if held.key == key.key
        )
        most = self.most(tenant, LimitKind.KEY, key.key)
        if key.limit:
            most = key.limit if most is None else min(most, key.limit)
        elif (tenant, LimitKind.KEY, key.key) not in self.limits:
            most = 1
        meter = self.meters.get((tenant, key.key))
        return (most is not None and used + key.weight > most) or (
            meter is not None and not meter.is_free(to_us(self.now), key.weight)
        )

    def grant(self, fence: Fence) -> Modelled:
        """A lease was given out: nothing may have been in the way."""
        job = self.model[fence.job_id]
        assert job.state is State.QUEUED
        assert list(self.in_the_way(job)) == []
        job.state, job.lease_until = State.RUNNING, self.now + LEASE
        job.attempt, job.epoch = job.attempt + 1, job.epoch + 1
        assert job.fence == fence
        for key in job.spec.held_keys:
            if meter := self.meters.get((job.tenant, key.key)):
                meter.start(to_us(self.now), key.weight)
        return job

    def live(self, fence: Fence) -> Modelled | None:
        job = self.model.get(fence.job_id)
        return job if job is not None and job.state in LIVE and job.fence == fence else None

    # --- rules of queues, limits ----------------------------------------------------------------

    @initialize(own=st.lists(st.sampled_from([0, 0, 1, 2, 3, 4]), min_size=3, max_size=3))
    def choose_own_limits(self, own: list[int]) -> None:
        """Jobs give a key the same limit each, as they are told to."""
        self.own = dict(zip(KEYS, own, strict=True))

    @rule(
        tenant=tenants,
        name=queues,
        most=some,
        mode=st.sampled_from([None, PauseMode.HOLD, PauseMode.HOLD, PauseMode.DRAIN]),
        until=st.sampled_from([None, None, 5.0, 60.0]),
    )
    def save_queue(
        self, tenant: str, name: str, most: int | None, mode: PauseMode | None, until: float | None
    ) -> None:
        ends = None if until is None else self.now + seconds(until)
        pause = None if mode is None else Pause(mode, self.now, "because", ends)
        saved = self.runner.run(
            self.store.save_queue(
                tenant,
                name,
                {"max_running": most, "pause": pause},
                create=(tenant, name) not in self.queues,
                edit_version=None,
                now=self.now,
            )
        )
        assert isinstance(saved, Queue)
        self.queues[tenant, name] = saved

    @rule(tenant=tenants, name=queues)
    def resume(self, tenant: str, name: str) -> None:
        saved = self.runner.run(
            self.store.save_queue(
                tenant, name, {"pause": None}, create=False, edit_version=None, now=self.now
            )
        )
        if isinstance(saved, Queue):
            self.queues[tenant, name] = saved

    def save_limit(self, limit: Limit) -> None:
        self.runner.run(self.store.save_limit(limit, now=self.now))
        self.limits[limit.tenant, limit.kind, limit.name] = limit

    @rule(most=st.sampled_from([None, 8, 6, 4, 0]))
    def limit_service(self, most: int | None) -> None:
        self.save_limit(Limit("", LimitKind.SERVICE, max_running=most))

    @rule(tenant=tenants, most=some, weight=st.sampled_from([500, 1000, 3000]))
    def limit_tenant(self, tenant: str, most: int | None, weight: int) -> None:
        self.save_limit(Limit(tenant, LimitKind.TENANT, max_running=most, weight=weight))

    @rule(tenant=tenants, key=limited, most=some, rate=rates)
    def limit_key(self, tenant: str, key: str, most: int | None, rate: Rate | None) -> None:
        self.save_limit(Limit(tenant, LimitKind.KEY, key, most, rate))
        before = self.meters.pop((tenant, key), None)
        if rate is not None:
            self.meters[tenant, key] = Meter(rate, before.used_until_us if before else 0)

    @rule(tenant=tenants, key=limited, kind=st.sampled_from(LimitKind))
    def delete_limit(self, tenant: str, key: str, kind: LimitKind) -> None:
        name = key if kind is LimitKind.KEY else ""
        whose = "" if kind is LimitKind.SERVICE else tenant
        found = self.runner.run(self.store.delete_limit(whose, kind, name))
        assert found == (self.limits.pop((whose, kind, name), None) is not None)
        if kind is LimitKind.KEY:
            self.meters.pop((tenant, key), None)

    # --- jobs -----------------------------------------------------------------------------------

    @rule(
        target=jobs,
        count=st.integers(1, 4),
        tenant=tenants,
        queue=queues,
        wanted=wanted_keys,
        job_type=st.sampled_from(["", "", "t"]),
        fairness_key=st.sampled_from(["", "", "x"]),
        priority=st.sampled_from([-50, 0, 0, 50]),
    )
    def insert(
        self,
        count: int,
        tenant: str,
        queue: str,
        wanted: list[tuple[str, int]],
        job_type: str,
        fairness_key: str,
        priority: int,
    ) -> MultipleResults[str]:
        named = tuple(ConcurrencyKey(key, self.own[key], weight) for key, weight in wanted)
        new = [
            new_job(
                tenant,
                self.now,
                queue=queue,
                concurrency_keys=named,
                job_type=job_type,
                fairness_key=fairness_key,
                priority=priority,
                retry=POLICY,
            )
            for _ in range(count)
        ]
        answer = self.runner.run(self.store.insert_jobs(new))
        if self.is_paused(tenant, queue, PauseMode.DRAIN):
            assert answer.insertion is Insertion.DRAINED
            return multiple()
        for each in new:
            place = claim_key(priority, self.now)
            self.model[each.job_id] = Modelled(tenant, each.job_id, each.spec, self.now, place)
        return multiple(*[each.job_id for each in new])

    @rule(target=fences, limit=st.integers(1, 6), worker_id=st.sampled_from(["w1", "w2"]))
    def claim(self, limit: int, worker_id: str) -> MultipleResults[Fence]:
        return multiple(*self.claim_up_to(limit, worker_id))

    def claim_up_to(self, limit: int, worker_id: str = "w1") -> list[Fence]:
        """Claim, and hold every lease against the model."""
        lines = self.plain_lines()
        claimed = self.runner.run(
            self.store.claim_jobs(
                worker_id=worker_id, limit=limit, lease_until=self.now + LEASE, now=self.now
            )
        )
        claims = claimed.claims
        assert len(claims) <= limit
        given: dict[tuple[str, str, str], list[int]] = collections.defaultdict(list)
        for each in claims:
            job = self.grant(each.fence)
            if not job.spec.held_keys:
                given[job.lane].append(job.claim_key)
        for lane, places in given.items():
            assert places == lines[lane][: len(places)], "out of order"
        return [each.fence for each in claims]

    def plain_lines(self) -> dict[tuple[str, str, str], list[int]]:
        """The claim keys of the jobs without keys that wait in each lane, in order."""
        lines: dict[tuple[str, str, str], list[int]] = collections.defaultdict(list)
        for job in self.model.values():
            if job.state is State.QUEUED and not job.spec.held_keys:
                lines[job.lane].append(job.claim_key)
        return {lane: sorted(places) for lane, places in lines.items()}

    @rule(fence=fences)
    def start(self, fence: Fence) -> None:
        job = self.live(fence)
        [answer] = self.runner.run(self.store.start_attempts([AttemptStart(fence, self.now)]))
        assert answer == (job is not None)
        if job is not None:
            job.started = True

    @rule(
        fence=consumes(fences),
        how=st.sampled_from(
            [(Cause.EXIT, 0), (Cause.EXIT, 0), (Cause.EXIT, 1), (Cause.LOST, None)]
        ),
    )
    def finish(self, fence: Fence, how: tuple[Cause, int | None]) -> None:
        cause, code = how
        job = self.live(fence)
        ending = end(fence, code, cause=cause, ended_at=self.now)
        [answer] = self.runner.run(self.store.finish_attempts([ending], settle, now=self.now))
        assert (answer is not None) == (job is not None)
        if job is not None:
            job.end(cause, code, self.now)

    @rule(place=st.integers(0, 9))
    def finish_one(self, place: int) -> None:
        """One that runs succeeds."""
        if live := self.running():
            self.finish(fence=live[place % len(live)].fence, how=(Cause.EXIT, 0))

    @rule(fence=consumes(fences))
    def unclaim(self, fence: Fence) -> None:
        job = self.live(fence)
        may = job is not None and job.state is State.RUNNING and not job.started
        assert self.runner.run(self.store.unclaim_attempts([fence], now=self.now)) == [may]
        if job is not None and may:
            job.state, job.attempt, job.lease_until = State.QUEUED, job.attempt - 1, None

    @rule(job_id=jobs)
    def stop(self, job_id: str) -> None:
        job = self.model[job_id]
        self.runner.run(self.store.request_stop([StopRequest(job.tenant, job_id)], now=self.now))
        if job.state in WAITING:
            job.state, job.start_at = State.CANCELLED, None
        elif job.state is State.RUNNING:
            job.state = State.STOPPING

    @rule(job_id=jobs)
    def hold(self, job_id: str) -> None:
        job = self.model[job_id]
        self.runner.run(self.store.hold_job(job.key, now=self.now))
        if job.state in WAITING:
            job.state = State.HELD

    @rule(job_id=jobs)
    def release(self, job_id: str) -> None:
        job = self.model[job_id]
        self.runner.run(self.store.release_job(job.key, now=self.now))
        if job.state is State.HELD and job.start_at is not None and job.start_at > self.now:
            job.state = State.SCHEDULED
        elif job.state is State.HELD:
            job.queue_up(job.start_at or job.queued_at)

    @rule(job_id=jobs)
    def retry(self, job_id: str) -> None:
        job = self.model[job_id]
        self.runner.run(self.store.retry_job(job.key, now=self.now))
        if job.state in FINAL:
            job.failures = job.losses = 0
            job.queue_up(self.now)

    @rule(job_id=jobs, priority=st.sampled_from([-50, 0, 50]))
    def reprioritise(self, job_id: str, priority: int) -> None:
        job = self.model[job_id]
        answer = self.runner.run(
            self.store.update_job(job.key, {"priority": priority}, edit_version=None, now=self.now)
        )
        if isinstance(answer, Job):
            job.spec = dataclasses.replace(job.spec, priority=priority)
            job.claim_key = claim_key(priority, job.queued_at)

    @rule(job_id=jobs, other=jobs, move=st.sampled_from(Move))
    def move(self, job_id: str, other: str, move: Move) -> None:
        job = self.model[job_id]
        beside = self.model[other] if move in {Move.BEFORE, Move.AFTER} else None
        answer = self.runner.run(
            self.store.move_job(job.key, move, other if beside else None, now=self.now)
        )
        if isinstance(answer, Refusal):
            return
        assert job.state is State.QUEUED
        if beside is not None:
            job.claim_key = beside.claim_key
        else:
            job.claim_key = (top_key if move is Move.TOP else bottom_key)(to_us(self.now))

    # --- time, and the end of the process ---------------------------------------------------------

    @rule(by=st.sampled_from([0.001, 0.4, 5.0, 31.0, 120.0]))
    def time_passes(self, by: float) -> None:
        self.now += seconds(by)

    @rule()
    def expire(self) -> None:
        fences = self.runner.run(self.store.expire_leases(settle, now=self.now, limit=ALL))
        over = {
            job.fence: job
            for job in self.running()
            if job.lease_until is not None and job.lease_until <= self.now
        }
        assert set(fences) == over.keys()
        for job in over.values():
            job.end(Cause.LOST, None, self.now)

    @rule()
    def release_due(self) -> None:
        self.runner.run(self.store.release_due(now=self.now, limit=ALL))
        for job in self.model.values():
            if job.state is State.SCHEDULED and job.start_at and job.start_at <= self.now:
                job.queue_up(job.start_at)

    @rule()
    def wake_rates(self) -> None:
        self.runner.run(self.store.wake_rates(now=self.now, limit=ALL))

    @rule()
    def wake_parked(self) -> None:
        self.runner.run(self.store.wake_parked(("", ""), now=self.now))

    @rule()
    def reopen(self) -> None:
        self.runner.run(self.store.close())
        self.store = self.place.open()

    # --- what waits, waits for something ------------------------------------------------------------

    @precondition(lambda self: self.model)
    @rule(target=fences)
    def claim_everything(self) -> MultipleResults[Fence]:
        """Whatever still waits then has something in its way. Nobody sweeps: each wake was in time."""
        self.runner.run(self.store.wake_rates(now=self.now, limit=ALL))
        given = [fence for _ in range(CLAIMS) for fence in self.claim_up_to(ALL)]
        waiting = [job for job in self.model.values() if job.state is State.QUEUED]
        found = self.runner.run(self.store.find_jobs([job.key for job in waiting]))
        for job, stored in zip(waiting, found, strict=True):
            assert stored is not None
            assert self.is_held_up(job, stored.blocked_key, waiting), (job, stored.blocked_key)
        return multiple(*given)

    def is_held_up(self, job: Modelled, parked_for: str, waiting: list[Modelled]) -> bool:
        """Whether something is in its way, or in that of one before it in line for its key."""
        return any(self.in_the_way(job)) or any(
            parked_for in self.in_the_way(earlier)
            for earlier in waiting
            if (earlier.tenant, earlier.spec.queue) == (job.tenant, job.spec.queue)
            and earlier.claim_key <= job.claim_key
        )

    @invariant()
    def the_store_is_as_the_model_says(self) -> None:
        found: dict[str, State] = {}
        for tenant in TENANTS:
            found |= self.runner.run(states(self.store, tenant))
        assert found == {job.job_id: job.state for job in self.model.values()}
        self.runner.run(check_invariants(self.store, beginning=self.beginning, tenants=TENANTS))


LONGEST_S = 300
"""A step over PostgreSQL is a dozen round trips, and the machine may be busy."""


class PostgresLimitsMachine(LimitsMachine):
    """The same over PostgreSQL."""

    home: type[Home] = PostgresHome


TestLimitsMachine = LimitsMachine.TestCase
TestLimitsMachine.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestPostgresLimitsMachine = pytest.mark.timeout(LONGEST_S)(PostgresLimitsMachine.TestCase)
TestPostgresLimitsMachine.settings = settings(TestLimitsMachine.settings, max_examples=10)
