"""Frozen values of the model as JSON text, for columns that are kept and read as a whole.

It goes by the types of the fields, so that a new field of a job needs nothing here. Every field is
written out: what was a default when a schedule was made stays as it was. Fields that are not in a text,
because they are newer, have their default. Instants and durations are microseconds, enumerations their
values.
"""

import base64
import collections.abc
import dataclasses
import datetime as dt
import enum
import functools
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from jobservice.clock import from_us, to_us
from jobservice.store.rows import dump_json, parse_json

_MICROSECOND = dt.timedelta(microseconds=1)
_T = TypeVar("_T")


def dump(value: object) -> str:
    """A dataclass of the model as JSON."""
    return dump_json(_plain(value))


def load(kind: Callable[..., _T], text: str) -> _T:
    """The value that `dump` made the text of; `kind` is its dataclass."""
    value: _T = _reader(kind)(parse_json(text))
    return value


def _plain(value: Any) -> Any:
    match value:
        case enum.Enum():
            return value.value
        case None | bool() | int() | float() | str():
            return value
        case bytes():
            return base64.b64encode(value).decode()
        case dt.datetime():
            return to_us(value)
        case dt.timedelta():
            return value // _MICROSECOND
        case collections.abc.Mapping():
            return {key: _plain(each) for key, each in value.items()}
        case tuple():
            return [_plain(each) for each in value]
        case _:
            return {
                field.name: _plain(getattr(value, field.name))
                for field in dataclasses.fields(value)
            }


@functools.cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """What makes a value of a type out of its JSON."""
    if dataclasses.is_dataclass(kind):
        return functools.partial(_read_fields, kind)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in {types.UnionType, typing.Union}:
        [one] = [each for each in inner if each is not type(None)]
        read = _reader(one)
        return lambda given: None if given is None else read(given)
    if origin is collections.abc.Mapping:
        read = _reader(inner[1])
        return lambda given: {key: read(each) for key, each in given.items()}
    if origin is tuple:
        read = _reader(inner[0])
        return lambda given: tuple(read(each) for each in given)
    return _PLAIN.get(kind, kind)


def _read_fields(kind: Any, given: Mapping[str, Any]) -> Any:
    readers = _field_readers(kind)
    return kind(**{name: readers[name](each) for name, each in given.items()})


@functools.cache
def _field_readers(kind: Any) -> Mapping[str, Callable[[Any], Any]]:
    return {name: _reader(each) for name, each in typing.get_type_hints(kind).items()}


_PLAIN: Mapping[Any, Callable[[Any], Any]] = {
    bytes: base64.b64decode,
    dt.datetime: from_us,
    dt.timedelta: lambda microseconds: dt.timedelta(microseconds=microseconds),
}
