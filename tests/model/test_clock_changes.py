"""Cron when the clocks change, against brute force, for every zone and 20 years."""

import datetime as dt
import random
import zoneinfo
from dataclasses import dataclass
from functools import cache
from importlib import resources

import pytest

from jobservice.model.timing import Timing, fires
from jobservice.model.zone import get_zone, zone_names
from tests.model import oracle

BEGIN, END = dt.datetime(2010, 1, 1, tzinfo=dt.UTC), dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
EXPRESSIONS = [
    # times of the day, where clocks change: once each
    "0 0 * * *", "30 0 * * *", "59 23 * * *", "0 1 * * *", "15 1 * * *", "30 1 * * *",
    "59 1 * * *", "0 2 * * *", "1 2 * * *", "30 2 * * *", "59 2 * * *", "0 3 * * *",
    "45 3 * * *", "0 4 * * *", "0 12 * * *", "0 23 * * *", "15 22 * * *",
    # several of them, skipped or repeated together
    "0,30 1,2 * * *", "0,30 2-3 * * *", "*,30 2-3 * * *", "10-50/10 2 * * *", "5/20 0-4 * * *",
    "30 0-23 * * *", "0 0-23/2 * * *", "0,15,30,45 0-3 * * *", "0-59 2 * * *", "0 0,23 * * *",
    # in real time
    "* * * * *", "*/10 * * * *", "*/7 * * * *", "0 * * * *", "30 * * * *", "17,47 * * * *",
    "0 */2 * * *", "30 */2 * * *", "15 */3 * * *", "* 2 * * *", "*/10 2 * * *", "*/30 0-3 * * *",
    "*/15 0 * * *", "20-40/10 * * * *", "5/25 * * * *",
    # on some days
    "30 2 * * SUN", "0 0 * * 7", "30 1 * * 0,5-6", "0 2 * * MON-FRI", "30 2 L * *", "0 3 LW * *",
    "30 2 * * 7L", "30 1 * * 0L", "30 2 * MAR SUN#2", "30 1 * NOV SUN#1", "0 0 1 * *",
    "0 0 30 DEC *", "30 12 30-31 12 *", "0 2 */2 * *", "30 2 */2 * SUN", "0 1 8-14 * SUN",
    "30 2 1,15 * SUN", "*/20 * * * 7L", "0 */6 1-7 * 6", "0 0 1 JAN *", "5 0 29 2 *",
]  # fmt: skip
PARTS = 4
NEAR = dt.timedelta(hours=30)
NEAR_IF_HOURLY = dt.timedelta(hours=4)
"""More than what any clocks were set back by."""


def near(expression: str) -> dt.timedelta:
    """How far around a change an expression is compared."""
    return NEAR_IF_HOURLY if expression.split()[1] == "*" else NEAR


@dataclass(frozen=True)
class Window:
    """A change of the clocks, and a zone that it is seen in."""

    zone: str
    change: dt.datetime
    before: dt.timedelta | None
    after: dt.timedelta | None


@cache
def windows() -> list[Window]:
    """Each change once, for the first of the zones that made the same one."""
    found: dict[tuple[object, ...], Window] = {}
    files = resources.files("tzdata") / "zoneinfo"
    names = {files.joinpath(name).read_bytes(): name for name in sorted(zone_names())}
    for name in names.values():  # one name of each zone that has several
        zone = get_zone(name)
        for change in oracle.changes(zone, BEGIN, END):
            before = (change - oracle.MINUTE).astimezone(zone).utcoffset()
            after = change.astimezone(zone).utcoffset()
            found.setdefault((change, before, after), Window(name, change, before, after))
    return list(found.values())


def assert_as_expected(window: Window, expressions: list[str]) -> None:
    zone = get_zone(window.zone)
    walked = oracle.walk(zone, window.change - NEAR, window.change + NEAR)
    for expression in expressions:
        begin, end = window.change - near(expression), window.change + near(expression)
        timing = Timing(cron=expression, zone=window.zone, end_at=end)
        got = [fire.nominal_at for fire in fires(timing, seed="", after=begin - oracle.MINUTE / 60)]
        want = [at for at in oracle.expected(expression, walked, begin) if at < end]
        assert got == want, (window, expression)


def test_every_zone_of_the_library_is_known() -> None:
    assert zone_names() <= zoneinfo.available_timezones()
    assert {"UTC", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia"} <= zone_names()


def test_near_changes_of_the_clocks_cron_fires_as_brute_force_says() -> None:
    """A fixed sample, and each expression in it."""
    some = random.Random(1883).sample(windows(), len(EXPRESSIONS) // 2)
    for number, window in enumerate(some):
        assert_as_expected(window, EXPRESSIONS[number :: len(some)])


@pytest.mark.parametrize(
    "expression", ["*/10 * * * *", "0 * * * *", "40 */2 * * *", "30 0-4 * * *"]
)
def test_near_changes_of_the_clocks_the_rest_is_the_same_wherever_one_begins(
    expression: str,
) -> None:
    for window in random.Random(1884).sample(windows(), 20):
        end = window.change + NEAR_IF_HOURLY
        timing = Timing(cron=expression, zone=window.zone, end_at=end)
        whole = list(fires(timing, seed="", after=window.change - NEAR_IF_HOURLY))
        for number, fire in enumerate(whole, 1):
            assert list(fires(timing, seed="", after=fire.nominal_at)) == whole[number:], window


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS))
def test_near_every_change_of_20_years_cron_fires_as_brute_force_says(part: int) -> None:
    assert len(EXPRESSIONS) >= 50
    for window in windows()[part::PARTS]:
        assert_as_expected(window, EXPRESSIONS)
