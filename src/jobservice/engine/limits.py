"""Limits: the rules that people set, and what of them is in use.

What is in use is read from the live leases, as a claim reads it. Lists show more than what was set: the
slots of this server's worker, the queues with a limit, and types and keys that are in use or waited for.

The limit of a type is stored as that of the key which all its jobs hold, and named here as people do.
"""

import dataclasses
import datetime as dt
from collections.abc import Sequence

from jobservice.clock import from_us, to_us
from jobservice.engine.parts import Parts
from jobservice.errors import LimitNotFound
from jobservice.model.job import AttemptState, Job
from jobservice.model.limit import (
    ConcurrencyKey,
    KeyRule,
    Limit,
    LimitKind,
    LimitUse,
    Use,
    first_block,
    most_running,
    needs,
    said_key,
    type_key,
    type_of_key,
)
from jobservice.store.port import Holder

SHOWN_HOLDERS = 10
HOLDERS = 10_000
"""How many leases are looked at for those that hold a limit."""
QUEUES_A_READ = 1_000
ORDER = (LimitKind.SERVICE, LimitKind.TENANT, LimitKind.SLOTS, LimitKind.QUEUE, LimitKind.KEY)
"""Of a list; within a kind the order is that of the names, in which types come before all keys."""


@dataclasses.dataclass(frozen=True, slots=True)
class Slots:
    """What the worker of this server runs at once."""

    worker_id: str
    count: int


async def set_limit(parts: Parts, tenant: str, limit: Limit) -> LimitUse:
    """Set a limit in place of the one of that kind and name; what runs goes on."""
    kind, name = _stored(limit.kind, limit.name)
    stored = dataclasses.replace(limit, kind=kind, name=name)
    await parts.store.save_limit(stored, now=parts.clock.now())
    parts.signals.work.ring()
    parts.signals.timers.ring()
    return await get_limit(parts, tenant, limit.kind, limit.name)


async def get_limit(parts: Parts, tenant: str, kind: LimitKind, name: str) -> LimitUse:
    """A limit that was set, with its use.

    Raises:
        LimitNotFound: nobody set it.
    """
    limit = await parts.store.find_limit(_owner(tenant, kind), *_stored(kind, name))
    if limit is None:
        raise _not_found(kind, name)
    [use] = await _with_use(parts, tenant, [limit])
    return use


async def delete_limit(
    parts: Parts, tenant: str, kind: LimitKind, name: str, *, allow_missing: bool
) -> None:
    """Forget a limit.

    Raises:
        LimitNotFound: nobody set it, and `allow_missing` is not given.
    """
    deleted = await parts.store.delete_limit(_owner(tenant, kind), *_stored(kind, name))
    if not deleted and not allow_missing:
        raise _not_found(kind, name)
    parts.signals.work.ring()


def _owner(tenant: str, kind: LimitKind) -> str:
    """The tenant that a limit is stored under."""
    return "" if kind is LimitKind.SERVICE else tenant


def _stored(kind: LimitKind, name: str) -> tuple[LimitKind, str]:
    """What the store calls a limit."""
    if kind is LimitKind.JOB_TYPE:
        return LimitKind.KEY, type_key(name).key
    return kind, name


def _not_found(kind: LimitKind, name: str) -> LimitNotFound:
    stored, key = _stored(kind, name)
    what = said_key(key) if stored is LimitKind.KEY else f"the {kind.name.lower()}"
    return LimitNotFound(f"Nobody set a limit on {what}.", limit=name or kind.name)


# --- lists ------------------------------------------------------------------------------------


async def list_limits(
    parts: Parts, tenant: str, slots: Slots, *, limit: int, after: str
) -> tuple[list[LimitUse], str | None]:
    """Every limit there is behind a place, with its use, and the place of the last where more come.

    A place is the number of the kind in `ORDER` and the name.
    """
    place, _, name = after.partition(":") if after else ("-1", "", "")
    found: list[Limit] = []
    for n, kind in enumerate(ORDER):
        if n < int(place) or len(found) > limit:
            continue
        behind = name if n == int(place) else None
        found += await _list_kind(parts, tenant, slots, kind, limit + 1 - len(found), behind)
    page = await _with_use(parts, tenant, found[:limit])
    if len(found) <= limit:
        return page, None
    last = found[limit - 1]
    return page, f"{ORDER.index(last.kind)}:{last.name}"


async def _list_kind(
    parts: Parts, tenant: str, slots: Slots, kind: LimitKind, limit: int, behind: str | None
) -> list[Limit]:
    """Limits of one kind by name; None is before all of them."""
    if kind is LimitKind.QUEUE:
        return await _list_queues(parts, tenant, limit, behind or "")
    if kind is LimitKind.KEY:
        return await _list_keys(parts, tenant, limit, behind or "")
    if behind is not None:
        return []
    if kind is LimitKind.SLOTS:
        return [Limit(tenant, kind, slots.worker_id, slots.count)]
    owner = _owner(tenant, kind)
    return [await parts.store.find_limit(owner, kind, "") or Limit(owner, kind)]


async def _list_queues(parts: Parts, tenant: str, limit: int, after: str) -> list[Limit]:
    found: list[Limit] = []
    while len(found) < limit:
        page = await parts.store.list_queues(tenant, limit=QUEUES_A_READ, after=after)
        found += [
            Limit(tenant, LimitKind.QUEUE, each.name, each.max_running, updated_at=each.updated_at)
            for each in page
            if each.max_running is not None
        ]
        if len(page) < QUEUES_A_READ:
            break
        after = page[-1].name
    return found[:limit]


async def _list_keys(parts: Parts, tenant: str, limit: int, after: str) -> list[Limit]:
    """Keys with a limit, keys that are held, and keys that jobs are parked for; with those of types."""
    store = parts.store
    place = tenant, int(LimitKind.KEY), after
    named = {each.name: each for each in await store.list_limits(tenant, limit=limit, after=place)}
    held = {key for owner, key in (await store.list_use()).keys if owner == tenant and key > after}
    parked = await store.list_parked_keys(tenant, limit=limit, after=after)
    names = sorted({*named, *held, *parked})[:limit]
    return [named.get(name) or Limit(tenant, LimitKind.KEY, name) for name in names]


# --- use --------------------------------------------------------------------------------------


async def _with_use(parts: Parts, tenant: str, limits: Sequence[Limit]) -> list[LimitUse]:
    store, now = parts.store, parts.clock.now()
    use, held = await store.list_use(), await store.list_held(tenant, limit=HOLDERS)
    keys = [each.name for each in limits if each.kind is LimitKind.KEY]
    waiting = dict(zip(keys, await store.count_parked(tenant, keys), strict=True)) if keys else {}
    rules = await store.find_rules(tenant, keys) if keys else {}
    return [
        _key_use(each, rules.get(each.name), use, held, waiting[each.name], now)
        if each.kind is LimitKind.KEY
        else await _wide_use(parts, tenant, each, use, held)
        for each in limits
    ]


async def _wide_use(
    parts: Parts, tenant: str, limit: Limit, use: Use, held: Sequence[Holder]
) -> LimitUse:
    """The use of a limit that is not one of a key."""
    match limit.kind:
        case LimitKind.SERVICE:
            return LimitUse(limit, use.service, holders=_shown(held))
        case LimitKind.TENANT:
            return LimitUse(limit, use.tenants.get(tenant, 0), holders=_shown(held))
        case LimitKind.QUEUE:
            return await _queue_use(parts, limit, use, held)
        case _:
            live = await parts.store.list_live(limit.name)
            # A lease that was taken ahead of a free slot has none yet.
            run = [each.fence for each in live if each.attempt_state is AttemptState.RUNNING]
            ours = [fence.job_id for fence in run if fence.tenant == tenant]
            return LimitUse(limit, len(run), holders=tuple(ours[:SHOWN_HOLDERS]))


async def _queue_use(parts: Parts, limit: Limit, use: Use, held: Sequence[Holder]) -> LimitUse:
    running, most = use.queues.get((limit.tenant, limit.name), 0), limit.max_running
    waiting = 0
    if most is not None and running >= most:
        now = parts.clock.now()
        waiting = (await parts.store.queue_counts(limit.tenant, limit.name, now=now)).depth
    holders = [each for each in held if each.queue == limit.name]
    return LimitUse(limit, running, waiting, _shown(holders))


def _key_use(
    limit: Limit,
    rule: KeyRule | None,
    use: Use,
    held: Sequence[Holder],
    waiting: int,
    now: dt.datetime,
) -> LimitUse:
    holders = [each for each in held if _of(each.keys, limit.name)]
    running = use.keys.get((limit.tenant, limit.name), 0)
    job_type = type_of_key(limit.name)
    if job_type is not None:
        limit = dataclasses.replace(limit, kind=LimitKind.JOB_TYPE, name=job_type)
    elif rule is None:  # nobody set it: what its jobs say holds
        asked = [
            most_running(key, None) or 1 for each in holders for key in _of(each.keys, limit.name)
        ]
        limit = dataclasses.replace(limit, max_running=max(asked, default=1))
    return LimitUse(limit, running, waiting, _shown(holders), _next_start(rule, now))


def _next_start(rule: KeyRule | None, now: dt.datetime) -> dt.datetime | None:
    if rule is None or rule.rate is None:
        return None
    free_us = rule.rate.free_us(rule.used_until_us, to_us(now), 1)
    return from_us(free_us) if free_us > to_us(now) else None


def _of(keys: Sequence[ConcurrencyKey], name: str) -> list[ConcurrencyKey]:
    return [key for key in keys if key.key == name]


def _shown(holders: Sequence[Holder]) -> tuple[str, ...]:
    return tuple(each.job_id for each in holders[:SHOWN_HOLDERS])


# --- why a job waits --------------------------------------------------------------------------


async def find_blocking_key(parts: Parts, job: Job) -> str | None:
    """What a job with concurrency keys waits for, in words; None where it may have all of them."""
    keys, tenant, now = job.spec.held_keys, job.tenant, parts.clock.now()
    if not keys:
        return None
    use = await parts.store.list_use()
    rules = await parts.store.find_rules(tenant, [key.key for key in keys])
    named = {(tenant, name): rule for name, rule in rules.items()}
    block = first_block(needs(tenant, keys, named), named, use, to_us(now))
    if block is None:
        return f"waits for its turn at {said_key(job.blocked_key)}" if job.blocked_key else None
    if block.wake_us is not None:
        until = from_us(block.wake_us).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return f"waits for the rate of {said_key(block.key)}, until {until}"
    [key] = _of(keys, block.key)
    most = most_running(key, rules.get(key.key))
    assert most is not None  # else nothing blocks
    if key.weight > most:
        return (
            f"waits for {said_key(key.key)}, of which it takes {key.weight:,} "
            f"and the limit is {most:,}"
        )
    held = await parts.store.list_held(tenant, limit=HOLDERS)
    holders = [each.job_id for each in held if _of(each.keys, key.key)]
    return f"waits for {said_key(key.key)}, held by {_listed(holders)}"


def _listed(job_ids: Sequence[str]) -> str:
    """Such as `jobs j1…, j2… and 3 more`."""
    if len(job_ids) == 1:
        return f"job {job_ids[0]}"
    more = f" and {len(job_ids) - 3} more" if len(job_ids) > 3 else ""
    return f"jobs {', '.join(job_ids[:3])}{more}"
