"""Connections to one SQLite file: one that writes and checkpoints, and others that only read.

SQLite 3.7.0 to 3.51.2 can lose commits when two connections write and checkpoint at the same instant
(sqlite.org/wal.html, "the WAL-reset bug"), so an older library is refused, and only the writer ever
checkpoints. Nothing else may open the file or its `-wal` and `-shm`: closing any descriptor of a file
drops the process's locks on it (sqlite.org/howtocorrupt.html, 2.2).

Plans are made without a look at the bound values (`ENABLE_QPSG`). Otherwise SQLite, which apsw builds
with STAT4, prepares a cached statement with a join anew each time that other values are bound to it:
100 us for a job that is found in 10.
"""

from pathlib import Path

import apsw

from jobservice.errors import SetupError
from jobservice.mutants import mutant

OLDEST_SQLITE = (3, 51, 3)
BUSY_MS = 3_000
"""How long the writer waits for a lock that another process holds."""
ROWS_A_STATEMENT = 128
"""How many rows are bound to one statement at most."""
STATEMENTS_KEPT = 256
"""How many prepared statements a connection keeps."""

DATABASE_ERRORS = (
    apsw.FullError,
    apsw.IOError,
    apsw.BusyError,
    apsw.LockedError,
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.CantOpenError,
    apsw.ReadOnlyError,
    apsw.NoMemError,
    apsw.InterruptError,
    apsw.ProtocolError,
    apsw.ConnectionClosedError,
    apsw.PermissionsError,
    apsw.AuthError,
)
"""What SQLite says when the fault is not that of a statement, but of the disk or the file."""

_WRITER = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA foreign_keys = ON;
PRAGMA temp_store = MEMORY;
PRAGMA cache_size = -65536;
PRAGMA wal_autocheckpoint = 0;
PRAGMA journal_size_limit = 67108864;
"""
_READER = """
PRAGMA query_only = ON;
PRAGMA temp_store = MEMORY;
PRAGMA cache_size = -16384;
PRAGMA wal_autocheckpoint = 0;
"""


def check_version(version: str) -> None:
    """Refuse a SQLite library that can lose commits.

    Raises:
        SetupError: it is older than 3.51.3.
    """
    if tuple(int(part) for part in version.split(".")[:3]) < OLDEST_SQLITE:
        oldest = ".".join(str(part) for part in OLDEST_SQLITE)
        raise SetupError(
            f"The SQLite library is {version}, which can lose committed data; {oldest} or newer is "
            "needed. Install a newer apsw."
        )


def open_writer(path: Path) -> apsw.Connection:
    """The connection that writes; the file is made if there is none.

    Raises:
        SetupError: it cannot be opened, or is no SQLite database.
    """
    check_version(apsw.sqlite_lib_version())
    flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    pragmas = _WRITER.replace("FULL", "NORMAL") if mutant("commit.unsynced") else _WRITER
    return _opened(path, flags, pragmas)


def open_reader(path: Path) -> apsw.Connection:
    """A connection that cannot write.

    Raises:
        SetupError: it cannot be opened.
    """
    return _opened(path, apsw.SQLITE_OPEN_READWRITE, _READER)


def run_all(connection: apsw.Connection, sql: str) -> None:
    """Run every statement of a text. `execute` alone stops at the first that answers with a row."""
    for _ in connection.execute(sql):
        pass


def _opened(path: Path, flags: int, pragmas: str) -> apsw.Connection:
    try:
        connection = apsw.Connection(str(path), flags=flags, statementcachesize=STATEMENTS_KEPT)
        connection.set_busy_timeout(BUSY_MS)
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        run_all(connection, pragmas)
    except apsw.Error as error:
        raise SetupError(f"The database {path} cannot be opened: {error}.") from error
    return connection
