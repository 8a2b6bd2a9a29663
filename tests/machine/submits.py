"""New jobs of the machine: what they may be like, and what the documents say becomes of them."""

import dataclasses
import datetime as dt

from hypothesis import strategies as st

from jobservice.model.graph import Condition, OnUnmet, Rule
from jobservice.model.job import NewJob
from jobservice.model.lifecycle import FINAL, LIVE, WAITING, State
from jobservice.model.limit import ConcurrencyKey, OnConflict, type_key
from jobservice.model.queue import OnFull, PauseMode
from jobservice.model.spec import Dependency, DependencyPolicy, RetryPolicy
from jobservice.model.unique import OnDuplicate, UniqueKey, UniqueScope
from jobservice.store.port import Insertion
from tests.conformance.values import seconds
from tests.machine.model import Model, Modelled

TENANTS = ("one", "two")
QUEUES = ("default", "a", "b")
KEYS = ("k", "l")
TYPE = "t"
"""Of jobs; as a key without a limit of its own."""

tenants = st.sampled_from([TENANTS[0], TENANTS[0], TENANTS[0], TENANTS[1]])
queues = st.sampled_from(QUEUES)
keys = st.sampled_from(KEYS)
limited = st.sampled_from([*KEYS, type_key(TYPE).key])
priorities = st.sampled_from([-50, 0, 0, 50])


_ALL = DependencyPolicy()


@dataclasses.dataclass(frozen=True)
class Wish:
    """What a new job is to be like, in terms that make sense whatever there is already."""

    queue: str
    priority: int
    keys: tuple[tuple[str, int, OnConflict], ...]
    parents: tuple[tuple[int, Condition, int], ...]
    """Numbers that choose among the jobs there are, how these have to end, and seconds of delay."""
    fairness_key: str = ""
    job_type: str = ""
    retry: RetryPolicy = RetryPolicy(max_attempts=2, max_lost=2)
    start_delay: dt.timedelta | None = None
    queue_timeout: dt.timedelta | None = None
    total_timeout: dt.timedelta | None = None
    policy: DependencyPolicy = _ALL
    unique_key: UniqueKey | None = None
    size: int | None = None
    """Of an array."""
    max_parallel: int | None = None


def _wishes(*, alone: bool) -> st.SearchStrategy[Wish]:
    conflicts = st.sampled_from([OnConflict.QUEUE, OnConflict.QUEUE, *OnConflict])
    seldom = st.sampled_from([None, None, 20])
    span = seldom.map(lambda each: None if each is None else seconds(each))
    wanted = st.tuples(
        keys, st.sampled_from([1, 1, 1, 2]), conflicts if alone else st.just(OnConflict.QUEUE)
    )
    return st.builds(
        Wish,
        queue=queues,
        priority=priorities,
        fairness_key=st.sampled_from(["", "", "x"]),
        job_type=st.sampled_from(["", "", TYPE]),
        keys=st.lists(wanted, max_size=2, unique_by=lambda each: each[0]).map(tuple),
        retry=st.builds(RetryPolicy, max_attempts=st.integers(1, 2), max_lost=st.integers(1, 2)),
        start_delay=span,
        queue_timeout=span,
        total_timeout=seldom.map(lambda each: None if each is None else seconds(2 * each)),
        parents=st.lists(
            st.tuples(st.integers(0, 20), st.sampled_from(Condition), st.sampled_from([0, 0, 5])),
            max_size=2,
        ).map(tuple),
        policy=st.builds(
            DependencyPolicy,
            rule=st.sampled_from(Rule),
            at_least=st.just(1),
            on_unmet=st.sampled_from(OnUnmet),
        ),
        unique_key=_unique_keys if alone else st.none(),
        size=st.sampled_from([None, None, None, 1, 3]) if alone else st.none(),
        max_parallel=st.sampled_from([None, 1]),
    )


_unique_keys = st.none() | st.builds(
    UniqueKey,
    key=st.sampled_from("uv"),
    scope=st.sampled_from(UniqueScope),
    on_duplicate=st.sampled_from(OnDuplicate),
)
single_wishes = _wishes(alone=True)
wishes = _wishes(alone=False)
plain_wishes = st.builds(
    Wish,
    queue=st.sampled_from(QUEUES[:2]),
    priority=priorities,
    keys=st.sampled_from([(), *((("k", weight, OnConflict.QUEUE),) for weight in (1, 1, 3))]),
    parents=st.sampled_from([(), (), ((0, Condition.SUCCEEDED, 0),)]),
    total_timeout=st.sampled_from([None, None, seconds(25)]),
)


def concurrency_keys(wish: Wish, own: dict[str, int]) -> tuple[ConcurrencyKey, ...]:
    """The keys of a job; all give a key the same limit, as they are told to, and fit into it."""
    return tuple(
        ConcurrencyKey(key, own[key], min(weight, own[key] or 1), rule)
        for key, weight, rule in wish.keys
    )


def dependencies(wish: Wish, known: list[str]) -> tuple[Dependency, ...]:
    """Those that it waits for, among the jobs there are."""
    found = {}
    for number, condition, delay in wish.parents if known else ():
        job_id = known[number % len(known)]
        found[job_id, condition] = Dependency(job_id, condition, seconds(delay))
    return tuple(found.values())


@dataclasses.dataclass
class Verdict:
    """What is to become of a call, and of others for its sake."""

    insertion: Insertion = Insertion.CREATED
    standing: list[str] = dataclasses.field(default_factory=list)
    """The jobs that stand for the new one, or are in its way."""
    skipped: list[Modelled] = dataclasses.field(default_factory=list)
    cancelled: list[Modelled] = dataclasses.field(default_factory=list)
    stopped: list[Modelled] = dataclasses.field(default_factory=list)
    place: int | None = None
    """Where the new job stands, if it takes the place of another."""

    @property
    def leaving(self) -> list[Modelled]:
        """Those that are final because of it."""
        return [*self.skipped, *self.cancelled]


def judge(model: Model, new: list[NewJob]) -> Verdict | None:
    """What is to become of new jobs of one queue; None where the documents leave it open.

    First comes the unique key, then the queue, then the concurrency keys, each without those that have
    left before. A job that is refused changes nothing.
    """
    verdict = Verdict()
    if _is_duplicate(model, new[0], verdict):
        return verdict
    queue = model.queues.get((new[0].tenant, new[0].spec.queue))
    if model.is_paused(new[0].tenant, new[0].spec.queue, PauseMode.DRAIN):
        return Verdict(Insertion.DRAINED)
    if queue is not None and queue.max_depth is not None:
        depth = [
            each
            for each in model.where(State.QUEUED)
            if (each.tenant, each.spec.queue) == (queue.tenant, queue.name)
        ]
        coming = sum(each.state is State.QUEUED and not each.spec.dependencies for each in new)
        coming -= sum(each in depth for each in verdict.skipped)
        surplus = len(depth) + coming - queue.max_depth if coming > 0 else 0
        if surplus > 0:
            full = _make_room(depth, surplus, queue.on_full, verdict, is_alone=len(new) == 1)
            if full is not Insertion.CREATED:
                return None if full is None else Verdict(full, verdict.standing)
    return _with_keys(model, new[0], verdict)


def _is_duplicate(model: Model, new: NewJob, verdict: Verdict) -> bool:
    key = new.spec.unique_key
    others = [
        each
        for each in model.jobs.values()
        if key is not None
        and each.tenant == new.tenant
        and each.spec.unique_key is not None
        and each.spec.unique_key.key == key.key
        and each.state not in FINAL
        and (key.scope is UniqueScope.TENANT or each.spec.queue == new.spec.queue)
    ]
    if key is None or not others:
        return False
    if key.on_duplicate is OnDuplicate.RETURN_EXISTING:
        newest = max(others, key=lambda each: (each.created_at, each.job_id))
        verdict.insertion, verdict.standing = Insertion.STOOD_FOR, [newest.job_id]
        return True
    if key.on_duplicate is OnDuplicate.REPLACE and all(each.state in WAITING for each in others):
        verdict.skipped += others
        return False
    verdict.insertion = Insertion.DUPLICATE
    verdict.standing = [each.job_id for each in others]
    return True


def _make_room(
    depth: list[Modelled], surplus: int, on_full: OnFull, verdict: Verdict, *, is_alone: bool
) -> Insertion | None:
    """Whether a full queue takes a job all the same; None where two are equally old."""
    if on_full is OnFull.COALESCE and is_alone:
        alike = [each for each in depth if not each.is_array and not each.array_id]
        newest = max((each.queued_at for each in alike), default=None)
        verdict.standing = [each.job_id for each in alike if each.queued_at == newest]
        return Insertion.STOOD_FOR if alike else Insertion.QUEUE_FULL
    if on_full in {OnFull.REJECT, OnFull.COALESCE} or surplus > len(depth):
        return Insertion.QUEUE_FULL
    newest_first = on_full is OnFull.REPLACE_NEWEST
    order = sorted(depth, key=lambda each: each.queued_at, reverse=newest_first)
    going, staying = order[:surplus], order[surplus:]
    if staying and staying[0].queued_at == going[-1].queued_at:
        return None
    verdict.skipped += going
    return Insertion.CREATED


def _with_keys(model: Model, new: NewJob, verdict: Verdict) -> Verdict:
    for key in new.spec.concurrency_keys:
        if key.on_conflict is OnConflict.QUEUE:
            continue
        members = [
            each
            for each in model.jobs.values()
            if each.tenant == new.tenant
            and each.weight(key.key)
            and each.state not in FINAL
            and not each.is_array
            and each not in verdict.leaving
        ]
        most = model.most_of(new.tenant, key)
        surplus = sum(each.weight(key.key) for each in members) + key.weight
        if most is None or surplus <= most:
            continue
        if key.on_conflict is OnConflict.REJECT:
            return Verdict(Insertion.KEY_TAKEN, [each.job_id for each in members])
        if key.on_conflict is OnConflict.RETURN_EXISTING:
            if members:
                return Verdict(Insertion.STOOD_FOR, [max(each.job_id for each in members)])
        else:
            _give_way(members, key, surplus - most, verdict)
    return verdict


def _give_way(members: list[Modelled], key: ConcurrencyKey, surplus: int, verdict: Verdict) -> None:
    waiting = [each for each in members if each.state in {State.QUEUED, State.SCHEDULED}]
    if key.on_conflict is OnConflict.CANCEL_QUEUED:
        verdict.cancelled += waiting
    elif key.on_conflict is OnConflict.REPLACE_QUEUED:
        verdict.skipped += waiting
        places = [each.claim_key for each in waiting if each.state is State.QUEUED]
        places += [] if verdict.place is None else [verdict.place]
        verdict.place = min(places, default=None)
    else:
        for each in sorted(members, key=lambda each: each.job_id):
            if each.state in LIVE and surplus > 0:
                surplus -= each.weight(key.key)
                verdict.stopped.append(each)
