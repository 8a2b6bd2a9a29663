"""`jobservice db`: the schema of the database."""

import json
from pathlib import Path

import click

from jobservice.cli.output import say
from jobservice.cli.settings import DATA_DIR, settings
from jobservice.store.sqlite import migrate


@click.group("db")
def db_command() -> None:
    """Look after the database."""


@db_command.command()
@DATA_DIR
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def upgrade(data_dir: Path | None, *, as_json: bool) -> None:
    """Bring the schema up to date; `serve` does so by itself.

    The directory and the database are made where there are none.
    """
    path = settings(data_dir).database_path
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    applied = migrate.upgrade(path)
    if as_json:
        click.echo(json.dumps({"applied": [each.version for each in applied]}))
        return
    for each in applied:
        say(f"Applied {each.version:04} ({each.name}).")
    click.echo(migrate.current(path))


@db_command.command()
@DATA_DIR
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def current(data_dir: Path | None, *, as_json: bool) -> None:
    """Print the version of the schema; 0 where there is no database yet."""
    version = migrate.current(settings(data_dir).database_path)
    click.echo(json.dumps({"version": version}) if as_json else version)
