"""When the runner tells the worker of an end: at once, or with others."""

import pytest

from jobservice.runner import limits
from jobservice.runner.protocol import End
from jobservice.runner.reports import Reports


def reports_with(ends: int) -> Reports:
    reports = Reports()
    for number in range(ends):
        values = dict.fromkeys(End._fields)
        reports.add_end(End(**{**values, "key": f"job-{number}"}))  # type: ignore[arg-type]
    return reports


@pytest.mark.parametrize(
    ("live", "ends", "waits"),
    [
        (1, 1, False),
        (limits.COALESCE_LIVE, 1, False),
        (32, 1, True),
        (32, 7, True),
        (32, 8, False),
        (5_000, limits.COALESCE_ENDS - 1, True),
        (5_000, limits.COALESCE_ENDS, False),
    ],
)
def test_an_end_waits_only_in_a_crowd(live: int, ends: int, waits: bool) -> None:
    wait_s = reports_with(ends).wait_s(live)
    assert (wait_s > 0) is waits
    assert wait_s <= limits.COALESCE_S


def test_no_end_waits_longer_than_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    reports = reports_with(1)
    monkeypatch.setattr(limits, "COALESCE_S", 0.0)
    assert reports.wait_s(32) == 0.0
