"""Where claims begin to look while PostgreSQL may not clean up what earlier claims have left.

Each job that was claimed leaves a dead entry in the index of what is ready, in front of those that are
alive. A transaction that stays open keeps them all from being removed, and each claim walks over them:
after 60,000 jobs ten times as long as before. So where a walk is slow and the table has many dead rows,
claims begin where the one before found the first job of a lane (its floor), and walk over all of it only
for a small part of the time.

What this server inserts lowers the floor of its lane, so it is found in its order. What comes to stand
below a floor otherwise (another server inserts a job of higher priority, or opens a lane; a job whose
attempt was lost is back) waits for the next whole walk, about a second. What a user moves, releases,
edits or retries here has the next claim walk over all. Nothing is lost: a floor is kept for no longer.

The leases have a floor of their own, which is exact, for limits rest on it: when the first of them ended
as they were walked over last, but before that instant. Leases that are granted or prolonged after that
end later, unless the clock of their server is behind by a whole lease more than servers may be apart.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from jobservice.model.lifecycle import State
from jobservice.store.postgres.queries import QUERIES
from jobservice.store.verbs.transaction import Row

SLOW_S = 0.005
"""A walk over the lanes that takes longer is looked into."""
HELD_S = 5.0
"""A transaction that is open for longer may be why; without one there is nothing to be done here."""
DEAD_ROWS = 5_000
"""So many dead rows in the table of jobs are many."""
KEPT_S = 1.0
PART = 20
"""Floors are kept for so long, or so many times as long as the whole walk took."""
APART_US = 10_000_000
"""How far the clocks of servers may be apart, with some to spare, and how old the floor of leases is."""
LANES = 100
"""With more lanes no floors are kept."""

Lane = tuple[str, str, str, str]
Floor = tuple[int, int]
"""The claim key and the rank of the first job of a lane."""
LOWEST: Floor = -(1 << 62), 0
FIRST_LANE = "", "", "", ""
FIRST_PLACE = *LOWEST, ""
"""What a claim asks for first: all lanes, and all of a lane."""
_FIELDS = QUERIES["insert_jobs"].fields
_LANE = [_FIELDS.index(name) for name in ("tenant", "queue", "fairness_key", "placement")]
_PLACE = [_FIELDS.index(name) for name in ("claim_key", "state", "blocked_key")]


class Floors:
    """The floors of the writers of a server. They are guesses, and nothing but order rests on them."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[], None]] = []
        """Called when the floors are over: whoever found nothing is to look again."""
        self._loop = asyncio.get_running_loop()
        self._floors: dict[Lane, Floor] = {}
        self._inserted: dict[Lane, Floor] = {}
        """The first of the jobs that came to a lane since a claim began to look at it."""
        self._over: asyncio.TimerHandle | None = None
        """Set while the floors hold."""
        self.leases_us = 0
        """No live lease ends before."""

    def known(self) -> list[Row]:
        """The lanes with their floors; empty where all of them are to be looked at."""
        return [(*lane, *floor) for lane, floor in self._floors.items()]

    def begin(self) -> float:
        """A walk over all lanes begins."""
        return self._loop.time()

    def is_slow(self, begin_s: float, lanes: Sequence[Any]) -> bool:
        """Whether that walk, which has found these lanes, took so long that it is worth to ask why."""
        return self._loop.time() - begin_s > SLOW_S and 0 < len(lanes) <= LANES

    def keep(self, begin_s: float, lanes: Sequence[Any], dead: int) -> None:
        """With so many dead rows: let claims begin where the first ones find jobs in these lanes."""
        if dead < DEAD_ROWS or self._over is not None:
            return
        self._floors = {(lane[0], lane[1], lane[2], lane[3]): LOWEST for lane in lanes}
        kept_s = max(KEPT_S, PART * (self._loop.time() - begin_s))
        self._over = self._loop.call_later(kept_s, self._end)

    def of(self, lane: Lane) -> Floor:
        """Where a claim begins in a lane."""
        self._inserted.pop(lane, None)
        return self._floors.get(lane, LOWEST)

    def found(self, lane: Lane, first: Floor) -> None:
        """A claim has found this job as the first one of a lane; it may not have seen the newest."""
        if lane in self._floors:
            self._floors[lane] = min(first, self._inserted.get(lane, first))

    def insert(self, rows: Sequence[Row]) -> None:
        """Jobs were inserted here, and are there for every claim that begins now."""
        if not self._floors:
            return
        for row in rows:
            claim_key, state, blocked_key = (row[n] for n in _PLACE)
            if state == State.QUEUED and not blocked_key:
                tenant, queue, fairness_key, placement = (row[n] for n in _LANE)
                lane, place = (tenant, queue, fairness_key, placement), (claim_key, 0)
                for known in (self._floors, self._inserted):
                    known[lane] = min(place, known.get(lane, place))

    def close(self) -> None:
        """Remember nothing, and call nobody any more."""
        if self._over is not None:
            self._over.cancel()
        self.drop()

    def drop(self) -> None:
        """Have the next claim look at everything."""
        self._floors, self._inserted = {}, {}

    def _end(self) -> None:
        self._over = None
        self.drop()
        for callback in self.callbacks:
            callback()
