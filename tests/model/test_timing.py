"""When a schedule fires: order, bounds, resumption, jitter, and what happens when clocks change."""

import datetime as dt
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobservice.clock import EPOCH
from jobservice.model.timing import Fire, Timing, due_at, fires, in_words, problems
from jobservice.model.zone import zone_names

SEED = "acme/nightly"
SECOND, DAY = dt.timedelta(seconds=1), dt.timedelta(days=1)
ZERO = dt.timedelta(0)


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def some(timing: Timing, after: dt.datetime, count: int = 12) -> list[Fire]:
    return list(islice(fires(timing, seed=SEED, after=after), count))


def shown(expression: str, zone: str, after: str, count: int) -> list[tuple[str, str]]:
    """The fires, in UTC, and their notes."""
    found = some(Timing(cron=expression, zone=zone), utc(after), count)
    return [(f"{each.nominal_at:%Y-%m-%d %H:%M}", each.note) for each in found]


# --- changes of the clocks ----------------------------------------------------------------------

SKIPPED = "{} is skipped by a change of the clocks; it fires at {} instead."
TWICE = "{} comes twice by a change of the clocks; the first fires."
AGAIN = "{} comes for the second time by a change of the clocks."


def test_a_time_skipped_in_spring_fires_at_the_next_valid_instant() -> None:
    assert shown("30 2 * * *", "Europe/Berlin", "2026-03-28 00:00", 3) == [
        ("2026-03-28 01:30", ""),
        ("2026-03-29 01:00", SKIPPED.format("02:30", "03:00")),
        ("2026-03-30 00:30", ""),
    ]


def test_times_skipped_together_fire_once() -> None:
    assert shown("0,30 2,3 * * *", "Europe/Berlin", "2026-03-29 00:00", 3) == [
        ("2026-03-29 01:00", SKIPPED.format("02:00", "03:00")),
        ("2026-03-29 01:30", ""),
        ("2026-03-30 00:00", ""),
    ]


def test_a_time_repeated_in_autumn_fires_the_first_time() -> None:
    assert shown("30 1 * * *", "America/New_York", "2026-10-31 12:00", 2) == [
        ("2026-11-01 05:30", TWICE.format("01:30")),
        ("2026-11-02 06:30", ""),
    ]


def test_each_elapsed_hour_counts_when_it_goes_on_in_real_time() -> None:
    assert shown("0 * * * *", "Europe/Berlin", "2026-03-29 00:30", 2) == [
        ("2026-03-29 01:00", ""),
        ("2026-03-29 02:00", ""),
    ]
    assert shown("0 * * * *", "Europe/Berlin", "2026-10-24 23:30", 4) == [
        ("2026-10-25 00:00", ""),
        ("2026-10-25 01:00", AGAIN.format("02:00")),
        ("2026-10-25 02:00", ""),
        ("2026-10-25 03:00", ""),
    ]


def test_clocks_may_change_by_half_an_hour() -> None:
    assert shown("15 2 * * *", "Australia/Lord_Howe", "2026-10-03 00:00", 2) == [
        ("2026-10-03 15:30", SKIPPED.format("02:15", "02:30")),
        ("2026-10-04 15:15", ""),
    ]
    assert shown("*/20 1 * * *", "Australia/Lord_Howe", "2026-04-04 12:00", 5) == [
        ("2026-04-04 14:00", ""),
        ("2026-04-04 14:20", ""),
        ("2026-04-04 14:40", ""),
        ("2026-04-04 15:10", AGAIN.format("01:40")),
        ("2026-04-05 14:30", ""),
    ]


def test_a_whole_day_may_be_skipped() -> None:
    moved = SKIPPED.format("2011-12-30 07:00", "2011-12-31 00:00")
    assert shown("0 7 * * *", "Pacific/Apia", "2011-12-29 00:00", 3) == [
        ("2011-12-29 17:00", ""),
        ("2011-12-30 10:00", moved),
        ("2011-12-30 17:00", ""),
    ]
    assert shown("0 0 30,31 12 *", "Pacific/Apia", "2011-12-29 00:00", 2) == [
        ("2011-12-30 10:00", moved.replace("07:00", "00:00")),
        ("2012-12-29 10:00", ""),
    ]


@pytest.mark.parametrize(
    ("zone", "after", "fired", "to"),
    [
        ("America/Sao_Paulo", "2018-11-03 12:00", "2018-11-04 03:00", "01:00"),
        ("Africa/Cairo", "2026-04-23 12:00", "2026-04-23 22:00", "01:00"),
        ("Asia/Beirut", "2026-03-28 12:00", "2026-03-28 22:00", "01:00"),
    ],
)
def test_midnight_may_be_skipped(zone: str, after: str, fired: str, to: str) -> None:
    assert shown("0 0 * * *", zone, after, 1) == [(fired, SKIPPED.format("00:00", to))]


def test_midnight_may_be_repeated() -> None:
    assert shown("0 0 * * *", "Atlantic/Azores", "2026-10-24 12:00", 2) == [
        ("2026-10-25 00:00", TWICE.format("00:00")),
        ("2026-10-26 01:00", ""),
    ]


def test_a_zone_may_change_its_rules() -> None:
    """Samoa gave up daylight saving in 2021, and Turkey stayed at summer time from 2016 on."""
    assert shown("0 9 1 11 *", "Pacific/Apia", "2020-01-01 00:00", 2) == [
        ("2020-10-31 19:00", ""),
        ("2021-10-31 20:00", ""),
    ]
    assert shown("0 9 1 12 *", "Europe/Istanbul", "2015-01-01 00:00", 2) == [
        ("2015-12-01 07:00", ""),
        ("2016-12-01 06:00", ""),
    ]


def test_a_change_need_not_be_a_whole_minute() -> None:
    [(at, note)] = shown("30 0 7 1 *", "Africa/Monrovia", "1972-01-01 00:00", 1)
    assert (at, note) == ("1972-01-07 00:44", SKIPPED.format("00:30", "00:44"))


# --- intervals, one instant, bounds -------------------------------------------------------------


def test_intervals_are_counted_from_1970_plus_the_phase() -> None:
    timing = Timing(every=dt.timedelta(hours=1), phase=dt.timedelta(minutes=5))
    assert [each.nominal_at for each in some(timing, utc("2026-01-01 00:05"), 2)] == [
        utc("2026-01-01 01:05"),
        utc("2026-01-01 02:05"),
    ]


def test_one_instant_fires_once() -> None:
    at = utc("2026-05-01 10:00")
    assert some(Timing(at=at), at - SECOND) == [Fire(at)]
    assert some(Timing(at=at), at) == []


def test_the_start_is_included_and_the_end_is_not() -> None:
    start, end = utc("2026-05-01 10:00"), utc("2026-05-01 12:00")
    for timing in (Timing(cron="0 * * * *"), Timing(every=dt.timedelta(hours=1))):
        bounded = Timing(cron=timing.cron, every=timing.every, start_at=start, end_at=end)
        assert [each.nominal_at.hour for each in some(bounded, EPOCH)] == [10, 11]


def test_what_never_comes_ends() -> None:
    for expression in ("0 0 30 2 *", "0 0 31 4,6 *", "* * */20 * 1L"):
        assert some(Timing(cron=expression), utc("2026-01-01 00:00")) == []


def test_what_comes_each_40_years_is_found() -> None:
    found = some(Timing(cron="0 0 * 2 MON#5"), utc("2072-03-01 00:00"), 1)
    assert found == [Fire(utc("2112-02-29 00:00"))]


@pytest.mark.parametrize("timing", [Timing(cron="* * * * *"), Timing(every=DAY * 366)])
def test_the_calendar_has_an_end(timing: Timing) -> None:
    assert len(list(fires(timing, seed=SEED, after=utc("9999-12-30 23:50")))) < 10
    assert some(timing, dt.datetime.max.replace(tzinfo=dt.UTC)) == []


# --- properties ---------------------------------------------------------------------------------


def field(low: int, high: int) -> st.SearchStrategy[str]:
    """One field of an expression, with everything that any of them takes."""
    number = st.integers(low, high)
    rising = st.tuples(number, number).map(sorted)
    term = st.one_of(
        st.just("*"),
        number.map(str),
        rising.map(lambda ends: f"{ends[0]}-{ends[1]}"),
        st.integers(1, high).map(lambda step: f"*/{step}"),
        st.just("H"),
        st.integers(1, high).map(lambda step: f"H/{step}"),
        rising.map(lambda ends: f"H({ends[0]}-{ends[1]})"),
        st.tuples(rising, st.integers(1, high)).map(lambda of: f"{of[0][0]}-{of[0][1]}/{of[1]}"),
    )
    return st.lists(term, min_size=1, max_size=3).map(",".join)


expressions = st.tuples(
    field(0, 59),
    field(0, 23),
    field(1, 31) | st.sampled_from(["*", "*", "L", "LW"]),
    field(1, 12) | st.just("*"),
    field(0, 7) | st.sampled_from(["*", "*", "5L", "SUN#2"]),
).map(" ".join)
# The hours around a change of the clocks are the ones to look at.
instants = st.one_of(
    st.timedeltas(DAY, DAY * 50_000).map(lambda since: EPOCH + since),
    st.sampled_from([utc("2026-03-29 01:00"), utc("2026-10-25 01:00"), utc("2026-11-01 06:00")])
    .flatmap(lambda at: st.timedeltas(-DAY, DAY).map(lambda away: at + away)),
)  # fmt: skip
zones = st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]) | (
    st.sampled_from(sorted(zone_names()))
)
intervals = st.timedeltas(SECOND, dt.timedelta(days=366))
timings = st.one_of(
    st.builds(Timing, cron=expressions, zone=zones, jitter=st.timedeltas(ZERO, DAY)),
    intervals.flatmap(
        lambda every: st.builds(
            Timing,
            every=st.just(every),
            phase=st.timedeltas(ZERO, every - dt.timedelta(microseconds=1)),
            jitter=st.timedeltas(ZERO, DAY),
        )
    ),
)


@given(timings, instants)
def test_fires_rise_and_come_after(timing: Timing, after: dt.datetime) -> None:
    nominal = [after, *(each.nominal_at for each in some(timing, after))]
    assert all(one < other for one, other in pairwise(nominal))


@given(timings, instants)
def test_what_follows_a_fire_is_the_same_wherever_one_begins(
    timing: Timing, after: dt.datetime
) -> None:
    whole = some(timing, after)
    for number, fire in enumerate(whole, 1):
        rest = len(whole) - number
        assert some(timing, fire.nominal_at, rest) == whole[number:]


@given(timings, instants, st.timedeltas(SECOND, DAY * 400), st.timedeltas(SECOND, DAY * 400))
def test_bounds_take_away_and_change_nothing_else(
    timing: Timing, after: dt.datetime, late: dt.timedelta, span: dt.timedelta
) -> None:
    start = after + late
    bounded = Timing(
        timing.cron, timing.every, timing.phase, timing.at, timing.zone, start, start + span
    )
    free = some(timing, start - dt.timedelta(microseconds=1))
    assert some(bounded, after) == [each for each in free if each.nominal_at < start + span]


@given(timings, instants)
def test_jitter_is_always_the_same_and_keeps_the_order(timing: Timing, after: dt.datetime) -> None:
    found = some(timing, after, 4)
    due = [due_at(timing, each, seed=SEED) for each in found]
    assert due == [due_at(timing, each, seed=SEED) for each in found]
    assert due == sorted(set(due))
    for fire, at in zip(found, due, strict=True):
        assert ZERO <= at - fire.nominal_at <= max(timing.jitter - SECOND / 1_000_000, ZERO)


@given(intervals, st.data(), instants)
def test_intervals_stay_aligned(
    every: dt.timedelta, data: st.DataObject, after: dt.datetime
) -> None:
    phase = data.draw(st.timedeltas(ZERO, every - SECOND / 1_000_000))
    for fire in some(Timing(every=every, phase=phase), after, 3):
        assert (fire.nominal_at - EPOCH - phase) % every == ZERO


@given(timings)
def test_a_valid_timing_has_words_or_never_fires(timing: Timing) -> None:
    found = problems(timing, SEED)
    assert all("within 50 years" in message for _, message in found)
    assert in_words(timing, SEED).isprintable()


@given(st.text(max_size=20) | st.text("*/-,HL#()0123456789 SUNMOJA@", max_size=20))
def test_no_text_breaks_the_reading(text: str) -> None:
    timing = Timing(cron=text)
    if not problems(timing, SEED):
        assert some(timing, EPOCH, 1)
        assert in_words(timing, SEED)


def test_jitter_differs_between_schedules_and_fires() -> None:
    timing = Timing(cron="0 * * * *", jitter=dt.timedelta(minutes=30))
    first, second = some(timing, EPOCH, 2)
    late = {
        due_at(timing, first, seed="a/x") - first.nominal_at,
        due_at(timing, first, seed="a/y") - first.nominal_at,
        due_at(timing, second, seed="a/x") - second.nominal_at,
    }
    assert len(late) == 3
