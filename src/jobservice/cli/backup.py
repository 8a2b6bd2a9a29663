"""`jobservice db backup` and `db restore`: the SQLite file, kept and brought back."""

import json
from pathlib import Path

import click

from jobservice.cli.output import say
from jobservice.cli.settings import DATA_DIR, DATABASE, settings
from jobservice.config import Settings
from jobservice.errors import SetupError
from jobservice.server import instance
from jobservice.store.postgres.connect import redacted
from jobservice.store.sqlite import backup as files

_FILE = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))


@click.command("backup")
@_FILE
@DATA_DIR
@DATABASE
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def backup_command(
    file: Path, data_dir: Path | None, database: str | None, *, force: bool, as_json: bool
) -> None:
    """Copy the database into FILE, at any time.

    FILE holds all jobs as they are at one instant, without their output, and is checked before it gets
    its name. A PostgreSQL database is backed up by its own tools, such as pg_dump.
    """
    path = _file_of(settings(data_dir, database=database), "backed up", "pg_dump --format=custom")
    size = files.backup(path, file, force=force)
    if as_json:
        click.echo(json.dumps({"file": str(file), "bytes": size}))
    say(f"Wrote {file}, {size} bytes, and checked it.")


@click.command("restore")
@_FILE
@DATA_DIR
@DATABASE
@click.option(
    "--force",
    is_flag=True,
    help="Also where there is a database: it is kept beside the new one, under a name that is told.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def restore_command(
    file: Path, data_dir: Path | None, database: str | None, *, force: bool, as_json: bool
) -> None:
    """Bring the database back out of FILE.

    The service must be stopped.
    Jobs that were made since are not known any more, and those that ended since run again. Attempts that
    ran then are taken over at the start where they still run, end as the runner says, or are lost.
    """
    chosen = settings(data_dir, database=database)
    path = _file_of(chosen, "restored", "pg_restore").absolute()
    instance.prepare(path.parent, chosen.socket_path.absolute())
    with instance.locked(path.parent):
        kept = files.restore(file, path, force=force)
    if as_json:
        click.echo(json.dumps({"database": str(path), "kept": kept and str(kept)}))
    say(f"Restored {path}.")
    if kept is not None:
        say(f"The database that was there is now {kept}.")


def _file_of(chosen: Settings, what: str, tool: str) -> Path:
    """The SQLite file.

    Raises:
        SetupError: the jobs are in PostgreSQL.
    """
    if chosen.database is not None:
        url = redacted(chosen.database.get_secret_value())
        raise SetupError(
            f"The jobs are in {url}, and a PostgreSQL database is {what} by its own tools: use "
            f"{tool}; see docs/howto/backup.md."
        )
    return chosen.database_path
