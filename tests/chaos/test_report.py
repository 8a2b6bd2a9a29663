"""The report of `make chaos`, and the arithmetic of its figures."""

from pathlib import Path

import pytest

from jobservice.testing.history.check import INVARIANTS, check
from jobservice.testing.history.history import History
from tests.chaos import report
from tests.chaos.figures import Partitions, Restarts, rate, recovery
from tests.chaos.rounds import Plan, Result, summary
from tests.testing.histories import good

_S = 1_000_000_000
STEADY = [n * _S // 10 for n in range(300)]
"""Ten ends a second for 30 s."""


def test_a_rate_is_what_ended_in_a_span() -> None:
    assert rate(STEADY, 5 * _S, 10 * _S) == pytest.approx(10)


def test_work_has_recovered_once_it_ends_as_fast_as_before() -> None:
    without = [at for at in STEADY if not 10 * _S <= at < 17 * _S]
    found = recovery(without, 12 * _S, 30 * _S, usual=10)
    assert found == pytest.approx(5, abs=0.5)
    assert recovery(STEADY, 12 * _S, 30 * _S, usual=10) == 0
    assert recovery(without, 10 * _S, 16 * _S, usual=10) is None


def test_a_report_says_what_was_done_and_what_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "REPORT", tmp_path / "report.md")
    entries = [*good(), {"what": "left", "by": "h", "at": 1, "kind": "process", "name": "a | b"}]
    verdict = check(History.of(sorted(entries, key=lambda entry: entry["at"])))
    result = Result(Plan("sqlite", 4711, 50, 5_000, 1), verdict, 61.0, tmp_path)
    restarts = Restarts(1, verdict, 120.0, [1.0, 2.5], [5.25])
    report.write_report([result], restarts, Partitions(2, verdict, [3.0, 110.0], 4))
    text = report.REPORT.read_text()
    assert "| sqlite | 1 | 0 | 4711 | 1 | 6 | 61 s | failed |" in text
    assert "| 4711 | the_world_is_clean | process: a \\| b |" in text
    assert "| 90 % of it again after | 2.5 s at the longest |" in text
    assert "| killed again before that | 1 times, up for 5.2 s at the longest |" in text
    assert "| the longest | 110 s |" in text
    assert all(f"| {each.__name__.replace('_', ' ')} |" in text for each in INVARIANTS)
    assert "sqlite seed 4711: 61 s, failed: 6 jobs" in summary([result])
