"""Cron expressions: what is refused and how, what `H` draws, and the words."""

import datetime as dt

import pytest

from jobservice.clock import EPOCH
from jobservice.model import cron
from jobservice.model.timing import Timing, fires, in_words, problems

FORMS = "a list of such, `*`, rising ranges a-b, steps */n, or H"
MINUTE = f"the minute must be 0 to 59, {FORMS}; got "
HOUR = f"the hour must be 0 to 23, {FORMS}; got "
DAY = f"the day of the month must be 1 to 31, L or LW, {FORMS}; got "
MONTH = f"the month must be 1 to 12 or JAN to DEC, {FORMS}; got "
WEEKDAY = (
    "the day of the week must be 0 to 7 or SUN to SAT (0 and 7 are Sunday), 5L or 5#2, "
    f"{FORMS}; got "
)
FIVE = (
    "must be five fields (minute, hour, day of the month, month, day of the week), such as "
    "`30 2 * * MON`, or one of @hourly @daily @midnight @weekly @monthly @yearly @annually; got "
)

BAD = [
    ("60 * * * *", [MINUTE + '"60"']),
    ("-1 * * * *", [MINUTE + '"-1"']),
    ("1,,2 * * * *", [MINUTE + '""']),
    ("*/0 * * * *", [MINUTE + '"*/0"']),
    ("*/60 * * * *", [MINUTE + '"*/60"']),
    ("1,99,a * * * *", [MINUTE + '"99"', MINUTE + '"A"']),
    ("30-10 * * * *", [MINUTE + '"30-10"']),
    ("² * * * *", [MINUTE + '"²"']),
    ("H(50-60) * * * *", [MINUTE + '"H(50-60)"']),
    ("H(9-3)/2 * * * *", [MINUTE + '"H(9-3)/2"']),
    ("H/0 * * * *", [MINUTE + '"H/0"']),
    ("1.5 * * * *", [MINUTE + '"1.5"']),
    ("0 24 * * *", [HOUR + '"24"']),
    ("0 L * * *", [HOUR + '"L"']),
    ("0 0 0 * *", [DAY + '"0"']),
    ("0 0 32 * *", [DAY + '"32"']),
    ("0 0 H(0-5) * *", [DAY + '"H(0-5)"']),
    ("0 0 * 13 *", [MONTH + '"13"']),
    ("0 0 * JANUARY *", [MONTH + '"JANUARY"']),
    ("0 0 * * 8", [WEEKDAY + '"8"']),
    ("0 0 * * FRI-SUN", [WEEKDAY + '"FRI-SUN"']),
    ("0 0 * * MON#6", [WEEKDAY + '"MON#6"']),
    ("0 0 * * MONL", [WEEKDAY + '"MONL"']),
    ("0 0 * * \u017fun", [WEEKDAY + '"\u017fun"']),
    ("61 25 0 0 9", [
        MINUTE + '"61"', HOUR + '"25"', DAY + '"0"', MONTH + '"0"', WEEKDAY + '"9"',
    ]),
    ("* * * *", [FIVE + '"* * * *"']),
    ("0 * * * * *", [FIVE + '"0 * * * * *"']),
    ("@reboot", [FIVE + '"@reboot"']),
    ("@every 5m", [FIVE + '"@every 5m"']),
    (" ", [FIVE + '" "']),
    ("x" * 100, [FIVE + f'"{"x" * 60}…"']),
    ("0," * 200, ["must be at most 256 characters; got 400"]),
    ("0 0 30 2 *", ['must name a date that comes within 50 years; got "0 0 30 2 *"']),
    ("0 0 31 4,6 *", ['must name a date that comes within 50 years; got "0 0 31 4,6 *"']),
]  # fmt: skip


@pytest.mark.parametrize(("text", "messages"), BAD)
def test_a_bad_expression_is_refused_with_value_and_remedy(text: str, messages: list[str]) -> None:
    assert problems(Timing(cron=text), "acme/x") == [("cron", message) for message in messages]


HOUR_LONG, SECOND = dt.timedelta(hours=1), dt.timedelta(seconds=1)


@pytest.mark.parametrize(
    ("timing", "found"),
    [
        (Timing(), [("cron", "must be given, or `every` or `at` instead of it")]),
        (
            Timing(cron="* * * * *", every=HOUR_LONG, at=EPOCH),
            [
                ("every", "must not be given together with `cron`; leave out one of the two"),
                ("at", "must not be given together with `every`; leave out one of the two"),
            ],
        ),
        (
            Timing(every=dt.timedelta(0), jitter=-SECOND, zone="Mars/Base"),
            [
                ("every", "must be from 1 s to 366 days; got 0 s"),
                ("jitter", "must be from 0 s to 1 day; got -1 s"),
                (
                    "zone",
                    'must be a name of the IANA database, such as Europe/Berlin; got "Mars/Base"',
                ),
            ],
        ),
        (
            Timing(every=dt.timedelta(days=367), phase=dt.timedelta(days=400)),
            [
                ("every", "must be from 1 s to 366 days; got 367 d"),
                ("phase", "must be from 0 s to below `every`, 367 d; got 400 d"),
            ],
        ),
        (
            Timing(cron="@daily", phase=SECOND, jitter=dt.timedelta(hours=25)),
            [
                ("phase", "must be given with `every` only; got 1 s"),
                ("jitter", "must be from 0 s to 1 day; got 1 d 1 h"),
            ],
        ),
        (
            Timing(cron="@daily", start_at=EPOCH, end_at=EPOCH),
            [
                (
                    "end_at",
                    (
                        "must be after `start_at`, 1970-01-01 00:00:00 UTC; "
                        "got 1970-01-01 00:00:00 UTC"
                    ),
                )
            ],
        ),
        (
            Timing(at=EPOCH, start_at=EPOCH + SECOND),
            [
                (
                    "at",
                    (
                        "must fire from `start_at`, 1970-01-01 00:00:01 UTC, to before `end_at`, "
                        "9999; got 1970-01-01 00:00:00 UTC"
                    ),
                )
            ],
        ),
        (
            Timing(every=HOUR_LONG, start_at=EPOCH + SECOND, end_at=EPOCH + HOUR_LONG),
            [
                (
                    "every",
                    (
                        "must fire from `start_at`, 1970-01-01 00:00:01 UTC, to before `end_at`, "
                        "1970-01-01 01:00:00 UTC; got every 1 h"
                    ),
                )
            ],
        ),
    ],
)
def test_a_bad_timing_is_refused_with_everything_at_once(
    timing: Timing, found: list[tuple[str, str]]
) -> None:
    assert problems(timing, "acme/x") == found


@pytest.mark.parametrize(
    "zone", ["", "..", "/etc/passwd", "America", "europe/berlin", "right/UTC", "\0"]
)
def test_only_the_names_of_the_database_are_zones(zone: str) -> None:
    [(field, _)] = problems(Timing(cron="@daily", zone=zone), "acme/x")
    assert field == "zone"


@pytest.mark.parametrize(
    ("alias", "text"),
    [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@Weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        (" @yearly ", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("5  4\t* jan sun", "5 4 * JAN SUN"),
        ("9-9/10 * * * *", "9 * * * *"),
    ],
)
def test_an_expression_is_read(alias: str, text: str) -> None:
    assert cron.problems(alias, "acme/x") == []
    assert cron.read(alias, "acme/x").text == text


@pytest.mark.parametrize(
    ("text", "in_real_time"),
    [
        ("0 * * * *", True),
        ("*/10 2 * * *", True),
        ("0 */2 * * *", True),
        ("H H/3 * * *", True),
        ("H H * * *", False),
        ("30 2 * * *", False),
        ("0 0-23 * * *", False),
        ("30 2 */2 * *", False),
    ],
)
def test_what_begins_with_a_star_goes_on_in_real_time(text: str, in_real_time: bool) -> None:
    assert cron.read(text, "acme/x").in_real_time is in_real_time


def test_h_is_drawn_from_the_name_and_spread_over_the_field() -> None:
    names = [f"acme/{number}" for number in range(2000)]
    drawn = [cron.read("H H H H H", name).text for name in names]
    assert drawn == [cron.read("h h h h h", name).text for name in names]
    columns = list(zip(*(map(int, each.split()) for each in drawn), strict=True))
    for column, (low, high) in zip(
        columns, [(0, 59), (0, 23), (1, 28), (1, 12), (0, 6)], strict=True
    ):
        assert set(column) == set(range(low, high + 1))
    assert len(set(zip(columns[0], columns[1], strict=True))) > 900  # fields are drawn apart


def test_h_is_drawn_within_its_range_and_step() -> None:
    for number in range(500):
        name = f"acme/{number}"
        assert 10 <= int(cron.read("H(10-19) * * * *", name).text.split()[0]) <= 19
        timing = Timing(cron="H/15 H(1-5)/2 * * *")
        assert problems(timing, name) == []
        found = [
            each.nominal_at
            for _, each in zip(range(12), fires(timing, seed=name, after=EPOCH), strict=False)
        ]
        minutes = sorted({at.minute for at in found})
        assert [minute - minutes[0] for minute in minutes] == [0, 15, 30, 45]
        assert {at.hour for at in found} <= {1, 2, 3, 4, 5}


def test_the_draws_never_change() -> None:
    """They decide when schedules of others fire: an upgrade must not move them."""
    assert cron.read("H H H H H", "acme/nightly").text == "34 23 9 10 0"


@pytest.mark.parametrize(
    ("timing", "words"),
    [
        (Timing(cron="30 2 * * MON", zone="Europe/Berlin"), "at 02:30 on Monday, Europe/Berlin"),
        (Timing(cron="*/10 * * * *"), "every 10th minute of every hour, UTC"),
        (Timing(cron="0 0 21,22 * *"), "at 00:00 on the 21st and the 22nd day of month, UTC"),
        (Timing(cron="0 0 31 * *"), "at 00:00 on the 31st day of every month, UTC"),
        (Timing(cron="0 0 L * *"), "at 00:00 on the last day of every month, UTC"),
        (Timing(cron="@hourly"), "at the start of every hour, UTC"),
        (Timing(cron="0 9 * * MON#1"), "at 09:00 on the first Monday of the month, UTC"),
        (Timing(every=dt.timedelta(minutes=90)), "every 1 h 30 min"),
        (
            Timing(every=HOUR_LONG, phase=SECOND / 2, jitter=dt.timedelta(seconds=10)),
            "every 1 h, 500 ms into it, up to 10 s later",
        ),
        (
            Timing(at=dt.datetime(2026, 7, 1, 10, tzinfo=dt.UTC), zone="Asia/Tokyo"),
            "once, at 2026-07-01 19:00, Asia/Tokyo",
        ),
        (
            Timing(cron="@daily", start_at=EPOCH, end_at=EPOCH + 400 * HOUR_LONG),
            "at 00:00 every day, UTC, from 1970-01-01 00:00, UTC, until 1970-01-17 16:00, UTC",
        ),
    ],
)
def test_a_timing_is_said_in_words(timing: Timing, words: str) -> None:
    assert problems(timing, "acme/x") == []
    assert in_words(timing, "acme/x") == words
