"""Options that several commands share, and the types of their values."""

import contextlib
import datetime as dt
import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import click

from jobservice.cli.output import say
from jobservice.cli.refusals import name_address, name_options, told
from jobservice.client.address import tls_of
from jobservice.client.sync import Client
from jobservice.errors import InvalidRequest, JobServiceError, Unavailable
from jobservice.model.graph import Condition
from jobservice.model.lifecycle import FINAL, State
from jobservice.model.limit import ConcurrencyKey, OnConflict
from jobservice.model.placements import amount_of
from jobservice.model.spec import PRIORITIES, Dependency
from jobservice.model.unique import OnDuplicate, UniqueScope

Command = TypeVar("Command", bound=Callable[..., Any])
_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_BELOW_ZERO = re.compile(r":-\d+(:|$)")
"""In the name of a key: a limit or a weight was meant."""
STATES = [state.name.lower() for state in State]
_MOST = (1 << 31) - 1
"""What most numbers in messages of the service can be."""
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
            seconds = float(value)
            if seconds < 0:
                self.fail(f"{value!r} is below 0; write 90s, 5m or 1h30m.", param, ctx)
            if math.isfinite(seconds):
                return seconds
        parts = _LENGTH.findall(value)
        if not parts or "".join(number + unit for number, unit in parts) != value:
            self.fail(f"{value!r} is no length of time; write 90s, 5m or 1h30m.", param, ctx)
        return sum(float(number) * _UNITS_S[unit] for number, unit in parts)


class Whole(click.ParamType[int]):
    """A whole number that is not too small nor too large; `remedy` says what else may be meant."""

    name = "number"

    def __init__(self, remedy: str, *, least: int = 0, most: int = _MOST) -> None:
        self._least, self._most, self._remedy = least, most, remedy

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        number = click.INT.convert(value, param, ctx)
        if number < self._least:
            self.fail(f"{number} is below {self._least}; {self._remedy}.", param, ctx)
        if number > self._most:
            self.fail(f"{number} is above {self._most:,}, the most.", param, ctx)
        return number


class Instant(click.ParamType[dt.datetime]):
    """An instant in ISO 8601; one without a zone is the local time of this terminal, which is said."""

    name = "instant"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dt.datetime:
        if isinstance(value, dt.datetime):
            return value
        try:
            at = dt.datetime.fromisoformat(value)
            aware = at if at.tzinfo is not None else at.astimezone()
        except (ValueError, OverflowError):
            text = f"{value!r} is no instant; write 2026-11-25T09:30Z or 2026-11-25T09:30+01:00."
            self.fail(text, param, ctx)
        if at.tzinfo is None:
            say(f"{value} is taken as {aware.isoformat()}, the local time here.")
        return aware


class Name(click.ParamType[str]):
    """A name that is given; an empty one is most often a variable of the shell that is not set."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value:
            self.fail("it is empty; give a name, or leave the option out.", param, ctx)
        return str(value)


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


class Amount(click.ParamType[float]):
    """An amount of what the option is called after."""

    name = "amount"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, int | float):
            return float(value)
        try:
            return amount_of(str(param.name if param else ""), value)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


class Key(click.ParamType[ConcurrencyKey]):
    """A concurrency key, from `NAME:LIMIT:WEIGHT`, in which the numbers may be left out or empty."""

    name = "key"
    _parts = re.compile(r"([^:].*?)(?::(\d*)(?::(\d*))?)?", re.DOTALL)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> ConcurrencyKey:
        if isinstance(value, ConcurrencyKey):
            return value
        parts = self._parts.fullmatch(value)
        if parts is None:
            self.fail(f"{value!r} is not NAME, NAME:LIMIT or NAME:LIMIT:WEIGHT.", param, ctx)
        name, limit, weight = parts.groups()
        if _BELOW_ZERO.search(name):
            self.fail(f"{value!r} has a number below 0; leave it out for none.", param, ctx)
        for number, what in ((limit, "LIMIT"), (weight, "WEIGHT")):
            if number and int(number) < 1:
                self.fail(f"{value!r} has a {what} below 1; leave it out for none.", param, ctx)
        return ConcurrencyKey(name, int(limit or 0), int(weight or 1))


class StateList(click.ParamType[tuple[State, ...]]):
    """States, from their names with commas between them."""

    name = "states"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[State, ...]:
        if isinstance(value, tuple):
            return value
        names = [each.strip().lower() for each in value.split(",")]
        unknown = [each for each in names if each not in STATES]
        if unknown:
            known = ", ".join(STATES)
            self.fail(f"{unknown[0]!r} is no state; write any of {known}, with commas.", param, ctx)
        return tuple(sorted({State[each.upper()] for each in names}))


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


class After(click.ParamType[Dependency]):
    """Another job, and how it has to end, from `JOB`, `JOB:failed` or `JOB:finished+10m`."""

    name = "after"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Dependency:
        if isinstance(value, Dependency):
            return value
        parent, plus, delay = str(value).partition("+")
        job_id, colon, condition = parent.partition(":")
        if colon and condition not in CONDITIONS:
            names = ", ".join(CONDITIONS)
            self.fail(f"{condition!r} is no end; write JOB:END with one of {names}.", param, ctx)
        asked = Condition[condition.upper()] if colon else Condition.SUCCEEDED
        delay_s = LENGTH.convert(delay, param, ctx) if plus else 0.0
        return Dependency(job_id, asked, dt.timedelta(seconds=delay_s))


class AfterRule(click.ParamType[int | str]):
    """How many other jobs it takes: a name or a number."""

    name = "rule"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        if isinstance(value, int) or value in {"all", "any", "always"}:
            return value  # type: ignore[no-any-return]
        try:
            return int(value)
        except ValueError:
            self.fail(f"{value!r} is neither all, any, always nor a number.", param, ctx)


CONDITIONS = [condition.name.lower() for condition in Condition]
LENGTH = LengthOfTime()
AMOUNT = Amount()
AT_MOST = Whole("give 0 for all")
"""How many a list has."""
UNLIMITED = Whole("give 0 for no limit")
RETRIES = Whole("give 0 for none", most=999)
INSTANT = Instant()
AFTER = After()
AFTER_RULE = AfterRule()
STATE_LIST = StateList()
NAME = Name()
PAIR = Pair()
PRIORITY = Priority()
KEY = Key()
UNIQUE_SCOPES = [each.name.lower() for each in UniqueScope]
ON_DUPLICATE = {
    "return": OnDuplicate.RETURN_EXISTING,
    "reject": OnDuplicate.REJECT,
    "replace": OnDuplicate.REPLACE,
}
ON_CONFLICT = [each.name.lower().replace("_", "-") for each in OnConflict]
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
        click.option(
            "--limit", type=AT_MOST, default=50, metavar="N",
            help="How many jobs at most; 0: all [50].",
        ),
        click.option(
            "--label", "labels", type=PAIR, multiple=True, metavar="K=V",
            help="Only jobs with this label; may be given several times.",
        ),
        click.option("--queue", default="", metavar="QUEUE", help="Only jobs of this queue."),
        click.option("--array", default="", metavar="JOB", help="Only the indices of this array."),
        click.option(
            "--name", default="", metavar="NAME",
            help="Only jobs of this name; a * at the end stands for any rest.",
        ),
        click.option(
            "--filter", "expression", default="", metavar="FILTER",
            help="Only jobs for which this AIP-160 filter holds.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


def filters(
    name: str, queue: str, array: str, labels: tuple[tuple[str, str], ...], expression: str
) -> dict[str, Any]:
    """The filters of the SDK that were given."""
    if array:
        indices = f"array_job_id = {json.dumps(array)}"
        expression = f"{indices} AND ({expression})" if expression else indices
    given: dict[str, Any] = {
        "name": name, "queue": queue, "labels": dict(labels), "filter": expression
    }  # fmt: skip
    return {key: value for key, value in given.items() if value}


def states(names: tuple[str, ...]) -> list[State]:
    """The states that were named."""
    return [State[name.upper()] for name in names]


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[Client]:
    """The service. One that is not there is said so at once; one that goes away is waited for."""
    context = click.get_current_context()
    inherited, *tls = context.find_root().obj
    try:
        with Client(address or inherited, first_patience=0.0, tls=tls_of(*tls)) as client:
            yield client
    except InvalidRequest as error:
        if not (address or inherited):
            name_address(error)
        name_options(error, context.command)
        raise


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
            if isinstance(error, InvalidRequest):
                name_options(error, click.get_current_context().command)
            say(told(error))
            first = first or error
    if first is not None:
        sys.exit(first.exit_code)
