"""Lists: pages by keyset, in the order of creation or of the end.

A list is the merge of one ordered run per state, each a walk along an index, so a page costs what is
on it and not what lies before or behind it.
"""

import functools
import zlib
from typing import Any

import apsw

from jobservice.clock import to_us
from jobservice.model.lifecycle import State
from jobservice.store.port import JobPage, JobQuery, Order
from jobservice.store.rows import cursor_of, cursor_token, dump_json, job_of, us_or_none
from jobservice.store.sqlite.queries import QUERIES

_SORT = {
    Order.CREATED_ASC: ("created_us", "ASC", ">"),
    Order.CREATED_DESC: ("created_us", "DESC", "<"),
    Order.ENDED_DESC: ("ended_us", "DESC", "<"),
}
_LABELLED = (
    " AND EXISTS (SELECT 1 FROM json_each(jobs.labels) AS label"
    " WHERE label.key = :key{n} AND label.value = :value{n})"
)
_LAST_CODE_POINT = 0x10FFFF


def list_jobs(
    connection: apsw.Connection, query: JobQuery, limit: int, cursor: str | None
) -> JobPage:
    """A page of a query.

    Raises:
        PageTokenInvalid: the cursor is not one of this query.
    """
    digest = _digest(query)
    filters, values = _filters(query)
    if cursor is not None:
        column, _, sign = _SORT[query.order]
        values["instant_us"], values["job_id"] = cursor_of(cursor, digest)
        filters += f" AND (jobs.{column}, jobs.job_id) {sign} (:instant_us, :job_id)"
    sql = _statement(query.order, query.states, query.full, filters)
    rows = connection.execute(sql, {**values, "limit": limit + 1}).fetchall()
    jobs = [job_of(row) for row in rows[:limit]]
    if len(rows) <= limit:
        return JobPage(tuple(jobs), None)
    last = jobs[-1]
    instant = last.ended_at if query.order is Order.ENDED_DESC else last.created_at
    assert instant is not None  # it was ordered by it
    return JobPage(tuple(jobs), cursor_token(digest, to_us(instant), last.job_id))


@functools.lru_cache(maxsize=512)
def _statement(order: Order, states: frozenset[State], full: bool, filters: str) -> str:
    column, direction, _ = _SORT[order]
    head = QUERIES["list_full" if full else "list_basic"].text
    by_end = " AND jobs.ended_us IS NOT NULL" if order is Order.ENDED_DESC else ""
    runs = [f"{head} AND jobs.state = {int(state)}{by_end}{filters}" for state in sorted(states)]
    return (
        " UNION ALL ".join(runs) + f" ORDER BY {column} {direction}, job_id {direction} LIMIT :limit"
    )


def _filters(query: JobQuery) -> tuple[str, dict[str, Any]]:
    """The conditions of a query besides its states, and their values."""
    values: dict[str, Any] = {"tenant": query.tenant}
    sql = ""
    if query.queue:
        sql += " AND jobs.queue = :queue"
        values["queue"] = query.queue
    if query.name:
        values["name"] = query.name
        values["name_end"] = _behind_prefix(query.name)
        sql += (
            " AND jobs.name >= :name AND jobs.name < :name_end" if query.name_is_prefix
            else " AND jobs.name = :name"
        )
    if query.ended_from is not None:
        sql += " AND jobs.ended_us >= :ended_from"
        values["ended_from"] = us_or_none(query.ended_from)
    if query.ended_before is not None:
        sql += " AND jobs.ended_us < :ended_before"
        values["ended_before"] = us_or_none(query.ended_before)
    for n, (key, value) in enumerate(sorted(query.labels.items())):
        sql += _LABELLED.format(n=n)
        values[f"key{n}"], values[f"value{n}"] = key, value
    return sql, values


def _behind_prefix(prefix: str) -> str:
    """The first text, in the order of code points, that is behind every text with this prefix."""
    last = ord(prefix[-1])
    if last == _LAST_CODE_POINT:
        return _behind_prefix(prefix[:-1]) if prefix[:-1] else prefix + prefix
    return prefix[:-1] + chr(0xE000 if last == 0xD7FF else last + 1)


def _digest(query: JobQuery) -> str:
    """What binds a cursor to a query: everything but the columns that are read."""
    text = dump_json([
        query.tenant, query.order.name, sorted(query.states), query.queue, query.name,
        query.name_is_prefix, sorted(query.labels.items()), us_or_none(query.ended_from),
        us_or_none(query.ended_before),
    ])
    return f"{zlib.crc32(text.encode()):08x}"
