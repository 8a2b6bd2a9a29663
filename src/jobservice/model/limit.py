"""Limits on what runs at once and on how often something starts: values and pure arithmetic.

What is in use is always counted anew from the leases there are, in the transaction that grants new
ones; there is no counter that could drift.
"""

import dataclasses
import datetime as dt
import enum
from collections.abc import Iterable, Mapping
from typing import NamedTuple

_MICROSECOND = dt.timedelta(microseconds=1)
NORMAL_WEIGHT = 1000
"""The weight of a tenant or fairness key that was given none, in thousandths."""


class LimitKind(enum.IntEnum):
    """What a limit is about. The numbers are those of the wire and of the stores, for ever."""

    SERVICE = 1
    """All jobs of all tenants."""
    TENANT = 2
    """All jobs of a tenant."""
    KEY = 3
    """The jobs of a tenant that name a concurrency key."""
    QUEUE = 4
    """The jobs of a queue; it is stored with the rules of the queue."""
    SLOTS = 5
    """What a worker runs at once; it is a setting."""
    JOB_TYPE = 6
    """The jobs of a tenant that are of a type; it is stored as that of the key `type_key`."""


class OnConflict(enum.IntEnum):
    """What a new job does that cannot have its key at once. The numbers are those of the wire."""

    QUEUE = 1
    """It waits."""
    REJECT = 2
    """It is refused."""
    CANCEL_RUNNING = 3
    """Jobs that run with the key are stopped, the oldest first, until it fits."""
    CANCEL_QUEUED = 4
    """Jobs that wait with the key are cancelled; it waits for those that run."""
    REPLACE_QUEUED = 5
    """Jobs that wait with the key end SKIPPED, and it takes the place of the first of them."""
    RETURN_EXISTING = 6
    """The newest job with the key stands for it; nothing is created."""


@dataclasses.dataclass(frozen=True, slots=True)
class ConcurrencyKey:
    """A name that jobs share; only so many of them may run at once."""

    key: str
    limit: int = 0
    """Of weights that may run at once with this job; 0 is what the named limit says, else 1."""
    weight: int = 1
    """How much of the limit this job takes."""
    on_conflict: OnConflict = OnConflict.QUEUE


_OF_A_TYPE = "\x1f"
"""How the keys of types begin; nobody can name a key like that."""
_WITHOUT_LIMIT = (1 << 31) - 1


def type_key(job_type: str) -> ConcurrencyKey:
    """The key that all jobs of a type hold: of any number, unless a limit of that type is set."""
    return ConcurrencyKey(_OF_A_TYPE + job_type, _WITHOUT_LIMIT)


def type_of_key(key: str) -> str | None:
    """The type whose key it is; None is a key that somebody named."""
    return key.removeprefix(_OF_A_TYPE) if key.startswith(_OF_A_TYPE) else None


def said_key(key: str) -> str:
    """A key as people call it."""
    job_type = type_of_key(key)
    return f"key {key}" if job_type is None else f"job type {job_type}"


@dataclasses.dataclass(frozen=True, slots=True)
class Rate:
    """How often something may start: `starts` in each `period`, and up to `burst` of them at once.

    The generic cell rate algorithm (ITU-T I.371): one instant is all that is remembered, the
    theoretical arrival time, until which the starts so far have used the rate up.
    """

    starts: int
    period: dt.timedelta
    burst: int = 1

    @property
    def interval_us(self) -> float:
        """What one start costs."""
        return self.period / _MICROSECOND / self.starts

    def free_us(self, used_until_us: int, now_us: int, weight: int) -> int:
        """When something of this weight may start: `now_us` or earlier is at once.

        What weighs more than the burst goes when the rate has been unused for a whole burst.
        """
        begin = max(used_until_us, now_us)
        spare = self.burst - min(weight, self.burst)
        return round(begin - spare * self.interval_us)

    def start_us(self, used_until_us: int, now_us: int, weight: int) -> int:
        """Until when the rate is used up once something of this weight has started."""
        return round(max(used_until_us, now_us) + weight * self.interval_us)


@dataclasses.dataclass(frozen=True, slots=True)
class Limit:
    """A rule that was made by name."""

    tenant: str
    """Empty for SERVICE."""
    kind: LimitKind
    name: str = ""
    """The key or the type; empty for SERVICE and TENANT."""
    max_running: int | None = None
    rate: Rate | None = None
    weight: int = NORMAL_WEIGHT
    """Of a TENANT: its share against other tenants, in thousandths."""
    updated_at: dt.datetime | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class LimitUse:
    """A limit, and what of it is in use."""

    limit: Limit
    running: int
    """The weight of the jobs that run."""
    waiting: int | None = None
    """How many jobs wait for it; None where nobody counts."""
    holders: tuple[str, ...] = ()
    """Some of the jobs that hold it, by id."""
    next_start_at: dt.datetime | None = None
    """When a rate that is used up allows the next start; None is now."""


class KeyRule(NamedTuple):
    """What is known of a named limit on a key."""

    max_running: int | None = None
    rate: Rate | None = None
    used_until_us: int = 0


class Held(NamedTuple):
    """Live leases that hold the same: their queue, their keys with weights, and how many they are."""

    tenant: str
    queue: str
    keys: tuple[tuple[str, int], ...]
    leases: int


class Use:
    """What the live leases hold; kept up while a claim grants more."""

    def __init__(self, held: Iterable[Held]) -> None:
        self.service = 0
        self.tenants: dict[str, int] = {}
        self.queues: dict[tuple[str, str], int] = {}
        self.keys: dict[tuple[str, str], int] = {}
        for each in held:
            self.add(each)

    def add(self, held: Held) -> None:
        """More leases."""
        tenant, queue, keys, leases = held
        self.service += leases
        self.tenants[tenant] = self.tenants.get(tenant, 0) + leases
        self.queues[tenant, queue] = self.queues.get((tenant, queue), 0) + leases
        for key, weight in keys:
            self.keys[tenant, key] = self.keys.get((tenant, key), 0) + weight * leases


def most_running(key: ConcurrencyKey, rule: KeyRule | None) -> int | None:
    """The limit that holds for a job with this key; None is without one.

    The job's own limit and that of the named one: the smaller, where there are both.
    """
    if rule is None:
        return key.limit or 1
    if rule.max_running is None:
        return key.limit or None
    return min(key.limit, rule.max_running) if key.limit else rule.max_running


class Blocked(NamedTuple):
    """Why a job cannot start now."""

    key: str
    wake_us: int | None
    """When the rate of the key allows it; None where another job must end."""


class Need(NamedTuple):
    """What a job must have of a key: the same for all jobs with the same keys."""

    name: tuple[str, str]
    """Tenant and key."""
    weight: int
    most: int | None
    """How much may be held at once; None is without a limit."""
    has_rate: bool


def needs(
    tenant: str, keys: Iterable[ConcurrencyKey], rules: Mapping[tuple[str, str], KeyRule]
) -> tuple[Need, ...]:
    """What jobs with these keys must have."""
    found = [((tenant, key.key), key, rules.get((tenant, key.key))) for key in keys]
    return tuple(
        Need(name, key.weight, most_running(key, rule), rule is not None and rule.rate is not None)
        for name, key, rule in found
    )


def first_block(
    needed: Iterable[Need], rules: Mapping[tuple[str, str], KeyRule], use: Use, now_us: int
) -> Blocked | None:
    """The first of a job's keys that it cannot have now; None when it may start."""
    held = use.keys
    for name, weight, most, has_rate in needed:
        if most is not None and held.get(name, 0) + weight > most:
            return Blocked(name[1], None)
        if has_rate:
            rule = rules[name]
            assert rule.rate is not None  # `has_rate` says so
            free_us = rule.rate.free_us(rule.used_until_us, now_us, weight)
            if free_us > now_us:
                return Blocked(name[1], free_us)
    return None
