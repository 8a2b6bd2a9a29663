"""What workers and sweeps do in the machine: each call is compared with the model, and may be the last.

Of each lease the model checks that nothing was in its way.
"""

import asyncio
import collections
import dataclasses
import random
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from jobservice.engine.finish import settler
from jobservice.model.array import parallel_key
from jobservice.model.attempt import Cause, Fence
from jobservice.model.job import Job, Progress
from jobservice.model.lifecycle import FINAL, LIVE, Reason, State
from jobservice.model.queue import PauseMode
from jobservice.store.port import (
    AttemptStart,
    JobQuery,
    LeaseAnswer,
    Order,
    ProgressReport,
    Settle,
)
from jobservice.testing.invariants import check_invariants
from tests.conformance.values import LEASE, NOW, end
from tests.machine.homes import Death, DiedError, Home
from tests.machine.model import Model, Modelled
from tests.machine.submits import TENANTS

ALL = 1_000
CLAIMS = 6
"""How many claims of everything come to rest: a claim looks a few times at what it has woken itself."""
End = tuple[Cause, int | None]
T = TypeVar("T")


class Workers:
    """A store, its model, and those who run jobs and sweep."""

    def __init__(self, home: type[Home]) -> None:
        self.runner = asyncio.Runner()
        self.place = home(self.runner)
        self.model = Model(NOW)
        self.fences: list[Fence] = []
        self.death: Death | None = None
        """Where the process dies in the next call."""
        self.random = random.Random(0)
        self.store = self.place.open()
        self.beginning = self.runner.run(self.store.head_position())

    def close(self) -> None:
        self.runner.run(self.store.close())
        self.place.remove()
        self.runner.close()

    def call(self, action: Coroutine[Any, Any, T]) -> T:
        """The answer of a call that writes.

        Raises:
            DiedError: the process died in it, and nothing of it was done.
        """
        if self.death is None:
            return self.runner.run(action)
        death, self.death, answer = self.death, None, None
        try:
            with self.place.dying(self.store, death):
                answer = self.runner.run(action)
        except DiedError:
            pass
        self.die()
        if death is Death.BEFORE_COMMIT:
            raise DiedError
        assert answer is not None
        return answer

    def die(self) -> None:
        """Go on with what the process has left."""
        self.place.leave(self.store)
        self.store = self.place.open()

    def reopen(self) -> None:
        """Begin again after an orderly end."""
        self.runner.run(self.store.close())
        self.store = self.place.open()

    @property
    def settle(self) -> Settle:
        return settler(self.model.now, self.random)

    def pick(self, number: int, among: Sequence[Modelled]) -> Modelled | None:
        """One of some jobs."""
        return among[-1 - number % len(among)] if among else None

    # --- attempts -------------------------------------------------------------------------------

    def claim_up_to(self, limit: int, worker: str = "w1") -> int:
        """Claim, and hold every lease against the model."""
        now = self.model.now
        lines = self.model.plain_lines()
        claimed = self.call(
            self.store.claim_jobs(worker_id=worker, limit=limit, lease_until=now + LEASE, now=now)
        )
        assert len(claimed.claims) <= limit
        given: dict[tuple[str, str, str], list[int]] = collections.defaultdict(list)
        for each in claimed.claims:
            job = self.model.grant(each.fence, worker, now + LEASE)
            self.fences.append(each.fence)
            if not job.spec.held_keys:
                given[job.lane].append(job.claim_key)
        for lane, places in given.items():
            assert places == lines[lane][: len(places)], "out of order"
        self.note_opened()
        return len(claimed.claims)

    def note_opened(self) -> None:
        """Arrays whose turn has come run from then on; nothing may have been in the way."""
        arrays = [each for each in self.model.where(State.QUEUED) if each.is_array]
        found = self.runner.run(self.store.find_jobs([each.key for each in arrays]))
        for array, job in zip(arrays, found, strict=True):
            assert job is not None
            if job.state is State.RUNNING:
                assert not self.model.is_paused(array.tenant, array.spec.queue, PauseMode.HOLD)
                array.state = State.RUNNING

    def fence(self, number: int) -> Fence:
        """One that was given out, more often a new one."""
        return self.fences[-1 - number % len(self.fences)]

    def start(self, fence: Fence) -> None:
        starts = [AttemptStart(fence, self.model.now)]
        job = self.model.live(fence)
        assert self.call(self.store.start_attempts(starts)) == [job is not None]
        if job is not None:
            job.started = True

    def finish(self, fence: Fence) -> None:
        self.finish_one(fence, (Cause.EXIT, 0))

    def lose(self, fence: Fence) -> None:
        self.finish_one(fence, (Cause.LOST, None))

    def finish_some(self, hows: list[End], key: str = "") -> None:
        """Some of those that run end; where a key is given, that have it."""
        live = [each for each in self.model.where(*LIVE) if each.has_lease]
        live = [each for each in live if not key or each.weight(key)]
        for job, how in zip(live, hows, strict=False):
            self.finish_one(job.fence, how)

    def finish_one(self, fence: Fence, how: End) -> None:
        now, (cause, code) = self.model.now, how
        ending = end(fence, code, cause=cause, ended_at=now)
        [answer] = self.call(self.store.finish_attempts([ending], self.settle, now=now))
        job = self.model.live(fence)
        assert (answer is not None) == (job is not None)
        if job is not None and answer is not None:
            job.end_attempt(cause, code, answer.start_at, now)
            self.model.settle()

    def unclaim(self, fence: Fence) -> None:
        job = self.model.live(fence)
        may = job is not None and job.state is State.RUNNING and not job.started
        assert self.call(self.store.unclaim_attempts([fence], now=self.model.now)) == [may]
        if job is not None and may:
            job.state, job.attempt, job.lease_until = State.QUEUED, job.attempt - 1, None

    def extend(self, fence: Fence) -> None:
        job, until = self.model.live(fence), self.model.now + LEASE
        [answer] = self.call(self.store.extend_leases([fence], lease_until=until))
        if job is None:
            assert answer is LeaseAnswer.REFUSED
        else:
            stopping = job.state is State.STOPPING
            assert answer is (LeaseAnswer.STOP if stopping else LeaseAnswer.KEPT)
            job.lease_until = until

    def report(self, fence: Fence) -> None:
        reports = [ProgressReport(fence, Progress(50.0, "step", None, self.model.now))]
        live = self.model.live(fence) is not None
        assert self.call(self.store.record_progress(reports)) == [live]

    def adopt(self, worker: str) -> None:
        """A worker that comes back asks what it has."""
        found = self.runner.run(self.store.list_live(worker))
        assert {each.fence for each in found} == {
            each.fence
            for each in self.model.where(*LIVE)
            if each.has_lease and each.worker == worker
        }

    # --- sweeps ---------------------------------------------------------------------------------

    def expire(self) -> None:
        fences = self.call(self.store.expire_leases(self.settle, now=self.model.now, limit=ALL))
        assert set(fences) == self.model.expire()
        self.model.settle()

    def time_out(self) -> None:
        timed_out = self.call(self.store.time_out_jobs(now=self.model.now, limit=ALL))
        over = self.model.time_out()
        assert timed_out.count == len(over)
        assert set(timed_out.stopping) == {each.fence for each in over if each.has_lease}
        self.model.settle()

    def release_due(self) -> None:
        self.call(self.store.release_due(now=self.model.now, limit=ALL))
        self.model.release_due()

    def wake_rates(self) -> None:
        self.call(self.store.wake_rates(now=self.model.now, limit=ALL))

    def wake_parked(self) -> None:
        self.call(self.store.wake_parked(("", ""), now=self.model.now))

    def look_at_arrays(self) -> None:
        again = True
        while again:
            randomness = self.random.getrandbits(60)
            coroutine = self.store.settle_arrays(
                ("", ""), now=self.model.now, randomness=randomness
            )
            again = self.runner.run(coroutine).again
        self.adopt_indices()
        self.model.look_at_arrays()
        self.model.settle()

    def adopt_indices(self) -> None:
        """Have the jobs that arrays have made, all of them and no others."""
        for tenant in TENANTS:
            query = JobQuery(tenant, Order.CREATED_ASC, frozenset(State))
            page = self.runner.run(self.store.list_jobs(query, limit=ALL, cursor=None))
            for job in page.jobs:
                if job.job_id not in self.model.jobs:
                    self.adopt_index(job)
        for array in self.model.where(State.RUNNING):
            if array.spec.array is not None:
                made = sorted(each.index for each in self.model.indices(array))
                assert made == list(range(array.spec.array.size))

    def adopt_index(self, job: Job) -> None:
        assert job.index is not None
        array = self.model.jobs[job.index.array_job_id]
        assert array.spec.array is not None
        assert array.state is State.RUNNING
        most = array.spec.array.max_parallel
        own = () if most is None else (parallel_key(array.job_id, most),)
        spec = dataclasses.replace(
            array.spec,
            concurrency_keys=(*array.spec.concurrency_keys, *own),
            unique_key=None,
            start_delay=None,
            queue_timeout=None,
            total_timeout=None,
            dependencies=(),
            array=None,
        )
        index = Modelled(
            job.tenant, job.job_id, spec, self.model.now, array.queued_at, array.claim_key
        )
        index.array_id, index.index = array.job_id, job.index.index
        self.model.jobs[job.job_id] = index

    # --- what must hold -------------------------------------------------------------------------

    def claim_everything(self) -> None:
        """Whatever still waits then has something in its way. Nobody sweeps: each wake was in time."""
        self.release_due()
        self.wake_rates()
        for _ in range(CLAIMS):
            self.claim_up_to(ALL)
            if any(each.is_array for each in self.model.where(*LIVE)):
                self.look_at_arrays()
        waiting = self.model.where(State.QUEUED)
        found = self.runner.run(self.store.find_jobs([job.key for job in waiting]))
        for job, stored in zip(waiting, found, strict=True):
            assert stored is not None
            assert self.model.is_held_up(job, stored.blocked_key), (job, stored.blocked_key)

    def compare(self) -> None:
        """The store is as the model says, and keeps its promises."""
        jobs = list(self.model.jobs.values())
        found = self.runner.run(self.store.find_jobs([each.key for each in jobs]))
        for job, stored in zip(jobs, found, strict=True):
            assert stored is not None, job
            told = stored.state, stored.attempt_count, stored.edit_version
            assert told == (job.state, job.attempt, job.edits), (job, stored)
            assert (stored.reason is Reason.DEPENDENCY) == job.by_parents, (job, stored)
            if job.state is State.SCHEDULED:
                assert stored.start_at == job.start_at, (job, stored)
            if job.state not in FINAL:
                assert (stored.failure_count, stored.lost_count) == (job.failures, job.losses)
        deletable = self.runner.run(self.store.list_deletable(limit=ALL))
        assert {each.key for each in deletable} == {
            each.key for each in self.model.where(*FINAL) if each.unwanted
        }
        self.runner.run(check_invariants(self.store, beginning=self.beginning, tenants=TENANTS))
