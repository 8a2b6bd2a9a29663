"""Reads of schedules and their runs."""

import datetime as dt

from jobservice.clock import from_us
from jobservice.model.schedule import Schedule
from jobservice.store.postgres.connect import Connection
from jobservice.store.postgres.queries import QUERIES
from jobservice.store.schedule_port import RunPage, ScheduleKey, SchedulePage
from jobservice.store.schedule_rows import run_cursor, run_page, schedule_of, schedule_page


async def find_schedule(connection: Connection, key: ScheduleKey) -> Schedule | None:
    """One schedule."""
    text = QUERIES["find_schedule"].text
    row = await connection.fetchrow(text, key.tenant, key.schedule_id)
    return None if row is None else schedule_of(tuple(row))


async def list_schedules(
    connection: Connection, tenant: str, limit: int, cursor: str | None
) -> SchedulePage:
    """A page of schedules."""
    text = QUERIES["list_schedules"].text
    return schedule_page(await connection.fetch(text, tenant, cursor or "", limit + 1), limit)


async def list_all_schedules(
    connection: Connection, after: tuple[str, str], limit: int
) -> list[Schedule]:
    """Schedules of all tenants."""
    rows = await connection.fetch(QUERIES["list_all_schedules"].text, *after, limit)
    return [schedule_of(tuple(row)) for row in rows]


async def list_runs(
    connection: Connection, key: ScheduleKey, limit: int, cursor: str | None
) -> RunPage:
    """A page of runs."""
    values = key.tenant, key.schedule_id, *run_cursor(cursor), limit + 1
    return run_page(await connection.fetch(QUERIES["list_runs"].text, *values), limit)


async def next_look(connection: Connection) -> dt.datetime | None:
    """When there is something to decide."""
    look_us = await connection.fetchval(QUERIES["next_look"].text)
    return None if look_us is None else from_us(look_us)
