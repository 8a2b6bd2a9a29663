"""A small model of all that meets in a store: jobs, attempts, limits, keys, dependencies, arrays, time.

Plain dictionaries, by the words of the documents. It knows nothing of lanes, parking, verdicts, marks or
counters: whatever is asked is worked out anew from all jobs there are.
"""

import collections
import dataclasses
import datetime as dt
from collections.abc import Iterable, Iterator

from jobservice.clock import EPOCH, to_us
from jobservice.model.attempt import Cause, Fence
from jobservice.model.bounds import expires_at, starts_at
from jobservice.model.graph import Condition, OnUnmet, Rule
from jobservice.model.job import NewJob
from jobservice.model.lifecycle import FINAL, LIVE, WAITING, State
from jobservice.model.limit import ConcurrencyKey, Limit, LimitKind, Rate
from jobservice.model.queue import PauseMode, Queue, claim_key
from jobservice.model.spec import JobSpec
from jobservice.store.port import JobKey

_ENDED = {OnUnmet.SKIP: State.SKIPPED, OnUnmet.FAIL: State.FAILED, OnUnmet.HOLD: State.HELD}


@dataclasses.dataclass
class Modelled:
    """All that the model knows of a job."""

    tenant: str
    job_id: str
    spec: JobSpec
    created_at: dt.datetime
    queued_at: dt.datetime
    claim_key: int
    state: State = State.QUEUED
    start_at: dt.datetime | None = None
    attempt: int = 0
    epoch: int = 0
    worker: str = ""
    started: bool = False
    lease_until: dt.datetime | None = None
    failures: int = 0
    losses: int = 0
    edits: int = 1
    queue_until: dt.datetime | None = None
    expires: dt.datetime | None = None
    over: bool = False
    """It is STOPPING because its time is over."""
    unwanted: bool = False
    """It is to be deleted once it is final."""
    ended_at: dt.datetime | None = None
    governed: bool = False
    """Whether its parents decide over it."""
    delayed: bool = False
    """Whether they let it go, and it waits for nothing but their delays."""
    by_parents: bool = False
    """Whether they have decided that it does not run."""
    deleted_at: dt.datetime | None = None
    of_deleted: frozenset[str] = frozenset()
    """The parents that were deleted before it was made: these count from then."""
    array_id: str = ""
    index: int = 0
    """In that array."""

    @property
    def key(self) -> JobKey:
        return JobKey(self.tenant, self.job_id)

    @property
    def fence(self) -> Fence:
        return Fence(self.tenant, self.job_id, self.attempt, self.epoch)

    @property
    def lane(self) -> tuple[str, str, str]:
        return self.tenant, self.spec.queue, self.spec.fairness_key

    @property
    def is_array(self) -> bool:
        return self.spec.array is not None

    @property
    def has_lease(self) -> bool:
        return self.state in LIVE and not self.is_array

    def weight(self, key: str) -> int:
        return sum(each.weight for each in self.spec.held_keys if each.key == key)

    def wait(self, now: dt.datetime) -> None:
        """It waits for a worker from now on."""
        self.state, self.start_at, self.delayed = State.QUEUED, None, False
        if self.spec.queue_timeout is not None:
            self.queue_until = now + self.spec.queue_timeout

    def queue_up(self, queued_at: dt.datetime, now: dt.datetime) -> None:
        """The same, at a place by priority and age."""
        self.wait(now)
        self.queued_at = queued_at
        self.claim_key = claim_key(self.spec.priority, to_us(queued_at))

    def end(self, state: State, now: dt.datetime) -> None:
        """It is final."""
        self.state, self.ended_at = state, now
        self.start_at, self.by_parents, self.over = None, False, False

    def stop(self, state: State, now: dt.datetime) -> None:
        """It is not to go on: at once where no process is, else once that is gone."""
        if self.state is State.RUNNING:
            self.state, self.over = State.STOPPING, state is State.FAILED
        elif self.state in WAITING:
            self.end(state, now)

    def end_attempt(
        self, cause: Cause, exit_code: int | None, start_at: dt.datetime | None, now: dt.datetime
    ) -> None:
        """Its process is gone; `start_at` is what was decided for another try."""
        self.started, self.lease_until = False, None
        if cause is Cause.EXIT and exit_code == 0:
            self.end(State.SUCCEEDED, now)
        elif self.state is State.STOPPING:
            self.end(State.FAILED if self.over else State.CANCELLED, now)
        elif cause is Cause.STOP:
            self.wait(now)
        elif cause is Cause.LOST:
            self.losses += 1
            self.wait(now)
            if self.losses >= self.spec.retry.max_lost:
                self.end(State.FAILED, now)
        else:
            self.failures += 1
            self.state, self.start_at = State.SCHEDULED, start_at
            if self.failures >= self.spec.retry.max_attempts:
                self.end(State.FAILED, now)
            else:
                assert start_at is not None
                assert start_at >= now


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


class Model:
    """Jobs, rules, and the time."""

    def __init__(self, now: dt.datetime) -> None:
        self.now = now
        self.jobs: dict[str, Modelled] = {}
        self.buried: dict[str, Modelled] = {}
        """Those that were deleted."""
        self.queues: dict[tuple[str, str], Queue] = {}
        self.limits: dict[tuple[str, LimitKind, str], Limit] = {}
        self.meters: dict[tuple[str, str], Meter] = {}

    def where(self, *states: State) -> list[Modelled]:
        """The jobs in these states, oldest first."""
        return [each for each in self.jobs.values() if each.state in states]

    def all_of(self, job_ids: Iterable[str]) -> list[Modelled]:
        """Jobs by their ids."""
        return [self.jobs[each] for each in job_ids]

    def add(self, new: NewJob, place: int | None = None) -> None:
        """A job comes to be."""
        spec, created_at = new.spec, new.created_at
        queued_at = new.queued_at or created_at
        standing = claim_key(spec.priority, to_us(queued_at)) if place is None else place
        job = Modelled(new.tenant, new.job_id, spec, created_at, queued_at, standing)
        job.start_at = starts_at(spec, created_at)
        job.expires = expires_at(spec, job.start_at or created_at)
        job.governed = bool(spec.dependencies)
        job.of_deleted = frozenset({d.job_id for d in spec.dependencies} & self.buried.keys())
        if job.governed:
            job.state = State.BLOCKED
        elif job.start_at is not None:
            job.state = State.SCHEDULED
        else:
            job.wait(self.now)
        self.jobs[new.job_id] = job

    # --- what runs ------------------------------------------------------------------------------

    def live(self, fence: Fence) -> Modelled | None:
        """The job behind a fence, unless that is stale."""
        job = self.jobs.get(fence.job_id)
        return job if job is not None and job.has_lease and job.fence == fence else None

    def grant(self, fence: Fence, worker: str, lease_until: dt.datetime) -> Modelled:
        """A lease was given out: nothing may have been in the way."""
        job = self.jobs[fence.job_id]
        assert job.state is State.QUEUED, job
        assert not job.is_array, job
        assert list(self.in_the_way(job)) == [], job
        job.state, job.worker, job.lease_until = State.RUNNING, worker, lease_until
        job.attempt, job.epoch = job.attempt + 1, job.epoch + 1
        assert job.fence == fence
        for key in job.spec.held_keys:
            if meter := self.meters.get((job.tenant, key.key)):
                meter.start(to_us(self.now), key.weight)
        return job

    def in_the_way(self, job: Modelled) -> Iterator[str]:
        """All that keeps a QUEUED job from starting now; a key by its name, all else in capitals."""
        queue = self.queues.get((job.tenant, job.spec.queue))
        live = [each for each in self.jobs.values() if each.has_lease]
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
        for key in () if job.is_array else job.spec.held_keys:
            most, meter = self.most_of(job.tenant, key), self.meters.get((job.tenant, key.key))
            used = sum(each.weight(key.key) for each in of_tenant)
            if (most is not None and used + key.weight > most) or (
                meter is not None and not meter.is_free(to_us(self.now), key.weight)
            ):
                yield key.key

    def most(self, tenant: str, kind: LimitKind, name: str = "") -> int | None:
        """What a limit says."""
        limit = self.limits.get((tenant, kind, name))
        return None if limit is None else limit.max_running

    def most_of(self, tenant: str, key: ConcurrencyKey) -> int | None:
        """How much of a key may be held at once: what the job says and what the named limit says."""
        named = (tenant, LimitKind.KEY, key.key) in self.limits
        most = self.most(tenant, LimitKind.KEY, key.key)
        if not key.limit:
            return most if named else 1
        return key.limit if most is None else min(most, key.limit)

    def is_paused(self, tenant: str, name: str, mode: PauseMode) -> bool:
        """Whether a pause is in force."""
        queue = self.queues.get((tenant, name))
        pause = None if queue is None else queue.pause
        return pause is not None and pause.mode is mode and pause.holds(self.now)

    def plain_lines(self) -> dict[tuple[str, str, str], list[int]]:
        """The claim keys of what waits in each lane and starts at once if it may, in order."""
        lines: dict[tuple[str, str, str], list[int]] = collections.defaultdict(list)
        for job in self.where(State.QUEUED):
            if not job.spec.held_keys and not job.is_array:
                lines[job.lane].append(job.claim_key)
        return {lane: sorted(places) for lane, places in lines.items()}

    def is_held_up(self, job: Modelled, parked_for: str) -> bool:
        """Whether something is in its way, or in that of one before it in line for its key."""
        return any(self.in_the_way(job)) or any(
            parked_for in self.in_the_way(earlier)
            for earlier in self.where(State.QUEUED)
            if (earlier.tenant, earlier.spec.queue) == (job.tenant, job.spec.queue)
            and earlier.claim_key <= job.claim_key
        )

    # --- time -----------------------------------------------------------------------------------

    def release_due(self) -> None:
        """The start of jobs has come."""
        for job in self.where(State.SCHEDULED):
            assert job.start_at is not None
            if job.start_at <= self.now:
                job.queue_up(job.start_at, self.now)

    def expire(self) -> set[Fence]:
        """Leases are over; returns whose."""
        lost = [
            job
            for job in self.jobs.values()
            if job.lease_until is not None and job.lease_until <= self.now
        ]
        fences = {job.fence for job in lost}
        for job in lost:
            job.end_attempt(Cause.LOST, None, None, self.now)
        return fences

    def time_out(self) -> list[Modelled]:
        """The time of jobs is over; returns of which."""
        over = [
            job
            for job in self.jobs.values()
            if (job.state is State.QUEUED and (job.queue_until or self.never) <= self.now)
            or (job.state < State.STOPPING and (job.expires or self.never) <= self.now)
        ]
        for job in over:
            job.stop(State.FAILED, self.now)
        return over

    never = dt.datetime.max.replace(tzinfo=dt.UTC)

    # --- dependencies ---------------------------------------------------------------------------

    def settle(self) -> None:
        """Let every job follow from its parents, until none changes."""
        while sum(map(self._follow, self.jobs.values())):
            pass

    def _follow(self, job: Modelled) -> bool:
        if job.delayed and job.state is State.SCHEDULED:
            return self._advance(job)
        if not job.governed:
            return False
        allowed = self._allowed(job)
        if job.by_parents and allowed is not False and not job.unwanted:
            self._reopen(job)
            return True
        if job.state is not State.BLOCKED or allowed is None:
            return False
        if allowed:
            start_at = max(self._ready_at(job), job.start_at or EPOCH)
            job.governed = False
            job.queue_up(self.now, self.now)
            if start_at > self.now:
                job.state, job.start_at, job.delayed = State.SCHEDULED, start_at, True
            return True
        state = _ENDED[job.spec.dependency_policy.on_unmet]
        job.governed = state is not State.FAILED
        if state is State.HELD:
            job.state = state
        else:
            job.end(state, self.now)
        job.by_parents = True
        return True

    def _advance(self, job: Modelled) -> bool:
        if job.start_at is None or not self._allowed(job):
            return False
        start_at = max(self._ready_at(job), _first_start(job) or EPOCH)
        if start_at >= job.start_at:
            return False
        job.start_at = start_at
        if start_at <= self.now:
            job.queue_up(self.now, self.now)
        return True

    def _reopen(self, job: Modelled) -> None:
        if job.state is State.SKIPPED:
            job.expires = expires_at(job.spec, self.now)
        if job.start_at is None:
            job.start_at = _first_start(job)
        job.state, job.by_parents, job.ended_at = State.BLOCKED, False, None

    def _allowed(self, job: Modelled) -> bool | None:
        """Whether a job may run; None while that is open."""
        met, policy = self._met(job), job.spec.dependency_policy
        if policy.rule is Rule.ALWAYS:
            return None if None in met else True
        need = {Rule.ANY: 1, Rule.AT_LEAST: policy.at_least}.get(policy.rule, len(met))
        if met.count(True) >= need:
            return True
        return None if met.count(True) + met.count(None) >= need else False

    def _met(self, job: Modelled) -> list[bool | None]:
        """Of each dependency; None while it is open."""
        asked = {Condition.SUCCEEDED: {State.SUCCEEDED}, Condition.FAILED: {State.FAILED}}
        states = [self.parent(each.job_id).state for each in job.spec.dependencies]
        return [
            state in asked.get(each.condition, FINAL) if state in FINAL else None
            for each, state in zip(job.spec.dependencies, states, strict=True)
        ]

    def _ready_at(self, job: Modelled) -> dt.datetime:
        """From when on the delays let a job run."""
        policy, met = job.spec.dependency_policy, self._met(job)
        instants = sorted(
            self._ended_at(job, each.job_id) + each.delay
            for each, was_met in zip(job.spec.dependencies, met, strict=True)
            if was_met or policy.rule is Rule.ALWAYS
        )
        need = {Rule.ANY: 1, Rule.AT_LEAST: policy.at_least}.get(policy.rule, len(met))
        return instants[need - 1]

    def _ended_at(self, job: Modelled, parent_id: str) -> dt.datetime:
        """When a parent of a job ended, as the job counts."""
        parent = self.parent(parent_id)
        ended_at = parent.deleted_at if parent_id in job.of_deleted else parent.ended_at
        assert ended_at is not None
        return ended_at

    def parent(self, job_id: str) -> Modelled:
        """A job, or what is known of a deleted one."""
        return self.jobs.get(job_id) or self.buried[job_id]

    # --- arrays ---------------------------------------------------------------------------------

    def indices(self, array: Modelled) -> list[Modelled]:
        """The jobs of an array."""
        return [each for each in self.jobs.values() if each.array_id == array.job_id]

    def look_at_arrays(self) -> None:
        """What becomes of arrays whose indices are made, once somebody has looked."""
        for array in self.where(State.RUNNING, State.STOPPING):
            if not array.is_array:
                continue
            of_array = self.indices(array)
            if array.state is State.STOPPING:
                for each in of_array:
                    runs = each.state in LIVE
                    each.stop(State.FAILED if array.over and runs else State.CANCELLED, self.now)
            if any(each.state not in FINAL for each in of_array):
                continue
            assert array.spec.array is not None
            done = [each for each in of_array if each.state is State.SUCCEEDED]
            if len(done) == array.spec.array.size:
                array.end(State.SUCCEEDED, self.now)
            else:
                cancelled = array.state is State.STOPPING and not array.over
                array.end(State.CANCELLED if cancelled else State.FAILED, self.now)


def _first_start(job: Modelled) -> dt.datetime | None:
    delay = job.spec.start_delay
    return None if delay is None else job.created_at + delay
