"""Time zones: times of the wall <-> instants, and what happens when the clocks change.

The rules of the zones come from the package `tzdata` alone, not from the host: all servers that
were installed alike agree on them.
"""

import datetime as dt
import functools
from importlib import resources
from zoneinfo import ZoneInfo

_SECOND = dt.timedelta(seconds=1)


@functools.cache
def zone_names() -> frozenset[str]:
    """The names of all zones."""
    return frozenset(resources.files("tzdata").joinpath("zones").read_text().split())


@functools.cache
def get_zone(name: str) -> ZoneInfo:
    """The zone of this name, one of `zone_names()`.

    Raises:
        ValueError: when there is none.
    """
    if name not in zone_names():
        raise ValueError(f"no time zone has the name {name!r}")
    path = resources.files("tzdata").joinpath("zoneinfo", *name.split("/"))
    with path.open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def on_the_wall(zone: ZoneInfo, instant: dt.datetime) -> dt.datetime:
    """What the clocks show at an instant, without a zone."""
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


def when_shown(zone: ZoneInfo, wall: dt.datetime) -> list[dt.datetime]:
    """The instants at which the clocks show `wall`: one, none (skipped) or two (repeated)."""
    early, late = _ends(zone, wall)
    if early == late:
        return [early]
    return [early, late] if early < late else []


def when_reached(zone: ZoneInfo, wall: dt.datetime) -> dt.datetime:
    """The first instant at which the clocks show `wall` or, when they skip it, a later time."""
    early, late = _ends(zone, wall)
    return early if early <= late else _change(zone, late, early)


def _ends(zone: ZoneInfo, wall: dt.datetime) -> tuple[dt.datetime, dt.datetime]:
    """`wall` by the offset before and by the offset after the change that it is touched by.

    Both are equal for most times. For a repeated one they are in order; for a skipped one they are
    not, and the change lies between them.
    """
    before = wall.replace(tzinfo=zone, fold=0)
    after = wall.replace(tzinfo=zone, fold=1)
    return before.astimezone(dt.UTC), after.astimezone(dt.UTC)


def _change(zone: ZoneInfo, low: dt.datetime, high: dt.datetime) -> dt.datetime:
    """The first instant of another offset than at `low`; `high` has one."""
    old = low.astimezone(zone).utcoffset()
    while high - low > _SECOND:
        middle = low + (high - low) // (2 * _SECOND) * _SECOND
        if middle.astimezone(zone).utcoffset() == old:
            low = middle
        else:
            high = middle
    return high
