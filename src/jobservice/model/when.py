"""What a user says of when a schedule fires, and what comes of it. `timing.py` says when that is.

Apart from it because clients have these values too, and need no rules of cron and zones.
"""

import datetime as dt
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fire:
    """One time at which a schedule fires."""

    nominal_at: dt.datetime
    """Without jitter. Identifies the fire: a schedule has one at an instant."""
    note: str = ""
    """A sentence when a change of the clocks touched it."""


@dataclass(frozen=True, slots=True)
class Timing:
    """When a schedule fires. Exactly one of `cron`, `every` and `at` is given."""

    cron: str = ""
    every: dt.timedelta | None = None
    """The interval, counted from 1970 plus `phase`."""
    phase: dt.timedelta = dt.timedelta(0)
    at: dt.datetime | None = None
    """The one instant at which it fires."""
    zone: str = "UTC"
    """The name of the zone in which `cron` is read."""
    start_at: dt.datetime | None = None
    """The first instant at which it may fire."""
    end_at: dt.datetime | None = None
    """The first instant from which it no longer fires."""
    jitter: dt.timedelta = dt.timedelta(0)
    """How much later than nominal it may be due; never later than the next fire."""
