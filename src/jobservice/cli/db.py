"""`jobservice db`: the schema of the database."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import click

from jobservice.cli.output import say
from jobservice.cli.settings import DATA_DIR, DATABASE, settings
from jobservice.config import Settings
from jobservice.store.migrations import Migration
from jobservice.store.postgres import migrate as postgres
from jobservice.store.sqlite import migrate as sqlite


@click.group("db")
def db_command() -> None:
    """Look after the database."""


@db_command.command()
@DATA_DIR
@DATABASE
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def upgrade(data_dir: Path | None, database: str | None, *, as_json: bool) -> None:
    """Bring the schema up to date; `serve` does so by itself.

    The directory and the file are made where there are none; a PostgreSQL database must exist.
    """
    chosen = settings(data_dir, database=database)
    applied = _upgrade(chosen)
    if as_json:
        click.echo(json.dumps({"applied": [each.version for each in applied]}))
        return
    for each in applied:
        say(f"Applied {each.version:04} ({each.name}).")
    click.echo(_current(chosen))


@db_command.command()
@DATA_DIR
@DATABASE
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def current(data_dir: Path | None, database: str | None, *, as_json: bool) -> None:
    """Print the version of the schema; 0 where there is none yet."""
    version = _current(settings(data_dir, database=database))
    click.echo(json.dumps({"version": version}) if as_json else version)


def _upgrade(chosen: Settings) -> Sequence[Migration]:
    if chosen.database is not None:
        return asyncio.run(postgres.upgrade(chosen.database.get_secret_value()))
    path = chosen.database_path
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return sqlite.upgrade(path)


def _current(chosen: Settings) -> int:
    if chosen.database is not None:
        return asyncio.run(postgres.current(chosen.database.get_secret_value()))
    return sqlite.current(chosen.database_path)
