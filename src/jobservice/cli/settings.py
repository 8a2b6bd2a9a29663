"""The settings of the service, out of options, the environment and defaults."""

import contextlib
import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import ValidationError

from jobservice.client.address import default_data_dir
from jobservice.config import HostSettings, Settings
from jobservice.errors import SetupError

DATA_DIR = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="The directory of the database and the socket. Default: JOBSERVICE_DATA_DIR, else "
    "jobservice below XDG_DATA_HOME, else ~/.local/share/jobservice.",
)
DATABASE = click.option(
    "--database",
    metavar="URL",
    help="Keep the jobs in this PostgreSQL database: postgresql://USER@HOST/NAME. Default: "
    "JOBSERVICE_DATABASE, else jobservice.db in the data directory.",
)


AnySettings = TypeVar("AnySettings", bound=HostSettings)
Command = TypeVar("Command", bound=Callable[..., Any])
_OF_A_HOST = (
    click.option("--slots", type=int, metavar="N", help="How many attempts run at once [2]."),
    click.option(
        "--labels", metavar="K=V,…", help="What this host is, for jobs that ask for labels."
    ),
    click.option(
        "--resources",
        metavar="NAME=N,…",
        help="What jobs may take of it: cpu=8,memory=32GiB,gpu=2 [its processors and memory].",
    ),
    click.option(
        "--containment",
        type=click.Choice(["auto", "cgroup", "subreaper"]),
        help="How the process tree of an attempt is held together [auto].",
    ),
    click.option("--stop-jobs", is_flag=True, default=None, help="On shutdown also stop the jobs."),
    click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        help="The least important lines that are logged [info].",
    ),
    click.option(
        "--log-format",
        type=click.Choice(["auto", "json", "console"]),
        help="How lines are logged, to stderr [auto: JSON when that is no terminal].",
    ),
)


def host_options(command: Command) -> Command:
    """The options of a program that runs jobs on its host."""
    for option in reversed(_OF_A_HOST):
        command = option(command)
    return command


def settings(data_dir: Path | None, **given: Any) -> Settings:
    """The settings of the service, with what was given on the command line first."""
    refuse_password(given.get("database"))
    return settings_of(Settings, data_dir or default_data_dir(), given)


def settings_of(kind: type[AnySettings], data_dir: Path, given: Mapping[str, Any]) -> AnySettings:
    """The settings of a program, with what was given on the command line first.

    Raises:
        SetupError: some are not valid.
    """
    try:
        values = {name: value for name, value in given.items() if value is not None}
        return kind(data_dir=data_dir, **values)
    except ValidationError as error:
        wrong = "; ".join(f"{_option(each['loc'])}: {each['msg']}" for each in error.errors())
        what = "service" if kind is Settings else "worker"
        raise SetupError(f"The {what} cannot start as it is configured. {wrong}") from error


def _option(location: tuple[int | str, ...]) -> str:
    return "--" + "-".join(str(part) for part in location).replace("_", "-")


def refuse_password(
    address: str | None, option: str = "--database", variable: str = "JOBSERVICE_DATABASE"
) -> None:
    """Every user of a host can read the command lines of all processes.

    Raises:
        SetupError: the address, given by an option, has a password in it.
    """
    with contextlib.suppress(ValueError):
        parts = urllib.parse.urlsplit(address or "")
        if parts.password or "password" in urllib.parse.parse_qs(parts.query):
            raise SetupError(
                f"{option} holds a password, which all users of this host could read. Give the "
                f"address in {variable}, or the password in ~/.pgpass."
            )
