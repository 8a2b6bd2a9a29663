"""The verbs of the port that write: the same for every store, over its writer."""

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from jobservice.clock import to_us
from jobservice.model.attempt import Fence
from jobservice.model.job import Edits, Job, NewJob
from jobservice.model.limit import Limit, LimitKind
from jobservice.model.operation import BulkChange, Operation
from jobservice.model.output import LogAppend
from jobservice.model.queue import Move, Queue
from jobservice.model.schedule import Schedule
from jobservice.model.worker import Drain, Worker, WorkerInfo
from jobservice.store import port
from jobservice.store.array_port import SettledArrays
from jobservice.store.operation_port import OperationKey, OperationStep, Stepped
from jobservice.store.schedule_port import Change, Check, Decide, Fired, ScheduleKey
from jobservice.store.verbs import (
    arrays,
    attempts,
    children,
    claim,
    jobs,
    keys,
    logs,
    operations,
    queues,
    retry,
    schedules,
    submit,
    timeouts,
    workers,
)
from jobservice.store.verbs import move as moves
from jobservice.store.verbs.transaction import Answer, Item, Verb


class Writer(Protocol):
    """Has verbs run in transactions; see `group.py`."""

    on_commit: list[Callable[[], None]]

    async def run(self, verb: Verb[Item, Answer], item: Item) -> Answer:
        """Have a call run and committed; durable when this returns."""


class Inserter(Protocol):
    """Has calls of `insert_jobs` run in transactions."""

    async def run(
        self, verb: Verb[submit.InsertCall, port.Inserted], item: submit.InsertCall, /
    ) -> port.Inserted:
        """Have a call run and committed; durable when this returns."""


AnyWriter = TypeVar("AnyWriter", bound=Writer)


class WritingStore(port.Store, Generic[AnyWriter]):
    """The half of a store that writes; the other half reads."""

    _writer: AnyWriter
    _urgent: AnyWriter
    """What leases are prolonged with, however busy the other is; perhaps the same."""
    _inserter: Inserter
    """What new jobs are written with; perhaps the same."""
    _server = ""
    """Which server leads, where the store is that of a lead."""

    # submit

    async def insert_jobs(
        self,
        jobs: Sequence[NewJob],
        *,
        request: port.RequestKey | None = None,
        validate_only: bool = False,
    ) -> port.Inserted:
        if not jobs:
            return port.Inserted(port.Insertion.CREATED, ())
        call = submit.insert_call(jobs, request, validate_only=validate_only)
        return await self._inserter.run(submit.insert_jobs, call)

    # attempts

    async def claim_jobs(
        self, *, worker_id: str, limit: int, lease_until: dt.datetime, now: dt.datetime
    ) -> port.Claimed:
        call = claim.ClaimCall(worker_id, limit, to_us(lease_until), to_us(now))
        return await self._writer.run(claim.claim_jobs, call)

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
        return await self._urgent.run(attempts.extend_leases, call)

    async def expire_leases(
        self, settle: port.Settle, *, now: dt.datetime, limit: int
    ) -> list[Fence]:
        call = attempts.ExpireCall(settle, to_us(now), limit)
        return await self._writer.run(attempts.expire_leases, call)

    async def record_progress(self, reports: Sequence[port.ProgressReport]) -> list[bool]:
        return await self._writer.run(attempts.record_progress, reports)

    async def settle_children(self, *, now: dt.datetime, limit: int) -> int:
        return await self._writer.run(children.settle_marked, (to_us(now), limit))

    async def settle_arrays(
        self, after: tuple[str, str], *, now: dt.datetime, randomness: int
    ) -> SettledArrays:
        unix_ms = int(now.timestamp() * 1000)
        call = arrays.SettleCall(after, to_us(now), unix_ms, randomness)
        return await self._writer.run(arrays.settle_arrays, call)

    async def release_due(self, *, now: dt.datetime, limit: int) -> int:
        return await self._writer.run(jobs.release_due, (to_us(now), limit))

    async def wake_parked(self, after: tuple[str, str], *, now: dt.datetime) -> port.Woken:
        return await self._writer.run(keys.wake_parked, keys.WakeCall(after, to_us(now)))

    async def wake_rates(self, *, now: dt.datetime, limit: int) -> int:
        return await self._writer.run(keys.wake_rates, (to_us(now), limit))

    async def time_out_jobs(self, *, now: dt.datetime, limit: int) -> port.TimedOut:
        return await self._writer.run(timeouts.time_out_jobs, (to_us(now), limit))

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
        return await self._writer.run(retry.retry_job, (key, to_us(now)))

    async def hold_job(self, key: port.JobKey, *, now: dt.datetime) -> Job | port.Refusal:
        return await self._writer.run(jobs.hold_job, (key, to_us(now)))

    async def release_job(self, key: port.JobKey, *, now: dt.datetime) -> Job | port.Refusal:
        return await self._writer.run(jobs.release_job, (key, to_us(now)))

    async def move_job(
        self, key: port.JobKey, move: Move, other: str | None, *, now: dt.datetime
    ) -> Job | port.Refusal:
        return await self._writer.run(moves.move_job, port.MoveCall(key, move, other, to_us(now)))

    async def save_queue(
        self,
        tenant: str,
        name: str,
        edits: queues.QueueEdits,
        *,
        create: bool,
        edit_version: int | None,
        now: dt.datetime,
    ) -> Queue | port.Refusal:
        call = queues.SaveQueueCall(tenant, name, edits, create, edit_version, to_us(now))
        return await self._writer.run(queues.save_queue, call)

    async def delete_queue(
        self, tenant: str, name: str, *, edit_version: int | None
    ) -> port.Refusal | None:
        call = queues.DeleteQueueCall(tenant, name, edit_version)
        return await self._writer.run(queues.delete_queue, call)

    async def save_limit(self, limit: Limit, *, now: dt.datetime) -> None:
        await self._writer.run(queues.save_limit, (limit, to_us(now)))

    async def delete_limit(self, tenant: str, kind: LimitKind, name: str) -> bool:
        return await self._writer.run(queues.delete_limit, (tenant, kind, name))

    async def delete_jobs(self, keys: Sequence[port.JobKey], *, now: dt.datetime) -> list[bool]:
        call = jobs.DeleteCall(keys, to_us(now), self._server)
        return await self._writer.run(jobs.delete_jobs, call)

    async def forget(self, *, before: dt.datetime, limit: int) -> int:
        return await self._writer.run(jobs.forget, (to_us(before), limit))

    # schedules

    async def insert_schedule(self, new: Schedule) -> Schedule | None:
        return await self._writer.run(schedules.insert_schedule, new)

    async def change_schedule(self, key: ScheduleKey, change: Change) -> Schedule | None:
        return await self._writer.run(schedules.change_schedule, schedules.ChangeCall(key, change))

    async def delete_schedule(self, key: ScheduleKey, check: Check) -> bool:
        return await self._writer.run(schedules.delete_schedule, schedules.DropCall(key, check))

    async def fire_due(self, decide: Decide, *, now: dt.datetime, limit: int) -> list[Fired]:
        call = schedules.DueCall(decide, to_us(now), limit)
        return await self._writer.run(schedules.fire_due, call)

    async def fire_schedule(
        self, key: ScheduleKey, decide: Decide, *, now: dt.datetime
    ) -> Fired | None:
        call = schedules.FireCall(key, decide, to_us(now))
        return await self._writer.run(schedules.fire_schedule, call)

    # operations

    async def begin_operation(
        self,
        key: OperationKey,
        change: BulkChange,
        *,
        request_id: str,
        limit: int,
        now: dt.datetime,
    ) -> Operation | None:
        call = operations.BeginCall(key, change, request_id, limit, to_us(now))
        return await self._writer.run(operations.begin_operation, call)

    async def step_operation(self, step: OperationStep, *, now: dt.datetime) -> Stepped | None:
        call = operations.StepCall(step, to_us(now))
        return await self._writer.run(operations.step_operation, call)

    async def cancel_operation(self, key: OperationKey, *, now: dt.datetime) -> Operation | None:
        return await self._writer.run(operations.cancel_operation, (key, to_us(now)))

    async def forget_operations(self, *, before: dt.datetime, limit: int) -> int:
        return await self._writer.run(operations.forget_operations, (to_us(before), limit))

    # output

    async def append_logs(self, appends: Sequence[LogAppend]) -> list[int | None]:
        return await self._writer.run(logs.append_logs, appends)

    # workers

    async def register_worker(
        self, info: WorkerInfo, *, now: dt.datetime, instead_of: Worker | None = None
    ) -> Worker:
        call = workers.RegisterCall(info, instead_of, to_us(now))
        return await self._writer.run(workers.register_worker, call)

    async def note_contact(
        self, worker_id: str, *, now: dt.datetime, minds_silence: bool = False
    ) -> bool | None:
        call = workers.ContactCall(worker_id, to_us(now), minds_silence)
        return await self._urgent.run(workers.note_contact, call)

    async def drain_worker(self, worker_id: str, drain: Drain | None) -> Worker | None:
        return await self._writer.run(workers.drain_worker, (worker_id, drain))

    async def forget_workers(self, *, before: dt.datetime) -> int:
        return await self._writer.run(workers.forget_workers, to_us(before))

    def on_commit(self, callback: Callable[[], None]) -> None:
        self._writer.on_commit.append(callback)
