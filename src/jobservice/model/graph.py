"""Dependencies: what the ends of some jobs mean for another. Pure functions, no I/O.

Each dependency of a job has a verdict, which follows from the state of the other job alone. The rule of
the job is then judged by how many are met and unmet, so nobody has to look at all of them.
"""

import enum
from collections.abc import Iterator, Sequence

from jobservice.model.lifecycle import FINAL, State


class Condition(enum.IntEnum):
    """How a job has to end. The numbers are those of the wire and of the stores, for ever."""

    SUCCEEDED = 1
    FAILED = 2
    FINISHED = 3
    """In any final state."""


class Rule(enum.IntEnum):
    """How many dependencies must be met. The numbers are for ever."""

    ALL = 1
    ANY = 2
    AT_LEAST = 3
    ALWAYS = 4
    """None: it runs once all of the jobs are final, whatever they did."""


class OnUnmet(enum.IntEnum):
    """What becomes of a job whose rule cannot be met any more. The numbers are for ever."""

    SKIP = 1
    FAIL = 2
    HOLD = 3


class Verdict(enum.IntEnum):
    """What became of a dependency, or of the rule over all. The numbers are for ever."""

    PENDING = 1
    MET = 2
    UNMET = 3


_ASKED = {Condition.SUCCEEDED: {State.SUCCEEDED}, Condition.FAILED: {State.FAILED}}


def verdict(condition: Condition, state: State) -> Verdict:
    """What the state of a job means for a dependency on it."""
    if state not in FINAL:
        return Verdict.PENDING
    return Verdict.MET if state in _ASKED.get(condition, FINAL) else Verdict.UNMET


def needed(rule: Rule, at_least: int, total: int) -> int:
    """How many of `total` dependencies have to be met; with ALWAYS, to be decided."""
    match rule:
        case Rule.ANY:
            return 1
        case Rule.AT_LEAST:
            return at_least
        case Rule.ALL | Rule.ALWAYS:
            return total


def rule_verdict(rule: Rule, need: int, total: int, met: int, unmet: int) -> Verdict:
    """Whether `need` of `total` dependencies are met, or cannot be any more."""
    if rule is Rule.ALWAYS:
        met, unmet = met + unmet, 0
    if met >= need:
        return Verdict.MET
    return Verdict.UNMET if total - unmet < need else Verdict.PENDING


def ready_us(need: int, instants: Sequence[int]) -> int:
    """When a job may start whose dependencies are ready at these instants, at least `need` of them."""
    return sorted(instants)[need - 1]


def order(parents: Sequence[Sequence[int]]) -> list[int]:
    """All indices of an acyclic graph, each behind its parents."""
    found: list[int] = []
    done = [False] * len(parents)
    for _, index in _walk(parents, done):
        if index is not None:
            found.append(index)
    return found


def cycles(parents: Sequence[Sequence[int]], limit: int) -> list[list[int]]:
    """Up to `limit` circles, each as the indices from one to the one that it waits for in the end."""
    found: list[list[int]] = []
    done = [False] * len(parents)
    for circle, _ in _walk(parents, done):
        if circle:
            found.append(circle)
            if len(found) == limit:
                break
    return found


def _walk(
    parents: Sequence[Sequence[int]], done: list[bool]
) -> Iterator[tuple[list[int], int | None]]:
    """Depth first without recursion: each circle as it closes, each index once all above it are done."""
    for root in range(len(parents)):
        if done[root]:
            continue
        path, places, left = [root], {root: 0}, [iter(parents[root])]
        while path:
            above = next(left[-1], None)
            if above is None:
                index = path.pop()
                del places[index], left[-1]
                done[index] = True
                yield [], index
            elif above in places:
                yield path[places[above] :], None
            elif not done[above]:
                places[above] = len(path)
                path.append(above)
                left.append(iter(parents[above]))
