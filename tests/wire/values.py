"""Any jobs, attempts and events: what Hypothesis draws from."""

import datetime as dt
from typing import Any

from hypothesis import strategies as st

from jobservice.clock import from_us
from jobservice.model.array import MOST_INDICES, ArrayCounts, ArraySpec, Index
from jobservice.model.event import Event, EventKind
from jobservice.model.graph import Condition, OnUnmet, Rule, Verdict
from jobservice.model.ids import job_id
from jobservice.model.job import Attempt, AttemptState, Job, Progress
from jobservice.model.lifecycle import LIVE, Reason, State
from jobservice.model.limit import (
    NORMAL_WEIGHT,
    ConcurrencyKey,
    Limit,
    LimitKind,
    LimitUse,
    OnConflict,
    Rate,
)
from jobservice.model.queue import Obstacle, OnFull, Pause, PauseMode, Queue, QueueStats
from jobservice.model.spec import Command, Dependency, DependencyPolicy, JobSpec, RetryPolicy
from jobservice.model.unique import OnDuplicate, UniqueKey, UniqueScope
from jobservice.model.worker import ANYWHERE, Placement, Resources

texts = st.text(max_size=20)
instants = st.integers(0, 253_402_300_799_999_999).map(from_us)
counts = st.integers(0, 2**31 - 1)
sizes = st.integers(0, 2**63 - 1)
percents = st.floats(0, 100, allow_nan=False)


def lengths(longest_s: int) -> st.SearchStrategy[dt.timedelta]:
    """Lengths of time above zero."""
    return st.timedeltas(dt.timedelta(microseconds=1), dt.timedelta(seconds=longest_s))


commands = st.builds(
    Command,
    argv=st.lists(texts, min_size=1, max_size=4).map(tuple),
    env=st.dictionaries(texts, texts, max_size=3),
    stdin=st.binary(max_size=20),
    work_dir=texts,
)
policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 1000),
    initial_backoff=lengths(86_400),
    multiplier=st.floats(1, 100),
    max_backoff=lengths(86_400),
    max_lost=st.integers(1, 100),
)
dependencies = st.builds(
    Dependency,
    job_id=texts.filter(bool),
    condition=st.sampled_from(Condition),
    delay=st.just(dt.timedelta(0)) | lengths(31_536_000),
) | st.builds(
    Dependency, condition=st.sampled_from(Condition), request_index=st.integers(0, 2**31 - 1)
)
dependency_policies = st.builds(
    DependencyPolicy,
    rule=st.sampled_from(Rule),
    at_least=st.integers(0, 1000),
    on_unmet=st.sampled_from(OnUnmet),
)
graphs = st.just(((), DependencyPolicy())) | st.tuples(
    st.lists(dependencies, min_size=1, max_size=3).map(tuple), dependency_policies
)


def _spec(graph: tuple[tuple[Dependency, ...], DependencyPolicy], **fields: Any) -> JobSpec:
    asked, policy = graph
    return JobSpec(dependencies=asked, dependency_policy=policy, **fields)


keys = st.builds(
    ConcurrencyKey,
    key=texts,
    limit=st.integers(0, 1_000_000),
    weight=st.integers(1, 1_000_000),
    on_conflict=st.sampled_from(OnConflict),
)
unique_keys = st.builds(
    UniqueKey,
    key=texts,
    scope=st.sampled_from(UniqueScope),
    window=st.none() | lengths(315_360_000),
    states=st.sets(st.sampled_from(State)).map(lambda states: tuple(sorted(states))),
    on_duplicate=st.sampled_from(OnDuplicate),
)
arrays = st.builds(
    ArraySpec,
    size=st.integers(1, MOST_INDICES),
    max_parallel=st.none() | st.integers(1, MOST_INDICES),
    max_failures=st.none() | st.integers(0, MOST_INDICES),
)
specs = st.builds(
    _spec,
    graph=graphs,
    command=commands,
    name=texts,
    labels=st.dictionaries(texts, texts, max_size=3),
    queue=texts.filter(bool),
    priority=st.integers(-100, 100),
    cluster=texts.filter(bool),
    timeout=st.none() | lengths(31_536_000),
    retry=policies | st.just(RetryPolicy()),
    stop_grace=lengths(3600),
    output_limit_bytes=st.integers(1, 1 << 40),
    start_after=st.none() | instants,
    start_delay=st.none() | lengths(315_360_000),
    concurrency_keys=st.lists(keys, max_size=3).map(tuple),
    unique_key=st.none() | unique_keys,
    placement=st.just(ANYWHERE)
    | st.builds(
        Placement,
        st.dictionaries(texts, texts, max_size=3).map(lambda each: dict(sorted(each.items()))),
        st.builds(
            Resources,
            st.integers(0, 1_000_000_000),
            st.integers(0, 1 << 60),
            st.dictionaries(texts, st.integers(1, 1_000_000_000_000), max_size=3),
        ),
    ),
    fairness_key=texts,
    fairness_weight=st.integers(1, 1_000_000) | st.just(NORMAL_WEIGHT),
    queue_timeout=st.none() | lengths(315_360_000),
    total_timeout=st.none() | lengths(315_360_000),
    deadline=st.none() | instants,
    idle_timeout=st.none() | lengths(31_536_000),
    array=st.none() | arrays,
)
attempts = st.builds(
    Attempt,
    attempt=counts,
    state=st.sampled_from(AttemptState),
    worker_id=texts,
    claimed_at=instants,
    reason=st.sampled_from(Reason),
    message=texts,
    started_at=st.none() | instants,
    ended_at=instants,
    exit_code=st.none() | st.integers(0, 255),
    signal=st.none() | st.integers(1, 64),
    stdout_bytes=sizes,
    stderr_bytes=sizes,
    dropped_bytes=sizes,
    cpu_s=st.integers(0, 10**12).map(lambda microseconds: microseconds / 1e6),
    max_rss_bytes=sizes,
)
ids = st.builds(job_id, st.integers(0, 2**48 - 1), st.integers(0, 2**74 - 1))


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    """A job as a client may read it; without an attempt, it has nothing that comes from one."""
    updated_at = draw(instants)
    state = draw(st.sampled_from(State))
    estimates = st.none() | instants if state in LIVE else st.none()
    tried: dict[str, object] = {}
    if draw(st.booleans()):
        tried = draw(
            st.fixed_dictionaries(
                {
                    "attempt_count": st.integers(1, 2**31 - 1),
                    "failure_count": counts,
                    "lost_count": counts,
                    "exit_code": st.none() | st.integers(0, 255),
                    "signal": st.none() | st.integers(1, 64),
                    "started_at": st.none() | instants,
                    "progress": st.none()
                    | st.builds(
                        Progress,
                        percent=percents,
                        step=texts,
                        estimated_completion=estimates,
                        reported_at=st.just(updated_at),
                    ),
                    "attempts": st.lists(attempts, max_size=2).map(tuple),
                }
            )
        )
    spec = draw(specs)
    verdicts = st.tuples(*[st.sampled_from(Verdict) for _ in spec.dependencies])
    return draw(
        st.builds(
            Job,
            tenant=texts,
            job_id=ids,
            spec=st.just(spec),
            verdicts=st.just(()) | verdicts,
            cause_job_id=texts,
            state=st.just(state),
            created_at=instants,
            updated_at=st.just(updated_at),
            edit_version=counts,
            revision=sizes,
            reason=st.sampled_from(Reason),
            message=texts,
            start_at=st.none() | instants,
            ended_at=st.none() | instants,
            array_counts=st.none() | st.builds(ArrayCounts, counts, counts, counts, counts),
            index=st.none() | st.builds(Index, ids, counts, st.just(0), st.none() | texts),
            **{name: st.just(value) for name, value in tried.items()},
        )
    )


@st.composite
def events(draw: st.DrawFn) -> Event:
    """An event as a client may read it."""
    at = draw(instants)
    progress = st.builds(
        Progress,
        percent=percents,
        step=texts,
        estimated_completion=st.none() | instants,
        reported_at=st.just(at),
    )
    return draw(
        st.builds(
            Event,
            tenant=st.just(""),
            job_id=ids,
            revision=sizes,
            kind=st.sampled_from(EventKind),
            state=st.sampled_from(State),
            at=st.just(at),
            previous_state=st.none() | st.sampled_from(State),
            reason=st.sampled_from(Reason),
            message=texts,
            attempt=counts,
            exit_code=st.none() | st.integers(0, 255),
            signal=st.none() | st.integers(1, 64),
            start_at=st.none() | instants,
            progress=st.none() | progress,
        )
    )


# --- queues and limits ------------------------------------------------------------------------

bounds = st.none() | st.integers(1, 1_000_000)
queues = st.builds(
    Queue,
    tenant=st.just("t"),
    name=texts,
    description=texts,
    max_running=bounds,
    max_depth=bounds,
    max_age=st.none() | lengths(315_360_000),
    on_full=st.sampled_from(OnFull),
    pause=st.none()
    | st.builds(
        Pause,
        mode=st.sampled_from(PauseMode),
        since=instants,
        reason=texts,
        until=st.none() | instants,
    ),
    created_at=instants,
    updated_at=instants,
    edit_version=st.integers(1, 2**31 - 1),
)
stats = st.builds(
    QueueStats,
    name=texts,
    depth=counts,
    oldest_age=st.none() | lengths(315_360_000),
    running=counts,
    created_per_second=percents,
    started_per_second=percents,
    obstacle=st.sampled_from(Obstacle),
    obstacle_message=texts,
)
uses = st.builds(
    LimitUse,
    limit=st.builds(
        Limit,
        tenant=st.just(""),
        kind=st.sampled_from(LimitKind),
        name=texts,
        max_running=bounds,
        rate=st.none()
        | st.builds(
            Rate,
            starts=st.integers(1, 1_000_000),
            period=lengths(31_536_000),
            burst=st.integers(1, 1_000_000),
        ),
        weight=st.integers(1, 1_000_000),
        updated_at=st.none() | instants,
    ),
    running=counts,
    waiting=st.none() | counts,
    holders=st.lists(texts, max_size=3).map(tuple),
    next_start_at=st.none() | instants,
)
