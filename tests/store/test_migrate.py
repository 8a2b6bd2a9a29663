"""Migrations: applied once, in order, and never against a schema that is not theirs."""

import dataclasses
from pathlib import Path

import apsw
import pytest

from jobservice.errors import SetupError
from jobservice.model.lifecycle import ACTIVE, FINAL, State
from jobservice.model.spec import Command, JobSpec
from jobservice.store.migrations import migrations
from jobservice.store.port import JobKey, JobQuery, Order
from jobservice.store.sqlite.connect import check_version, open_reader, open_writer
from jobservice.store.sqlite.migrate import (
    MIGRATIONS,
    check,
    current,
    sql,
    upgrade,
    upgrade_connection,
)
from jobservice.store.sqlite.store import SqliteStore

KNOWN = len(migrations(MIGRATIONS))


def tables(path: Path) -> set[str]:
    connection = apsw.Connection(str(path))
    found = {str(name) for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    connection.close()
    return found


def folder_with(tmp_path: Path, **files: str) -> Path:
    folder = tmp_path / "migrations"
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name.removeprefix('m')}.sql").write_text(text)
    return folder


def test_a_new_file_is_brought_up_to_date_once(path: Path) -> None:
    assert current(path) == 0
    assert not path.exists()
    assert [each.version for each in upgrade(path)] == list(range(1, KNOWN + 1))
    assert current(path) == KNOWN
    assert upgrade(path) == []
    assert {"jobs", "attempts", "events"} <= tables(path)


def test_a_newer_schema_is_refused_naming_both_versions(path: Path) -> None:
    upgrade(path)
    connection = apsw.Connection(str(path))
    connection.execute("INSERT INTO schema_migrations VALUES (?, 'later', 'x')", (KNOWN + 41,))
    connection.close()
    with pytest.raises(SetupError, match=rf"version {KNOWN + 41}.* up to {KNOWN}\.") as refused:
        upgrade(path)
    assert str(path) in refused.value.message


async def test_a_store_does_not_open_a_newer_schema(path: Path) -> None:
    upgrade(path)
    connection = apsw.Connection(str(path))
    connection.execute("INSERT INTO schema_migrations VALUES (?, 'later', 'x')", (KNOWN + 1,))
    connection.close()
    with pytest.raises(SetupError):
        await SqliteStore.open(path)


def test_a_changed_file_is_refused(path: Path, tmp_path: Path) -> None:
    folder = folder_with(tmp_path, m0001_a="CREATE TABLE a (x INTEGER)")
    upgrade(path, folder)
    folder_with(tmp_path, m0001_a="CREATE TABLE a (x INTEGER, y INTEGER)")
    with pytest.raises(SetupError, match=r"0001 \(a\).*checksum"):
        upgrade(path, folder)


def test_later_files_are_applied_to_an_older_schema(path: Path, tmp_path: Path) -> None:
    upgrade(path, folder_with(tmp_path, m0001_a="CREATE TABLE a (x INTEGER)"))
    folder = folder_with(tmp_path, m0002_b="CREATE TABLE b (x INTEGER)")
    assert [each.name for each in upgrade(path, folder)] == ["b"]
    assert current(path) == 2


def test_a_migration_that_fails_is_undone_whole(path: Path, tmp_path: Path) -> None:
    folder = folder_with(
        tmp_path,
        m0001_a="CREATE TABLE a (x INTEGER)",
        m0002_b="CREATE TABLE b (x INTEGER); INSERT INTO nowhere VALUES (1)",
    )
    with pytest.raises(SetupError, match=r"0002 \(b\).*nowhere"):
        upgrade(path, folder)
    assert current(path) == 1
    assert "b" not in tables(path)
    folder_with(tmp_path, m0002_b="CREATE TABLE b (x INTEGER)")
    assert len(upgrade(path, folder)) == 1


def test_every_statement_of_a_file_is_run(path: Path, tmp_path: Path) -> None:
    sql = "CREATE TABLE a (x INTEGER); SELECT 1; PRAGMA user_version; CREATE TABLE b (x INTEGER)"
    upgrade(path, folder_with(tmp_path, m0001_a=sql))
    assert {"a", "b"} <= tables(path)


def test_one_that_another_process_applied_meanwhile_is_passed_over(path: Path) -> None:
    known = migrations(MIGRATIONS)
    slow = open_writer(path)
    upgrade(path)
    fresh = [dataclasses.replace(each) for each in known]
    assert upgrade_connection(slow, path, fresh) == []
    slow.close()


@pytest.mark.parametrize("name", ["m0002_a", "m1_a", "m0001-a", "m0001_a b"])
def test_files_are_numbered_through(tmp_path: Path, name: str) -> None:
    with pytest.raises(SetupError):
        migrations(folder_with(tmp_path, **{name: "SELECT 1"}))


def test_the_files_of_the_store_are_in_the_package() -> None:
    assert MIGRATIONS.is_dir()
    assert KNOWN >= 1


def test_connections_are_set_up_as_they_must_be(path: Path) -> None:
    writer, reader = open_writer(path), open_reader(path)

    def setting(connection: apsw.Connection, name: str) -> object:
        return connection.execute(f"PRAGMA {name}").get

    assert setting(writer, "journal_mode") == setting(reader, "journal_mode") == "wal"
    assert setting(writer, "synchronous") == 2
    assert setting(writer, "cache_size") == -65536
    assert setting(writer, "journal_size_limit") == 1 << 26
    assert setting(writer, "wal_autocheckpoint") == setting(reader, "wal_autocheckpoint") == 0
    assert setting(reader, "query_only") == 1
    with pytest.raises(apsw.ReadOnlyError):
        reader.execute("CREATE TABLE t (x INTEGER)")
    reader.close()
    writer.close()


@pytest.mark.parametrize(
    ("version", "refused"),
    [("3.40.1", True), ("3.51.2", True), ("3.51.3", False), ("3.54.1", False), ("4.0", False)],
)
def test_a_library_that_loses_commits_is_refused(version: str, refused: bool) -> None:
    if refused:
        with pytest.raises(SetupError, match=version):
            check_version(version)
    else:
        check_version(version)


@pytest.mark.parametrize("what", ["text", "folder", "missing folder"])
def test_what_is_no_database_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "thing"
    if what == "text":
        path.write_text("this is no database, and it is long enough to be seen as none" * 10)
    elif what == "folder":
        path.mkdir()
    else:
        path = tmp_path / "nowhere" / "thing"
    with pytest.raises(SetupError, match="thing"):
        upgrade(path)


async def test_what_was_kept_by_the_first_schema_can_be_told(path: Path) -> None:
    """The first edit kept the editable columns of then; later ones are unset."""
    connection = open_writer(path)
    upgrade_connection(connection, path, migrations(MIGRATIONS)[:1])
    connection.execute(
        "INSERT INTO jobs (tenant, job_id, state, revision, last_position, attempt_count, epoch,"
        " claim_key, queued_us, edit_version, created_us, updated_us, priority, stop_grace_us, retry,"
        " queue, name, labels) VALUES ('t', 'j', 4, 2, 2, 0, 0, 1, 1, 2, 1, 1, 0, 10000000,"
        " '[1,1000000,2.0,600000000,5]', 'default', 'new', '{}')"
    )
    connection.execute(
        "INSERT INTO job_specs (tenant, job_id, cluster, output_limit_bytes, work_dir, submitted,"
        """ argv, env) VALUES ('t', 'j', 'local', 1073741824, '', '[0,null,10000000,"""
        """"[1,1000000,2.0,600000000,5]","default","old","{}"]', '["true"]', '{}')"""
    )
    connection.close()
    store = await SqliteStore.open(path)
    key = JobKey("t", "j")
    found = await store.find_job(key)
    assert found is not None
    assert found.spec == JobSpec(Command(("true",)), name="new")
    assert await store.find_submitted([key]) == [JobSpec(Command(("true",)), name="old")]
    await store.close()


async def test_jobs_of_before_are_in_the_indexes_of_lists(path: Path) -> None:
    """Up to 0020 one index had all jobs; then each is in that of the active or of the final ones."""
    connection = open_writer(path)
    upgrade_connection(connection, path, migrations(MIGRATIONS)[:20])
    connection.executemany(
        "INSERT INTO jobs (tenant, job_id, state, ended_us, created_us, revision, last_position,"
        " attempt_count, epoch, claim_key, queued_us, edit_version, updated_us, priority, stop_grace_us,"
        " retry, queue, name, labels) VALUES ('t', ?, ?, ?, ?, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1,"
        " '[1,1000000,2.0,600000000,5]', 'default', 'n', '{}')",
        [(f"j{n}", 4 if n % 2 else 7, None if n % 2 else 9, n) for n in range(1, 7)],
    )
    connection.execute(
        "INSERT INTO job_specs (tenant, job_id, cluster, output_limit_bytes, work_dir, argv, env)"
        """ SELECT tenant, job_id, 'local', 1, '', '["true"]', '{}' FROM jobs"""
    )
    connection.close()
    store = await SqliteStore.open(path)
    for states, expected in ((frozenset(State), "123456"), (FINAL, "246"), (ACTIVE, "135")):
        query = JobQuery("t", Order.CREATED_ASC, states)
        page = await store.list_jobs(query, limit=9, cursor=None)
        assert [each.job_id for each in page.jobs] == [f"j{n}" for n in expected]
    await store.close()


def test_a_check_says_what_is_pending_changed_or_newer_and_writes_nothing(
    path: Path, tmp_path: Path
) -> None:
    folder = folder_with(tmp_path, m0001_a="CREATE TABLE a (x INTEGER)")
    assert [each.name for each in check(path, folder).pending] == ["a"]
    assert not path.exists()
    upgrade(path, folder)
    assert check(path, folder).complaints == []
    folder_with(
        tmp_path, m0001_a="CREATE TABLE a (y INTEGER)", m0002_b="CREATE TABLE b (x INTEGER)"
    )
    found = check(path, folder)
    assert [each.name for each in found.changed] == ["a"]
    assert [each.name for each in found.pending] == ["b"]
    assert any("0001 (a)" in each and "checksum" in each for each in found.complaints)
    assert any("0002 (b)" in each and "db upgrade" in each for each in found.complaints)
    assert current(path) == 1
    connection = apsw.Connection(str(path))
    connection.execute("INSERT INTO schema_migrations VALUES (7, 'later', 'x')")
    connection.close()
    assert check(path, folder).newer == (7,)


def test_a_check_of_what_is_no_database(path: Path) -> None:
    path.write_bytes(b"something else, and long enough to be looked at" * 100)
    with pytest.raises(SetupError, match=str(path)):
        check(path)


@pytest.mark.parametrize("begin", [0, 5])
def test_the_printed_sql_does_what_an_upgrade_does(path: Path, tmp_path: Path, begin: int) -> None:
    first = {f"m{each.version:04}_{each.name}": each.sql for each in migrations(MIGRATIONS)[:begin]}
    upgrade(path, folder_with(tmp_path, **first))
    connection = apsw.Connection(str(path))
    for _ in connection.execute(sql(begin)):
        pass
    connection.close()
    assert check(path).complaints == []
    fresh = tmp_path / "fresh.db"
    upgrade(fresh)
    assert schema(path) == schema(fresh)


def schema(path: Path) -> list[tuple[object, ...]]:
    connection = apsw.Connection(str(path))
    found = list(
        connection.execute("SELECT name, trim(sql, char(10)) FROM sqlite_schema ORDER BY name")
    )
    connection.close()
    return found


@pytest.mark.parametrize(("begin", "end"), [(-1, None), (3, 2), (0, KNOWN + 1)])
def test_versions_that_there_are_none_of(begin: int, end: int | None) -> None:
    with pytest.raises(SetupError, match=f"to {KNOWN}, and --from"):
        sql(begin, end)
