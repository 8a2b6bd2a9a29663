"""Concurrency keys: jobs that are parked for one are woken when a holder is done.

A claim that meets a job whose key is taken parks it, so that no later claim looks at it again. Those
that are parked for a key stand in lines, one for each queue. The first of each line go back into their
lanes when one of these happens, each in the same transaction:

- a job that held the key has let go of it;
- a job with the key leaves the queue without having started, or gets another place in it;
- a claim parks a job for another key, and leaves this one free;
- the limit of the key is changed, or its rate allows the next start.

It must be the first of each line: a pause, or the limit of a queue, may keep a job that was woken where
it is, and those of other queues cannot wait for that. In one line the others wait with the first, so
that a job that weighs much has its turn. This takes jobs to give a key without a named limit the same
limit each; where they do not, one of them may wait until the key is free.

Waking too many is harmless: the next claim parks them again. Waking too few would let a job wait for
nothing, so a sweep looks after all keys now and then (`wake_parked`).
"""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from jobservice.model.limit import KeyRule, LimitKind, Rate, Use, type_of_key
from jobservice.mutants import ASIDE, mutant
from jobservice.store.port import Woken
from jobservice.store.rows import keys_of, named_keys, parse_json, use_of
from jobservice.store.rule_rows import rate_of, rule_of
from jobservice.store.verbs.transaction import Transaction

Key = tuple[str, str]
"""A tenant and the name of one of its keys."""
Line = tuple[str, str, str]
"""A tenant, the name of one of its keys, and a queue."""
Place = tuple[int, int, str]
"""Where a job stands: its claim key, rank and id."""
WOKEN = 100
"""How many jobs one reason wakes for a key at most."""
KEYS_A_SWEEP = 1_000


async def free(tx: Transaction, released: Iterable[tuple[str, str]]) -> None:
    """Jobs let go of their keys, given as tenants and the text of the keys: wake who waits for them."""
    if mutant("key.not_woken"):
        return
    wanted: dict[Key, int] = {}
    for (tenant, text), count in collections.Counter(released).items():
        for key in keys_of(text):
            wanted[tenant, key.key] = wanted.get((tenant, key.key), 0) + key.weight * count
    await wake(tx, wanted)


async def join(tx: Transaction, jobs: Iterable[tuple[str, str, str]]) -> None:
    """Jobs that are not final name keys; given as tenants, ids and the text of the keys.

    Who has a key is asked for keys that people named, never for those of types.
    """
    await tx.write("insert_job_keys", _memberships(jobs))


async def leave(tx: Transaction, jobs: Sequence[tuple[str, str, str]]) -> None:
    """Jobs have become final, and let go of their keys; given as above."""
    await tx.write("delete_job_keys", _memberships(jobs))
    await free(tx, [(tenant, text) for tenant, _, text in jobs])


def _memberships(jobs: Iterable[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    same: dict[tuple[str, str], list[str]] = {}
    for tenant, job_id, text in jobs:
        if text:
            same.setdefault((tenant, text), []).append(job_id)
    return sorted(  # nearly in order as they come, which is quick
        (tenant, key.key, job_id)
        for (tenant, text), job_ids in same.items()
        for key in named_keys(text)
        for job_id in job_ids
    )


async def wake(tx: Transaction, wanted: Mapping[Key, int]) -> int:
    """Put the first of each queue that are parked for keys back into their lanes; returns how many."""
    keys = sorted(wanted)
    rows = []
    for n, waiters in await tx.read("find_waiters", [(n, *key) for n, key in enumerate(keys)]):
        tenant, _ = keys[n]
        rows += [(tenant, job_id) for job_id in parse_json(waiters)[: wanted[keys[n]]]]
    await tx.write("wake_jobs", rows)
    return len(rows)


async def held(tx: Transaction, now_us: int = 0) -> Use:
    """What the live leases hold; with the instant, which may be an earlier one, it is found sooner."""
    use = use_of(await tx.find_held(now_us))
    return ASIDE.setdefault("use", use) if mutant("limit.counted_aside") else use


async def rules(tx: Transaction, keys: Sequence[Key]) -> dict[Key, KeyRule]:
    """The named limits on keys, where there are any."""
    wanted = [(n, tenant, LimitKind.KEY, key) for n, (tenant, key) in enumerate(keys)]
    return {keys[n]: rule_of(rule) for n, *rule in await tx.read("find_rules", wanted)}


async def first_places(tx: Transaction, lines: Sequence[Line]) -> dict[Line, Place]:
    """Where the first stand in the lines in which there is anybody."""
    rows = await tx.read("find_lines", [(n, *line) for n, line in enumerate(lines)])
    return {lines[n]: (claim_key, rank, job_id) for n, claim_key, rank, job_id in rows}


async def are_parked(tx: Transaction, keys: Sequence[Key]) -> set[Key]:
    """The keys that jobs are parked for."""
    rows = await tx.read("find_parked", [(n, *key) for n, key in enumerate(keys)])
    return {keys[n] for [n] in rows}


# --- the sweep --------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class WakeCall:
    """One call of `wake_parked`."""

    after: Key
    now_us: int


async def wake_parked(tx: Transaction, calls: Sequence[WakeCall]) -> list[Woken]:
    """Wake jobs that are parked for keys which are free."""
    return [await _wake_parked(tx, call) for call in calls]


async def _wake_parked(tx: Transaction, call: WakeCall) -> Woken:
    found = [
        (tenant, key)
        for tenant, key in await tx.read_all("find_parked_keys", *call.after, KEYS_A_SWEEP)
    ]
    if not found:
        return Woken(0, None)
    use, known = await held(tx, call.now_us), await rules(tx, found)
    wanted = {
        key: room for key in found if (room := _room(key, known.get(key), use.keys.get(key, 0)))
    }
    count = await wake(tx, wanted)
    return Woken(count, found[-1] if len(found) == KEYS_A_SWEEP else None)


def _room(key: Key, rule: KeyRule | None, used: int) -> int:
    """How many jobs to wake for a key; one with a rate alone has its own timer."""
    if rule is None:
        if type_of_key(key[1]) is not None:
            return WOKEN
        return 0 if used else 1  # what the job itself allows is not known here
    if rule.rate is not None:
        return 0
    return WOKEN if rule.max_running is None else max(0, rule.max_running - used)


async def wake_rates(tx: Transaction, calls: Sequence[tuple[int, int]]) -> list[int]:
    """Wake jobs whose rates allow a start now; calls are pairs of instant and limit."""
    return [await _wake_rates(tx, now_us, limit) for now_us, limit in calls]


async def _wake_rates(tx: Transaction, now_us: int, limit: int) -> int:
    wanted, waking = {}, []
    for tenant, name, *rate, used_until_us in await tx.read_all("find_rates_due", now_us, limit):
        found = rate_of(*rate)
        assert found is not None  # only rates have an instant to wake
        wanted[tenant, name] = _starts(found, used_until_us, now_us)
        waking.append((tenant, name, found, used_until_us))
    parked = await are_parked(tx, sorted(wanted))
    count = await wake(tx, wanted)
    await tx.write(
        "put_wakes",
        sorted(
            (
                tenant,
                LimitKind.KEY,
                name,
                _next_wake(rate, used_until_us, now_us) if (tenant, name) in parked else None,
            )
            for tenant, name, rate, used_until_us in waking
        ),
    )
    return count


def _starts(rate: Rate, used_until_us: int, now_us: int) -> int:
    """How many starts of weight 1 the rate allows now; one at least, for it is due."""
    used = max(0, used_until_us - now_us) / rate.interval_us
    return max(1, min(WOKEN, int(rate.burst - used)))


def _next_wake(rate: Rate, used_until_us: int, now_us: int) -> int:
    """When to look again: when those that are woken now have used the rate up."""
    starts = _starts(rate, used_until_us, now_us)
    return max(now_us + 1, rate.free_us(rate.start_us(used_until_us, now_us, starts), now_us, 1))
