"""Limits: the arithmetic of keys and rates."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobservice.model.limit import (
    ConcurrencyKey,
    Held,
    KeyRule,
    Rate,
    Use,
    first_block,
    most_running,
    needs,
)

SECOND_US = 1_000_000


@given(
    rate=st.builds(
        Rate,
        st.integers(1, 50),
        st.timedeltas(dt.timedelta(seconds=1), dt.timedelta(hours=1)),
        st.integers(1, 20),
    ),
    waits=st.lists(st.tuples(st.integers(0, 100 * SECOND_US), st.integers(1, 5)), max_size=60),
)
def test_no_window_has_more_than_the_rate_and_one_burst(
    rate: Rate, waits: list[tuple[int, int]]
) -> None:
    """What starts as soon as it is free: in every window, at most what the rate gives and the burst."""
    now = used_until = 10**15
    starts: list[tuple[int, int]] = []
    for wait, weight in waits:
        now = max(now + wait, rate.free_us(used_until, now + wait, weight))
        assert rate.free_us(used_until, now, weight) <= now, "what waited that long is free"
        used_until = rate.start_us(used_until, now, weight)
        starts.append((now, weight))
    for first, (begin, _) in enumerate(starts):
        total = 0
        for at, weight in starts[first:]:
            total += weight
            heaviest = max(each for _, each in starts)
            allowed = max(rate.burst, heaviest) + (at - begin + 1) / rate.interval_us
            assert total <= allowed + heaviest * 1e-3 + 1


@pytest.mark.parametrize(
    ("own", "rule", "most"),
    [
        (0, None, 1),
        (3, None, 3),
        (0, KeyRule(5), 5),
        (3, KeyRule(5), 3),
        (7, KeyRule(5), 5),
        (0, KeyRule(), None),
        (2, KeyRule(), 2),
        (0, KeyRule(0), 0),
    ],
)
def test_whose_limit_holds(own: int, rule: KeyRule | None, most: int | None) -> None:
    assert most_running(ConcurrencyKey("k", own), rule) == most


def test_the_first_key_that_is_taken_is_told() -> None:
    use = Use([Held("t", "q", (("a", 1), ("b", 2)), 2), Held("u", "q", (("c", 1),), 1)])
    assert (use.service, use.tenants, use.queues) == (
        3,
        {"t": 2, "u": 1},
        {("t", "q"): 2, ("u", "q"): 1},
    )
    keys = [ConcurrencyKey("c"), ConcurrencyKey("b", limit=5), ConcurrencyKey("a", limit=1)]
    block = first_block(needs("t", keys, {}), {}, use, 0)
    assert block is not None
    assert (block.key, block.wake_us) == ("a", None)
    assert first_block(needs("t", keys[:2], {}), {}, use, 0) is None
    rate = KeyRule(None, Rate(1, dt.timedelta(seconds=10)), 4 * SECOND_US)
    named = {("t", "c"): rate}
    block = first_block(needs("t", keys[:1], named), named, use, SECOND_US)
    assert block is not None
    assert (block.key, block.wake_us) == ("c", 4 * SECOND_US)
