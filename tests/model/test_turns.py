"""Turns: everybody who waits has the share of its weight, and nobody saves turns up."""

import collections

from hypothesis import given
from hypothesis import strategies as st

from jobservice.model.turns import Turns

WEIGHTS = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=2), st.integers(1, 1_000_000), min_size=1, max_size=8
)


@given(weights=WEIGHTS, rounds=st.lists(st.integers(1, 60), min_size=1, max_size=6))
def test_shares_go_by_weight_however_the_rounds_are_cut(
    weights: dict[str, int], rounds: list[int]
) -> None:
    """Nobody is more than one turn of its own, and one of each other, away from its share."""
    floor, passes = 0, dict[str, int]()
    had: collections.Counter[str] = collections.Counter()
    for count in rounds:
        turns = Turns(floor, passes, weights)
        for _ in range(count):
            had[turns.next()] += 1
            turns.take(weights[turns.next()])
        floor, passes = turns.floor, passes | turns.moved
    service = {name: had[name] / weight for name, weight in weights.items()}
    for one, weight in weights.items():
        for other, its in weights.items():
            apart = service[one] - service[other]
            assert apart <= 1 / weight + 1 / its + 1e-9


@given(weights=WEIGHTS, away=st.integers(1, 200))
def test_who_was_away_comes_back_as_if_new(weights: dict[str, int], away: int) -> None:
    turns = Turns(0, {}, weights)
    for _ in range(away):
        turns.take(weights[turns.next()])
    back = Turns(turns.floor, turns.moved, [*weights, "back"])
    for _ in range(len(weights) + 1):
        if back.next() == "back":
            break
        back.take(weights[back.next()])
    assert back.next() == "back", "at once, or after those who stand at the floor too"
    back.take(1000)
    assert back.moved["back"] > turns.floor


def test_who_leaves_has_no_turn() -> None:
    turns = Turns(0, {}, ["a", "b"])
    assert turns.next() == "a"
    turns.leave()
    assert turns.next() == "b"
    turns.take(1000)
    assert turns.next() == "b"
    turns.leave()
    assert not turns
