"""When a schedule fires: by a cron expression, at an interval, or once.

The rule for changes of the clocks (daylight saving, and every other change of a zone):

- An expression that names times of the day fires once for each. A time that is skipped fires at the
  first instant after the gap; several that are skipped together fire once, there. A time that is
  repeated fires the first time only.
- An expression whose minute or hour is `*` or has a step from it (`*/10 * * * *`, `0 * * * *`)
  goes on in real time: it fires whenever the clocks show what it says, so each elapsed hour counts,
  times that are skipped do not fire and times that are repeated fire both times. As in Debian's cron
  it is the `*` that counts: `0 0-23 * * *` names 24 times of the day.
- Intervals know no clocks on walls: they are counted from 1970 in UTC.

So fires never stand still, and none comes twice at one instant.
"""

import datetime as dt
import hashlib
from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from zoneinfo import ZoneInfo

from jobservice.clock import EPOCH, to_us
from jobservice.model import cron
from jobservice.model.cron import shown
from jobservice.model.when import Fire as Fire
from jobservice.model.when import Timing as Timing
from jobservice.model.zone import get_zone, on_the_wall, when_reached, when_shown, zone_names
from jobservice.mutants import mutant

MIN_EVERY = dt.timedelta(seconds=1)
MAX_EVERY = dt.timedelta(days=366)
MAX_JITTER = dt.timedelta(days=1)
_ZERO = dt.timedelta(0)
_MICROSECOND = dt.timedelta(microseconds=1)
_LAST = dt.datetime(9999, 12, 31, tzinfo=dt.UTC)
_LONGEST_CHANGE = dt.timedelta(days=1)
"""No zone ever moved its clocks by more, nor changed them twice within this."""
_UNITS = (
    ("d", 86_400_000_000),
    ("h", 3_600_000_000),
    ("min", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
)


def problems(timing: Timing, seed: str) -> list[tuple[str, str]]:
    """Everything that is wrong, as field and message with value and remedy; empty when valid.

    `seed` is the identity of the schedule, as everywhere here: it decides each `H` and the jitter.
    """
    found = [*_kind_problems(timing), *_span_problems(timing), *_zone_problems(timing)]
    if timing.cron:
        found += [("cron", message) for message in cron.problems(timing.cron, seed)]
    if found:
        return found
    begin = (timing.start_at or EPOCH) - _MICROSECOND
    if next(fires(timing, seed=seed, after=begin), None) is None:
        field = "cron" if timing.cron else "at" if timing.at else "every"
        found.append((field, _never(timing)))
    return found


def fires(timing: Timing, *, seed: str, after: dt.datetime) -> Iterator[Fire]:
    """The fires of a valid timing: strictly after `after`, rising, lazily, perhaps endless.

    What comes after a fire does not depend on where the iteration began. The first are in 1970, the
    last in 9999; it also ends when an expression names no time for 50 years.
    """
    after = max(after, (timing.start_at or EPOCH) - _MICROSECOND)
    end = timing.end_at or _LAST
    try:
        for fire in _unbounded(timing, seed, after):
            if fire.nominal_at >= end:
                return
            if fire.nominal_at > after or mutant("schedule.at_or_after"):
                yield fire
    except OverflowError:  # the calendar ends with the year 9999
        return


def due_at(timing: Timing, fire: Fire, *, seed: str) -> dt.datetime:
    """When a fire is due: its nominal time and a part of `jitter`, always the same for it.

    The part is spread evenly between zero and `jitter`, or the next fire if that is sooner, so that
    fires are due in their order.
    """
    if not timing.jitter:
        return fire.nominal_at
    span = timing.jitter
    following = next(fires(timing, seed=seed, after=fire.nominal_at), None)
    if following is not None:
        span = min(span, following.nominal_at - fire.nominal_at)
    digest = hashlib.sha256(f"{seed}\0{to_us(fire.nominal_at)}".encode()).digest()
    part = (int.from_bytes(digest[:8]) * (span // _MICROSECOND)) >> 64
    return fire.nominal_at + part * _MICROSECOND


def in_words(timing: Timing, seed: str) -> str:
    """What a valid timing says, such as `at 02:30 on Monday, Europe/Berlin`."""
    if timing.cron:
        said = f"{cron.in_words(cron.read(timing.cron, seed))}, {timing.zone}"
    elif timing.at is not None:
        said = f"once, at {_local(timing.at, timing.zone)}"
    else:
        assert timing.every is not None
        said = f"every {_length(timing.every)}"
        said += f", {_length(timing.phase)} into it" if timing.phase else ""
    if timing.start_at is not None:
        said += f", from {_local(timing.start_at, timing.zone)}"
    if timing.end_at is not None:
        said += f", until {_local(timing.end_at, timing.zone)}"
    if timing.jitter:
        said += f", up to {_length(timing.jitter)} later"
    return said


# --- fires --------------------------------------------------------------------------------------


def _unbounded(timing: Timing, seed: str, after: dt.datetime) -> Iterator[Fire]:
    """The fires after `after`, and perhaps some up to it; `start_at` and `end_at` are not asked."""
    if timing.cron:
        yield from _cron_fires(timing, seed, after)
    elif timing.every is not None:
        count = (after - EPOCH - timing.phase) // timing.every + 1
        while True:
            yield Fire(EPOCH + timing.phase + count * timing.every)
            count += 1
    elif timing.at is not None:
        yield Fire(timing.at)


def _cron_fires(timing: Timing, seed: str, after: dt.datetime) -> Iterator[Fire]:
    zone = get_zone(timing.zone)
    expression = cron.read(timing.cron, seed)
    # Where the clocks go back soon after `after`, what they will show again comes too.
    begin = on_the_wall(zone, after)
    ahead = on_the_wall(zone, after + _LONGEST_CHANGE) - _LONGEST_CHANGE
    walls = cron.wall_times(expression, min(begin, ahead))
    if expression.in_real_time:
        yield from _in_real_time(walls, zone)
    else:
        yield from _once_each(walls, zone)


def _once_each(walls: Iterator[dt.datetime], zone: ZoneInfo) -> Iterator[Fire]:
    """One fire for each time of the day, by the rule in the head of this file."""
    last: dt.datetime | None = None
    for wall in walls:
        reached = when_reached(zone, wall)
        if reached == last:
            continue  # skipped together with the one before, or moved on to this one
        last = reached
        shown = on_the_wall(zone, reached)
        note = ""
        if shown != wall:
            skipped, moved = _clock(wall, shown)
            note = f"{skipped} is skipped by a change of the clocks; it fires at {moved} instead."
        elif len(when_shown(zone, wall)) > 1:
            note = (
                f"{_clock(wall, wall)[0]} comes twice by a change of the clocks; the first fires."
            )
        yield Fire(reached, note)


def _in_real_time(walls: Iterator[dt.datetime], zone: ZoneInfo) -> Iterator[Fire]:
    """A fire whenever the clocks show one of the times."""
    repeated: deque[Fire] = deque()  # times that come again, of one change of the clocks
    for wall in walls:
        shown = when_shown(zone, wall)
        while repeated and shown and repeated[0].nominal_at < shown[0]:
            yield repeated.popleft()
        if shown:
            yield Fire(shown[0])
        if len(shown) > 1:
            note = f"{_clock(wall, wall)[0]} comes for the second time by a change of the clocks."
            repeated.append(Fire(shown[1], note))
    yield from repeated


def _clock(wall: dt.datetime, other: dt.datetime) -> tuple[str, str]:
    """Two times of the wall for a note, with the date where they differ in it."""
    form = "%H:%M" if wall.date() == other.date() else "%Y-%m-%d %H:%M"
    return wall.strftime(form), other.strftime(form)


# --- problems -----------------------------------------------------------------------------------


def _kind_problems(timing: Timing) -> Iterator[tuple[str, str]]:
    given = {"cron": timing.cron or None, "every": timing.every, "at": timing.at}
    names = [name for name, value in given.items() if value is not None]
    if not names:
        yield "cron", "must be given, or `every` or `at` instead of it"
    for first, other in pairwise(names):
        yield other, f"must not be given together with `{first}`; leave out one of the two"


def _span_problems(timing: Timing) -> Iterator[tuple[str, str]]:
    every = timing.every
    if every is not None and not MIN_EVERY <= every <= MAX_EVERY:
        yield "every", f"must be from 1 s to 366 days; got {_length(every)}"
    if every is None and timing.phase:
        got = _length(timing.phase)
        yield "phase", f"must be given with `every` only; got {got}"
    elif every is not None and not _ZERO <= timing.phase < max(every, MIN_EVERY):
        got = _length(timing.phase)
        yield "phase", f"must be from 0 s to below `every`, {_length(every)}; got {got}"
    if not _ZERO <= timing.jitter <= MAX_JITTER:
        yield "jitter", f"must be from 0 s to 1 day; got {_length(timing.jitter)}"
    start, end = timing.start_at, timing.end_at
    if start is not None and end is not None and start >= end:
        yield "end_at", f"must be after `start_at`, {_utc(start)}; got {_utc(end)}"


def _zone_problems(timing: Timing) -> Iterator[tuple[str, str]]:
    if timing.zone not in zone_names():
        got = shown(timing.zone)
        yield "zone", f"must be a name of the IANA database, such as Europe/Berlin; got {got}"


def _never(timing: Timing) -> str:
    """What is said of a timing that never fires."""
    got = shown(timing.cron) if timing.cron else _utc(timing.at) if timing.at else ""
    got = got or f"every {_length(timing.every or _ZERO)}"
    if timing.start_at is None and timing.end_at is None:
        return f"must name a date that comes within 50 years; got {got}"
    start = _utc(timing.start_at) if timing.start_at else "1970"
    end = _utc(timing.end_at) if timing.end_at else "9999"
    return f"must fire from `start_at`, {start}, to before `end_at`, {end}; got {got}"


# --- words --------------------------------------------------------------------------------------


def _utc(instant: dt.datetime) -> str:
    return instant.isoformat(" ").replace("+00:00", " UTC")


def _local(instant: dt.datetime, zone_name: str) -> str:
    shown = on_the_wall(get_zone(zone_name), instant)
    return f"{shown.isoformat(' ').removesuffix(':00')}, {zone_name}"


def _length(length: dt.timedelta) -> str:
    """A duration such as `1 h 30 min`."""
    left = abs(length) // _MICROSECOND
    said = []
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        said += [f"{count} {unit}"] if count else []
    said += [f"{left} µs"] if left else []
    return ("-" if length < _ZERO else "") + (" ".join(said) or "0 s")
