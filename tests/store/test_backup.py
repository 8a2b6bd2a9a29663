"""Backups of the SQLite file: of one instant, whole, never over something else; and their return."""

import asyncio
import fcntl
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from jobservice.errors import ResumeTokenExpired, SetupError
from jobservice.model.lifecycle import State
from jobservice.model.spec import Command
from jobservice.store.port import JobKey
from jobservice.store.postgres.connect import connect
from jobservice.store.postgres.store import PostgresStore
from jobservice.store.sqlite import backup as module
from jobservice.store.sqlite.backup import backup, restore
from jobservice.store.sqlite.migrate import upgrade
from jobservice.store.sqlite.store import SqliteStore
from tests.arch import tree
from tests.conformance.values import NOW, TENANT, insert_some, run, settle
from tests.postgres import shared_postgres


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "backups" / "jobs.backup"


@pytest.fixture(autouse=True)
def folder(file: Path) -> Path:
    file.parent.mkdir()
    return file.parent


def count(file: Path) -> int:
    connection = apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        found: int = connection.execute("SELECT count(*) FROM jobs").get
    finally:
        connection.close()
    return found


def look_at(file: Path) -> os.stat_result:
    assert [each.name for each in file.parent.iterdir()] == [file.name]
    return file.stat()


async def test_a_backup_is_of_one_instant_while_others_write(
    store: SqliteStore, path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = Command(("true",), stdin=bytes(100_000))
    monkeypatch.setattr(module, "PAGES_A_STEP", 1)
    before = written = 0
    while written < 50:  # until copying takes longer than some commits
        before += written + 300
        await insert_some(store, 300, command=large)
        written = 0
        copying = asyncio.create_task(asyncio.to_thread(backup, path, file, force=True))
        while not copying.done():
            await insert_some(store, 10)  # it neither waits nor makes the copy begin again
            written += 10
        assert await copying == look_at(file).st_size
    assert before <= count(file) <= before + written
    assert count(file) % 10 == 0
    assert stat.S_IMODE(look_at(file).st_mode) == 0o600


def test_a_backup_replaces_nothing_unless_told_to(path: Path, file: Path) -> None:
    upgrade(path)
    file.write_text("precious")
    with pytest.raises(SetupError, match="--force"):
        backup(path, file, force=False)
    assert file.read_text() == "precious"
    backup(path, file, force=True)
    assert count(file) == 0


def spoil(file: Path) -> None:
    """Damage an index, as a disk might."""
    connection = apsw.Connection(str(file))
    page: int = connection.execute(
        "SELECT rootpage FROM sqlite_schema WHERE name = 'jobs_active'"
    ).get
    size: int = connection.execute("PRAGMA page_size").get
    connection.close()
    content = bytearray(file.read_bytes())
    content[(page - 1) * size + 100 : page * size] = bytes(size - 100)
    file.write_bytes(content)


async def fill(path: Path) -> None:
    store = await SqliteStore.open(path)
    await insert_some(store, 20)
    await store.close()


def test_a_damaged_database_gives_no_backup(path: Path, file: Path) -> None:
    asyncio.run(fill(path))
    spoil(path)
    with pytest.raises(SetupError, match=f"{path} is damaged"):
        backup(path, file, force=False)
    assert list(file.parent.iterdir()) == []


def test_two_backups_into_one_file_do_not_mix_and_a_killed_one_leaves_nothing(
    path: Path, file: Path
) -> None:
    upgrade(path)
    draft, journal = (
        file.with_name(f".{file.name}.draft"),
        file.with_name(f".{file.name}.draft-journal"),
    )
    draft.write_text("what a killed process has left")
    journal.write_text("likewise")
    with draft.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(SetupError, match=f"Another process writes {file}"):
            backup(path, file, force=False)
        assert journal.exists()
    backup(path, file, force=False)
    look_at(file)
    assert count(file) == 0


def test_there_must_be_something_to_back_up(path: Path, file: Path) -> None:
    with pytest.raises(SetupError, match="no database"):
        backup(path, file, force=False)
    assert not path.exists()


def nothing(file: Path) -> None:
    del file


def text(file: Path) -> None:
    file.write_text("no database at all, but something that is long enough" * 100)


def foreign(file: Path) -> None:
    apsw.Connection(str(file)).execute("CREATE TABLE a (x)")


@pytest.mark.parametrize(
    ("make", "said"),
    [(nothing, "no file"), (text, "cannot be used"), (foreign, "is no backup of a JobService")],
)
def test_only_a_backup_is_restored(
    path: Path, file: Path, make: Callable[[Path], None], said: str
) -> None:
    make(file)
    with pytest.raises(SetupError, match=f"{file}.*{said}|{said}.*{file}"):
        restore(file, path, force=False)
    assert list(path.parent.iterdir()) == [file.parent]


async def test_a_backup_of_a_newer_version_is_refused(
    store: SqliteStore, path: Path, file: Path
) -> None:
    backup(path, file, force=False)
    apsw.Connection(str(file)).execute("INSERT INTO schema_migrations VALUES (99, 'later', 'x')")
    with pytest.raises(SetupError, match=f"{file} is version 99"):
        restore(file, file.with_name("new.db"), force=False)


async def test_a_restored_database_is_that_of_the_backup_and_the_old_one_is_kept(
    path: Path, file: Path
) -> None:
    store = await SqliteStore.open(path)
    first = await insert_some(store, 3)
    backup(path, file, force=False)
    token = await store.head_position()
    [late] = await insert_some(store, 1)
    later = await store.head_position()
    await store.close()
    with pytest.raises(SetupError, match="--force"):
        restore(file, path, force=False)
    kept = restore(file, path, force=True)
    assert kept == path.with_name("jobservice.db.replaced-1")
    assert count(kept) == 4
    assert restore(file, path, force=True) == path.with_name("jobservice.db.replaced-2")
    restored = await SqliteStore.open(path)
    for each in first:
        job = await restored.find_job(JobKey(TENANT, each.job_id))
        assert job is not None
        assert job.spec == each.spec
    assert await restored.find_job(JobKey(TENANT, late.job_id)) is None
    await insert_some(restored, 5)
    for position in (token, later):
        with pytest.raises(ResumeTokenExpired):
            await restored.list_changes(position, limit=10)
    await restored.close()


async def test_the_leases_of_a_backup_are_over(path: Path, file: Path) -> None:
    store = await SqliteStore.open(path)
    [fence] = await run(store, 1)
    backup(path, file, force=False)
    assert not (await store.list_live("w1"))[0].is_restored
    await store.close()
    restore(file, path, force=True)
    restored = await SqliteStore.open(path)
    [live] = await restored.list_live("w1")
    assert (live.fence, live.is_restored) == (fence, True)
    job = await restored.find_job(JobKey(fence.tenant, fence.job_id))
    assert job is not None
    assert job.state is State.RUNNING
    assert await restored.expire_leases(settle, now=NOW, limit=10) == [fence]  # as on another host
    await restored.close()


async def test_what_the_document_says_to_do_after_a_restore_of_postgresql() -> None:
    text = (tree.ROOT / "docs" / "howto" / "backup.md").read_text()
    [statements] = re.findall(r"```sql\n(.+?)```", text, re.DOTALL)
    url = await shared_postgres().lend()
    store = await PostgresStore.open(url)
    [fence] = await run(store, 1)
    before = await store.head_position()
    await store.close()
    connection = await connect(url, 30)
    await connection.execute(statements)
    await connection.close()
    store = await PostgresStore.open(url)
    assert [(each.fence, each.is_restored) for each in await store.list_live("w1")] == [
        (fence, True)
    ]
    await insert_some(store, 3)
    with pytest.raises(ResumeTokenExpired):
        await store.list_changes(before, limit=10)
    await store.close()
    await shared_postgres().take_back(url)
