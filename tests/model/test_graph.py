"""Dependencies: verdicts, rules, circles, against what they mean said in another way."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobservice.model.graph import (
    Condition,
    Rule,
    Verdict,
    cycles,
    needed,
    order,
    ready_us,
    rule_verdict,
    verdict,
)
from jobservice.model.lifecycle import FINAL, State

graphs = st.integers(0, 8).flatmap(
    lambda size: st.lists(
        st.lists(st.integers(0, max(size - 1, 0)), max_size=4), min_size=size, max_size=size
    )
)


@pytest.mark.parametrize("state", State)
def test_a_verdict_follows_from_the_state(state: State) -> None:
    met = {condition for condition in Condition if verdict(condition, state) is Verdict.MET}
    if state not in FINAL:
        assert {verdict(condition, state) for condition in Condition} == {Verdict.PENDING}
    elif state is State.SUCCEEDED:
        assert met == {Condition.SUCCEEDED, Condition.FINISHED}
    elif state is State.FAILED:
        assert met == {Condition.FAILED, Condition.FINISHED}
    else:
        assert met == {Condition.FINISHED}


@pytest.mark.parametrize("rule", Rule)
@pytest.mark.parametrize("total", [1, 2, 3])
def test_a_rule_is_decided_when_no_end_can_change_it(rule: Rule, total: int) -> None:
    """Judged by counts, and by trying every way in which what is pending may end."""
    least = {Rule.ALL: total, Rule.ANY: 1, Rule.AT_LEAST: total - 1, Rule.ALWAYS: 0}[rule]
    need = needed(rule, total - 1, total)
    for verdicts in itertools.product(Verdict, repeat=total):
        count = verdicts.count
        found = rule_verdict(rule, need, total, count(Verdict.MET), count(Verdict.UNMET))
        ways = [[True, False] if v is Verdict.PENDING else [v is Verdict.MET] for v in verdicts]
        outcomes = {sum(way) >= least for way in itertools.product(*ways)}
        if (rule is Rule.ALWAYS and Verdict.PENDING in verdicts) or len(outcomes) == 2:
            assert found is Verdict.PENDING
        else:
            assert found is (Verdict.MET if outcomes == {True} else Verdict.UNMET)


def test_as_many_as_it_takes_must_be_ready() -> None:
    assert ready_us(1, [30, 10, 20]) == 10
    assert ready_us(3, [30, 10, 20]) == 30


@given(graphs)
def test_circles_are_found_exactly_where_there_are_some(parents: list[list[int]]) -> None:
    found = cycles(parents, 100)
    for circle in found:
        assert len(set(circle)) == len(circle)
        for one, above in zip(circle, [*circle[1:], circle[0]], strict=True):
            assert above in parents[one]
    assert bool(found) == _has_circle(parents)
    if not found:
        places = {index: place for place, index in enumerate(order(parents))}
        assert sorted(places) == list(range(len(parents)))
        assert all(places[above] < places[i] for i, ids in enumerate(parents) for above in ids)


def _has_circle(parents: list[list[int]]) -> bool:
    """Taking away what waits for nobody leaves something."""
    left = {index: set(ids) for index, ids in enumerate(parents)}
    while free := {index for index, ids in left.items() if not ids & left.keys()}:
        left = {index: ids for index, ids in left.items() if index not in free}
    return bool(left)


def test_a_long_chain_needs_no_recursion() -> None:
    chain: list[list[int]] = [[n + 1] for n in range(100_000)]
    assert order([*chain, []])[0] == 100_000
    assert cycles([*chain, [0]], 5) == [list(range(100_001))]
