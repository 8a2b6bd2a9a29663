"""The verbs of the port that write: the same for every store, over its writer."""

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from jobservice.clock import to_us
from jobservice.model.attempt import Fence
from jobservice.model.job import Edits, Job, NewJob
from jobservice.store import port
from jobservice.store.verbs import attempts, jobs, submit
from jobservice.store.verbs.transaction import Answer, Item, Verb


class Writer(Protocol):
    """Has verbs run in transactions; see `group.py`."""

    on_commit: list[Callable[[], None]]

    async def run(self, verb: Verb[Item, Answer], item: Item) -> Answer:
        """Have a call run and committed; durable when this returns."""


AnyWriter = TypeVar("AnyWriter", bound=Writer)


class WritingStore(port.Store, Generic[AnyWriter]):
    """The half of a store that writes; the other half reads."""

    _writer: AnyWriter

    # submit

    async def insert_jobs(
        self, jobs: Sequence[NewJob], *, request: port.RequestKey | None = None
    ) -> port.Inserted:
        if not jobs:
            return port.Inserted(port.Insertion.CREATED, ())
        return await self._writer.run(submit.insert_jobs, submit.insert_call(jobs, request))

    # attempts

    async def claim_jobs(
        self, *, worker_id: str, limit: int, lease_until: dt.datetime, now: dt.datetime
    ) -> list[port.Claim]:
        call = attempts.ClaimCall(worker_id, limit, to_us(lease_until), to_us(now))
        return await self._writer.run(attempts.claim_jobs, call)

    async def start_attempts(self, starts: Sequence[port.AttemptStart]) -> list[bool]:
        return await self._writer.run(attempts.start_attempts, starts)

    async def finish_attempts(
        self, ends: Sequence[port.AttemptEnd], settle: port.Settle, *, now: dt.datetime
    ) -> list[port.Settlement | None]:
        call = attempts.FinishCall(ends, settle, to_us(now))
        return await self._writer.run(attempts.finish_attempts, call)

    async def unclaim_attempts(self, fences: Sequence[Fence], *, now: dt.datetime) -> list[bool]:
        call = attempts.FencesCall(fences, to_us(now))
        return await self._writer.run(attempts.unclaim_attempts, call)

    async def extend_leases(
        self, fences: Sequence[Fence], *, lease_until: dt.datetime
    ) -> list[port.LeaseAnswer]:
        call = attempts.FencesCall(fences, to_us(lease_until))
        return await self._writer.run(attempts.extend_leases, call)

    async def expire_leases(
        self, settle: port.Settle, *, now: dt.datetime, limit: int
    ) -> list[Fence]:
        call = attempts.ExpireCall(settle, to_us(now), limit)
        return await self._writer.run(attempts.expire_leases, call)

    async def record_progress(self, reports: Sequence[port.ProgressReport]) -> list[bool]:
        return await self._writer.run(attempts.record_progress, reports)

    async def release_due(self, *, now: dt.datetime, limit: int) -> int:
        return await self._writer.run(jobs.release_due, (to_us(now), limit))

    # what users ask of one job

    async def request_stop(
        self, stops: Sequence[port.StopRequest], *, now: dt.datetime
    ) -> list[port.Stopped | port.Refusal]:
        return await self._writer.run(jobs.request_stop, jobs.StopCall(stops, to_us(now)))

    async def update_job(
        self, key: port.JobKey, edits: Edits, *, edit_version: int | None, now: dt.datetime
    ) -> Job | port.Refusal:
        call = jobs.UpdateCall(key, edits, edit_version, to_us(now))
        return await self._writer.run(jobs.update_job, call)

    async def retry_job(self, key: port.JobKey, *, now: dt.datetime) -> Job | port.Refusal:
        return await self._writer.run(jobs.retry_job, (key, to_us(now)))

    async def hold_job(self, key: port.JobKey, *, now: dt.datetime) -> Job | port.Refusal:
        return await self._writer.run(jobs.hold_job, (key, to_us(now)))

    async def release_job(self, key: port.JobKey, *, now: dt.datetime) -> Job | port.Refusal:
        return await self._writer.run(jobs.release_job, (key, to_us(now)))

    async def delete_jobs(self, keys: Sequence[port.JobKey], *, now: dt.datetime) -> list[bool]:
        return await self._writer.run(jobs.delete_jobs, jobs.DeleteCall(keys, to_us(now)))

    async def forget(self, *, before: dt.datetime, limit: int) -> int:
        return await self._writer.run(jobs.forget, (to_us(before), limit))

    def on_commit(self, callback: Callable[[], None]) -> None:
        self._writer.on_commit.append(callback)
