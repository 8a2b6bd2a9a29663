"""Turns: who goes next among members with weights, so that each has its share of starts.

Start-time fair queueing (Goyal, Vin, Cheng 1996): each member has a pass, which a turn moves on by
the inverse of its weight; the smallest pass goes next. The floor is the pass of the newest turn: who
was away comes back at the floor, so nobody saves up turns, and nobody new waits for the backlog of
others.
"""

import heapq
from collections.abc import Iterable, Mapping

COST = 1_000_000_000
"""What a turn costs a member of weight 1 (thousandth)."""


class Turns:
    """One round of turns among members that are all ready."""

    def __init__(self, floor: int, passes: Mapping[str, int], members: Iterable[str]) -> None:
        self.floor = floor
        self.moved: dict[str, int] = {}
        """The passes of members that had a turn."""
        self._waiting = [(max(passes.get(member, 0), floor), member) for member in set(members)]
        heapq.heapify(self._waiting)

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def next(self) -> str:
        """Whose turn it is; say then `take` or `leave`."""
        return self._waiting[0][1]

    def take(self, weight: int) -> None:
        """The next one has its turn. `weight` is in thousandths."""
        start, member = self._waiting[0]
        self.floor = start
        self.moved[member] = start + COST // weight
        heapq.heapreplace(self._waiting, (self.moved[member], member))

    def leave(self) -> None:
        """The next one has nothing more to do in this round."""
        heapq.heappop(self._waiting)
