"""Workers: who runs attempts, with what, and how long they may be without an answer.

The times of a lease, as parts of its length. A worker on another host that had no answer from any
server for two thirds of it ends what it runs, and a lease is only taken away a sixth of it after its
end: with the 30 s of production 20 s and 35 s. In between lie the end of the process trees and the
drift of two clocks. A worker in the process of a server does so too, by the answers of its store, once
it has heard of another one; while it is alone nobody could take its jobs, so it goes on for ever.
"""

import dataclasses
import datetime as dt
import enum
from collections.abc import Mapping

SILENCE = 2 / 3
"""After so much of a lease without an answer the worker ends what it runs."""
GRACE = 1 / 6
"""So much of a lease after its end it is taken away: servers keep it for longer than they say."""
BEAT = 1 / 6
"""How often a worker extends its leases that ends what it runs in silence."""
LONGEST_POLL = 1 / 2
"""The longest wait for jobs in one call: before the leases of a worker that was cut off run out, no call
of it is open any more to which its jobs could be given again."""
COMPANY = dt.timedelta(days=1)
"""A worker in the process of a server is alone on its store where no other was heard of for so long."""
FORGOTTEN_AFTER = dt.timedelta(days=7)
"""A worker that nobody heard of for so long, and that holds no lease, is forgotten."""


class WorkerState(enum.IntEnum):
    """How a worker is. The numbers are those of the wire."""

    ACTIVE = 1
    DRAINING = 2
    """It takes nothing new."""
    SILENT = 3
    """Nobody has heard of it for so long that its leases run out."""


@dataclasses.dataclass(frozen=True, slots=True)
class Resources:
    """Amounts of what attempts use up while they run."""

    cpu_millis: int = 0
    memory_bytes: int = 0
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Of what is counted, by name."""


@dataclasses.dataclass(frozen=True, slots=True)
class Placement:
    """What a job asks of the worker that runs it. By itself it asks for nothing."""

    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Labels that the worker must have, in order of their keys."""
    resources: Resources = Resources()
    """What an attempt takes of what the worker has."""


ANYWHERE = Placement()


class Room:
    """What a worker offers, and what of it is free."""

    def __init__(self, labels: Mapping[str, str], resources: Resources) -> None:
        self._labels = labels
        self._all = _amounts(resources)
        self._free = dict(self._all)

    def has_labels(self, placement: Placement) -> bool:
        """Whether the worker has every label that is asked for."""
        return all(self._labels.get(key) == value for key, value in placement.labels.items())

    def is_large_enough(self, placement: Placement) -> bool:
        """Whether it has so much of everything, free or not."""
        return _is_in(placement, self._all)

    def fits(self, placement: Placement) -> bool:
        """Whether so much of everything is free."""
        return _is_in(placement, self._free)

    def take(self, placement: Placement, count: int = 1) -> None:
        """So many attempts of such jobs run."""
        for name, amount in _amounts(placement.resources).items():
            self._free[name] = self._free.get(name, 0) - amount * count


def _amounts(resources: Resources) -> dict[str, int]:
    return {"cpu": resources.cpu_millis, "memory": resources.memory_bytes, **resources.counts}


def _is_in(placement: Placement, amounts: Mapping[str, int]) -> bool:
    asked = _amounts(placement.resources)
    return all(amounts.get(name, 0) >= amount for name, amount in asked.items() if amount)


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerInfo:
    """What a worker says of itself."""

    worker_id: str
    host: str = ""
    version: str = ""
    slots: int = 0
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    resources: Resources = Resources()
    embedded: bool = False
    """Whether it runs in the process of a server."""
    origin: str = ""
    """Where it is, in no form that means anything: this boot of its host, and its data directory. Two
    that say one id from two origins have copies of one directory. Empty where that cannot be."""


@dataclasses.dataclass(frozen=True, slots=True)
class Drain:
    """Somebody keeps a worker from taking anything new."""

    since: dt.datetime
    reason: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Worker:
    """A worker as it is known."""

    info: WorkerInfo
    registered_at: dt.datetime
    contact_at: dt.datetime
    drain: Drain | None = None
    running: int = 0
    """How many leases it holds."""
    state: WorkerState = WorkerState.ACTIVE

    def judged(self, now: dt.datetime, quiet: dt.timedelta) -> "Worker":
        """With its state at an instant, where it is heard of in every span of `quiet`."""
        if now - self.contact_at > quiet:
            state = WorkerState.SILENT
        else:
            state = WorkerState.ACTIVE if self.drain is None else WorkerState.DRAINING
        return dataclasses.replace(self, state=state)
