"""Filters over jobs, as AIP-160 writes them: read from text, applied to a job. Pure.

    state = FAILED AND (queue = builds OR labels.team = "core*") AND NOT exit_code = 1

A filter is made of restrictions (a field, a comparator, a value) under AND, OR, NOT (or `-`) and
parentheses; `*` alone stands for all jobs. What AIP-160 leaves to be guessed is refused: AND beside OR
needs parentheses, because AIP-160 binds OR tighter and nearly everything else AND; and nothing stands
side by side without one of the two. So what is accepted means the same to everybody.

A restriction of what a job does not have (the end of one that runs, a label it does not carry) is
false, and NOT of it is true. `a != b` is `NOT a = b`. Instants are compared to the microsecond.

A new field is a line in `FIELDS` and one in `store/filters.py`.
"""

import dataclasses
import datetime as dt
import enum
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from jobservice.clock import EPOCH, from_us, to_us
from jobservice.model.job import Job
from jobservice.model.lifecycle import Reason, State
from jobservice.model.spec import PRIORITIES

LONGEST = 2_000
"""How many characters a filter may have."""
MOST_TERMS = 64
"""How many restrictions it may have."""
DEEPEST = 16
"""How deep parentheses and NOT may be nested."""
NUMBER_MIN, NUMBER_MAX = -(2**31), 2**31 - 1

Value = str | int
"""What is compared: text by its code points, numbers, the number of a name, microseconds since 1970."""


# --- what a filter is made of -----------------------------------------------------------------


class Comparator(enum.StrEnum):
    """How a field is compared; `!=` is NOT of `=`, and `:` is `=` but for a value of `*`."""

    EQ = "="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="


@dataclasses.dataclass(frozen=True, slots=True)
class Compare:
    """A field beside a value."""

    field: str
    comparator: Comparator
    value: Value
    key: str = ""
    """Of a label."""
    is_prefix: bool = False
    """Whether the value is how the text begins; only with EQ."""

    def __str__(self) -> str:
        kind = FIELDS[self.field].kind
        return f"{_path(self.field, self.key)} {self.comparator} {_shown(kind, self)}"


@dataclasses.dataclass(frozen=True, slots=True)
class Has:
    """Whether a field is set, or a label is there."""

    field: str
    key: str = ""

    def __str__(self) -> str:
        return f"{_path(self.field, self.key)}:*"


@dataclasses.dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

    term: "Filter"

    def __str__(self) -> str:
        return f"NOT {_enclosed(self.term)}"


@dataclasses.dataclass(frozen=True, slots=True)
class AllOf:
    """Every one of the terms; without terms, all jobs."""

    terms: "tuple[Filter, ...]" = ()

    def __str__(self) -> str:
        return " AND ".join(map(_enclosed, self.terms)) or "*"


@dataclasses.dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one of the terms."""

    terms: "tuple[Filter, ...]"

    def __str__(self) -> str:
        return " OR ".join(map(_enclosed, self.terms))


Filter = Compare | Has | Not | AllOf | AnyOf
"""Its `str()` is a text that means the same."""


def _path(field: str, key: str) -> str:
    return f"{field}.{key}" if key else field


def _shown(kind: "Kind", compare: Compare) -> str:
    if kind.shape is not Shape.TEXT:
        return kind.show(compare.value)
    text = re.sub(r'(["\\*])', r"\\\1", str(compare.value))
    return f'"{text}*"' if compare.is_prefix else f'"{text}"'


def _enclosed(term: Filter) -> str:
    return str(term) if isinstance(term, Compare | Has | Not) else f"({term})"


# --- fields -----------------------------------------------------------------------------------


class Shape(enum.Enum):
    """What the values of a field look like."""

    TEXT = enum.auto()
    NUMBER = enum.auto()
    NAME = enum.auto()
    INSTANT = enum.auto()


@dataclasses.dataclass(frozen=True)
class Kind:
    """How the values of a field are written."""

    shape: Shape
    expected: str
    """What may stand there, for a person."""
    read: Callable[[str], Value]
    """ValueError for what is no such value."""
    show: Callable[[Value], str] = str


_TEXT = Kind(Shape.TEXT, "a text, in quotes where it has spaces or any of ()<>=!'\"", str)
_INSTANT_TEXT = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)")


def _number(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,10}", text) or not NUMBER_MIN <= int(text) <= NUMBER_MAX:
        raise ValueError
    return int(text)


def _priority(text: str) -> int:
    return PRIORITIES[text] if text in PRIORITIES else _number(text)


def _instant(text: str) -> int:
    found = _INSTANT_TEXT.fullmatch(text)
    if found is None:
        raise ValueError
    day, time, fraction, zone = found.groups()
    digits = (fraction or "")[:6].ljust(6, "0")
    zone = "+00:00" if zone in "Zz" else zone
    try:
        at = dt.datetime.fromisoformat(f"{day}T{time}.{digits}{zone}").astimezone(dt.UTC)
    except OverflowError:
        raise ValueError from None
    if at < EPOCH:
        raise ValueError
    return to_us(at)


def _names(kinds: type[enum.IntEnum], prefix: str) -> Kind:
    """One of the names of an enumeration, with or without the prefix that the proto gives them."""
    known = {each.name: int(each) for each in kinds if each}

    def read(text: str) -> int:
        try:
            return known[text.removeprefix(prefix)]
        except KeyError:
            raise ValueError from None

    return Kind(
        Shape.NAME, f"one of {', '.join(known)}", read, lambda value: kinds(int(value)).name
    )


_NUMBER = Kind(Shape.NUMBER, f"a whole number from {NUMBER_MIN:,} to {NUMBER_MAX:,}", _number)
_PRIORITY = Kind(Shape.NUMBER, "a whole number, or high, medium or low", _priority)
_INSTANT = Kind(
    Shape.INSTANT,
    "an instant from 1970 on with its zone, such as 2026-11-25T08:00:00Z",
    _instant,
    lambda value: from_us(int(value)).isoformat().replace("+00:00", "Z"),
)


@dataclasses.dataclass(frozen=True)
class Field:
    """Something of a job that can be asked for."""

    kind: Kind
    get: Callable[[Job], Value | None]
    """None where the job has none. Of labels it is not used: see `key`."""
    unset: Value | None = None
    """The value that stands for none, where there always is one."""
    is_map: bool = False
    """Whether it is asked for by key: `labels.KEY`, and `labels:KEY` for whether it is there."""


def _us(instant: dt.datetime | None) -> int | None:
    return None if instant is None else to_us(instant)


FIELDS: Mapping[str, Field] = {
    "job_id": Field(_TEXT, lambda job: job.job_id),
    "name": Field(_TEXT, lambda job: job.spec.name, unset=""),
    "queue": Field(_TEXT, lambda job: job.spec.queue),
    "job_type": Field(_TEXT, lambda job: job.spec.job_type, unset=""),
    "state": Field(_names(State, "JOB_STATE_"), lambda job: int(job.state)),
    "reason": Field(_names(Reason, "JOB_REASON_"), lambda job: int(job.reason), unset=0),
    "labels": Field(_TEXT, lambda job: None, is_map=True),  # noqa: ARG005 - asked for by key
    "priority": Field(_PRIORITY, lambda job: job.spec.priority),
    "attempt_count": Field(_NUMBER, lambda job: job.attempt_count),
    "failure_count": Field(_NUMBER, lambda job: job.failure_count),
    "exit_code": Field(_NUMBER, lambda job: job.exit_code),
    "schedule": Field(_TEXT, lambda job: job.schedule or None),
    "array_job_id": Field(_TEXT, lambda job: job.index.array_job_id if job.index else None),
    "array_index": Field(_NUMBER, lambda job: job.index.index if job.index else None),
    "create_time": Field(_INSTANT, lambda job: _us(job.created_at)),
    "start_time": Field(_INSTANT, lambda job: _us(job.started_at)),
    "end_time": Field(_INSTANT, lambda job: _us(job.ended_at)),
}
"""By the names of the proto."""


# --- what it means ----------------------------------------------------------------------------


def matches(filter_: Filter, job: Job) -> bool:
    """Whether a job is among those that a filter stands for; its spec needs no env and stdin."""
    match filter_:
        case AllOf(terms):
            return all(matches(term, job) for term in terms)
        case AnyOf(terms):
            return any(matches(term, job) for term in terms)
        case Not(term):
            return not matches(term, job)
        case Has(field, key):
            return _value(field, key, job) not in (None, FIELDS[field].unset)
        case Compare():
            found = _value(filter_.field, filter_.key, job)
            return found is not None and _holds(filter_, found)


def _value(field: str, key: str, job: Job) -> Value | None:
    return job.spec.labels.get(key) if key else FIELDS[field].get(job)


def _holds(compare: Compare, found: Value) -> bool:
    if compare.is_prefix:
        return str(found).startswith(str(compare.value))
    return _ORDERS[compare.comparator](found, compare.value)


_ORDERS: Mapping[Comparator, Callable[..., bool]] = {
    Comparator.EQ: lambda a, b: a == b,
    Comparator.LT: lambda a, b: a < b,
    Comparator.LE: lambda a, b: a <= b,
    Comparator.GT: lambda a, b: a > b,
    Comparator.GE: lambda a, b: a >= b,
}


def states_of(filter_: Filter) -> frozenset[State]:
    """The states that a job may be in which the filter stands for: a list need look at no others."""
    return _states(filter_, wanted=True)


def array_of(filter_: Filter) -> str | None:
    """The array that all jobs which the filter stands for are indices of; None where it names none."""
    match filter_:
        case Compare("array_job_id", Comparator.EQ, value, is_prefix=False):
            return str(value)
        case AllOf(terms):
            return next(filter(None, map(array_of, terms)), None)
        case _:
            return None


def _states(filter_: Filter, *, wanted: bool) -> frozenset[State]:
    """The states in which the filter can be true, or with `wanted` False, false."""
    every = frozenset(State)
    match filter_:
        case Compare(field="state", value=number):
            one = frozenset({State(int(number))})
            return one if wanted else every - one
        case Not(term):
            return _states(term, wanted=not wanted)
        case AllOf(terms) | AnyOf(terms):
            found = [_states(term, wanted=wanted) for term in terms]
            if isinstance(filter_, AllOf) is wanted:
                return every.intersection(*found)
            return frozenset[State]().union(*found)
        case _:
            return every


# --- reading ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong with a filter."""

    position: int
    """The character that it begins at, counted from 1."""
    text: str
    """What was found and what may stand there."""


class FilterInvalid(ValueError):
    """A text is no filter: every problem with its words, up to the first with its build."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(
            "; ".join(f"at character {each.position}: {each.text}" for each in problems)
        )
        self.problems = tuple(problems)


def parse(text: str) -> Filter:
    """The filter that a text stands for.

    Raises:
        FilterInvalid: it stands for none.
    """
    return _Parser(text).parse()


_BLANK = re.compile(r"\s*")
_WORD = re.compile(r"[^\s()<>=!:'\"]+")
_PLAIN_VALUE = re.compile(r"[^\s()<>=!'\"]+")
_COMPARATOR = re.compile(r"<=|>=|!=|[<>=:]")
_LABEL_KEY = re.compile(r"[a-z][a-z0-9._/-]{0,62}")
_KEYWORDS = {"AND", "OR", "NOT"}
_SHOWN_CHARACTERS = 40


@dataclasses.dataclass(frozen=True, slots=True)
class _Word:
    """A value as it was written."""

    position: int
    text: str
    """Without quotes and backslashes, and without a star at the end."""
    star: bool = False
    """Whether an unescaped `*` is at the end."""
    inner_star: bool = False
    """Whether one is elsewhere."""

    @property
    def shown(self) -> str:
        return f"`{_cut(self.text)}{'*' if self.star else ''}`"


class _Stop(Exception):
    """The build of the text is wrong from here on."""


_NOTHING = AllOf()
"""Stands for what was read and is wrong."""


class _Parser:
    """Reads a text from left to right, one character of look-ahead."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._terms = 0
        self._problems: list[Problem] = []
        self._fields_told = False

    def parse(self) -> Filter:
        try:
            found = self._whole()
        except _Stop:
            found = _NOTHING
        if self._problems:
            raise FilterInvalid(self._problems)
        return found

    def _whole(self) -> Filter:
        if len(self._text) > LONGEST:
            self._stop(f"must be at most {LONGEST:,} characters; has {len(self._text):,}", LONGEST)
        if "\0" in self._text:
            self._stop("a NUL character, which no job has", self._text.index("\0"))
        if self._text.strip() == "*":
            return AllOf()
        found = self._expression(0)
        if self._peek():
            self._stop(f"{self._found()}, where AND, OR or the end may stand")
        return found

    def _expression(self, depth: int) -> Filter:
        terms = [self._term(depth)]
        joint = ""
        while (word := self._keyword("AND", "OR")) is not None:
            if joint and word != joint:
                text = f"`{word}` beside `{joint}`: put parentheses around what belongs together"
                self._stop(text, self._at - len(word))
            joint = word
            terms.append(self._term(depth))
        if not joint:
            return terms[0]
        return AllOf(tuple(terms)) if joint == "AND" else AnyOf(tuple(terms))

    def _term(self, depth: int) -> Filter:
        if depth > DEEPEST:
            self._stop(f"parentheses and NOT nested deeper than {DEEPEST}")
        if self._keyword("NOT") is not None or self._take("-"):
            return Not(self._term(depth + 1))
        if self._take("("):
            found = self._expression(depth + 1)
            if not self._take(")"):
                self._stop(f"{self._found()}, where AND, OR or `)` may stand")
            return found
        return self._restriction()

    # --- restrictions -------------------------------------------------------------------------

    def _restriction(self) -> Filter:
        begin = self._skip()
        found = _WORD.match(self._text, begin)
        if found is None or found[0] in _KEYWORDS:
            self._stop(f"{self._found()}, where a field, NOT or `(` may stand")
        self._at = found.end()
        comparator = self._comparator(found[0])
        value = self._value()
        self._terms += 1
        if self._terms > MOST_TERMS:
            self._stop(f"more than {MOST_TERMS} restrictions", begin)
        return self._checked(begin, found[0], comparator, value)

    def _comparator(self, field: str) -> str:
        found = _COMPARATOR.match(self._text, self._skip())
        if found is None:
            text = "one of = != < <= > >= : may stand"
            self._stop(f"{self._found()} behind `{_cut(field)}`, where {text}")
        self._at = found.end()
        return found[0]

    def _value(self) -> _Word:
        begin = self._skip()
        if self._text[begin : begin + 1] in {'"', "'"}:
            return self._quoted(begin)
        found = _PLAIN_VALUE.match(self._text, begin)
        if found is None:
            self._stop(f"{self._found()}, where a value may stand")
        if found[0] in _KEYWORDS:
            self._stop(f"`{found[0]}`, where a value may stand; put it in quotes if it is one")
        self._at = found.end()
        text = found[0].removesuffix("*")
        return _Word(begin + 1, text, text != found[0], "*" in text)

    def _quoted(self, begin: int) -> _Word:
        quote, text, stars, at = self._text[begin], "", [], begin + 1
        while at < len(self._text) and self._text[at] != quote:
            if self._text[at] == "\\":
                at += 1
                if self._text[at : at + 1] not in set("\\\"'*"):
                    self._stop("a `\\` that stands before none of \\ \" ' *", at - 1)
            elif self._text[at] == "*":
                stars.append(len(text))
            text += self._text[at]
            at += 1
        if at >= len(self._text):
            self._stop(f"a text without its closing {quote}", begin)
        self._at = at + 1
        star = bool(stars) and stars[-1] == len(text) - 1
        return _Word(begin + 1, text[:-1] if star else text, star, len(stars) > star)

    def _checked(self, begin: int, path: str, comparator: str, value: _Word) -> Filter:
        """The restriction; what is wrong with its words is noted, and reading goes on."""
        name, dot, key = path.partition(".")
        field = FIELDS.get(name)
        if field is None or (dot and not field.is_map):
            known = ", ".join("labels.KEY" if each == "labels" else each for each in FIELDS)
            rest = "" if self._fields_told else f"; the fields are {known}"
            self._fields_told = True
            return self._wrong(begin, f"`{_cut(path)}` is no field{rest}")
        if field.is_map and not dot:
            if comparator != ":" or value.star:
                return self._wrong(
                    begin, f"`{name}` needs a key: {name}.KEY = VALUE, or {name}:KEY for any value"
                )
            begin, key = value.position - 1, value.text
        if field.is_map and not _LABEL_KEY.fullmatch(key):
            rule = "a key is 1 to 63 of a-z 0-9 . _ / -, beginning with a letter"
            return self._wrong(begin, f"`{_cut(key)}` is no key of a label; {rule}")
        if field.is_map and not dot:
            return Has(name, key)
        return self._compared(name, key, comparator, value)

    def _compared(self, name: str, key: str, comparator: str, value: _Word) -> Filter:
        kind, at = FIELDS[name].kind, value.position - 1
        if comparator == ":" and value.star and not value.text and not value.inner_star:
            return Has(name, key)
        if kind.shape is Shape.TEXT and (value.inner_star or (value.star and not value.text)):
            hint = f"a `*` stands only behind the beginning of a text; {_path(name, key)}:* is "
            return self._wrong(at, f"{hint}whether there is one, and `\\*` in quotes the character")
        if value.star and kind.shape is not Shape.TEXT:
            return self._wrong(at, f"{value.shown}, where {kind.expected} may stand")
        plain = Comparator.EQ if comparator in {":", "!="} else Comparator(comparator)
        if plain is not Comparator.EQ and (kind.shape is Shape.NAME or value.star):
            what = f"`{name}`" if kind.shape is Shape.NAME else "a text with a `*`"
            return self._wrong(at, f"{what} is compared by = != or : only, not by {comparator}")
        try:
            read = kind.read(value.text)
        except ValueError:
            return self._wrong(at, f"{value.shown}, where {kind.expected} may stand")
        found = Compare(name, plain, read, key, value.star)
        return Not(found) if comparator == "!=" else found

    # --- characters ---------------------------------------------------------------------------

    def _skip(self) -> int:
        """Where the next word begins."""
        blank = _BLANK.match(self._text, self._at)
        assert blank is not None  # it matches nothing, too
        self._at = blank.end()
        return self._at

    def _peek(self) -> str:
        begin = self._skip()
        return self._text[begin : begin + 1]

    def _take(self, character: str) -> bool:
        if self._peek() != character:
            return False
        self._at += 1
        return True

    def _keyword(self, *words: str) -> str | None:
        found = _WORD.match(self._text, self._skip())
        if found is None or found[0] not in words:
            return None
        self._at = found.end()
        return found[0]

    def _found(self) -> str:
        """What stands here, for a person."""
        begin = self._skip()
        word = _WORD.match(self._text, begin)
        if begin >= len(self._text):
            return "the end"
        return f"`{_cut(word[0] if word else self._text[begin])}`"

    def _stop(self, text: str, at: int | None = None) -> NoReturn:
        self._problems.append(Problem((self._skip() if at is None else at) + 1, text))
        raise _Stop

    def _wrong(self, at: int, text: str) -> Filter:
        self._problems.append(Problem(at + 1, text))
        return _NOTHING


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
