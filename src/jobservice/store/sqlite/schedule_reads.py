"""Reads of schedules and their runs."""

import datetime as dt

import apsw

from jobservice.clock import from_us
from jobservice.model.schedule import Schedule
from jobservice.store.schedule_port import RunPage, ScheduleKey, SchedulePage
from jobservice.store.schedule_rows import run_cursor, run_page, schedule_of, schedule_page
from jobservice.store.sqlite.queries import QUERIES


def find_schedule(connection: apsw.Connection, key: ScheduleKey) -> Schedule | None:
    """One schedule."""
    values = key.tenant, key.schedule_id
    row = connection.execute(QUERIES["find_schedule"].text, values).get
    return None if row is None else schedule_of(row)


def list_schedules(
    connection: apsw.Connection, tenant: str, limit: int, cursor: str | None
) -> SchedulePage:
    """A page of schedules."""
    values = tenant, cursor or "", limit + 1
    rows = connection.execute(QUERIES["list_schedules"].text, values).fetchall()
    return schedule_page(rows, limit)


def list_all_schedules(
    connection: apsw.Connection, after: tuple[str, str], limit: int
) -> list[Schedule]:
    """Schedules of all tenants."""
    rows = connection.execute(QUERIES["list_all_schedules"].text, (*after, limit))
    return [schedule_of(row) for row in rows]


def list_runs(
    connection: apsw.Connection, key: ScheduleKey, limit: int, cursor: str | None
) -> RunPage:
    """A page of runs."""
    values = key.tenant, key.schedule_id, *run_cursor(cursor), limit + 1
    rows = connection.execute(QUERIES["list_runs"].text, values).fetchall()
    return run_page(rows, limit)


def next_look(connection: apsw.Connection) -> dt.datetime | None:
    """When there is something to decide."""
    look_us = connection.execute(QUERIES["next_look"].text).get
    return None if look_us is None else from_us(look_us)
