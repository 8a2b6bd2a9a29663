"""Children: jobs that depend on others are told how these ended, or that they are run again.

A job whose end others wait for is their parent here. Telling goes from a parent along its dependencies
in the order of the children: each verdict follows from the state that the parent has now, so it does
not matter how often it is told, nor whether the parent ended or was retried. What does not fit into the
transaction of the end is marked (`unsettled`) and goes on in transactions of its own; so does what
another server holds the lock of. Children that end thereby are parents of the next round.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jobservice.model.event import EventKind
from jobservice.model.graph import (
    Condition,
    OnUnmet,
    Rule,
    Verdict,
    ready_us,
    rule_verdict,
    verdict,
)
from jobservice.model.lifecycle import Reason, State, Trigger, step
from jobservice.model.queue import claim_key
from jobservice.store.verbs.transaction import EventRow, Row, Transaction, change

EDGES_A_STATEMENT = 1_000
"""How many dependencies `find_edges` gives at most."""
MOST_EDGES = 1_000
"""Behind so many dependencies a transaction begins no other round."""
MOST_ROUNDS = 32
"""How far down a chain one transaction goes."""
INDEPENDENT, GOVERNED, FREED, DELAYED = 0, 1, 2, 3
"""The column `dependent`: see the schema. DELAYED are those that were let go and are SCHEDULED for the
delays of their dependencies, while others of these may still bring the start forward. It says nothing
any more of a job that is not SCHEDULED, or had an attempt."""

Key = tuple[str, str]
"""Tenant and job id."""


def unmet_message(cause_id: str) -> str:
    """Why a job does not run, in a sentence."""
    return f"what it depends on cannot be met any more, because of the end of job {cause_id}"


_ACTIONS = {OnUnmet.SKIP: Trigger.SKIP, OnUnmet.FAIL: Trigger.FAIL, OnUnmet.HOLD: Trigger.HOLD}
_KINDS = {
    Trigger.SKIP: EventKind.SKIPPED,
    Trigger.FAIL: EventKind.FAILED,
    Trigger.HOLD: EventKind.HELD,
    Trigger.UNBLOCK: EventKind.UNBLOCKED,
    Trigger.UNBLOCK_LATER: EventKind.UNBLOCKED,
}


class Parent(NamedTuple):
    """A job that others wait for, as it is now."""

    tenant: str
    job_id: str
    state: State
    ended_us: int | None
    cause_id: str
    """Itself, or for whose end it was skipped or failed."""
    from_id: str = ""
    """The first child to be told."""

    @property
    def key(self) -> Key:
        """Tenant and job id."""
        return self.tenant, self.job_id


class Edge(NamedTuple):
    """A dependency of a child, without the child."""

    number: int
    condition: Condition
    delay_us: int
    verdict: Verdict = Verdict.PENDING
    ready_us: int | None = None

    def told(self, parent: Parent) -> "Edge":
        """As the state of the parent has it."""
        judged = verdict(self.condition, parent.state)
        ready = None
        if judged is not Verdict.PENDING and parent.ended_us is not None:
            ready = parent.ended_us + self.delay_us
        return self._replace(verdict=judged, ready_us=ready)


@dataclasses.dataclass(slots=True)
class Child:
    """A job that depends on others; changed as it is told of them."""

    tenant: str
    job_id: str
    state: State
    revision: int
    last_position: int
    attempt_count: int
    priority: int
    start_us: int | None
    reason: int
    dependent: int
    has_children: bool
    delete_requested: bool
    floor_us: int | None
    """The start that was asked for; it does not start before."""
    rule: Rule
    needed: int
    on_unmet: OnUnmet
    total: int
    met: int
    unmet: int
    is_delayed: bool
    cause_id: str
    message: str = ""
    ended_us: int | None = None
    told: dict[int, Edge] = dataclasses.field(default_factory=dict)
    """Dependencies whose verdict has changed, by number."""

    @property
    def key(self) -> Key:
        """Tenant and job id."""
        return self.tenant, self.job_id

    @property
    def waits(self) -> bool:
        """Whether it is BLOCKED, or not decided because a person holds it."""
        return self.state is State.BLOCKED or (
            self.state is State.HELD and self.reason != Reason.DEPENDENCY
        )

    @property
    def is_delayed_only(self) -> bool:
        """Whether it was let go and waits for nothing but the delays of its dependencies."""
        return (
            self.dependent == DELAYED and self.state is State.SCHEDULED and self.attempt_count == 0
        )

    @property
    def listens(self) -> bool:
        """Whether what becomes of its parents matters to it."""
        return self.dependent == GOVERNED or self.is_delayed_only

    @property
    def may_advance(self) -> bool:
        """Whether what it was told just now may let it start earlier than it is to."""
        return (
            self.is_delayed_only
            and self.verdict is Verdict.MET
            and any(
                edge.verdict is Verdict.MET and edge.ready_us < self.start_us
                for edge in self.told.values()
                if edge.ready_us is not None and self.start_us is not None
            )
        )

    @property
    def was_refused(self) -> bool:
        """Whether it would wait again if its rule could be met."""
        return (
            self.state in {State.SKIPPED, State.HELD}
            and self.reason == Reason.DEPENDENCY
            and not self.delete_requested
        )

    def hear(self, old: Edge, parent: Parent) -> None:
        """Note what became of a parent."""
        new = old.told(parent)
        if new == old:
            return
        before = self.verdict
        self.told[new.number] = new
        self.met += (new.verdict is Verdict.MET) - (old.verdict is Verdict.MET)
        self.unmet += (new.verdict is Verdict.UNMET) - (old.verdict is Verdict.UNMET)
        if self.waits and self.verdict is Verdict.UNMET and before is not Verdict.UNMET:
            self.cause_id = parent.cause_id

    @property
    def verdict(self) -> Verdict:
        """Of its rule."""
        return rule_verdict(self.rule, self.needed, self.total, self.met, self.unmet)

    def settle(self, ready: int, now_us: int) -> EventKind:
        """Move on from BLOCKED, now that the rule is decided; `ready` is when its delays let it run."""
        self.revision += 1
        if self.verdict is Verdict.MET:
            start_us = max(ready, self.start_us or 0)
            self.start_us = start_us if start_us > now_us else None
            may_advance = self.is_delayed and self.needed < self.total
            self.dependent = DELAYED if self.start_us is not None and may_advance else FREED
            trigger = Trigger.UNBLOCK if self.start_us is None else Trigger.UNBLOCK_LATER
        else:
            trigger = _ACTIONS[self.on_unmet]
            self.dependent = FREED if trigger is Trigger.FAIL else GOVERNED
            self.reason, self.message = Reason.DEPENDENCY, unmet_message(self.cause_id)
            self.start_us = self.start_us if trigger is Trigger.HOLD else None
            self.ended_us = None if trigger is Trigger.HOLD else now_us
        self.state = step(self.state, trigger)
        return _KINDS[trigger]

    def advance(self, ready: int, now_us: int) -> bool:
        """Start earlier, if `ready` is earlier; QUEUED when that is now. Returns whether it does."""
        start_us = max(ready, self.floor_us or 0)
        if self.start_us is None or start_us >= self.start_us:
            return False
        self.revision += 1
        self.start_us = start_us if start_us > now_us else None
        if self.start_us is None:
            self.state = step(self.state, Trigger.DUE)
        return True

    def reopen(self) -> None:
        """Wait for others again."""
        self.revision += 1
        trigger = Trigger.REOPEN if self.state is State.SKIPPED else Trigger.RELEASE_TO_BLOCKED
        self.state = step(self.state, trigger)
        self.reason, self.message, self.ended_us = Reason.NONE, "", None

    def as_parent(self) -> Parent:
        """What its own children are told."""
        cause_id = self.cause_id if self.reason == Reason.DEPENDENCY else self.job_id
        return Parent(self.tenant, self.job_id, self.state, self.ended_us, cause_id)


# --- tell -------------------------------------------------------------------------------------


async def settle_children(
    tx: Transaction, parents: Iterable[Parent], now_us: int
) -> dict[Key, str]:
    """Tell the children of jobs, and so on down; returns from which child on who is told later."""
    waiting = {parent.key: parent for parent in parents}
    left: dict[Key, str] = {}
    edges = rounds = 0
    while waiting:
        if edges >= MOST_EDGES or rounds == MOST_ROUNDS:
            left |= {key: parent.from_id for key, parent in waiting.items()}
            break
        told = await _tell(tx, list(waiting.values()), now_us)
        left = {key: from_id for key, from_id in left.items() if key not in waiting} | told.left
        waiting = {parent.key: parent for parent in told.moved}
        edges, rounds = edges + told.edges, rounds + 1
    await tx.write("mark_unsettled", [(*key, from_id) for key, from_id in left.items()])
    return left


async def settle_marked(tx: Transaction, calls: Sequence[tuple[int, int]]) -> list[int]:
    """Go on where `settle_children` left off; calls are pairs of instant and limit."""
    return [await _settle_marked(tx, now_us, limit) for now_us, limit in calls]


async def _settle_marked(tx: Transaction, now_us: int, limit: int) -> int:
    found = await tx.read_all("find_unsettled", limit)
    keys = [(tenant, job_id) for tenant, job_id, *_ in found]
    marks = await tx.read("find_marks", [(n, *key) for n, key in enumerate(keys)])
    jobs = {(tenant, job_id): row for tenant, job_id, *row in found}
    parents = await with_causes(tx, jobs)
    marked = [parents[keys[n]]._replace(from_id=from_id) for n, from_id in marks]
    left = await settle_children(tx, marked, now_us)
    await tx.write("drop_unsettled", [each.key for each in marked if each.key not in left])
    return len(marked)


async def decide_children(tx: Transaction, keys: Sequence[Key], now_us: int) -> None:
    """Move on those BLOCKED jobs whose dependencies are decided."""
    children = await _find_children(tx, keys)
    await settle_children(tx, await _move(tx, list(children.values()), now_us), now_us)


class _Told(NamedTuple):
    """What one round has done."""

    left: dict[Key, str]
    moved: list[Parent]
    edges: int


async def _tell(tx: Transaction, parents: Sequence[Parent], now_us: int) -> _Told:
    rows = await tx.read(
        "find_edges", [(n, *each.key, each.from_id) for n, each in enumerate(parents)]
    )
    edges = [
        (parents[n], job_id, Edge(number, Condition(asked), delay, Verdict(old), ready))
        for n, job_id, number, asked, delay, old, ready in rows
    ]
    children = await _find_children(
        tx, dict.fromkeys((parent.tenant, job_id) for parent, job_id, _ in edges)
    )
    left: dict[Key, str] = {}
    if len(edges) >= EDGES_A_STATEMENT:  # there may be more, of any of them
        left = {parent.key: parent.from_id for parent in parents}
        for parent, job_id, _ in edges:
            left[parent.key] = max(left[parent.key], job_id)
    for parent, job_id, edge in edges:
        child = children.get((parent.tenant, job_id))
        if child is None:  # another is changing it just now
            left[parent.key] = min(left.get(parent.key, job_id), job_id)
        elif child.listens:
            child.hear(edge, parent)
    changed = [child for child in children.values() if child.told]
    await _write_verdicts(tx, changed)
    return _Told(left, await _move(tx, changed, now_us), len(edges))


async def _find_children(tx: Transaction, keys: Iterable[Key]) -> dict[Key, Child]:
    """Jobs that depend on others, but for those that another server is changing."""
    wanted = [(n, *key) for n, key in enumerate(keys)]
    jobs = {n: row for n, *row in await tx.read("find_children", wanted)}
    rules = await tx.read("find_dependents", [wanted[n] for n in jobs])
    children = [_child(*wanted[n][1:], *jobs[n], *rule) for n, *rule in rules]
    return {child.key: child for child in children}


def _child(tenant: str, job_id: str, state: int, *columns: Any) -> Child:
    *job, rule, needed, on_unmet, total, met, unmet, is_delayed, cause_id = columns
    job += [Rule(rule), needed, OnUnmet(on_unmet), total, met, unmet, bool(is_delayed), cause_id]
    return Child(tenant, job_id, State(state), *job)


async def _write_verdicts(tx: Transaction, children: Sequence[Child]) -> None:
    edges = [
        (*child.key, edge.number, edge.verdict, edge.ready_us)
        for child in children
        for edge in child.told.values()
    ]
    await change(tx, "settle_edges", edges)
    counts = [(*child.key, child.met, child.unmet, child.cause_id) for child in children]
    await change(tx, "count_verdicts", counts)


# --- move -------------------------------------------------------------------------------------


async def _move(tx: Transaction, children: Sequence[Child], now_us: int) -> list[Parent]:
    """Move on those whose rule is decided, or is not any more, or that may start earlier.

    Returns what others have to be told.
    """
    again = [each for each in children if each.was_refused and each.verdict is not Verdict.UNMET]
    await change(tx, "reopen_jobs", [_reopened(tx, child, now_us) for child in again])
    decided = [
        each
        for each in children
        if each.state is State.BLOCKED and each.verdict is not Verdict.PENDING
    ]
    early = [each for each in children if each.may_advance]
    ready = await _ready(tx, [*[each for each in decided if each.is_delayed], *early])
    rows = [settled_row(tx, each, ready.get(each.key, 0), now_us) for each in decided]
    await change(tx, "settle_blocked", rows)
    await _advance(tx, early, ready, now_us)
    moved = {each.key: each for each in [*again, *decided]}
    return [child.as_parent() for child in moved.values() if child.has_children]


async def _ready(tx: Transaction, children: Sequence[Child]) -> dict[Key, int]:
    """From when on the delays of those that may run let them."""
    freed = [each for each in children if each.verdict is Verdict.MET]
    instants: dict[int, list[int]] = {n: [] for n in range(len(freed))}
    for n, old, instant in await tx.read(
        "find_ready", [(n, *each.key) for n, each in enumerate(freed)]
    ):
        if old == Verdict.MET or freed[n].rule is Rule.ALWAYS:
            instants[n].append(instant)
    return {freed[n].key: ready_us(freed[n].needed, found) for n, found in instants.items()}


async def _advance(
    tx: Transaction, children: Sequence[Child], ready: Mapping[Key, int], now_us: int
) -> None:
    """Bring the starts of jobs forward; those that may start now wait in the queue from now on."""
    due: list[Row] = []
    later: list[Row] = []
    for child in children:
        if not child.advance(ready[child.key], now_us):
            continue
        kind = EventKind.UPDATED if child.start_us is not None else EventKind.DUE
        position = _tell_event(tx, child, kind, State.SCHEDULED, now_us)
        place = claim_key(child.priority, now_us)
        if child.start_us is None:
            due.append((*child.key, position, place, now_us, now_us))
        else:
            later.append((*child.key, position, child.start_us, now_us))
    await change(tx, "release_due", due)
    await change(tx, "advance_starts", later)


def _reopened(tx: Transaction, child: Child, now_us: int) -> Row:
    previous = child.state
    child.reopen()
    return (*child.key, _tell_event(tx, child, EventKind.REOPENED, previous, now_us), now_us)


def settled_row(tx: Transaction, child: Child, ready: int, now_us: int) -> Row:
    """The row of `settle_blocked` for a BLOCKED job that is decided; tells its event.

    See `Child.settle`; it waits in the queue from now on.
    """
    previous = child.state
    kind = child.settle(ready, now_us)
    position = _tell_event(tx, child, kind, previous, now_us)
    return (
        *child.key,
        position,
        child.state,
        child.reason,
        child.message,
        child.dependent,
        claim_key(child.priority, now_us),
        now_us,
        child.start_us,
        child.ended_us,
        now_us,
    )


def _tell_event(
    tx: Transaction, child: Child, kind: EventKind, previous: State, now_us: int
) -> int:
    child.last_position = tx.record(
        EventRow(
            child.last_position,
            *child.key,
            child.revision,
            kind,
            child.state,
            previous,
            now_us,
            child.attempt_count,
            child.reason,
            child.message,
            start_us=child.start_us if child.state is State.SCHEDULED else None,
        )
    )
    return child.last_position


# --- parents ----------------------------------------------------------------------------------


async def find_parents(tx: Transaction, keys: Iterable[Key]) -> dict[Key, tuple[Parent, bool]]:
    """Jobs as a dependency on them is judged, and whether they still need `mark_parents`.

    Those that are not there are answered from their tombstones, which need no mark; what nobody knows
    is not in the answer.
    """
    wanted = sorted(keys)
    rows = await tx.read("find_parents", [(n, *key) for n, key in enumerate(wanted)])
    alive = {wanted[n]: (state, ended_us, reason) for n, state, ended_us, reason, _ in rows}
    marked = {wanted[n] for n, *_, has_children in rows if has_children}
    parents = await with_causes(tx, alive)
    found = {key: (parent, key not in marked) for key, parent in parents.items()}
    gone = [key for key in wanted if key not in alive]
    for n, state, deleted_us in await tx.read(
        "find_buried", [(n, *key) for n, key in enumerate(gone)]
    ):
        key = gone[n]
        found[key] = Parent(*key, State(state), deleted_us, key[1]), False
    return found


async def with_causes(tx: Transaction, jobs: Mapping[Key, Row]) -> dict[Key, Parent]:
    """Parents out of state, end and reason; the cause is another job where the reason says so."""
    led = [key for key, (_, _, reason) in jobs.items() if reason == Reason.DEPENDENCY]
    rules = await tx.read("find_dependents", [(n, *key) for n, key in enumerate(led)])
    causes = {led[n]: cause_id for n, *_, cause_id in rules}
    return {
        key: Parent(*key, State(state), ended_us, causes.get(key) or key[1])
        for key, (state, ended_us, _) in jobs.items()
    }
