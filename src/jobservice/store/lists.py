"""Lists: pages by keyset, in the order of creation or of the end.

A list is a walk along an index, from where the page before ended, over the jobs that may be on it;
the filters that no index serves are applied to what is walked over. A page ends when it is full, or
when it has walked over `WALK` jobs: then it is shorter, or even empty, and has a cursor all the same.
So a page costs no more with a long history than with a short one.

The statements are put together here for every store, out of the pieces in its `reads.sql`, with values
by name (`:tenant`).
"""

import dataclasses
import functools
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from jobservice.clock import from_us, to_us
from jobservice.model.filter import array_of, states_of
from jobservice.model.job import Job
from jobservice.model.lifecycle import ACTIVE, FINAL, LIVE, State
from jobservice.model.operation import Place
from jobservice.store.filters import Conditions, behind_prefix
from jobservice.store.port import JobKey, JobPage, JobQuery, Order, TargetPage
from jobservice.store.rows import Columns, cursor_of, cursor_token, dump_json, job_of, us_or_none
from jobservice.store.sqlfile import Query

WALK = 20_000
"""How many jobs a page looks at, at most: some 50 ms."""

_FORWARD = frozenset({Order.CREATED_ASC})
_ALL = frozenset(State)


@dataclasses.dataclass(frozen=True, eq=False)
class Dialect:
    """How a store says what the stores say differently."""

    queries: Mapping[str, Query]
    labelled: str
    """The condition on a label, with `{n}` for its number: `:key{n}` and `:value{n}`."""
    label: str
    """The value of a label, NULL where there is none, with `{key}` for its key."""
    sorts: bool
    """Whether the order of a walk must be asked for in each of several runs, and again for jobs that
    are joined to it."""


@dataclasses.dataclass(frozen=True)
class List:
    """The statements of one page."""

    page: str
    """The jobs, one more than fit on the page if there are."""
    end: str
    """Where the walk ended, if it did not come to the end of the index; asked in the same instant as
    `page`, and only where that did not fill the page."""
    values: Mapping[str, Any]
    _query: JobQuery
    _limit: int
    _digest: str

    def is_full(self, rows: Sequence[Columns]) -> bool:
        """Whether the rows of `page` fill the page, and there is another one."""
        return len(rows) > self._limit

    def answer(self, rows: Sequence[Columns], end: Columns | None) -> JobPage:
        """The page, out of what the statements answered."""
        jobs = tuple(job_of(row) for row in rows[: self._limit])
        if self.is_full(rows):
            return JobPage(jobs, _cursor(self._digest, self._query.order, jobs[-1]))
        return JobPage(jobs, None if end is None else cursor_token(self._digest, *end))


@dataclasses.dataclass(frozen=True)
class Targets:
    """The statements of some jobs by their keys, as those of a `List`."""

    page: str
    end: str
    values: Mapping[str, Any]
    _tenant: str
    _limit: int

    def is_full(self, rows: Sequence[Columns]) -> bool:
        """Whether the rows of `page` are as many as were asked for, and there is another one."""
        return len(rows) > self._limit

    def answer(self, rows: Sequence[Columns], end: Columns | None) -> TargetPage:
        """The jobs, out of what the statements answered."""
        rows = rows[: self._limit + self.is_full(rows)]
        if self.is_full(rows):
            rows = rows[: self._limit]
            end = rows[-1]
        jobs = tuple(JobKey(self._tenant, job_id) for _, job_id in rows)
        return TargetPage(jobs, None if end is None else Place(from_us(end[0]), end[1]))


def targets_of(
    dialect: Dialect, query: JobQuery, behind: Place | None, limit: int, walk: int = WALK
) -> Targets | None:
    """How to find the next jobs of a query behind a place; None where there is nothing to look at."""
    query = _narrowed(query)
    filters, values = _filters(dialect, query)
    values.update(limit=limit + 1, walk=walk, last=walk - 1)
    if behind is not None:
        values["instant_us"], values["job_id"] = to_us(behind.created_at), behind.job_id
    way = _way(dialect, query, begun=behind is not None)
    if way is None or _matches_nothing(query):
        return None
    head = dialect.queries["list_ids"].text
    page = _page(dialect, way, head + filters, query.order)
    return Targets(page, f"{way} LIMIT 1 OFFSET :last", values, query.tenant, limit)


def list_of(
    dialect: Dialect, query: JobQuery, limit: int, cursor: str | None, walk: int = WALK
) -> List | None:
    """How to read a page of a query; None where there is nothing to look at.

    Raises:
        PageTokenInvalid: the cursor is not one of this query.
    """
    digest = _digest(query)
    query = _narrowed(query)
    filters, values = _filters(dialect, query)
    values.update(limit=limit + 1, walk=walk, last=walk - 1)
    if cursor is not None:
        values["instant_us"], values["job_id"] = cursor_of(cursor, digest)
    way = _way(dialect, query, begun=cursor is not None)
    if way is None or _matches_nothing(query):
        return None
    head = dialect.queries["list_full" if query.full else "list_basic"].text
    page = _page(dialect, way, head + filters, query.order)
    return List(page, f"{way} LIMIT 1 OFFSET :last", values, query, limit, digest)


def _matches_nothing(query: JobQuery) -> bool:
    """Whether no job can be asked for: in no state, or with a NUL, which PostgreSQL does not take."""
    if not query.states:
        return True
    labels = (text for label in query.labels.items() for text in label)
    return any("\0" in text for text in (query.queue, query.name, *labels))


def _cursor(digest: str, order: Order, last: Job) -> str:
    instant = last.ended_at if order is Order.ENDED_DESC else last.created_at
    assert instant is not None  # it is what the walk went along
    return cursor_token(digest, to_us(instant), last.job_id)


def _narrowed(query: JobQuery) -> JobQuery:
    """The query, with none of the states in which its filter cannot hold."""
    if query.filter is None:
        return query
    return dataclasses.replace(query, states=query.states & states_of(query.filter))


def _page(dialect: Dialect, way: str, select: str, order_: Order) -> str:
    direction = _direction(order_)
    order = f" ORDER BY walked.instant_us {direction}, walked.job_id {direction}"
    tail = order if dialect.sorts else ""
    return f"WITH walked AS ({way} LIMIT :walk) {select}{tail} LIMIT :limit"


def _direction(order: Order) -> str:
    return "ASC" if order in _FORWARD else "DESC"


def _way(dialect: Dialect, query: JobQuery, *, begun: bool) -> str | None:
    in_array = query.filter is not None and array_of(query.filter) is not None
    bounded = query.created_before is not None
    return way_of(dialect, query.order, query.states, begun, bounded, in_array)


@functools.lru_cache(maxsize=512)
def way_of(
    dialect: Dialect,
    order: Order,
    states: frozenset[State],
    begun: bool,
    bounded: bool,
    in_array: bool,
) -> str | None:
    """The jobs to walk over, in order, as instants and ids; None where there are none to look at."""
    queries = dialect.queries
    if order is Order.ENDED_DESC:
        walk = queries["walk_ended"].text
        runs = [f"{walk} {int(state)}" for state in sorted(states & FINAL)]
    elif in_array:
        runs = [queries["walk_indices"].text]
    elif states <= LIVE:
        runs = [queries["walk_live"].text, queries["walk_open_arrays"].text]
    else:
        walks = [(ACTIVE, "walk_active"), (FINAL, "walk_closed")]
        runs = [queries[name].text for walked, name in walks if states & walked]
    sign, direction = ">" if order in _FORWARD else "<", _direction(order)
    column = "ended_us" if order is Order.ENDED_DESC else "created_us"
    behind = f" AND ({column}, job_id) {sign} (:instant_us, :job_id)" if begun else ""
    behind += " AND created_us < :created_before" if bounded else ""
    order_by = f" ORDER BY instant_us {direction}, job_id {direction}"
    if dialect.sorts and len(runs) > 1:
        runs = [f"({run}{behind}{order_by})" for run in runs]
    else:
        runs = [run + behind for run in runs]
    return " UNION ALL ".join(runs) + order_by if runs else None


def _filters(dialect: Dialect, query: JobQuery) -> tuple[str, dict[str, Any]]:
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
        values["name_end"] = behind_prefix(query.name)
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
    if query.created_before is not None:
        values["created_before"] = us_or_none(query.created_before)
    for n, (key, value) in enumerate(sorted(query.labels.items())):
        sql += dialect.labelled.format(n=n)
        values[f"key{n}"], values[f"value{n}"] = key, value
    if query.filter is not None:
        values["array_id"] = array_of(query.filter)
        sql += f" AND {Conditions(dialect.label, values).of(query.filter)}"
    return sql, values


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
            None if query.filter is None else str(query.filter),
            us_or_none(query.created_before),
        ]
    )
    return f"{zlib.crc32(text.encode()):08x}"
