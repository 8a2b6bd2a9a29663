"""`--database`: what the command line says about PostgreSQL."""

import asyncio
import os
import subprocess

import pytest

from jobservice.store.migrations import migrations
from jobservice.store.postgres.migrate import MIGRATIONS
from jobservice.testing.server import COMMAND
from tests.postgres import Postgres

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


def test_the_schema_of_a_database(postgres: Postgres) -> None:
    url = asyncio.run(postgres.new_database())
    assert call("db", "current", "--database", url).stdout == f"{KNOWN}\n"
    assert call("db", "upgrade", "--json", "--database", url).stdout == '{"applied": []}\n'
    assert call("db", "current", JOBSERVICE_DATABASE=url).stdout == f"{KNOWN}\n"
    asyncio.run(postgres.drop(url))


@pytest.mark.parametrize("command", [["serve"], ["db", "current"], ["db", "upgrade"]])
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
