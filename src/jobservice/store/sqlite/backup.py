"""Copies of a SQLite file: a backup of one that is in use, and the return of a backup.

A backup is read within one read transaction, so it is the database of one instant, and whoever writes
meanwhile is neither held up nor makes it begin again (without that transaction SQLite starts a backup
anew at each commit of another process). The write-ahead log grows until it is done.

Both ways the copy is made beside its place, checked page by page, synced and only then renamed, so that
a crash leaves what was there before.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import apsw

from jobservice.errors import SetupError, StoreFull
from jobservice.mutants import mutant
from jobservice.store.rows import RESTORED_LEASE_US
from jobservice.store.sqlite.connect import check_version, open_reader, open_writer, run_all
from jobservice.store.sqlite.migrate import check
from jobservice.store.sqlite.reads import head_position

PAGES_A_STEP = 256
"""How many pages are copied at a time; between two steps an interrupt is heard."""
COMPLAINTS = 3
"""How many faults of a damaged file are told."""
POSITIONS_LEFT_OUT = 1 << 32
"""How far the changes of a restored database begin behind those of the backup: beyond all that were
made since. Whoever watches with a token of before is told to begin again."""

_AS_ONE_FILE = "PRAGMA journal_mode = DELETE"
_LEASES_ARE_OVER = "UPDATE jobs SET lease_until_us = ? WHERE lease_until_us IS NOT NULL"
_POSITIONS = "UPDATE feed SET forgotten_position = ?"


def backup(path: Path, file: Path, *, force: bool) -> int:
    """Copy a database, which may be in use, into a file of its own; returns its size in bytes.

    Args:
        path: The database.
        file: Where the copy goes, for its owner alone.
        force: Whether it may take the place of another file.

    Raises:
        SetupError: the file is there already, or one of the two cannot be used, or is damaged.
        StoreFull: there is no room for it.
    """
    if not path.exists():
        raise SetupError(f"There is no database {path}. Name its directory by --data-dir.")
    _refuse_to_replace(file, force=force)
    check_version(apsw.sqlite_lib_version())
    source = open_reader(path)
    source.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)  # the service does that
    with contextlib.closing(source), _draft_of(file) as draft:
        _copy(source, path, draft)
        _verify(draft, path)
        _place(draft, file, force=force)
        return file.stat().st_size


def restore(file: Path, path: Path, *, force: bool) -> Path | None:
    """Put a backup in the place of a database that nobody has open.

    All leases of the backup count as over, and watchers have to begin again.

    Args:
        file: The backup.
        path: The database; its directory is locked by the caller.
        force: Whether it may take the place of another database, which is kept beside it.

    Returns:
        Where the database is that was there before; None where there was none.

    Raises:
        SetupError: it is no backup of a JobService that we know, is damaged, or cannot be used; or there
            is a database already.
        StoreFull: there is no room for it.
    """
    if not file.is_file():
        raise SetupError(f"There is no file {file}.")
    if path.exists() and not force:
        raise SetupError(
            f"There is a database {path} already. With --force the backup takes its place, and it is "
            "kept beside it under another name."
        )
    check_version(apsw.sqlite_lib_version())
    with _draft_of(path) as draft:
        with _opened(file) as source:
            _copy(source, file, draft)
        _verify(draft, file)
        _refuse_foreign(draft, file)
        with _opened(draft, writable=True) as connection, _told(draft):
            connection.execute(_POSITIONS, (head_position(connection) + POSITIONS_LEFT_OUT,))
            if not mutant("restore.keeps_leases"):
                connection.execute(_LEASES_ARE_OVER, (RESTORED_LEASE_US,))
        kept = _keep(path)
        _place(draft, path, force=True)
        return kept


# --- the copy ---------------------------------------------------------------------------------


@contextlib.contextmanager
def _draft_of(file: Path) -> Iterator[Path]:
    """An empty file beside another one, for its owner alone; gone at the end.

    What a killed process has left of it is used up by the next one. Its descriptor stays open until
    SQLite has closed the file: see `connect.py`.
    """
    draft = file.with_name(f".{file.name}.draft")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SetupError(f"{file} cannot be written: {error.strerror}.") from error
    try:
        _lock(descriptor, draft, file)
        _remove(draft, ("-journal", "-wal", "-shm"))
        os.ftruncate(descriptor, 0)
        os.fchmod(descriptor, 0o600)
        try:
            yield draft
        finally:
            if _is(descriptor, draft):  # it was not renamed
                _remove(draft, ("", "-journal", "-wal", "-shm"))
    finally:
        os.close(descriptor)


def _lock(descriptor: int, draft: Path, file: Path) -> None:
    """Have the draft alone; one that was renamed meanwhile is not it any more."""
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is(descriptor, draft):
            return
    raise SetupError(
        f"Another process writes {file} just now. Wait for it, or choose another name."
    )


def _is(descriptor: int, draft: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), draft.stat())
    return False


def _remove(draft: Path, suffixes: Sequence[str]) -> None:
    for suffix in suffixes:
        Path(f"{draft}{suffix}").unlink(missing_ok=True)


@contextlib.contextmanager
def _opened(file: Path, *, writable: bool = False) -> Iterator[apsw.Connection]:
    """A connection to a file that nobody else has open, without a write-ahead log."""
    flags = apsw.SQLITE_OPEN_READWRITE if writable else apsw.SQLITE_OPEN_READONLY
    with _told(file):
        connection = apsw.Connection(str(file), flags=flags)
    with contextlib.closing(connection):
        yield connection


@contextlib.contextmanager
def _told(file: Path) -> Iterator[None]:
    """Say what SQLite says of a file."""
    try:
        yield
    except apsw.FullError as error:
        raise StoreFull(f"There is no room for a copy of {file}; nothing was changed.") from error
    except apsw.Error as error:
        raise SetupError(f"{file} cannot be used: {error}.") from error


def _copy(source: apsw.Connection, file: Path, draft: Path) -> None:
    with _opened(draft, writable=True) as target, _told(file):
        run_all(target, "PRAGMA synchronous = OFF")  # it is synced at the end
        run_all(source, "BEGIN; SELECT count(*) FROM sqlite_schema")
        with target.backup("main", source, "main") as copying:
            while not copying.done:
                copying.step(PAGES_A_STEP)
    with _opened(draft, writable=True) as target, _told(draft):
        run_all(target, _AS_ONE_FILE)


def _verify(draft: Path, source: Path) -> None:
    with _opened(draft) as connection, _told(source):
        found = [str(line) for (line,) in connection.execute("PRAGMA integrity_check")]
    if found != ["ok"]:
        said = "; ".join(found[:COMPLAINTS])
        raise SetupError(f"{source} is damaged, and was not copied: {said}.")


def _refuse_foreign(draft: Path, file: Path) -> None:
    """A backup of something else, or of a newer JobService."""
    found = check(draft)
    if found.version == 0:
        raise SetupError(f"{file} is no backup of a JobService: it has none of its tables.")
    if found.newer or found.changed:
        raise SetupError(found.complaints[0].replace(str(draft), str(file)))


# --- its place --------------------------------------------------------------------------------


def _refuse_to_replace(file: Path, *, force: bool) -> None:
    if file.exists() and not force:
        raise SetupError(f"There is a file {file} already. Choose another name, or say --force.")


def _place(draft: Path, file: Path, *, force: bool) -> None:
    """Sync a draft and give it its name."""
    try:
        _sync(draft)
        if not force:
            _refuse_to_replace(file, force=force)
        draft.replace(file)
        _sync(file.parent)
    except OSError as error:
        raise SetupError(f"{file} cannot be written: {error.strerror}.") from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _keep(path: Path) -> Path | None:
    """Give a database a second name, which it keeps when another takes its place."""
    if not path.exists():
        return None
    with contextlib.suppress(SetupError, apsw.Error):  # a damaged one is kept as it is
        connection = open_writer(path)
        with contextlib.closing(connection):
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    number = 1
    while True:
        kept = path.with_name(f"{path.name}.replaced-{number}")
        with contextlib.suppress(FileExistsError):
            kept.hardlink_to(path)
            break
        number += 1
    for suffix in ("-wal", "-shm"):
        side = Path(f"{path}{suffix}")
        if side.exists():
            side.replace(f"{kept}{suffix}")
    return kept
