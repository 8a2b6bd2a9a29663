"""`jobservice db copy`: a whole store, moved to the other kind."""

import asyncio
import contextlib
import dataclasses
import json
import os
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import click
from click.core import ParameterSource

from jobservice.cli.output import say
from jobservice.cli.settings import refuse_password
from jobservice.errors import SetupError
from jobservice.server import instance
from jobservice.store.copying import Copied, copy, tables_of
from jobservice.store.migrations import Review
from jobservice.store.postgres import migrate as postgres
from jobservice.store.postgres.tables import PostgresTables
from jobservice.store.sqlite import migrate as sqlite
from jobservice.store.sqlite.tables import SqliteTables

_FILE_NAME = "jobservice.db"
"""The file of a data directory, which a service may have open."""


@click.command("copy")
@click.option(
    "--from",
    "source",
    required=True,
    envvar="JOBSERVICE_COPY_FROM",
    metavar="ADDRESS",
    help="The store that is read: sqlite:PATH or postgresql://USER@HOST/NAME. Default: "
    "JOBSERVICE_COPY_FROM.",
)
@click.option(
    "--to",
    "target",
    required=True,
    envvar="JOBSERVICE_COPY_TO",
    metavar="ADDRESS",
    help="The empty store that is written, of the other kind. Default: JOBSERVICE_COPY_TO.",
)
@click.option("--force", is_flag=True, help="Read a PostgreSQL database also while it is in use.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def copy_command(
    context: click.Context, source: str, target: str, *, force: bool, as_json: bool
) -> None:
    r"""Move all jobs from SQLite to PostgreSQL, or back.

    Everything is copied in one transaction and compared before it is committed; the source stays as it
    is. The services of both must be stopped. The output of jobs stays in the data directory.

    \b
    Examples:
      jobservice db copy --from sqlite:/var/lib/jobservice/jobservice.db \
          --to postgresql://jobservice@db.example/jobs
    """
    for option, address in (("source", source), ("target", target)):
        name = "FROM" if option == "source" else "TO"
        where, variable = f"--{name.lower()}", f"JOBSERVICE_COPY_{name}"
        if context.get_parameter_source(option) is ParameterSource.COMMANDLINE:
            refuse_password(address, where, variable)
        else:
            where = variable
        _refuse_no_address(address, where)
    os.umask(0o077)
    copied = asyncio.run(_copy(source, target, force=force))
    if as_json:
        click.echo(json.dumps({"tables": [dataclasses.asdict(each) for each in copied]}))
    say(f"Copied and compared {len(copied)} tables.")


async def _copy(source: str, target: str, *, force: bool) -> Sequence[Copied]:
    from_file, to_file = _path_of(source), _path_of(target)
    async with contextlib.AsyncExitStack() as stack:
        if from_file is not None and to_file is None:
            file = stack.enter_context(_file_to_read(from_file))
            database = await stack.enter_async_context(_database_to_write(target))
            tables = tables_of(await file.shapes(), await database.shapes())
            return await copy(file, database, tables, _tell)
        if from_file is None and to_file is not None:
            database = await stack.enter_async_context(_database_to_read(source, force=force))
            file = stack.enter_context(_file_to_write(to_file))
            tables = tables_of(await file.shapes(), await database.shapes())
            return await copy(database, file, tables, _tell)
    raise SetupError(
        "One of --from and --to must be sqlite:PATH, and the other postgresql://USER@HOST/NAME. A "
        "SQLite file is copied by `jobservice db backup`, and a PostgreSQL database by pg_dump."
    )


def _tell(copied: Copied) -> None:
    say(f"{copied.table}: {copied.rows} rows")


def _path_of(address: str) -> Path | None:
    """The file of a SQLite address; None for one of PostgreSQL."""
    scheme, _, rest = address.partition(":")
    return Path(rest).absolute() if scheme == "sqlite" else None


def _refuse_no_address(address: str, where: str) -> None:
    """Refuse what is not the address of a store, and show it unless a password may be in it.

    Raises:
        SetupError: it is none.
    """
    scheme, _, rest = address.partition(":")
    if not (scheme == "sqlite" and rest) and not (
        scheme in {"postgresql", "postgres"} and rest.startswith("//")
    ):
        plain = re.fullmatch(r"([a-z]+://)?[\w./-]+", address) is not None
        raise SetupError(
            f"{where}: {repr(address) if plain else 'what was given'} is not the address of a store; "
            "give sqlite:PATH or postgresql://USER@HOST/NAME."
        )


def _locked(path: Path) -> contextlib.AbstractContextManager[object]:
    """No service may have the file. Only the one in a data directory can be somebody's."""
    if path.name != _FILE_NAME:
        return contextlib.nullcontext()
    return instance.locked(path.parent)


@contextlib.contextmanager
def _file_to_read(path: Path) -> Iterator[SqliteTables]:
    if not path.is_file():
        raise SetupError(f"There is no file {path}.")
    with _locked(path):
        _refuse_other_version(sqlite.check(path))
        with contextlib.closing(SqliteTables(path, writable=False)) as file:
            yield file


@contextlib.contextmanager
def _file_to_write(path: Path) -> Iterator[SqliteTables]:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"{path.parent} cannot be made: {error.strerror}.") from error
    with _locked(path):
        sqlite.upgrade(path)
        with contextlib.closing(SqliteTables(path, writable=True)) as file:
            yield file


@contextlib.asynccontextmanager
async def _database_to_read(url: str, *, force: bool) -> AsyncIterator[PostgresTables]:
    _refuse_other_version(await postgres.check(url))
    database = await PostgresTables.open(url)
    async with contextlib.aclosing(database):
        if not force:
            await database.refuse_in_use()
        yield database


@contextlib.asynccontextmanager
async def _database_to_write(url: str) -> AsyncIterator[PostgresTables]:
    await postgres.upgrade(url)
    async with contextlib.aclosing(await PostgresTables.open(url)) as database:
        yield database


def _refuse_other_version(found: Review) -> None:
    """The source is not changed, so its schema must be the newest already."""
    if found.complaints:
        raise SetupError(" ".join(found.complaints))
