"""Instants and lengths of time between the messages of the wire and Python's; fields that may be unset.

They go by seconds and nanoseconds: submits and lists run through here several times per job.
"""

import datetime as dt
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from jobservice.clock import EPOCH

_DAY_S = 86_400
_SHORTEST = dt.timedelta.resolution
"""A timeout below it is this: none of zero length exists."""


def timestamp(instant: dt.datetime) -> Timestamp:
    """An aware UTC instant, to the microsecond."""
    since = instant - EPOCH
    return Timestamp(seconds=since.days * _DAY_S + since.seconds, nanos=since.microseconds * 1000)


def to_instant(message: Timestamp) -> dt.datetime:
    """The aware UTC instant; nanoseconds below a microsecond are dropped."""
    return EPOCH + dt.timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)


def duration(length: dt.timedelta) -> Duration:
    """A length of time, to the microsecond."""
    seconds, nanos = length.days * _DAY_S + length.seconds, length.microseconds * 1000
    if seconds < 0 < nanos:  # both parts have the same sign (google.protobuf.Duration)
        seconds, nanos = seconds + 1, nanos - 1_000_000_000
    return Duration(seconds=seconds, nanos=nanos)


def to_timedelta(message: Duration) -> dt.timedelta:
    """The length of time; nanoseconds below a microsecond are dropped."""
    return dt.timedelta(seconds=message.seconds, microseconds=int(message.nanos / 1000))


def maybe_timestamp(instant: dt.datetime | None) -> Timestamp | None:
    """The message of an instant that may be unknown."""
    return None if instant is None else timestamp(instant)


def maybe_instant(message: Any, field: str) -> dt.datetime | None:
    """The instant in a field; None where it is unset."""
    return to_instant(getattr(message, field)) if message.HasField(field) else None


def maybe_length(message: Any, field: str) -> dt.timedelta | None:
    """The length of time in a field; None where it is unset."""
    return to_timedelta(getattr(message, field)) if message.HasField(field) else None


def maybe_timeout(message: Any, field: str) -> dt.timedelta | None:
    """The same of a timeout, which is above zero."""
    return (
        max(to_timedelta(getattr(message, field)), _SHORTEST) if message.HasField(field) else None
    )


def maybe_value(message: Any, field: str) -> Any:
    """The value of a field that may be unset; None where it is."""
    return getattr(message, field) if message.HasField(field) else None
