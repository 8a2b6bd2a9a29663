"""What users do in the machine: they make jobs, change them, and change the rules."""

import dataclasses
from collections.abc import Coroutine
from typing import Any

from jobservice.clock import to_us
from jobservice.model.array import ArraySpec
from jobservice.model.job import Job, NewJob
from jobservice.model.lifecycle import ACTIVE, State
from jobservice.model.limit import Limit, LimitKind
from jobservice.model.queue import Move, Queue, bottom_key, claim_key, top_key
from jobservice.model.spec import Dependency, DependencyPolicy
from jobservice.store.port import Insertion, Refusal, RequestKey, Stopped, StopRequest
from tests.conformance.values import new_job, seconds
from tests.machine import submits
from tests.machine.homes import Death, DiedError, Home
from tests.machine.model import Meter, Modelled
from tests.machine.submits import Wish
from tests.machine.workers import ALL, T, Workers

MOST_JOBS, MOST_ACTIVE = 45, 12
"""Behind so many in all, or that are not final, no more are made: few meet each other more often."""


class Everybody(Workers):
    """All who call the store."""

    def __init__(self, home: type[Home], own: dict[str, int]) -> None:
        super().__init__(home)
        self.own = own
        """The limit of its own that each job gives a key."""
        self.requests = 0

    # --- new jobs -------------------------------------------------------------------------------

    def has_room(self) -> bool:
        """Whether there are few enough jobs for another."""
        active = self.model.where(*ACTIVE)
        return len(self.model.jobs) < MOST_JOBS and len(active) < MOST_ACTIVE

    def submit(self, tenant: str, wish: Wish) -> None:
        """One job."""
        if self.has_room():
            self.model.now += seconds(0.001)
            self.create([self.new(tenant, wish)])

    def submit_batch(self, tenant: str, wish: Wish, count: int, *, chain: bool) -> None:
        """Jobs of one kind, perhaps each behind the one before it."""
        if not self.has_room():
            return
        self.model.now += seconds(0.001)
        new = [self.new(tenant, wish)]
        while len(new) < count:
            new.append(self.new(tenant, wish, behind=new[-1] if chain else None))
        self.create(new)

    def new(self, tenant: str, wish: Wish, behind: NewJob | None = None) -> NewJob:
        model = self.model
        known = {**model.jobs, **model.buried}
        of_tenant = [each.job_id for each in known.values() if each.tenant == tenant]
        parents = submits.dependencies(wish, of_tenant)
        if behind is not None:
            parents = (*parents, Dependency(behind.job_id))
        return new_job(
            tenant,
            model.now,
            queue=wish.queue,
            priority=wish.priority,
            fairness_key=wish.fairness_key,
            job_type=wish.job_type,
            concurrency_keys=submits.concurrency_keys(wish, self.own),
            retry=wish.retry,
            start_delay=wish.start_delay,
            queue_timeout=wish.queue_timeout,
            total_timeout=wish.total_timeout,
            dependencies=parents,
            dependency_policy=wish.policy if parents else DependencyPolicy(),
            unique_key=wish.unique_key,
            array=ArraySpec(wish.size, (), wish.max_parallel) if wish.size else None,
        )

    def create(self, new: list[NewJob]) -> None:
        """Have jobs created; who has no answer asks again with the same request id."""
        verdict = submits.judge(self.model, new)
        if verdict is None:
            return
        self.requests += 1
        request, death = RequestKey(f"r{self.requests}", b"digest"), self.death
        try:
            answer = self.call(self.store.insert_jobs(new, request=request))
        except DiedError:
            answer = self.call(self.store.insert_jobs(new, request=request))
        assert answer.insertion is verdict.insertion, (answer, verdict)
        if answer.insertion in {Insertion.STOOD_FOR, Insertion.DUPLICATE}:
            assert answer.job_ids
            assert set(answer.job_ids) <= set(verdict.standing)
        if death is Death.AFTER_COMMIT and answer.insertion in {
            Insertion.CREATED,
            Insertion.STOOD_FOR,
        }:
            again = self.call(self.store.insert_jobs(new, request=request))
            assert (again.insertion, again.job_ids) == (Insertion.REPEATED, answer.job_ids)
        if answer.insertion is not Insertion.CREATED:
            return
        assert answer.job_ids == tuple(each.job_id for each in new)
        self.accept(new, verdict)
        assert {each.job_id for each in verdict.stopped if each.state is State.STOPPING} >= {
            fence.job_id for fence in answer.stopped
        }
        for job_id, arrival in answer.arrivals.items():
            assert arrival.state is self.model.jobs[job_id].state

    def accept(self, new: list[NewJob], verdict: submits.Verdict) -> None:
        now = self.model.now
        for job in verdict.skipped:
            job.end(State.SKIPPED, now)
        for job in verdict.cancelled:
            job.end(State.CANCELLED, now)
        for job in verdict.stopped:
            job.stop(State.CANCELLED, now)
        for each in new:
            self.model.add(each, verdict.place)
        self.model.settle()

    # --- what users ask of jobs -----------------------------------------------------------------

    def stop(self, job: Modelled, *, delete: bool = False) -> None:
        delete = delete and not job.is_array and not job.array_id
        request = StopRequest(job.tenant, job.job_id, delete)
        [answer] = self.call(self.store.request_stop([request], now=self.model.now))
        job.unwanted = job.unwanted or delete
        job.stop(State.CANCELLED, self.model.now)
        stopping = job.state is State.STOPPING and not job.is_array
        assert answer == Stopped(job.state, job.fence if stopping else None)
        self.model.settle()

    def delete(self, job: Modelled) -> None:
        self.stop(job, delete=True)

    def collect_deleted(self) -> None:
        found = self.runner.run(self.store.list_deletable(limit=ALL))
        keys = [each.key for each in found]
        assert self.call(self.store.delete_jobs(keys, now=self.model.now)) == [True] * len(keys)
        for key in keys:
            job = self.model.buried[key.job_id] = self.model.jobs.pop(key.job_id)
            job.deleted_at = self.model.now

    def hold(self, job: Modelled) -> None:
        assert isinstance(self.call(self.store.hold_job(job.key, now=self.model.now)), Job)
        job.state, job.delayed = State.HELD, False

    def release(self, job: Modelled) -> None:
        assert isinstance(self.call(self.store.release_job(job.key, now=self.model.now)), Job)
        now, start_at = self.model.now, job.start_at
        if job.governed and not job.by_parents:
            job.state = State.BLOCKED
            self.model.settle()
            return
        job.queue_up(now if job.governed else start_at or job.queued_at, now)
        if start_at is not None and start_at > now:
            job.state, job.start_at = State.SCHEDULED, start_at
        job.governed = job.by_parents = False

    def retry(self, job: Modelled) -> None:
        if job.is_array or job.array_id:
            return
        answer = self.call(self.store.retry_job(job.key, now=self.model.now))
        assert isinstance(answer, Job) == (not job.unwanted)
        if not job.unwanted:
            job.failures = job.losses = 0
            job.governed = job.by_parents = False
            job.ended_at = None
            job.queue_up(self.model.now, self.model.now)
            if job.spec.total_timeout is not None:
                job.expires = self.model.now + job.spec.total_timeout
            self.model.settle()

    def edit(self, job: Modelled, edits: dict[str, Any]) -> None:
        coroutine = self.store.update_job(job.key, edits, edit_version=None, now=self.model.now)
        answer = self.call(coroutine)
        assert isinstance(answer, Job) == (not job.unwanted)
        if isinstance(answer, Job):
            job.edits += 1
            job.spec = dataclasses.replace(job.spec, **edits)
            job.claim_key = claim_key(job.spec.priority, to_us(job.queued_at))

    def move(self, job: Modelled, beside: Modelled, move: Move) -> None:
        now, is_beside = self.model.now, move in {Move.BEFORE, Move.AFTER}
        other_id = beside.job_id if is_beside else None
        answer = self.call(self.store.move_job(job.key, move, other_id, now=now))
        may = not is_beside or (job.lane == beside.lane and job is not beside)
        assert isinstance(answer, Job) == may
        if is_beside and may:
            job.claim_key = beside.claim_key
        elif may:
            job.claim_key = (top_key if move is Move.TOP else bottom_key)(to_us(now))

    # --- rules of queues, limits ----------------------------------------------------------------

    def save_queue(self, tenant: str, name: str, edits: dict[str, Any]) -> None:
        saved = self.call(
            self.store.save_queue(
                tenant,
                name,
                edits,
                create=(tenant, name) not in self.model.queues,
                edit_version=None,
                now=self.model.now,
            )
        )
        assert isinstance(saved, Queue)
        self.model.queues[tenant, name] = saved

    def delete_queue(self, tenant: str, name: str) -> None:
        is_used = any(
            each.state is State.QUEUED or each.has_lease
            for each in self.model.jobs.values()
            if (each.tenant, each.spec.queue) == (tenant, name)
        )
        known = (tenant, name) in self.model.queues
        coroutine = self.store.delete_queue(tenant, name, edit_version=None)
        refusal = self.call(_some(coroutine))
        if not known:
            assert refusal == (Refusal.NOT_FOUND,)
        elif is_used:
            assert refusal == (Refusal.WRONG_STATE,)
        else:
            assert refusal == (None,)
            del self.model.queues[tenant, name]

    def save_limit(self, limit: Limit) -> None:
        self.call(_some(self.store.save_limit(limit, now=self.model.now)))
        self.model.limits[limit.tenant, limit.kind, limit.name] = limit
        if limit.kind is LimitKind.KEY:
            name = limit.tenant, limit.name
            before = self.model.meters.pop(name, None)
            if limit.rate is not None:
                used_until_us = before.used_until_us if before else 0
                self.model.meters[name] = Meter(limit.rate, used_until_us)

    def delete_limit(self, number: int) -> None:
        if not self.model.limits:
            return
        tenant, kind, name = list(self.model.limits)[number % len(self.model.limits)]
        assert self.call(self.store.delete_limit(tenant, kind, name))
        del self.model.limits[tenant, kind, name]
        if kind is LimitKind.KEY:
            self.model.meters.pop((tenant, name), None)


async def _some(action: Coroutine[Any, Any, T]) -> tuple[T]:
    """The answer of a call that may be None."""
    return (await action,)
