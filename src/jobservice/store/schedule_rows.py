"""Rows and values of schedules and their runs."""

import datetime as dt
from collections.abc import Sequence

from jobservice.clock import from_us, to_us
from jobservice.errors import PageTokenInvalid
from jobservice.model.schedule import (
    Backfill,
    Cause,
    Outcome,
    Pause,
    Run,
    Schedule,
    ScheduleSpec,
)
from jobservice.store.rows import Columns, instant_or_none, us_or_none
from jobservice.store.schedule_port import RunPage, SchedulePage
from jobservice.store.spec_text import dump, load

NO_JOB, OF_ITS_TIME, TRIGGERED = range(3)
"""The slots of runs; see the schema."""


def schedule_of(row: Columns) -> Schedule:
    """A schedule out of the columns of the fragment `schedule_columns`."""
    (
        tenant,
        schedule_id,
        spec,
        edit_version,
        created_us,
        updated_us,
        decided_us,
        next_us,
        look_us,
        pause,
        judged_us,
        buffered_count,
        buffered_us,
        backfill,
    ) = row
    return Schedule(
        tenant=tenant,
        schedule_id=schedule_id,
        spec=load(ScheduleSpec, spec),
        edit_version=edit_version,
        created_at=from_us(created_us),
        updated_at=from_us(updated_us),
        decided_at=from_us(decided_us),
        next_at=instant_or_none(next_us),
        look_at=instant_or_none(look_us),
        pause=None if pause is None else load(Pause, pause),
        judged_from=instant_or_none(judged_us),
        buffered_count=buffered_count,
        buffered_since=instant_or_none(buffered_us),
        backfill=None if backfill is None else load(Backfill, backfill),
    )


def edited_row(schedule: Schedule) -> Columns:
    """What only a user changes: the fields of `edit_schedules`."""
    return (
        schedule.tenant,
        schedule.schedule_id,
        dump(schedule.spec),
        schedule.edit_version,
        to_us(schedule.updated_at),
    )


def moved_row(schedule: Schedule) -> Columns:
    """What a decision changes, in the order of the columns."""
    return (
        to_us(schedule.decided_at),
        us_or_none(schedule.next_at),
        us_or_none(schedule.look_at),
        None if schedule.pause is None else dump(schedule.pause),
        us_or_none(schedule.judged_from),
        schedule.buffered_count,
        us_or_none(schedule.buffered_since),
        None if schedule.backfill is None else dump(schedule.backfill),
    )


def run_row(key: tuple[str, str], run: Run) -> Columns:
    """The fields of `insert_runs`."""
    return (
        *key,
        to_us(run.nominal_at),
        slot_of(run),
        run.cause,
        run.outcome,
        to_us(run.decided_at),
        run.message,
        run.job_id or None,
        run.count,
        us_or_none(run.first_at),
    )


def slot_of(run: Run) -> int:
    """Where a run stands beside others of its nominal time."""
    if run.cause is Cause.TRIGGER:
        return TRIGGERED
    return OF_ITS_TIME if run.outcome in {Outcome.FIRED, Outcome.BUFFERED} else NO_JOB


def run_of(row: Columns) -> Run:
    """A run out of the columns of the fragment `run_columns`."""
    nominal_us, cause, outcome, decided_us, message, job_id, count, first_us = row
    return Run(
        nominal_at=from_us(nominal_us),
        cause=Cause(cause),
        outcome=Outcome(outcome),
        decided_at=from_us(decided_us),
        message=message,
        job_id=job_id or "",
        count=count,
        first_at=instant_or_none(first_us),
    )


def instants(rows: Sequence[Columns]) -> tuple[dt.datetime, ...]:
    """The instants of rows of one column."""
    return tuple(from_us(microseconds) for [microseconds] in rows)


# --- pages ------------------------------------------------------------------------------------

_BEFORE_ALL = 1 << 62, 0
"""Where the first page of runs begins."""


def schedule_page(rows: Sequence[Columns], limit: int) -> SchedulePage:
    """A page out of the rows of `list_schedules`, one more of them if there is another page."""
    found = tuple(schedule_of(tuple(row)) for row in rows[:limit])
    return SchedulePage(found, found[-1].schedule_id if len(rows) > limit else None)


def run_page(rows: Sequence[Columns], limit: int) -> RunPage:
    """A page out of the rows of `list_runs`, likewise."""
    found = [tuple(row) for row in rows[:limit]]
    runs = tuple(run_of(row[:-1]) for row in found)
    if len(rows) <= limit:
        return RunPage(runs, None)
    nominal_us, *_, slot = found[-1]
    return RunPage(runs, f"{nominal_us}.{slot}")


def run_cursor(cursor: str | None) -> tuple[int, int]:
    """The nominal time and slot that a cursor stands for.

    Raises:
        PageTokenInvalid: it is none.
    """
    if cursor is None:
        return _BEFORE_ALL
    nominal, _, slot = cursor.partition(".")
    try:
        return int(nominal), int(slot)
    except ValueError:
        raise PageTokenInvalid from None
