"""The settings of the service, out of options, the environment and defaults."""

import contextlib
import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from jobservice.client.address import default_data_dir
from jobservice.config import HostSettings, Settings, is_in_environment, variable_of
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


_SHOWN_CHARACTERS = 60
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
    values = {name: value for name, value in given.items() if value is not None}
    try:
        return kind(data_dir=data_dir, **values)
    except ValidationError as error:
        what = "service" if kind is Settings else "worker"
        wrong = "".join(f"\n  {_line(kind, values, dict(each))}" for each in error.errors())
        raise SetupError(f"The {what} cannot start as it is configured.{wrong}") from error


def _line(kind: type[HostSettings], given: Mapping[str, Any], error: Mapping[str, Any]) -> str:
    """What is wrong with one setting: where it was given, the rule, and what was given."""
    if not error["loc"]:  # it is about several settings, which it names
        return str(error["ctx"]["error"])
    name = str(error["loc"][0])
    option, variable = f"--{name.replace('_', '-')}", variable_of(kind, name)
    if error["type"] == "missing":
        what = kind.model_fields[name].description
        return f"{option}: must be given, by this option or as {variable}. {what}"
    where = variable if name not in given and is_in_environment(variable) else option
    rule = _rule(kind.model_fields[name], name, error)
    if "SecretStr" in str(kind.model_fields[name].annotation):
        return f"{where}: {rule} (not shown here, for it may hold a password)"
    return f"{where}: {rule}; got {_shown(error['input'])}"


def _rule(field: FieldInfo, name: str, error: Mapping[str, Any]) -> str:
    """What a value must be, as a sentence goes on after the name of its option."""
    type_, context = str(error["type"]), error.get("ctx", {})
    if type_ == "value_error":
        return str(context["error"])
    if type_ == "literal_error":
        return f"must be {context['expected']}"
    if type_.startswith("bool_"):
        return "must be true or false"
    if type_.startswith(("int_", "float_", "greater_", "less_")):
        what = "a whole number" if field.annotation is int else "a number"
        unit = " of seconds" if name.endswith("_s") else ""
        return f"must be {what}{unit}{_bounds(field)}"
    return str(error["msg"])


def _bounds(field: FieldInfo) -> str:
    """Such as ` from 0 to 10,000`, or nothing."""
    limits = {
        name: getattr(each, name)
        for each in field.metadata
        for name in ("gt", "ge", "le")
        if hasattr(each, name)
    }
    least, most = limits.get("ge"), limits.get("le")
    if least is not None and most is not None:
        return f" from {least:,} to {most:,}"
    words = [f"at least {least:,}"] if least is not None else []
    if not words and "gt" in limits:
        words = [f"above {limits['gt']:,}"]
    if most is not None:
        words.append(f"at most {most:,}")
    return f", {' and '.join(words)}" if words else ""


def _shown(value: Any) -> str:
    """A value in a line of bounded length, without anything that moves the cursor."""
    if isinstance(value, str) and len(value) > _SHOWN_CHARACTERS:
        value = value[:_SHOWN_CHARACTERS] + "…"
    return repr(value)


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
