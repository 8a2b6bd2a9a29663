"""Cron expressions: what they say, what is wrong with them, and which times of the wall they name.

Five fields (minute, hour, day of the month, month, day of the week) as in Debian's cron, or one of
`@hourly @daily @midnight @weekly @monthly @yearly @annually`. A field is a list of `*`, values,
names (`JAN`, `MON`), ranges and steps; the day of the month also takes `L` and `LW` (the last day,
the last weekday), the day of the week `5L` and `5#2` (the last and the second Friday). Days match
when both day fields do if one of them begins with `*`, else when either does.

`H` stands for a value that is drawn from the name of the schedule, so that schedules with the same
expression do not all fire at once: `H`, `H(0-29)`, `H/15`, `H(0-29)/10`. A day of the month that
is drawn is at most 28.

The library `cronsim` reads the fields and finds the times, without a zone; `zone.py` turns times of
the wall into instants.
"""

import datetime as dt
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from cronsim import CronSim, CronSimError
from cronsim.explain import explain

MAX_LENGTH = 256
"""Characters of an expression."""
_SHOWN_CHARACTERS = 60
ALIASES = {
    "@HOURLY": "0 * * * *",
    "@DAILY": "0 0 * * *",
    "@MIDNIGHT": "0 0 * * *",
    "@WEEKLY": "0 0 * * 0",
    "@MONTHLY": "0 0 1 * *",
    "@YEARLY": "0 0 1 1 *",
    "@ANNUALLY": "0 0 1 1 *",
}


@dataclass(frozen=True, slots=True)
class Expression:
    """A cron expression that was read."""

    text: str
    """Its five fields, upper case, with each `H` replaced."""
    in_real_time: bool
    """Whether minute or hour begins with `*` or `H/`: it goes on in real time when the clocks
    change, and does not name times of the day."""


@dataclass(frozen=True, slots=True)
class _Field:
    """One of the five, and what may stand in it."""

    name: str
    low: int
    high: int
    hashed_high: int
    """The highest value that `H` alone draws."""
    remedy: str


_FIELDS = (
    _Field("minute", 0, 59, 59, "must be 0 to 59"),
    _Field("hour", 0, 23, 23, "must be 0 to 23"),
    _Field("day of the month", 1, 31, 28, "must be 1 to 31, L or LW"),
    _Field("month", 1, 12, 12, "must be 1 to 12 or JAN to DEC"),
    _Field(
        "day of the week", 0, 7, 6, "must be 0 to 7 or SUN to SAT (0 and 7 are Sunday), 5L or 5#2"
    ),
)
_FORMS = "a list of such, `*`, rising ranges a-b, steps */n, or H"
_FIVE = "must be five fields (minute, hour, day of the month, month, day of the week)"
_HASHED = re.compile(r"H(?:\((\d{1,2})-(\d{1,2})\))?(?:/(\d{1,2}))?")
_ONE = re.compile(r"^(\w+)-\1/\d+$")
"""A range of one value, with a step: `cronsim` takes it for a value with a step, which goes on."""
_STEP = re.compile(r"/(\d+)$")
_ORDINAL = re.compile(r"\b([2-5])([1-3])th\b")
_ENDINGS = {"1": "st", "2": "nd", "3": "rd"}


def problems(text: str, seed: str) -> list[str]:
    """Everything that is wrong with an expression, each with its value and a remedy."""
    if len(text) > MAX_LENGTH:
        return [f"must be at most {MAX_LENGTH} characters; got {len(text):,}"]
    parts = _parts(text)
    if len(parts) != len(_FIELDS):
        known = " ".join(ALIASES).lower()
        return [f"{_FIVE}, such as `30 2 * * MON`, or one of {known}; got {shown(text)}"]
    found = []
    for index, (field, part) in enumerate(zip(_FIELDS, parts, strict=True)):
        wrong = [term for term in part.split(",") if not _is_term(index, term, seed)]
        found += [f"the {field.name} {field.remedy}, {_FORMS}; got {shown(term)}" for term in wrong]
    return found


def read(text: str, seed: str) -> Expression:
    """An expression without problems, with each `H` drawn by `seed`, the schedule's identity."""
    parts = _parts(text)
    drawn = [_drawn(index, part, seed) for index, part in enumerate(parts)]
    return Expression(
        text=" ".join(drawn),
        in_real_time=any(part.startswith(("*", "H/")) for part in parts[:2]),
    )


def wall_times(expression: Expression, after: dt.datetime) -> Iterator[dt.datetime]:
    """The times that it names, without a zone: strictly after `after`, rising, perhaps endless.

    It ends when none comes within 50 years, which is longer than any expression pauses (40 years,
    for a 29 February on one day of the week).

    Raises:
        OverflowError: when it reaches the end of the year 9999.
    """
    try:
        yield from CronSim(expression.text, after)
    except CronSimError:  # no month has such a day
        return


def in_words(expression: Expression) -> str:
    """What it says, such as `at 02:30 on Monday`."""
    said = explain(expression.text)
    said = _ORDINAL.sub(lambda found: found[1] + found[2] + _ENDINGS[found[2]], said)
    return said[0].lower() + said[1:]


def shown(text: str) -> str:
    """A value for a message: in quotes, cut where it is long."""
    cut = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
    return json.dumps(cut, ensure_ascii=False)


def _parts(text: str) -> list[str]:
    """The fields in upper case; aliases are written out."""
    upper = text.upper() if text.isascii() else text
    return ALIASES.get(upper.strip(), upper).split()


def _is_term(index: int, term: str, seed: str) -> bool:
    """Whether this may stand in the list of a field."""
    step = _STEP.search(term)
    if not term.isascii() or (step and not 1 <= int(step[1]) <= _FIELDS[index].high):
        return False
    fields = ["*"] * len(_FIELDS)
    try:
        fields[index] = _drawn(index, term, seed)
        CronSim(" ".join(fields), dt.datetime(2000, 1, 1))  # noqa: DTZ001 - a time of the wall
    except (CronSimError, ValueError):
        return False
    return True


def _drawn(index: int, part: str, seed: str) -> str:
    """A field with each `H` replaced."""
    return ",".join(_drawn_term(index, term, seed) for term in part.split(","))


def _drawn_term(index: int, term: str, seed: str) -> str:
    """A term as it is, or what its `H` stands for.

    Raises:
        ValueError: when an `H` draws from nothing.
    """
    asked = _HASHED.fullmatch(term)
    if asked is None:
        return _ONE.sub(r"\1", term)
    field = _FIELDS[index]
    low, high = (int(asked[1]), int(asked[2])) if asked[1] else (field.low, field.hashed_high)
    if not field.low <= low <= high <= field.high:
        raise ValueError(f"nothing between {low} and {high}")
    digest = hashlib.sha256(f"{seed}\0{field.name}".encode()).digest()
    number = int.from_bytes(digest[:8])
    if asked[3] is None:
        return str(low + number % (high - low + 1))
    step = int(asked[3])
    if asked[1] is None:
        high = field.high if field.name != "day of the week" else field.hashed_high
    first = low + number % min(step, high - low + 1)
    return f"{first}-{high}/{step}" if first + step <= high else str(first)
