"""Schedules: made, changed, paused, triggered, backfilled, looked at before; `fire.py` fires them."""

import asyncio
import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import Any

from jobservice.clock import rfc3339
from jobservice.engine.cancel import edit_version, get_job
from jobservice.engine.fire import planner
from jobservice.engine.parts import Parts
from jobservice.errors import (
    EtagMismatch,
    InvalidRequest,
    InvalidTransition,
    ScheduleExists,
    ScheduleNotFound,
    Violation,
)
from jobservice.model.firing import (
    Decision,
    Seen,
    count_times,
    edited,
    look_ahead,
    paused,
    planned,
    resumed,
    triggered,
)
from jobservice.model.job import Job
from jobservice.model.schedule import (
    BACKFILL_LIMIT,
    Backfill,
    BackfillState,
    Pause,
    Preview,
    Schedule,
    ScheduleSpec,
    seed_of,
)
from jobservice.model.when import Timing
from jobservice.store.port import JobKey
from jobservice.store.schedule_port import Change, ScheduleKey

COUNTED_HERE = 1_000
"""A range with so many times or more is counted in another thread."""


# --- one schedule -----------------------------------------------------------------------------


async def create(parts: Parts, new: Schedule, *, validate_only: bool = False) -> Schedule:
    """Store a new schedule; one that is there already with the same fields is returned.

    Raises:
        ScheduleExists: there is another one of its name.
        InvalidRequest: it never fires; one that is there may be asked for again after its last fire.
    """
    if (
        new.next_at is None
        and await parts.store.find_schedule(ScheduleKey(new.tenant, new.schedule_id)) is None
    ):
        raise InvalidRequest([_never_fires(new)])
    if validate_only:
        return new
    found = await parts.store.insert_schedule(new)
    if found is None:
        parts.signals.schedules.ring()
        return new
    if found.spec == new.spec:
        return found
    raise ScheduleExists(
        f"There is a schedule {new.schedule_id} already, with another "
        f"{', '.join(_differences(found.spec, new.spec))}; update it, or take another name.",
        schedule_id=new.schedule_id,
    )


def new_schedule(parts: Parts, key: ScheduleKey, spec: ScheduleSpec) -> Schedule:
    """A schedule that begins now."""
    now = parts.clock.now()
    new = Schedule(key.tenant, key.schedule_id, spec, now, now, decided_at=now)
    return planned(new, now)


def _never_fires(new: Schedule) -> Violation:
    """Why a schedule that begins now has no fire ahead."""
    timing, now = new.spec.timing, f"it is {new.created_at:%Y-%m-%dT%H:%M:%SZ} now"
    if timing.at is not None:
        text = f"must be in the future; {now}, got {timing.at:%Y-%m-%dT%H:%M:%SZ}"
        return Violation("schedule.timing.at", text, "NEVER_FIRES")
    text = f"must leave a fire that is ahead, or be left out; {now}"
    if timing.end_at is not None:
        text += f", got {timing.end_at:%Y-%m-%dT%H:%M:%SZ}"
    return Violation("schedule.timing.end_time", text, "NEVER_FIRES")


def _differences(old: ScheduleSpec, new: ScheduleSpec) -> list[str]:
    names = [field.name for field in dataclasses.fields(ScheduleSpec)]
    return [name for name in names if getattr(old, name) != getattr(new, name)]


async def get_schedule(parts: Parts, key: ScheduleKey) -> Schedule:
    """A schedule as it is.

    Raises:
        ScheduleNotFound: there is none.
    """
    found = await parts.store.find_schedule(key)
    if found is None:
        raise not_found(key)
    return found


async def update(
    parts: Parts, key: ScheduleKey, edits: Mapping[str, Any], *, etag: str
) -> Schedule:
    """Change fields of a schedule; with another timing it goes on from now.

    Raises:
        ScheduleNotFound, EtagMismatch: as they say.
    """
    now = parts.clock.now()

    def change(schedule: Schedule) -> Schedule:
        _check_version(schedule, etag)
        return edited(schedule, dataclasses.replace(schedule.spec, **edits), now)

    return await _change(parts, key, change)


async def delete(parts: Parts, key: ScheduleKey, *, etag: str, allow_missing: bool) -> None:
    """Remove a schedule; its jobs stay.

    Raises:
        ScheduleNotFound, EtagMismatch: as they say.
    """
    deleted = await parts.store.delete_schedule(key, lambda found: _check_version(found, etag))
    if not deleted and not allow_missing:
        raise not_found(key)


async def pause(
    parts: Parts, key: ScheduleKey, *, reason: str, until: dt.datetime | None
) -> Schedule:
    """Keep a schedule from making jobs by itself.

    Raises:
        ScheduleNotFound: there is none.
        InvalidRequest: `until` is over.
    """
    now = parts.clock.now()
    if until is not None and until <= now:
        text = f"must be in the future, or left out; it is {now:%Y-%m-%dT%H:%M:%SZ} now"
        raise InvalidRequest([Violation("resume_time", text, "NOT_IN_THE_FUTURE")])

    def change(schedule: Schedule) -> Schedule:
        since = now if schedule.pause is None else schedule.pause.since
        stopped = paused(schedule, Pause(reason or "paused on request", since, until))
        return planned(dataclasses.replace(stopped, updated_at=now), now)

    return await _change(parts, key, change)


async def resume(parts: Parts, key: ScheduleKey) -> Schedule:
    """End the pause of a schedule, which goes on from now.

    Raises:
        ScheduleNotFound: there is none.
    """
    now = parts.clock.now()

    def change(schedule: Schedule) -> Schedule:
        if schedule.pause is None:
            return schedule
        return planned(dataclasses.replace(resumed(schedule, now), updated_at=now), now)

    return await _change(parts, key, change)


async def trigger(parts: Parts, key: ScheduleKey) -> Job:
    """Make one job of a schedule now.

    Raises:
        ScheduleNotFound: there is none.
        QueueFull, QueueDrained: its queue does not take the job.
    """
    now = parts.clock.now()

    def decide(seen: Seen) -> Decision:
        nominal_at = now
        while nominal_at in seen.made:
            nominal_at += dt.timedelta.resolution
        return triggered(seen, now, nominal_at)

    plan = planner(parts, now, decide)
    fired = await parts.store.fire_schedule(key, plan, now=now)
    if fired is None:
        raise not_found(key)
    parts.signals.work.ring()
    parts.signals.timers.ring()
    [job_id] = fired.job_ids
    return await get_job(parts, JobKey(key.tenant, job_id))


async def _change(parts: Parts, key: ScheduleKey, change: Change) -> Schedule:
    changed = await parts.store.change_schedule(key, change)
    if changed is None:
        raise not_found(key)
    parts.signals.schedules.ring()
    return changed


def not_found(key: ScheduleKey) -> ScheduleNotFound:
    """What to say of a name that is no schedule's, or another tenant's."""
    return ScheduleNotFound(f"There is no schedule {key.schedule_id}.", schedule_id=key.schedule_id)


def _check_version(schedule: Schedule, etag: str) -> None:
    if edit_version(etag) not in (None, schedule.edit_version):
        name = schedule.schedule_id
        raise EtagMismatch(
            f"Schedule {name} was edited since it was read; read it again and repeat the change.",
            schedule_id=name,
        )


# --- backfill ---------------------------------------------------------------------------------


async def backfill(
    parts: Parts,
    key: ScheduleKey,
    between: tuple[dt.datetime, dt.datetime],
    *,
    jobs_per_minute: int,
    validate_only: bool,
) -> Backfill:
    """Begin to make the jobs of a range of times.

    Raises:
        ScheduleNotFound: there is no such schedule.
        InvalidRequest: the range is not in order or in the past, or has too many times.
        InvalidTransition: there is a backfill under way.
    """
    now = parts.clock.now()
    start_at, end_at = between
    schedule = await get_schedule(parts, key)
    _check_range(start_at, end_at, now)
    count = await _count(schedule, start_at, end_at)
    new = Backfill(start_at, end_at, jobs_per_minute, count, created_at=now, due_at=now)

    def change(found: Schedule) -> Schedule:
        if found.backfill is not None and found.backfill.state is BackfillState.ACTIVE:
            raise InvalidTransition(
                f"Schedule {key.schedule_id} has a backfill under way; wait for its end or cancel it.",
                state=BackfillState.ACTIVE.name,
                trigger="backfill",
                schedule_id=key.schedule_id,
            )
        return planned(dataclasses.replace(found, backfill=new), now)

    if validate_only:
        change(schedule)
        return new
    await _change(parts, key, change)
    return new


def _check_range(start_at: dt.datetime, end_at: dt.datetime, now: dt.datetime) -> None:
    found = []
    if end_at <= start_at:
        text = f"must be after start_time, {rfc3339(start_at)}; got {rfc3339(end_at)}"
        found.append(Violation("end_time", text, "NOT_IN_ORDER"))
    if end_at > now:
        text = f"must not be in the future; it is {now:%Y-%m-%dT%H:%M:%SZ} now"
        found.append(Violation("end_time", text, "IN_THE_FUTURE"))
    if found:
        raise InvalidRequest(found)


async def _count(schedule: Schedule, start_at: dt.datetime, end_at: dt.datetime) -> int:
    timing, seed = schedule.spec.timing, schedule.seed
    count = count_times(timing, seed, start_at, end_at, COUNTED_HERE)
    if count == COUNTED_HERE:
        count = await asyncio.to_thread(
            count_times, timing, seed, start_at, end_at, BACKFILL_LIMIT + 1
        )
    if not 1 <= count <= BACKFILL_LIMIT:
        had = f"more than {BACKFILL_LIMIT:,}" if count else "no"
        text = f"must be a range with 1 to {BACKFILL_LIMIT:,} times of the schedule; it has {had}"
        raise InvalidRequest([Violation("end_time", text, "NOT_THAT_MANY")])
    return count


async def cancel_backfill(parts: Parts, key: ScheduleKey) -> Schedule:
    """End the backfill of a schedule, if there is one.

    Raises:
        ScheduleNotFound: there is no such schedule.
    """
    now = parts.clock.now()

    def change(found: Schedule) -> Schedule:
        if found.backfill is None or found.backfill.state is not BackfillState.ACTIVE:
            return found
        ended = dataclasses.replace(found.backfill, state=BackfillState.CANCELLED)
        return planned(dataclasses.replace(found, backfill=ended), now)

    return await _change(parts, key, change)


# --- preview ----------------------------------------------------------------------------------


async def preview(
    parts: Parts,
    key: ScheduleKey,
    timing: Timing | None,
    *,
    count: int,
    after: dt.datetime | None,
) -> Preview:
    """The next fires of a schedule, or of a timing that is none yet.

    Raises:
        ScheduleNotFound: no timing is given and there is no such schedule.
    """
    begin = after or parts.clock.now()
    if timing is None:
        timing = (await get_schedule(parts, key)).spec.timing
    return await asyncio.to_thread(
        look_ahead, timing, seed_of(key.tenant, key.schedule_id), begin, count
    )
