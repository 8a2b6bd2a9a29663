"""Connections to a PostgreSQL database, their settings, and what their errors mean.

Every wait ends: a connection that is not there within the deadline, a statement that runs longer, a
lock that another holds, and, should this process be stopped in the middle of a transaction, the
transaction itself, so that it does not hold up other servers for ever.

Behind a pooler that lends a session for one transaction, all this is said in each transaction.
"""

import asyncio
import re
from collections.abc import Iterable
from typing import Any, ClassVar

import asyncpg

from jobservice.errors import (
    Internal,
    JobServiceError,
    SetupError,
    StoreBusy,
    StoreFull,
    StoreUnavailable,
)

OLDEST_SERVER = 14
STATEMENTS_KEPT = 512
"""How many prepared statements a connection keeps."""
STATEMENT_AGE_S = 60
"""How long a prepared statement, and so its plan, is used."""
IDLE_IN_TRANSACTION_MS = 10_000
STATEMENT_PART = 0.7
"""The part of the deadline of a call that one statement may take. The rest is for it to be told."""
GIVEN_UP = 1.1
"""How many times as long a database is waited for that does not even end a statement when it should."""
FIRST_DEADLINE_S = 10.0
"""How long the first connection of a program is waited for."""

_HOST = r"(?:[\w.~%-]*|\[[\w:.%]*\])(?::\d*)?"
_ADDRESS = re.compile(
    r"(?P<scheme>postgres(?:ql)?://)(?:(?P<user>[^:/?#@\[\]\s]*)(?::[^/?#@\[\]\s]*)?(?P<at>@))?"
    rf"(?P<hosts>{_HOST}(?:,{_HOST})*)(?P<path>/[^?#@\s]*)?(?:\?[^#@\s]*)?",
    re.IGNORECASE,
)
"""An address in which it is plain what the password is. In one that is written wrongly a part of it
may look like a host or a port, which an error would show."""

_WALKS_ONLY = {
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
}
"""Every statement of ours walks along an index made for it, or looks up rows by their key. Without this
PostgreSQL plans a statement for the few rows that it believes a table to have, keeps the plan, and reads
the whole table each time once it has grown: until its statistics are gathered anew, a minute later, or
much later where they say that a queue is empty which has filled since. Plans made anew for each run
would cost a tenth to a fifth of a call; so one is made without a look at the values and kept from the
first run on, not from the sixth as by default: it is the one that the tests look at."""

_ON_DISK = (
    "SELECT set_config('synchronous_commit', 'on', {is_local})"
    " WHERE current_setting('synchronous_commit') = 'off'"
)
"""Acknowledged means on disk, whatever the default of the database is."""
_POOLED = re.compile(r"(?:\?|&)pool_mode=transaction(?:&|$)")

_OF_POSTGRESQL = 10_000
"""Types with smaller numbers are its own, the same in each database of each version."""


class Connection(asyncpg.Connection):  # type: ignore[misc]  # which has no types
    """Asks what the types of PostgreSQL itself are only once, for all connections of this process.

    asyncpg asks the database anew over each connection, for each statement with a type that it has not
    met there, such as an array of numbers: 10 ms a time, most of what a new connection costs.
    """

    _known: ClassVar[dict[frozenset[int], Any]] = {}

    async def _introspect_types(self, typeoids: Iterable[int], timeout: float | None) -> Any:
        wanted = frozenset(typeoids)
        if wanted in self._known:
            return self._known[wanted], _AnyStatement
        types, statement = await super()._introspect_types(typeoids, timeout)
        if max(wanted) < _OF_POSTGRESQL:
            self._known[wanted] = types
        return types, statement


class _AnyStatement:
    """Stands for the query that was not needed."""

    name = "known"


_AWAY = (
    OSError,
    TimeoutError,
    asyncio.IncompleteReadError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,  # class 08
    asyncpg.InvalidAuthorizationSpecificationError,  # class 28
    asyncpg.InsufficientResourcesError,  # class 53
    asyncpg.OperatorInterventionError,  # class 57
    asyncpg.PostgresSystemError,  # class 58
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)
"""What is said when the fault is not that of a statement, but of the way to the database or of its
host."""


_MET_BY_KEY = {"requests_pkey", "schedules_pkey", "schedule_runs_pkey"}
"""Keys that two servers may write at the same time: the second one then finds what the first made."""


def is_away(error: BaseException) -> bool:
    """Whether the database, and not the statement, is at fault."""
    return isinstance(error, _AWAY)


def was_undone(error: BaseException) -> bool:
    """Whether the database says by it that it has undone the statement, though not by a fault of it."""
    undone = asyncpg.DiskFullError | asyncpg.LockNotAvailableError | asyncpg.QueryCanceledError
    return isinstance(error, undone)


def met_another(error: BaseException) -> bool:
    """Whether two servers got into each other's way: what was undone may be run again."""
    if isinstance(error, asyncpg.UniqueViolationError):
        return str(error.constraint_name) in _MET_BY_KEY
    return isinstance(error, asyncpg.DeadlockDetectedError | asyncpg.SerializationError)


def refusal(error: Exception) -> JobServiceError:
    """What a caller is told when nothing was changed, or nothing was read."""
    if isinstance(error, asyncpg.DiskFullError):
        return StoreFull()
    if isinstance(error, asyncpg.LockNotAvailableError | asyncpg.QueryCanceledError):
        return StoreBusy(f"The database did not do it in time: {said(error)}. Nothing was changed.")
    if is_away(error):
        return StoreUnavailable(f"The database cannot be used now: {said(error)}.")
    fault = Internal(f"A statement of the store failed: {said(error)}.")
    fault.__cause__ = error
    return fault


def said(error: Exception) -> str:
    """The words of an error, without a full stop."""
    words = str(error).strip().splitlines()
    return words[0].rstrip(".") if words else type(error).__name__


def redacted(url: str) -> str:
    """An address that may be shown: without its password and its parameters."""
    parts = _ADDRESS.fullmatch(url)
    if parts is None:
        return "the database"
    return "".join(parts[name] or "" for name in ("scheme", "user", "at", "hosts", "path"))


async def connect(
    url: str, statement_s: float, *, connect_deadline_s: float | None = None
) -> Connection:
    """A connection with our settings, there in the time of a statement; raises what asyncpg raises."""
    arguments = settings(url, statement_s)
    arguments["timeout"] = connect_deadline_s or statement_s
    connection: Connection = await asyncpg.connect(**arguments)
    try:
        if not is_pooled(url):
            await connection.execute(_ON_DISK.format(is_local="false"))
    except BaseException:
        connection.terminate()
        raise
    return connection


def settings(url: str, statement_s: float) -> dict[str, Any]:
    """The arguments of every connection, for statements that take so long at most."""
    pooled = is_pooled(url)
    of_session = {} if pooled else _of_session(statement_s)
    return {
        "dsn": _POOLED.sub(lambda found: "?" if found[0].endswith("&") else "", url),
        "connection_class": Connection,
        "timeout": statement_s,
        "command_timeout": statement_s * GIVEN_UP,
        "statement_cache_size": 0 if pooled else STATEMENTS_KEPT,
        "max_cached_statement_lifetime": STATEMENT_AGE_S,
        "server_settings": {"application_name": "jobservice", **of_session},
    }


def _of_session(statement_s: float) -> dict[str, str]:
    milliseconds = str(int(statement_s * 1000))
    return {
        "jit": "off",
        **_WALKS_ONLY,
        "statement_timeout": milliseconds,
        "lock_timeout": milliseconds,
        "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_MS),
    }


def is_pooled(url: str) -> bool:
    """Whether the address says that it is one of a pooler that lends a session for a transaction.

    Nothing lasts there from one transaction to the next: no setting, no prepared statement, no LISTEN.
    """
    return _POOLED.search(url) is not None


def in_transaction(url: str, statement_s: float) -> str:
    """What each transaction has to begin with, after its BEGIN; empty where the session has it all."""
    if not is_pooled(url):
        return ""
    local = [f"SET LOCAL {name} = '{to}'" for name, to in _of_session(statement_s).items()]
    return "; ".join([*local, _ON_DISK.format(is_local="true")])


async def connect_first(url: str, statement_s: float) -> Connection:
    """The first connection of a program, whose faults are those of its set-up.

    Raises:
        SetupError: the database cannot be reached, or is too old.
    """
    shown = redacted(url)
    if not _ADDRESS.fullmatch(url):
        raise SetupError(
            "The address of the database is not one like postgresql://USER@HOST:5432/NAME. In a name or"
            " a password, characters such as / ? # @ are written as %2F %3F %23 %40."
        )
    try:
        connection = await connect(url, statement_s, connect_deadline_s=FIRST_DEADLINE_S)
    except (ValueError, asyncpg.ClientConfigurationError) as error:
        raise SetupError(
            f"{shown} is no address of a database: {said(error)}. Give one like"
            " postgresql://USER@HOST:5432/NAME."
        ) from None
    except (asyncpg.PostgresError, *_AWAY) as error:
        question = "Is PostgreSQL running there, and may this user connect?"
        if "unsupported startup parameter" in str(error):
            question = "If a pooler is there, let the address end in ?pool_mode=transaction."
        raise SetupError(
            f"The database {shown} cannot be used: {said(error)}. {question}"
        ) from None
    if connection.get_server_version().major < OLDEST_SERVER:
        version = connection.get_server_version().major
        await connection.close()
        raise SetupError(f"{shown} is PostgreSQL {version}; {OLDEST_SERVER} or newer is needed.")
    return connection
