"""Arrivals: where new jobs begin that depend on others, judged in the transaction of their insert."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jobservice.clock import to_us
from jobservice.model.graph import Rule, Verdict, needed, order, ready_us
from jobservice.model.job import NewJob
from jobservice.model.lifecycle import Reason, State
from jobservice.store.port import Arrival
from jobservice.store.rows import instant_or_none, span_us, us_or_none
from jobservice.store.verbs.children import (
    GOVERNED,
    Child,
    Edge,
    Key,
    Parent,
    settled_row,
)
from jobservice.store.verbs.transaction import Row, Transaction, change


class Newcomer(NamedTuple):
    """A new job that depends on others."""

    place: int
    """In the call, from 0."""
    parent_ids: tuple[str, ...]
    edges: tuple[Edge, ...]
    child: Child
    """As it is before anything is known of its parents; to be copied."""


@dataclasses.dataclass(frozen=True, slots=True)
class Family:
    """The new jobs of a call that depend on others, each behind those that it depends on."""

    newcomers: tuple[Newcomer, ...] = ()
    outside: frozenset[Key] = frozenset()
    """The parents that are not of the call."""
    inside: frozenset[str] = frozenset()
    """The parents that are."""
    created_us: int = 0


_NONE = Family()


def family_of(jobs: Sequence[NewJob]) -> Family:
    """What the dependencies of new jobs say; there is no circle among them."""
    if not any(job.spec.dependencies for job in jobs):
        return _NONE
    places = {job.job_id: index for index, job in enumerate(jobs)}
    parents = [[each.job_id for each in job.spec.dependencies] for job in jobs]
    within = [[places[each] for each in ids if each in places] for ids in parents]
    named = {each for ids in parents for each in ids}
    return Family(
        tuple(_newcomer(index, jobs[index]) for index in order(within) if parents[index]),
        frozenset((jobs[0].tenant, each) for each in named - places.keys()),
        frozenset(named & places.keys()),
        to_us(jobs[0].created_at),
    )


def _newcomer(index: int, job: NewJob) -> Newcomer:
    asked, policy = job.spec.dependencies, job.spec.dependency_policy
    edges = [Edge(n, each.condition, span_us(each.delay)) for n, each in enumerate(asked)]
    child = Child(
        tenant=job.tenant,
        job_id=job.job_id,
        state=State.BLOCKED,
        revision=1,
        last_position=0,
        attempt_count=0,
        priority=job.spec.priority,
        start_us=us_or_none(job.start_at),
        reason=Reason.NONE,
        dependent=GOVERNED,
        has_children=False,
        delete_requested=False,
        floor_us=us_or_none(job.start_at),
        rule=policy.rule,
        needed=needed(policy.rule, policy.at_least, len(asked)),
        on_unmet=policy.on_unmet,
        total=len(asked),
        met=0,
        unmet=0,
        is_delayed=any(each.delay for each in asked),
        cause_id="",
    )
    return Newcomer(index, tuple(each.job_id for each in asked), tuple(edges), child)


def missing(family: Family, parents: Mapping[Key, object]) -> tuple[tuple[int, int], ...]:
    """Which dependencies name a job that nobody knows: places of the job and of the dependency."""
    unknown = {job_id for tenant, job_id in family.outside if (tenant, job_id) not in parents}
    return tuple(
        sorted(
            (each.place, number)
            for each in family.newcomers
            for number, job_id in enumerate(each.parent_ids)
            if job_id in unknown
        )
    )


class Judged(NamedTuple):
    """A new job, as its parents are."""

    newcomer: Newcomer
    begun: Child
    """As it is inserted: BLOCKED, or where it waits because its rule is met already."""
    settled: Child
    """As it stands after the insert: one whose rule cannot be met has moved on from BLOCKED."""
    edges: tuple[Edge, ...]

    @property
    def arrival(self) -> Arrival:
        """What the caller is told."""
        job = self.settled
        return Arrival(
            state=job.state,
            revision=job.revision,
            reason=Reason(job.reason),
            message=job.message,
            start_at=instant_or_none(job.start_us) if job.state is State.SCHEDULED else None,
            ended_at=instant_or_none(job.ended_us),
            cause_job_id=job.cause_id if job.reason else "",
            verdicts=tuple(each.verdict for each in self.edges),
        )


def judge(family: Family, parents: Mapping[Key, Parent]) -> dict[int, Judged]:
    """What the dependencies of new jobs are worth now, by place in the call."""
    known, judged = dict(parents), {}
    for newcomer in family.newcomers:
        one = judged[newcomer.place] = _judge(newcomer, known, family.created_us)
        known[one.settled.key] = one.settled.as_parent()
    return judged


def _judge(newcomer: Newcomer, known: Mapping[Key, Parent], now_us: int) -> Judged:
    begun = dataclasses.replace(newcomer.child, told={})
    edges = []
    for edge, parent_id in zip(newcomer.edges, newcomer.parent_ids, strict=True):
        new = Parent(begun.tenant, parent_id, State.QUEUED, None, parent_id)
        parent = known.get((begun.tenant, parent_id), new)
        begun.hear(edge, parent)
        edges.append(edge.told(parent))
    settled = dataclasses.replace(begun)
    if begun.verdict is Verdict.MET:
        settled.settle(_ready(begun, edges), now_us)
        settled.revision = 1
        begun = settled
    elif begun.verdict is Verdict.UNMET:
        settled.settle(0, now_us)
    return Judged(newcomer, begun, settled, tuple(edges))


def _ready(child: Child, edges: Sequence[Edge]) -> int:
    if not child.is_delayed:
        return 0
    instants = [
        each.ready_us
        for each in edges
        if each.ready_us is not None and (each.verdict is Verdict.MET or child.rule is Rule.ALWAYS)
    ]
    return ready_us(child.needed, instants)


async def insert_newcomers(tx: Transaction, judged: Sequence[Judged], now_us: int) -> None:
    """Keep the dependencies of jobs inserted as `begun`, and move on those that may not run."""
    await tx.write("insert_dependents", [_dependent_row(each.begun) for each in judged])
    await tx.write(
        "insert_dependencies",
        [
            (*each.begun.key, edge.number, parent_id, edge.condition, edge.delay_us, *edge[3:])
            for each in judged
            for edge, parent_id in zip(each.edges, each.newcomer.parent_ids, strict=True)
        ],
    )
    refused = [each.begun for each in judged if each.begun.verdict is Verdict.UNMET]
    rows = [settled_row(tx, each, 0, now_us) for each in refused]
    await change(tx, "settle_blocked", rows)


def _dependent_row(child: Child) -> Row:
    return (
        *child.key,
        child.rule,
        child.needed,
        child.on_unmet,
        child.total,
        child.met,
        child.unmet,
        child.is_delayed,
        child.cause_id,
    )
