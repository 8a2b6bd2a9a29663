"""Cron by brute force: every minute of UTC is asked what the clocks on the wall show.

It shares nothing with `jobservice.model`: it reads expressions by itself and walks, where the model
computes. Slow, and so simple that it can be checked by reading.
"""

import calendar
import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from zoneinfo import ZoneInfo

MINUTE = dt.timedelta(minutes=1)
DAY = dt.timedelta(days=1)
MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
WEEKDAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]


@dataclass(frozen=True)
class Walk:
    """What the clocks show from minute to minute, as minutes of the wall since its first day."""

    first_day: dt.date
    begin: dt.datetime
    shown: list[int]
    """What is shown at each minute from `begin`."""
    reached: dict[int, int]
    """For each minute of the wall, when it is shown or passed over for the first time."""
    days: int


def walk(zone: ZoneInfo, begin: dt.datetime, end: dt.datetime) -> Walk:
    first_day = begin.astimezone(zone).date() - DAY
    shown: list[int] = []
    reached: dict[int, int] = {}
    latest: int | None = None
    at = begin
    while at < end:
        wall = at.astimezone(zone)
        minute = (wall.toordinal() - first_day.toordinal()) * 1440 + wall.hour * 60 + wall.minute
        if latest is None:
            latest = minute - 1
        while latest < minute:
            latest += 1
            reached[latest] = len(shown)
        shown.append(minute)
        at += MINUTE
    return Walk(first_day, begin, shown, reached, max(shown) // 1440 + 1)


def expected(expression: str, walked: Walk, begin: dt.datetime) -> list[dt.datetime]:
    """When it fires from `begin` (that of the walk, or later) to the end of the walk."""
    minute_field, hour_field, *_ = expression.split()
    first = (begin - walked.begin) // MINUTE
    named = set(minutes_of_the_wall(expression, walked))
    if minute_field[0] == "*" or hour_field[0] == "*":
        hits = [index for index, minute in enumerate(walked.shown) if minute in named]
    else:
        hits = sorted({walked.reached[minute] for minute in named if minute in walked.reached})
    return [walked.begin + hit * MINUTE for hit in hits if hit >= first]


def minutes_of_the_wall(expression: str, walked: Walk) -> Iterator[int]:
    minute_field, hour_field, *day_fields = expression.split()
    minutes, hours = numbers(minute_field, 0, 59), numbers(hour_field, 0, 23)
    times = [hour * 60 + minute for hour in sorted(hours) for minute in sorted(minutes)]
    for number in range(walked.days):
        if is_day(walked.first_day + number * DAY, *day_fields):
            yield from (number * 1440 + time for time in times)


def is_day(date: dt.date, days: str, months: str, weekdays: str) -> bool:
    if date.month not in numbers(months, 1, 12, MONTHS, 1):
        return False
    by_day = any(day_of_the_month(date, term) for term in days.split(","))
    by_weekday = any(day_of_the_week(date, term) for term in weekdays.split(","))
    if days[0] == "*" or weekdays[0] == "*":
        return by_day and by_weekday
    return by_day or by_weekday


def day_of_the_month(date: dt.date, term: str) -> bool:
    last = calendar.monthrange(date.year, date.month)[1]
    if term == "L":
        return date.day == last
    if term == "LW":
        work = [day for day in range(1, last + 1) if date.replace(day=day).weekday() < 5]
        return date.day == work[-1]
    return date.day in numbers(term, 1, 31)


def day_of_the_week(date: dt.date, term: str) -> bool:
    if term.endswith("L"):
        return day_of_the_week(date, term[:-1]) and (date + 7 * DAY).month != date.month
    if "#" in term:
        weekday, nth = term.split("#")
        return day_of_the_week(date, weekday) and (date.day - 1) // 7 + 1 == int(nth)
    return date.isoweekday() % 7 in {each % 7 for each in numbers(term, 0, 7, WEEKDAYS)}


def numbers(
    field: str, low: int, high: int, names: list[str] | None = None, base: int = 0
) -> set[int]:
    found: set[int] = set()
    for term in field.split(","):
        span, _, step = term.partition("/")
        first, _, last = span.partition("-")
        ends = [
            base + names.index(each) if names and each in names else int(each)
            for each in (first, last)
            if each and each != "*"
        ]
        if span == "*":
            ends = [low, high]
        elif len(ends) == 1 and step:
            ends.append(high)
        found.update(range(ends[0], ends[-1] + 1, int(step or 1)))
    return found


def changes(zone: ZoneInfo, begin: dt.datetime, end: dt.datetime) -> list[dt.datetime]:
    """The instants at which the clocks change, to the minute; none are within six days of another."""
    found = []
    step = 4096 * MINUTE
    at = begin
    offset = at.astimezone(zone).utcoffset()
    while at < end:
        low, at = at, at + step
        new = at.astimezone(zone).utcoffset()
        if new != offset:
            high = at
            while high - low > MINUTE:
                middle = low + (high - low) / 2
                if middle.astimezone(zone).utcoffset() == offset:
                    low = middle
                else:
                    high = middle
            found.append(high)
            offset = new
    return found
