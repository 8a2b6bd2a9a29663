"""Rows and values of the rules that people make: queues and limits; see `rows.py`."""

import datetime as dt

from jobservice.clock import from_us, to_us
from jobservice.model.limit import KeyRule, Limit, LimitKind, Rate
from jobservice.model.queue import OnFull, Pause, PauseMode, Queue
from jobservice.store.rows import (
    Columns,
    instant_or_none,
    span_or_none,
    span_us,
    span_us_or_none,
    us_or_none,
)


def rate_of(starts: int | None, period_us: int, burst: int) -> Rate | None:
    """A rate out of its columns; None where there is none."""
    if starts is None:
        return None
    return Rate(starts, dt.timedelta(microseconds=period_us), burst)


def rule_of(columns: Columns) -> KeyRule:
    """What is known of a limit on a key, out of the columns of `find_rules` behind the number."""
    max_running, *rate, used_until_us = columns
    return KeyRule(max_running, rate_of(*rate), used_until_us)


def queue_row(queue: Queue) -> Columns:
    """The fields of `save_queues`."""
    pause = queue.pause
    return (
        queue.tenant,
        queue.name,
        queue.description,
        queue.max_running,
        queue.max_depth,
        span_us_or_none(queue.max_age),
        queue.on_full,
        None if pause is None else pause.mode,
        None if pause is None else to_us(pause.since),
        None if pause is None else us_or_none(pause.until),
        "" if pause is None else pause.reason,
        to_us(queue.created_at),
        to_us(queue.updated_at),
        queue.edit_version,
    )


def queue_of(row: Columns) -> Queue:
    """A queue out of the columns of `queue_columns`."""
    (
        tenant,
        name,
        description,
        max_running,
        max_depth,
        max_age_us,
        on_full,
        pause_mode,
        pause_us,
        pause_until_us,
        pause_reason,
        created_us,
        updated_us,
        edit_version,
    ) = row
    pause = None
    if pause_mode is not None:
        mode, until = PauseMode(pause_mode), instant_or_none(pause_until_us)
        pause = Pause(mode, from_us(pause_us), pause_reason, until)
    return Queue(
        tenant=tenant,
        name=name,
        description=description,
        max_running=max_running,
        max_depth=max_depth,
        max_age=span_or_none(max_age_us),
        on_full=OnFull(on_full),
        pause=pause,
        created_at=from_us(created_us),
        updated_at=from_us(updated_us),
        edit_version=edit_version,
    )


def limit_row(limit: Limit, now_us: int) -> Columns:
    """The fields of `save_limits`."""
    rate = limit.rate
    return (
        limit.tenant,
        limit.kind,
        limit.name,
        limit.max_running,
        None if rate is None else rate.starts,
        None if rate is None else span_us(rate.period),
        None if rate is None else rate.burst,
        limit.weight,
        now_us,
    )


def limit_of(row: Columns) -> Limit:
    """A limit out of the columns of `limit_columns`."""
    tenant, kind, name, max_running, starts, period_us, burst, weight, updated_us = row
    return Limit(
        tenant=tenant,
        kind=LimitKind(kind),
        name=name,
        max_running=max_running,
        rate=rate_of(starts, period_us, burst),
        weight=weight,
        updated_at=from_us(updated_us),
    )
