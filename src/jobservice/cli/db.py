"""`jobservice db`: the schema of the database, and the commands about all of it."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import click

from jobservice.cli.backup import backup_command, restore_command
from jobservice.cli.copying import copy_command
from jobservice.cli.output import say
from jobservice.cli.settings import DATA_DIR, DATABASE, settings
from jobservice.config import Settings
from jobservice.errors import SetupError
from jobservice.store.migrations import Migration, Review
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


@db_command.command()
@DATA_DIR
@DATABASE
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def check(
    context: click.Context, data_dir: Path | None, database: str | None, *, as_json: bool
) -> None:
    """Check that the schema is the one that this program needs.

    Exit with 78 if not.

    It is, when every migration that this program knows was applied, each with the text that it has
    here, and none that it does not know. The database is only read.
    """
    found = _check(settings(data_dir, database=database))
    if as_json:
        click.echo(json.dumps(_review_as_json(found)))
    elif not found.complaints:
        click.echo(f"{found.database}: version {found.version}, as it should be.")
    for complaint in found.complaints:
        say(complaint)
    if found.complaints:
        context.exit(SetupError.exit_code)


@db_command.command()
@DATA_DIR
@DATABASE
@click.option(
    "--from",
    "begin",
    type=int,
    default=0,
    metavar="N",
    help="The version that the database has, as `db current` says [0: an empty database].",
)
@click.option("--to", "end", type=int, metavar="N", help="The version to end with [the newest].")
def sql(data_dir: Path | None, database: str | None, begin: int, end: int | None) -> None:
    """Print the SQL of the migrations, and run nothing.

    It is all that `db upgrade` would run, with the record of each migration: run by hand, it brings
    the schema up to date. With --database for PostgreSQL, else for SQLite; nothing is connected to.
    """
    chosen = settings(data_dir, database=database)
    click.echo((sqlite if chosen.database is None else postgres).sql(begin, end), nl=False)


db_command.add_command(backup_command)
db_command.add_command(restore_command)
db_command.add_command(copy_command)


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


def _check(chosen: Settings) -> Review:
    if chosen.database is not None:
        return asyncio.run(postgres.check(chosen.database.get_secret_value()))
    return sqlite.check(chosen.database_path)


def _review_as_json(found: Review) -> dict[str, object]:
    return {
        "ok": not found.complaints,
        "version": found.version,
        "known": found.known,
        "pending": [each.version for each in found.pending],
        "changed": [each.version for each in found.changed],
        "newer": list(found.newer),
    }
