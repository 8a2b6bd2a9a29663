"""The estimated end: within what can be told, whatever a job says of its progress."""

import datetime as dt

from hypothesis import example, given
from hypothesis import strategies as st

from jobservice.model.progress import LONGEST_ESTIMATE, estimated_completion
from jobservice.testing.clock import START

HOUR = dt.timedelta(hours=1)


@given(
    percent=st.floats(0, 100, exclude_min=True),
    elapsed=st.timedeltas(dt.timedelta(microseconds=1), dt.timedelta(days=366 * 20)),
)
@example(percent=1e-12, elapsed=dt.timedelta(seconds=1))
@example(percent=1e-9, elapsed=HOUR)
@example(percent=5e-324, elapsed=HOUR)
def test_an_estimate_lies_ahead_and_is_not_too_far_or_there_is_none(
    percent: float, elapsed: dt.timedelta
) -> None:
    estimate = estimated_completion(percent, START, START + elapsed)
    if estimate is None:
        assert elapsed / LONGEST_ESTIMATE * (100 - percent) >= percent * 0.999
    else:
        assert dt.timedelta(0) <= estimate - START - elapsed <= LONGEST_ESTIMATE


def test_an_estimate_goes_by_the_rate_until_now() -> None:
    assert estimated_completion(25, START, START + HOUR) == START + 4 * HOUR
    assert estimated_completion(100, START, START + HOUR) == START + HOUR


def test_there_is_no_estimate_without_a_rate() -> None:
    assert estimated_completion(0, START, START + HOUR) is None
    assert estimated_completion(50, START, START) is None
    assert estimated_completion(50, START + HOUR, START) is None
