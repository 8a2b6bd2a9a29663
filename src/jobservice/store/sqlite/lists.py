"""Lists: pages by keyset, in the order of creation or of the end.

A list is a walk along an index, from where the page before ended, over the jobs that may be on it;
the filters that no index serves are applied to what is walked over. A page ends when it is full, or
when it has walked over `WALK` jobs: then it is shorter, or even empty, and has a cursor all the same.
So a page costs no more with a long history than with a short one.
"""

import functools
import zlib
from typing import Any

import apsw

from jobservice.clock import to_us
from jobservice.model.job import Job
from jobservice.model.lifecycle import ACTIVE, FINAL, LIVE, State
from jobservice.store.port import JobPage, JobQuery, Order
from jobservice.store.rows import cursor_of, cursor_token, dump_json, job_of, us_or_none
from jobservice.store.sqlite.queries import QUERIES

WALK = 20_000
"""How many jobs a page looks at, at most: some 50 ms."""

_FORWARD = frozenset({Order.CREATED_ASC})
_ALL = frozenset(State)
_LABELLED = (
    " AND EXISTS (SELECT 1 FROM json_each(jobs.labels) AS label"
    " WHERE label.key = :key{n} AND label.value = :value{n})"
)
_LAST_CODE_POINT = 0x10FFFF


def list_jobs(
    connection: apsw.Connection, query: JobQuery, limit: int, cursor: str | None, walk: int = WALK
) -> JobPage:
    """A page of a query.

    Raises:
        PageTokenInvalid: the cursor is not one of this query.
    """
    digest = _digest(query)
    filters, values = _filters(query)
    values.update(limit=limit + 1, walk=walk, last=walk - 1)
    if cursor is not None:
        values["instant_us"], values["job_id"] = cursor_of(cursor, digest)
    way = _way(query.order, query.states, cursor is not None)
    if way is None:
        return JobPage((), None)
    connection.execute("BEGIN")
    try:
        rows = connection.execute(_page(way, query.full, filters), values).fetchall()
        end = None if len(rows) > limit else connection.execute(_end(way), values).get
    finally:
        connection.execute("COMMIT")
    jobs = tuple(job_of(row) for row in rows[:limit])
    if len(rows) > limit:
        return JobPage(jobs, _cursor(digest, query.order, jobs[-1]))
    return JobPage(jobs, None if end is None else cursor_token(digest, *end))


def _cursor(digest: str, order: Order, last: Job) -> str:
    instant = last.ended_at if order is Order.ENDED_DESC else last.created_at
    assert instant is not None  # it is what the walk went along
    return cursor_token(digest, to_us(instant), last.job_id)


@functools.lru_cache(maxsize=512)
def _page(way: str, full: bool, filters: str) -> str:
    head = QUERIES["list_full" if full else "list_basic"].text
    return f"WITH walked AS ({way} LIMIT :walk) {head}{filters} LIMIT :limit"


def _end(way: str) -> str:
    """Where the walk ended, if it did not come to the end of the index."""
    return f"{way} LIMIT 1 OFFSET :last"


@functools.lru_cache(maxsize=512)
def _way(order: Order, states: frozenset[State], begun: bool) -> str | None:
    """The jobs to walk over, in order, as instants and ids; None where there are none to look at."""
    if order is Order.ENDED_DESC:
        walk = QUERIES["walk_ended"].text
        runs = [f"{walk} {int(state)}" for state in sorted(states & FINAL)]
    elif states <= LIVE:
        runs = [QUERIES["walk_live"].text]
    else:
        runs = [QUERIES["walk_active" if states <= ACTIVE else "walk_all"].text]
    sign, direction = (">", "ASC") if order in _FORWARD else ("<", "DESC")
    column = "ended_us" if order is Order.ENDED_DESC else "created_us"
    behind = f" AND ({column}, job_id) {sign} (:instant_us, :job_id)" if begun else ""
    merged = " UNION ALL ".join(run + behind for run in runs)
    return f"{merged} ORDER BY instant_us {direction}, job_id {direction}" if runs else None


def _filters(query: JobQuery) -> tuple[str, dict[str, Any]]:
    """The conditions of a query on what is walked over, and their values."""
    values: dict[str, Any] = {"tenant": query.tenant}
    sql = ""
    if query.states != _ALL:
        numbers = ", ".join(str(int(state)) for state in sorted(query.states))
        sql += f" AND jobs.state IN ({numbers})"
    if query.queue:
        sql += " AND jobs.queue = :queue"
        values["queue"] = query.queue
    if query.name:
        values["name"] = query.name
        values["name_end"] = _behind_prefix(query.name)
        sql += (
            " AND jobs.name >= :name AND jobs.name < :name_end"
            if query.name_is_prefix
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
    text = dump_json(
        [
            query.tenant,
            query.order.name,
            sorted(query.states),
            query.queue,
            query.name,
            query.name_is_prefix,
            sorted(query.labels.items()),
            us_or_none(query.ended_from),
            us_or_none(query.ended_before),
        ]
    )
    return f"{zlib.crc32(text.encode()):08x}"
