"""Arrays: their indices are made, counted, revived and stopped, and with the last of them they end.

An array is opened by the claim whose turn it is. From then on it is looked at here, again and again,
until it is final: each look counts the indices whose end the array does not know yet, and does what is
next, a bounded piece of it. What an array has counted is in the rows of the indices, so it does not
matter who ended them, how many did so at once, or whether the service was killed in between. That an
index is run again is counted at once (`retry_all`): else an array might end without it.

On PostgreSQL an array that another server looks at is left to it, and so is an index that somebody
changes: nobody waits here, so nobody can wait for a transaction that waits for this one.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from jobservice.clock import from_us
from jobservice.model.array import (
    AHEAD,
    COUNTED,
    NAMED,
    ArrayCounts,
    Index,
    end,
    failures_message,
    index_name,
    items_of,
    parallel_key,
    percent,
    step_text,
    too_many_failed,
    unmet_message,
)
from jobservice.model.attempt import Fence
from jobservice.model.event import EventKind
from jobservice.model.ids import job_id
from jobservice.model.job import Job, NewJob
from jobservice.model.lifecycle import FINAL, Reason, State, Trigger, step
from jobservice.model.progress import estimated_completion
from jobservice.store.array_port import SettledArrays
from jobservice.store.port import JobKey, Stopped, StopRequest
from jobservice.store.rows import us_or_none
from jobservice.store.verbs.ends import Ended, after_ends
from jobservice.store.verbs.jobs import StopCall, read_job, request_stop
from jobservice.store.verbs.retry import retry_all
from jobservice.store.verbs.submit import ITEMS_A_ROW, insert_call, insert_jobs
from jobservice.store.verbs.transaction import EventRow, Transaction, change

ARRAYS = 50
"""How many arrays of each kind one call looks at."""
UNTOLD = 1_000
"""How many indices `find_untold_indices` gives at most."""
PIECE = 500
"""How many indices of an array one call revives, stops or has deleted."""

Key = tuple[str, str]
"""Tenant and job id."""
_KINDS = {
    Trigger.SUCCEED: EventKind.SUCCEEDED,
    Trigger.FAIL: EventKind.FAILED,
    Trigger.CANCEL: EventKind.CANCELLED,
}


@dataclasses.dataclass(frozen=True, slots=True)
class SettleCall:
    """One call of `settle_arrays`."""

    after: Key
    now_us: int
    unix_ms: int
    randomness: int
    """Where the ids of new indices begin."""


class _At(NamedTuple):
    """Where an array is: the columns of `find_arrays`."""

    state: int
    revision: int
    last_position: int
    reason: int
    message: str
    has_children: bool
    is_of_schedule: bool
    delete_requested: bool
    started_us: int | None
    keys: str
    claim_key: int
    queued_us: int


class _Rules(NamedTuple):
    """What `find_counts` gives of an array."""

    size: int
    max_parallel: int | None
    max_failures: int | None
    has_items: bool
    made: int
    succeeded: int
    failed: int
    dropped: int
    revive_from: int | None
    is_growing: bool


async def settle_arrays(tx: Transaction, calls: Sequence[SettleCall]) -> list[SettledArrays]:
    """Move arrays on."""
    return [await _Settling(tx, call).run() for call in calls]


class _Array:
    """An array, changed as it moves on."""

    def __init__(self, key: Key, at: _At, rules: _Rules) -> None:
        self.key = key
        self.at = at
        self.state = State(at.state)
        self.reason = Reason(at.reason)
        self.message = at.message
        self.revision, self.last_position = at.revision, at.last_position
        self.put(rules)

    def put(self, rules: _Rules) -> None:
        """Take what the store has of it."""
        self.rules = rules
        self.counts = ArrayCounts(rules.made, rules.succeeded, rules.failed, rules.dropped)
        self.revive_from = rules.revive_from

    def count(self, state: int) -> None:
        """An index has ended."""
        name = COUNTED[State(state)]
        self.counts = dataclasses.replace(self.counts, **{name: getattr(self.counts, name) + 1})

    def tell(self, tx: Transaction, kind: EventKind, state: State, now_us: int) -> int:
        """Record its next event, which leads to `state`, for its reason; returns the position."""
        self.revision += 1
        self.last_position = tx.record(
            EventRow(
                self.last_position,
                *self.key,
                self.revision,
                kind,
                state,
                self.state,
                now_us,
                reason=self.reason,
                message=self.message,
            )
        )
        self.state = state
        return self.last_position

    @property
    def is_growing(self) -> bool:
        """Whether indices are to be made or revived."""
        more = self.revive_from is not None or self.counts.made < self.rules.size
        return self.state is State.RUNNING and more

    @property
    def is_changed(self) -> bool:
        """Whether the store has something else of it."""
        rules = self.rules
        counts = rules.made, rules.succeeded, rules.failed, rules.dropped
        return self.row()[2:] != (*counts, rules.revive_from, bool(rules.is_growing))

    def row(self) -> tuple[object, ...]:
        """The fields of `put_counts`."""
        counts = self.counts
        return (
            *self.key,
            counts.made,
            counts.succeeded,
            counts.failed,
            counts.dropped,
            self.revive_from,
            self.is_growing,
        )


class _Settling:
    """One call."""

    def __init__(self, tx: Transaction, call: SettleCall) -> None:
        self._tx = tx
        self._now_us = call.now_us
        self._after = call.after
        self._unix_ms = call.unix_ms
        self._next_id = call.randomness
        self._fences: list[Fence] = []
        self._again = self._queued = self._ended = self._unwanted = False

    async def run(self) -> SettledArrays:
        """Look at the arrays behind one."""
        keys = await self._find()
        arrays = await self._read(keys[:ARRAYS])
        untold = await self._count(arrays)
        for array in arrays:
            await self._move(array)
        await self._put(arrays)
        await self._tell_progress([arrays[n] for n in sorted(set(untold))])
        return SettledArrays(
            after=keys[ARRAYS - 1] if len(keys) > ARRAYS else None,
            again=self._again or len(untold) >= UNTOLD,
            queued=self._queued,
            ended=self._ended,
            deletable=self._unwanted,
            stopping=tuple(self._fences),
        )

    async def _put(self, arrays: Sequence[_Array]) -> None:
        """Keep how far arrays are, where that has changed."""
        await self._tx.write("put_counts", [each.row() for each in arrays if each.is_changed])

    async def _find(self) -> list[Key]:
        """Arrays for which there is something to do, in order; one more than are looked at."""
        found: set[Key] = set()
        for name in ("find_growing_arrays", "find_ending_arrays", "find_untold_arrays"):
            rows = await self._tx.read_all(name, *self._after, ARRAYS + 1)
            found |= {(tenant, job_id) for tenant, job_id in rows}
        return sorted(found)[: ARRAYS + 1]

    async def _read(self, keys: Sequence[Key]) -> list[_Array]:
        tx, rows = self._tx, [(n, *key) for n, key in enumerate(keys)]
        where = {n: _At._make(columns) for n, *columns in await tx.read("find_arrays", rows)}
        locked = [row for row in rows if row[0] in where]
        rules = {n: _Rules._make(columns) for n, *columns in await tx.read("find_counts", locked)}
        return [_Array(keys[n], where[n], rules[n]) for n in sorted(rules)]

    async def _count(self, arrays: Sequence[_Array]) -> list[int]:
        """Count what has become of indices; returns the place of the array of each."""
        rows = [(n, *array.key) for n, array in enumerate(arrays)]
        untold = await self._tx.read("find_untold_indices", rows)
        told = []
        for n, index_id, state in untold:
            arrays[n].count(state)
            told.append((arrays[n].key[0], index_id, state))
        await change(self._tx, "tell_indices", sorted(told))
        return [n for n, *_ in untold]

    # --- what is next ---------------------------------------------------------------------------

    async def _move(self, array: _Array) -> None:
        if array.state is State.RUNNING:
            if array.revive_from is not None:
                await self._revive(array, array.revive_from)
                if array.is_growing or array.counts.active:
                    return  # else nothing could be revived, and nobody would look at it again
            if too_many_failed(array.counts, array.rules.max_failures):
                await self._stop(array)
            elif array.counts.made < array.rules.size:
                await self._make(array)
                return
        if array.state is State.STOPPING:
            array.revive_from = None
            await self._stop_indices(array)
        if array.state not in FINAL and not array.counts.active:
            await self._end(array)
        elif array.state in FINAL and array.at.delete_requested:
            await self._delete_indices(array)

    async def _make(self, array: _Array) -> None:
        [[_, waiting]] = await self._tx.read("count_queued_indices", [(0, *array.key)])
        if waiting > AHEAD // 2:
            return
        first = array.counts.made
        count = min(AHEAD - waiting, array.rules.size - first)
        job = await read_job(self._tx, JobKey(*array.key))
        items = await self._items(array, first, count)
        new = [
            self._index(array, job, first + n, items[n] if items else None) for n in range(count)
        ]
        await insert_jobs(self._tx, [insert_call(new, None, has_waiting_keys=True)])
        array.counts = dataclasses.replace(array.counts, made=first + count)
        self._queued = True

    async def _items(self, array: _Array, first: int, count: int) -> list[str]:
        if not array.rules.has_items:
            return []
        begin = first - first % ITEMS_A_ROW
        pieces = range(begin, first + count, ITEMS_A_ROW)
        rows = await self._tx.read("find_items", [(at, *array.key, at) for at in pieces])
        found = {begin: items_of(text) for begin, text in rows}
        items = [item for at in pieces for item in found[at]]
        return items[first - begin :]

    def _index(self, array: _Array, job: Job, index: int, item: str | None) -> NewJob:
        tenant, array_id = array.key
        most = array.rules.max_parallel
        own = () if most is None else (parallel_key(array_id, most),)
        spec = dataclasses.replace(
            job.spec,
            name=index_name(job.spec.name, index),
            concurrency_keys=(*job.spec.concurrency_keys, *own),
            unique_key=None,
            start_after=None,
            start_delay=None,
            queue_timeout=None,
            total_timeout=None,
            deadline=None,
            dependencies=(),
            array=None,
        )
        self._next_id += 1
        return NewJob(
            tenant,
            job_id(self._unix_ms, self._next_id),
            spec,
            from_us(self._now_us),
            index=Index(array_id, index, array.rules.size, item),
            queued_at=from_us(array.at.queued_us),
            claim_key=array.at.claim_key,
        )

    async def _revive(self, array: _Array, begin: int) -> None:
        tenant, _ = array.key
        found = await self._tx.read_all("find_unmet_indices", *array.key, begin, PIECE)
        rows = [(n, tenant, index_id) for n, (_, index_id) in enumerate(found)]
        free = sorted(n for [n] in await self._tx.read("lock_free_indices", rows))
        await self._put([array])  # what was counted just now: a retry changes what is kept
        await retry_all(self._tx, [(JobKey(*rows[n][1:]), self._now_us) for n in free])
        [[_, *counted]] = await self._tx.read("find_counts", [(0, *array.key)])
        array.put(_Rules._make(counted))
        left = sorted(set(range(len(found))) - set(free))  # another changes them: once more, later
        if left:
            array.revive_from = found[left[0]][0]
        else:
            array.revive_from = found[-1][0] + 1 if len(found) == PIECE else None
            self._again = True
        self._queued = True

    async def _stop(self, array: _Array) -> None:
        assert array.rules.max_failures is not None  # else nothing is too many
        array.reason = Reason.POLICY
        array.message = failures_message(array.rules.max_failures)
        position = array.tell(self._tx, EventKind.STOPPING, State.STOPPING, self._now_us)
        row = (*array.key, position, array.reason, array.message, self._now_us)
        await change(self._tx, "stop_running", [row])

    async def _stop_indices(self, array: _Array) -> None:
        tenant, array_id = array.key
        found = await self._tx.read_all("find_live_indices", *array.key, PIECE)
        message = f"its array {array_id} is being stopped: {array.message}"
        stops = [
            StopRequest(tenant, index_id, message=message, reason=array.reason)
            for [index_id] in found
        ]
        [answers] = await request_stop(self._tx, [StopCall(stops, self._now_us)])
        stopped = [each for each in answers if isinstance(each, Stopped)]
        self._fences += [each.fence for each in stopped if each.fence is not None]
        if any(each.state in FINAL for each in stopped) or len(found) == PIECE:
            self._again = True

    async def _end(self, array: _Array) -> None:
        stopped_for = array.reason if array.state is State.STOPPING else None
        trigger = end(array.counts, array.rules.size, stopped_for)
        state = step(array.state, trigger)
        if trigger is Trigger.SUCCEED:
            array.reason, array.message = Reason.NONE, ""
        elif stopped_for is None:
            await self._blame(array)
        position = array.tell(self._tx, _KINDS[trigger], state, self._now_us)
        row = (*array.key, position, state, array.reason, array.message, self._now_us)
        await change(self._tx, "end_arrays", [row])
        ended = Ended(*array.key, state, bool(array.at.has_children), bool(array.at.is_of_schedule))
        await after_ends(self._tx, [ended], self._now_us)
        self._ended = True
        self._unwanted = self._unwanted or bool(array.at.delete_requested)
        self._again = self._again or bool(array.at.delete_requested)

    async def _blame(self, array: _Array) -> None:
        """Say why an array failed: for the first of its indices that did not succeed."""
        tenant, _ = array.key
        found = await self._tx.read_all("find_unmet_indices", *array.key, 0, NAMED)
        array.reason = Reason.POLICY
        if found:
            first = await read_job(self._tx, JobKey(tenant, found[0][1]))
            array.reason = first.reason
        named = [index for index, _ in found]
        array.message = unmet_message(array.counts, array.rules.size, named)

    async def _delete_indices(self, array: _Array) -> None:
        """Mark a piece of them; more once these are gone, for each look walks past what is marked."""
        tenant, _ = array.key
        [[marked]] = await self._tx.read_all("count_unwanted_indices", *array.key, PIECE)
        if marked == PIECE:
            return
        found = await self._tx.read_all("find_undeleted_indices", *array.key, PIECE)
        await change(self._tx, "request_deletion", [(tenant, index_id) for [index_id] in found])
        self._unwanted = self._unwanted or bool(found)

    # --- how far they are -----------------------------------------------------------------------

    async def _tell_progress(self, arrays: Sequence[_Array]) -> None:
        now = from_us(self._now_us)
        rows = []
        for array in arrays:
            counts, size = array.counts, array.rules.size
            done = percent(counts, size)
            began_us = array.at.started_us
            estimated = None
            if array.state is State.RUNNING and began_us is not None:
                estimated = estimated_completion(done, from_us(began_us), now)
            rows.append(
                (
                    *array.key,
                    self._tx.next_position(),
                    array.revision,
                    array.state,
                    0,
                    done,
                    step_text(counts, size),
                    us_or_none(estimated),
                    self._now_us,
                )
            )
        await self._tx.write("record_progress", rows)
