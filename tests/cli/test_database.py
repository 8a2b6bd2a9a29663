"""`--database`: what the command line says about PostgreSQL."""

import asyncio
import json
import os
import subprocess

import asyncpg
import pytest

from jobservice.store.migrations import migrations
from jobservice.store.postgres.migrate import MIGRATIONS
from jobservice.testing.server import COMMAND
from tests.postgres import Databases

SETUP = 78
KNOWN = len(migrations(MIGRATIONS))


def call(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JOBSERVICE_")}
    return subprocess.run(
        [str(COMMAND), *words],
        env={**environment, **env},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_schema_of_a_database(postgres: Databases) -> None:
    url = asyncio.run(postgres.new_database())
    assert call("db", "current", "--database", url).stdout == f"{KNOWN}\n"
    assert call("db", "upgrade", "--json", "--database", url).stdout == '{"applied": []}\n'
    assert call("db", "current", JOBSERVICE_DATABASE=url).stdout == f"{KNOWN}\n"
    asyncio.run(postgres.drop(url))


@pytest.mark.parametrize(
    "command", [["serve"], ["db", "current"], ["db", "upgrade"], ["db", "check"]]
)
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://me:hidden@localhost/jobs", "holds a password"),
        ("postgresql:///jobs?password=hidden", "holds a password"),
        ("mysql://localhost/jobs", "postgresql://USER@HOST:5432/NAME"),
        ("postgresql://me@127.0.0.1:1/jobs", "postgresql://me@127.0.0.1:1/jobs cannot be used"),
    ],
)
def test_a_database_that_cannot_be_used(
    command: list[str], url: str, said: str, tmp_path: object
) -> None:
    ran = call(*command, "--data-dir", str(tmp_path), "--database", url)
    assert ran.returncode == SETUP
    assert said in ran.stderr
    assert "hidden" not in ran.stderr + ran.stdout
    assert "Traceback" not in ran.stderr


def test_a_password_in_the_environment_is_not_told(tmp_path: object) -> None:
    url = "postgresql://me:hidden@127.0.0.1:1/jobs"
    ran = call("serve", "--data-dir", str(tmp_path), JOBSERVICE_DATABASE=url)
    assert ran.returncode == SETUP
    assert "hidden" not in ran.stderr + ran.stdout


def test_a_check_of_the_schema(postgres: Databases, tmp_path: object) -> None:
    url = asyncio.run(postgres.new_database())
    ran = call("db", "check", "--database", url)
    assert (ran.returncode, ran.stdout.count("as it should be")) == (0, 1), ran.stderr
    asyncio.run(run_sql(url, "UPDATE schema_migrations SET checksum = 'other' WHERE version = 2"))
    asyncio.run(run_sql(url, f"DELETE FROM schema_migrations WHERE version = {KNOWN}"))
    ran = call("db", "check", "--json", "--database", url)
    assert ran.returncode == SETUP
    assert json.loads(ran.stdout) == {
        "ok": False,
        "version": KNOWN - 1,
        "known": KNOWN,
        "pending": [KNOWN],
        "changed": [2],
        "newer": [],
    }
    assert "checksum" in ran.stderr
    assert "db upgrade" in ran.stderr
    asyncio.run(postgres.drop(url))
    ran = call("db", "check", "--data-dir", f"{tmp_path}/none")
    assert ran.returncode == SETUP
    assert "db upgrade" in ran.stderr
    assert not os.path.exists(f"{tmp_path}/none")


def test_the_printed_sql_makes_the_schema(postgres: Databases) -> None:
    printed = call("db", "sql", "--database", "postgresql://nobody@127.0.0.1:1/none")
    assert printed.returncode == 0, printed.stderr
    url = asyncio.run(postgres.new_database())
    asyncio.run(run_sql(url, "DROP SCHEMA public CASCADE; CREATE SCHEMA public"))
    asyncio.run(run_sql(url, printed.stdout))
    assert call("db", "check", "--database", url).returncode == 0
    asyncio.run(postgres.drop(url))
    last = call("db", "sql", "--from", str(KNOWN - 1), "--database", url).stdout
    assert last.count("INSERT INTO schema_migrations") == 1
    assert "WITHOUT ROWID" in call("db", "sql", "--to", "1").stdout
    refused = call("db", "sql", "--from", str(KNOWN + 1))
    assert (refused.returncode, refused.stdout) == (SETUP, "")


@pytest.mark.parametrize(("command", "tool"), [("backup", "pg_dump"), ("restore", "pg_restore")])
def test_a_postgresql_database_is_backed_up_by_its_own_tools(
    command: str, tool: str, tmp_path: object
) -> None:
    url = "postgresql://me:hidden@127.0.0.1:1/jobs"
    ran = call("db", command, f"{tmp_path}/file", JOBSERVICE_DATABASE=url)
    assert ran.returncode == SETUP
    assert f"use {tool}" in ran.stderr
    assert "hidden" not in ran.stderr
    assert not os.path.exists(f"{tmp_path}/file")


async def run_sql(url: str, text: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(text)
    finally:
        await connection.close()
