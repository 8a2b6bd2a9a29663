"""Options that several commands share, and the types of their values."""

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import click

from jobservice.cli.output import say
from jobservice.client.sync import Client
from jobservice.errors import JobServiceError, Unavailable
from jobservice.model.lifecycle import FINAL, State
from jobservice.model.spec import PRIORITIES

Command = TypeVar("Command", bound=Callable[..., Any])
_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
STATES = [state.name.lower() for state in State]
FINAL_STATES = [state.name.lower() for state in sorted(FINAL)]


class LengthOfTime(click.ParamType[float]):
    """Seconds, from `90s`, `5m`, `1h30m`, or a plain number of seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, int | float):
            return float(value)
        with contextlib.suppress(ValueError):
            return float(value)
        parts = _LENGTH.findall(value)
        if not parts or "".join(number + unit for number, unit in parts) != value:
            self.fail(f"{value!r} is no length of time; write 90s, 5m or 1h30m.", param, ctx)
        return sum(float(number) * _UNITS_S[unit] for number, unit in parts)


class Pair(click.ParamType[tuple[str, str]]):
    """A name and a value, from `NAME=VALUE`."""

    name = "pair"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, equals, rest = str(value).partition("=")
        if not equals or not name:
            self.fail(f"{value!r} is not NAME=VALUE.", param, ctx)
        return name, rest


class Priority(click.ParamType[int | str]):
    """A number, or the name of a level."""

    name = "priority"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        if value in PRIORITIES or isinstance(value, int):
            return value  # type: ignore[no-any-return]
        try:
            return int(value)
        except ValueError:
            self.fail(f"{value!r} is neither high, medium, low nor a number.", param, ctx)


LENGTH = LengthOfTime()
PAIR = Pair()
PRIORITY = Priority()
JOB = click.argument("job", metavar="JOB")
JOBS = click.argument("jobs", metavar="JOB…", nargs=-1, required=True)


def client_options(command: Command) -> Command:
    """What every command that asks the service takes."""
    address = click.option("--address", metavar="ADDRESS", help="As before the command.")
    as_json = click.option(
        "--json",
        "as_json",
        is_flag=True,
        help="Print JSON, under the names of the proto files; lists as one object a line.",
    )
    return address(as_json(command))


def filter_options(command: Command) -> Command:
    """What lists of jobs can be narrowed by."""
    for option in (
        click.option("--limit", default=50, metavar="N", help="How many jobs at most; 0: all [50]."),
        click.option(
            "--label", "labels", type=PAIR, multiple=True, metavar="K=V",
            help="Only jobs with this label; may be given several times.",
        ),
        click.option("--queue", default="", metavar="QUEUE", help="Only jobs of this queue."),
        click.option(
            "--name", default="", metavar="NAME",
            help="Only jobs of this name; a * at the end stands for any rest.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def filters(name: str, queue: str, labels: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """The filters of the SDK that were given."""
    given: dict[str, Any] = {"name": name, "queue": queue, "labels": dict(labels)}
    return {key: value for key, value in given.items() if value}


def states(names: tuple[str, ...]) -> list[State]:
    """The states that were named."""
    return [State[name.upper()] for name in names]


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[Client]:
    """The service. One that is not there is said so at once; one that goes away is waited for."""
    inherited = click.get_current_context().find_root().obj
    with Client(address or inherited, first_patience=0.0) as client:
        yield client


def for_each(jobs: tuple[str, ...], act: Callable[[str], None]) -> None:
    """Act on every job, also behind one that is refused; exit with the code of the first refusal."""
    first: JobServiceError | None = None
    for job in jobs:
        try:
            act(job)
        except Unavailable:
            raise
        except JobServiceError as error:
            if len(jobs) == 1:
                raise
            say(f"Error: {error.message} ({error.reason})")
            first = first or error
    if first is not None:
        sys.exit(first.exit_code)
