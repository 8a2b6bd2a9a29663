"""Claim: leases on jobs, in the order of turns, within every limit, on workers that they fit on.

What is QUEUED lies in lanes, one for each tenant, queue, fairness key and what is asked of the worker.
A claim finds the lanes that are not empty, leaves out those that a pause or a limit closes, that ask for
what the worker has not, or not free at the moment, and takes jobs one by one: from the
tenant whose turn it is, from its fairness key whose turn it is, from the lane whose first job stands
first in the order of the tenant (priority and age). So nothing is looked at that cannot start, but for
jobs whose concurrency key is taken; these are parked, each once.

An array whose turn has come is opened, which takes no lease. Its indices are jobs only after this
transaction, so as much as they may take is kept free for them: else whatever stands behind the array
would start before it, and every array there is would be opened at once.

Limits are judged by the live leases, read in this transaction. Where a limit or a turn is at stake, no
other server claims until the commit (`Transaction.alone`).
"""

import collections
import dataclasses
import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from jobservice.model.array import Index
from jobservice.model.attempt import Fence
from jobservice.model.event import EventKind
from jobservice.model.lifecycle import State
from jobservice.model.limit import (
    NORMAL_WEIGHT,
    ConcurrencyKey,
    KeyRule,
    LimitKind,
    Need,
    Use,
    first_block,
    most_running,
    needs,
)
from jobservice.model.placements import placement_of
from jobservice.model.queue import PauseMode
from jobservice.model.turns import Turns
from jobservice.model.worker import Resources, Room
from jobservice.mutants import mutant
from jobservice.store.port import Claim, Claimed
from jobservice.store.rows import command_of, held_of, keys_of, parse_json, span_or_none
from jobservice.store.verbs.keys import Key, held, rules, wake
from jobservice.store.verbs.transaction import EventRow, Row, Transaction, change
from jobservice.store.worker_rows import resources_of

LANES = 1_000
"""How many lanes a claim looks at; where there are more, the next claim goes on behind them."""
PARKED = 2_000
"""How many jobs a claim parks at most."""
OPENED = 100
"""How many arrays a claim opens at most."""
ROUNDS = 4
"""How often a claim begins again for jobs that it has woken itself."""
_NO_ROOM = Room({}, Resources())
"""Of a worker that nobody registered."""
_FEW = 4
"""How many jobs are read of a lane at once, at least."""

_TENANTS = ""
"""The scope of the turns of tenants."""
_LANES = "\x01lanes"
"""The scope that remembers where the last claim left off, when there are too many lanes."""


@dataclasses.dataclass(frozen=True, slots=True)
class ClaimCall:
    """One call of `claim_jobs`."""

    worker_id: str
    limit: int
    lease_until_us: int
    now_us: int


async def claim_jobs(tx: Transaction, calls: Sequence[ClaimCall]) -> list[Claimed]:
    """Lease jobs to each caller in turn."""
    return [await _claim(tx, call) for call in calls]


async def _claim(tx: Transaction, call: ClaimCall) -> Claimed:
    claims: list[Claim] = []
    waits = opened = False
    for _ in range(ROUNDS):
        claiming = _Claiming(tx, call, call.limit - len(claims))
        await claiming.run()
        claims += claiming.claims
        waits = waits or bool(claiming.wakes)
        opened = opened or bool(claiming.opened)
        if claiming.opened or not claiming.woken or len(claims) >= call.limit:
            break
    return Claimed(claims, opened, waits)


class _Candidate(NamedTuple):
    """The columns of `find_claimable`."""

    claim_key: int
    rank: int
    job_id: str
    attempts: int
    epoch: int
    revision: int
    last_position: int
    keys: str
    fairness_weight: int
    timeout_us: int | None
    idle_timeout_us: int | None
    stop_grace_us: int
    output_limit_bytes: int
    argv: str
    work_dir: str
    env: str
    stdin: str
    array_size: int | None
    array_id: str | None
    array_index: int | None
    array_item: str | None

    @property
    def is_array(self) -> bool:
        """Whether it stands for others, which are made once its turn has come."""
        return self.array_size is not None and self.array_id is None


class _Lane:
    """Jobs of one tenant, queue and fairness key that are ready, in order."""

    def __init__(self, row: Row) -> None:
        (
            self.tenant,
            self.queue,
            self.fairness_key,
            self.asks,
            self.pause_mode,
            self.pause_until_us,
            self.queue_limit,
            self.tenant_limit,
            self.tenant_weight,
            self.service_limit,
            self.drain_us,
            self.labels,
            self.resources,
        ) = row
        self.placement = placement_of(self.asks)
        self._read: collections.deque[_Candidate] = collections.deque()
        self._after: tuple[int, int, str] = (-(1 << 62), 0, "")
        self._has_more = True

    def is_open(self, now_us: int) -> bool:
        """Whether no pause holds its queue, and no drain the worker."""
        held_now = self.pause_until_us is None or now_us < self.pause_until_us
        held = self.pause_mode == PauseMode.HOLD and held_now and not mutant("pause.ignored")
        return self.drain_us is None and not held

    def is_limited(self) -> bool:
        """Whether any limit holds for it."""
        limits = self.queue_limit, self.tenant_limit, self.service_limit
        return limits != (None, None, None)

    async def read(self, tx: Transaction, count: int) -> list[_Candidate] | None:
        """Read the next jobs where none is at hand; None where one is."""
        if self._read or not self._has_more:
            return None
        rows = await tx.read_all(
            "find_claimable",
            self.tenant,
            self.queue,
            self.fairness_key,
            self.asks,
            *self._after,
            count,
        )
        found = [_Candidate._make(row) for row in rows]
        self._has_more = len(found) == count
        if found:
            last = found[-1]
            self._after = last.claim_key, last.rank, last.job_id
        self._read.extend(found)
        return found

    def first(self) -> _Candidate | None:
        """The next job, which `pop` takes out."""
        return self._read[0] if self._read else None

    def pop(self) -> None:
        """The next job is dealt with."""
        self._read.popleft()


class _Claiming:
    """One round of a claim."""

    def __init__(self, tx: Transaction, call: ClaimCall, limit: int) -> None:
        self._tx = tx
        self._call = call
        self._limit = limit
        self._use: Use | None = None
        self._room = _NO_ROOM
        self._rules: dict[Key, KeyRule] = {}
        self._asked: set[Key] = set()
        self._used_rates: set[Key] = set()
        self._needs: dict[tuple[str, str], tuple[Need, ...]] = {}
        self._has_rates = False
        self.wakes: dict[Key, int] = {}
        self._parked: dict[tuple[str, str], str] = {}
        self._left_free: dict[Key, int] = {}
        self._rows: list[Row] = []
        self.claims: list[Claim] = []
        self.opened: list[Row] = []
        self._kept_free = 0
        """How many of what may be granted is left to indices of the arrays that are opened."""
        self.woken = 0

    async def run(self) -> None:
        """Claim, park, and write both."""
        if self._limit <= 0:
            return
        lanes = await self._open_lanes()
        if not lanes:
            return
        limited = any(lane.is_limited() for lane in lanes)
        placed = any(lane.asks for lane in lanes)
        if (limited or placed or len(lanes) > 1) and await self._tx.alone():
            lanes = await self._open_lanes()  # what was read before may be old
            if not lanes:
                return
            limited = any(lane.is_limited() for lane in lanes)
        if limited:
            self._use = await held(self._tx, self._call.now_us)
        if any(lane.asks for lane in lanes):
            for asks, count in await self._tx.read_all("find_taken", self._call.worker_id):
                self._room.take(placement_of(asks), count)
        await self._take_turns(lanes)
        await self._write()

    async def _open_lanes(self) -> list[_Lane]:
        rows = await self._lanes_behind("", "", "", "")
        if len(rows) == LANES:
            rows = await self._rotated(rows)
        lanes = [lane for row in rows if (lane := _Lane(row)).is_open(self._call.now_us)]
        if not any(lane.asks for lane in lanes):
            return lanes
        room = self._room = _room_of(lanes[0])
        return [
            lane
            for lane in lanes
            if not lane.asks
            or (room.has_labels(lane.placement) and room.is_large_enough(lane.placement))
        ]

    async def _lanes_behind(self, *lane: str) -> Sequence[Row]:
        return await self._tx.read_all("find_lanes", *lane, LANES, self._call.worker_id)

    async def _rotated(self, first: Sequence[Row]) -> Sequence[Row]:
        """With more lanes than a claim looks at: those behind the ones of the claim before."""
        tx = self._tx
        found = await tx.read("find_shares", [(_LANES, "")])
        begin = found[0][2] if found else 0
        rows: Sequence[Row] = first
        for _ in range(begin):
            rows = await self._lanes_behind(*rows[-1][:4])
            if len(rows) < LANES:
                break
        await tx.write("put_shares", [(_LANES, "", begin + 1 if len(rows) == LANES else 0)])
        return rows or first

    # --- turns --------------------------------------------------------------------------------

    async def _take_turns(self, lanes: Sequence[_Lane]) -> None:
        flows: dict[str, dict[str, list[_Lane]]] = {}
        for lane in lanes:
            flows.setdefault(lane.tenant, {}).setdefault(lane.fairness_key, []).append(lane)
        shares = await self._shares(flows)
        tenants = _turns(shares, _TENANTS, flows)
        turns = {tenant: _turns(shares, tenant, keys) for tenant, keys in flows.items()}
        chunk = self._limit if len(lanes) == 1 else max(_FEW, self._limit // len(lanes) + 1)
        while tenants and not self._is_enough():
            tenant = tenants.next()
            keys = turns[tenant]
            if not keys or self._is_full(flows[tenant]):
                tenants.leave()
                continue
            flow = keys.next()
            found = await self._next(flows[tenant][flow], chunk)
            if found is None:
                keys.leave()
                continue
            lane, job = found
            lane.pop()
            if job.is_array:
                self._open(lane, job)
                continue
            if self._park(lane, job):
                continue
            self._grant(lane, job)
            keys.take(job.fairness_weight)
            tenants.take(lane.tenant_weight or NORMAL_WEIGHT)
        await self._put_shares(tenants, turns, flows)

    def _is_enough(self) -> bool:
        """Whether all is granted or kept, or more was done besides than one transaction should do."""
        return (
            len(self.claims) + self._kept_free >= self._limit
            or len(self._parked) >= PARKED
            or len(self.opened) >= OPENED
        )

    async def _shares(self, flows: Mapping[str, Mapping[str, object]]) -> dict[Key, int]:
        """The passes of all who have somebody to take turns with."""
        scopes: dict[str, Iterable[str]] = {_TENANTS: flows} | {
            _scope(tenant): keys for tenant, keys in flows.items()
        }
        wanted = [
            (scope, member)
            for scope, members in scopes.items()
            if len(list(members)) > 1
            for member in ("", *(f"={name}" for name in members))
        ]
        found = await self._tx.read("find_shares", wanted)
        return {(scope, member): share for scope, member, share in found}

    async def _put_shares(
        self,
        tenants: Turns,
        turns: Mapping[str, Turns],
        flows: Mapping[str, Mapping[str, object]],
    ) -> None:
        """Keep the turns of those who had somebody to take turns with."""
        rows: list[tuple[str, str, int]] = []
        if len(flows) > 1:
            rows += _share_rows(_TENANTS, tenants)
        for tenant, keys in flows.items():
            if len(keys) > 1:
                rows += _share_rows(_scope(tenant), turns[tenant])
        await self._tx.write("put_shares", sorted(rows))

    async def _next(self, lanes: Sequence[_Lane], chunk: int) -> tuple[_Lane, _Candidate] | None:
        """The first job of the lanes of one fairness key, and its lane."""
        best, place = None, None
        for lane in lanes:
            if self._is_queue_full(lane) or (lane.asks and not self._room.fits(lane.placement)):
                continue
            found = await lane.read(self._tx, chunk)
            if found:
                await self._learn(lane.tenant, found)
            first = lane.first()
            if first is None:
                continue
            stands = first.claim_key, first.rank, first.job_id
            if place is None or stands < place:
                best, place = (lane, first), stands
        return best

    # --- limits -------------------------------------------------------------------------------

    def _is_full(self, keys: Mapping[str, Sequence[_Lane]]) -> bool:
        """Whether the limit of the service or of the tenant is reached."""
        lane = next(iter(keys.values()))[0]
        if self._use is None:
            return False
        return _reached(lane.service_limit, self._use.service) or _reached(
            lane.tenant_limit, self._use.tenants.get(lane.tenant, 0)
        )

    def _is_queue_full(self, lane: _Lane) -> bool:
        return self._use is not None and _reached(
            lane.queue_limit, self._use.queues.get((lane.tenant, lane.queue), 0)
        )

    async def _learn(self, tenant: str, jobs: Sequence[_Candidate]) -> None:
        """Read what has to be known of the keys of jobs."""
        texts = {job.keys for job in jobs if job.keys}
        named = {(tenant, key.key) for text in texts for key in keys_of(text)}
        new = sorted(named - self._asked)
        if not new:
            return
        if self._use is None:
            await self._tx.alone()
            # What was granted until now has no keys.
            self._use = await held(self._tx, self._call.now_us)
        self._rules |= await rules(self._tx, new)
        self._asked.update(new)
        self._has_rates = any(rule.rate is not None for rule in self._rules.values())

    def _park(self, lane: _Lane, job: _Candidate) -> bool:
        """Whether the job cannot have one of its keys, and so is parked for it."""
        if not job.keys:
            return False
        assert self._use is not None  # it was read with the first keys
        like = lane.tenant, job.keys
        needed = self._needs.get(like)
        if needed is None:
            needed = self._needs[like] = needs(lane.tenant, keys_of(job.keys), self._rules)
        block = first_block(needed, self._rules, self._use, self._call.now_us)
        if block is None:
            return False
        self._parked[lane.tenant, job.job_id] = block.key
        if block.wake_us is not None:
            name = lane.tenant, block.key
            self.wakes[name] = min(self.wakes.get(name, block.wake_us), block.wake_us)
        self._leave(lane.tenant, keys_of(job.keys), block.key)
        return True

    def _leave(self, tenant: str, keys: Sequence[ConcurrencyKey], blocked: str) -> None:
        """A parked job leaves its other keys to others, where they are free."""
        assert self._use is not None  # as above
        for key in keys:
            most = most_running(key, self._rules.get((tenant, key.key)))
            used = self._use.keys.get((tenant, key.key), 0)
            if key.key != blocked and (most is None or used < most):
                name = tenant, key.key
                self._left_free[name] = self._left_free.get(name, 0) + key.weight

    # --- what comes of it ---------------------------------------------------------------------

    def _grant(self, lane: _Lane, job: _Candidate) -> None:
        tenant, call = lane.tenant, self._call
        position = self._tx.record(
            EventRow(
                job.last_position,
                tenant,
                job.job_id,
                job.revision + 1,
                EventKind.CLAIMED,
                State.RUNNING,
                State.QUEUED,
                call.now_us,
                job.attempts + 1,
            )
        )
        self._rows.append(
            (tenant, job.job_id, position, call.worker_id, call.lease_until_us, call.now_us)
        )
        self.claims.append(_claim_of(tenant, job))
        if lane.asks:
            self._room.take(lane.placement)
        if self._use is not None and not mutant("limit.read_once"):
            self._use.add(held_of(tenant, lane.queue, job.keys))
            if self._has_rates:
                for key in keys_of(job.keys):
                    self._use_rate((tenant, key.key), key.weight)

    def _open(self, lane: _Lane, job: _Candidate) -> None:
        now_us = self._call.now_us
        position = self._tx.record(
            EventRow(
                job.last_position,
                lane.tenant,
                job.job_id,
                job.revision + 1,
                EventKind.OPENED,
                State.RUNNING,
                State.QUEUED,
                now_us,
            )
        )
        self.opened.append((lane.tenant, job.job_id, position, now_us))
        self._kept_free += job.array_size or 0

    def _use_rate(self, name: Key, weight: int) -> None:
        rule = self._rules.get(name)
        if rule is not None and rule.rate is not None:
            until_us = rule.rate.start_us(rule.used_until_us, self._call.now_us, weight)
            self._rules[name] = rule._replace(used_until_us=until_us)
            self._used_rates.add(name)

    async def _write(self) -> None:
        tx = self._tx
        await change(tx, "claim_jobs", self._rows)
        await change(tx, "open_arrays", self.opened)
        await change(tx, "grow_arrays", [row[:2] for row in self.opened])
        await tx.write("park_jobs", [(*key, blocked) for key, blocked in self._parked.items()])
        await tx.write(
            "use_rates",
            [
                (tenant, LimitKind.KEY, name, self._rules[tenant, name].used_until_us)
                for tenant, name in sorted(self._used_rates)
            ],
        )
        await tx.write(
            "advance_wakes",
            [
                (tenant, LimitKind.KEY, name, wake_us)
                for (tenant, name), wake_us in sorted(self.wakes.items())
            ],
        )
        self.woken = await wake(tx, self._left_free)


def _room_of(lane: _Lane) -> Room:
    """What the worker offers that claims, as it is told with each lane."""
    if lane.labels is None:
        return Room({}, Resources())
    return Room(parse_json(lane.labels), resources_of(lane.resources))


def _turns(shares: Mapping[Key, int], scope: str, members: Mapping[str, object]) -> Turns:
    scope = _scope(scope) if scope else _TENANTS
    passes = {name: shares[scope, f"={name}"] for name in members if (scope, f"={name}") in shares}
    return Turns(shares.get((scope, ""), 0), passes, members)


def _scope(tenant: str) -> str:
    """The scope of the turns of a tenant's fairness keys."""
    return f"={tenant}"


def _share_rows(scope: str, turns: Turns) -> list[tuple[str, str, int]]:
    moved = [(scope, f"={member}", share) for member, share in turns.moved.items()]
    return [(scope, "", turns.floor), *moved] if moved else []


def _reached(limit: int | None, used: int) -> bool:
    return limit is not None and used >= limit


def _claim_of(tenant: str, job: _Candidate) -> Claim:
    command = command_of(job.argv, job.work_dir, job.env, bytes.fromhex(job.stdin))
    if job.array_id is not None:
        assert job.array_index is not None  # the columns come together
        assert job.array_size is not None
        index = Index(job.array_id, job.array_index, job.array_size, job.array_item)
        command = dataclasses.replace(command, env={**command.env, **index.env})
    return Claim(
        fence=Fence(tenant, job.job_id, job.attempts + 1, job.epoch + 1),
        command=command,
        timeout=span_or_none(job.timeout_us),
        stop_grace=dt.timedelta(microseconds=job.stop_grace_us),
        output_limit_bytes=job.output_limit_bytes,
        idle_timeout=span_or_none(job.idle_timeout_us),
    )
