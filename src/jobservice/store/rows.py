"""Rows and values: how jobs, attempts and changes are written into columns and read back.

Instants are microseconds since 1970, durations microseconds, enumerations their numbers; what has
parts is JSON text. Nothing here knows an engine.
"""

import base64
import binascii
import dataclasses
import datetime as dt
import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jobservice.clock import from_us, to_us
from jobservice.errors import PageTokenInvalid
from jobservice.model.array import ArrayCounts, ArraySpec, Index
from jobservice.model.attempt import Fence
from jobservice.model.bounds import expires_at
from jobservice.model.event import Change, Event, EventKind
from jobservice.model.graph import Condition, OnUnmet, Rule, Verdict
from jobservice.model.job import Attempt, AttemptState, Job, NewJob, Progress
from jobservice.model.lifecycle import Reason, State
from jobservice.model.limit import ConcurrencyKey, Held, OnConflict, Use, type_of_key
from jobservice.model.placements import placement_of, placement_text
from jobservice.model.queue import claim_key
from jobservice.model.spec import Command, Dependency, DependencyPolicy, JobSpec, RetryPolicy
from jobservice.model.unique import OnDuplicate, UniqueKey, UniqueScope

_MICROSECOND = dt.timedelta(microseconds=1)
dump_json = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, separators=(",", ":"), allow_nan=False
).encode

_scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # C, and older than its types

Columns = Sequence[Any]


def parse_json(text: str) -> Any:
    """The value of a JSON text that was written here or by SQLite, so without space around it.

    A third of the time of `json.loads`, which looks for that space and for much else.
    """
    return _scan(text, 0)[0]


def us_or_none(instant: dt.datetime | None) -> int | None:
    """`to_us`, where there may be none."""
    return None if instant is None else to_us(instant)


def instant_or_none(microseconds: int | None) -> dt.datetime | None:
    """`from_us`, where there may be none."""
    return None if microseconds is None else from_us(microseconds)


def span_us(span: dt.timedelta) -> int:
    """A duration in microseconds."""
    return span // _MICROSECOND


def span_us_or_none(span: dt.timedelta | None) -> int | None:
    """A duration in microseconds, where there may be none."""
    return None if span is None else span // _MICROSECOND


def span_or_none(microseconds: int | None) -> dt.timedelta | None:
    """A duration, where there may be none."""
    return None if microseconds is None else dt.timedelta(microseconds=microseconds)


def text_map(values: Mapping[str, str]) -> str:
    """Labels or variables as a JSON object."""
    return dump_json(dict(values)) if values else "{}"


@functools.lru_cache(maxsize=1024)
def retry_text(policy: RetryPolicy) -> str:
    """A policy as a JSON array, short because it is in each row of `jobs`; see `retry_policy`."""
    return dump_json(
        [
            policy.max_attempts,
            span_us(policy.initial_backoff),
            policy.multiplier,
            span_us(policy.max_backoff),
            policy.max_lost,
        ]
    )


@functools.lru_cache(maxsize=1024)
def retry_policy(text: str) -> RetryPolicy:
    """The policy of its JSON."""
    max_attempts, initial_us, multiplier, max_us, max_lost = parse_json(text)
    return RetryPolicy(
        max_attempts=max_attempts,
        initial_backoff=dt.timedelta(microseconds=initial_us),
        multiplier=multiplier,
        max_backoff=dt.timedelta(microseconds=max_us),
        max_lost=max_lost,
    )


@functools.lru_cache(maxsize=4096)
def keys_text(keys: tuple[ConcurrencyKey, ...]) -> str:
    """Concurrency keys as JSON; empty where there are none."""
    if not keys:
        return ""
    return dump_json([[key.key, key.limit, key.weight, key.on_conflict] for key in keys])


@functools.lru_cache(maxsize=4096)
def keys_of(text: str) -> tuple[ConcurrencyKey, ...]:
    """The concurrency keys of their JSON."""
    if not text:
        return ()
    return tuple(
        ConcurrencyKey(key, limit, weight, OnConflict(on_conflict))
        for key, limit, weight, on_conflict in parse_json(text)
    )


def named_keys(text: str) -> tuple[ConcurrencyKey, ...]:
    """The keys that the job itself named, without that of its type."""
    return tuple(key for key in keys_of(text) if type_of_key(key.key) is None)


def unique_text(key: UniqueKey | None) -> str | None:
    """A unique key as JSON."""
    if key is None:
        return None
    window_us = span_us_or_none(key.window)
    return dump_json([key.key, key.scope, window_us, key.states, key.on_duplicate])


@functools.lru_cache(maxsize=1024)
def unique_of(text: str | None) -> UniqueKey | None:
    """The unique key of its JSON."""
    if text is None:
        return None
    key, scope, window_us, states, on_duplicate = parse_json(text)
    return UniqueKey(
        key,
        UniqueScope(scope),
        span_or_none(window_us),
        tuple(map(State, states)),
        OnDuplicate(on_duplicate),
    )


@functools.lru_cache(maxsize=4096)
def held_of(tenant: str, queue: str, keys: str, leases: int = 1) -> Held:
    """What leases hold, with the text of their keys."""
    return Held(tenant, queue, tuple((key.key, key.weight) for key in keys_of(keys)), leases)


def use_of(rows: Iterable[Columns]) -> Use:
    """What live leases hold, out of the rows of `find_held`."""
    return Use(held_of(*row) for row in rows)


# --- what is written --------------------------------------------------------------------------


def job_row(job: NewJob) -> Columns:
    """The fields of `insert_jobs`.

    But for `last_position`, which comes behind the fifth, and the last two, about dependencies.
    """
    spec, created_us = job.spec, to_us(job.created_at)
    start_us = counted_us = us_or_none(job.start_at)
    if counted_us is None:
        counted_us = created_us
    queue_us = None if spec.queue_timeout is None else created_us + span_us(spec.queue_timeout)
    expires_us = None
    if spec.total_timeout is not None or spec.deadline is not None:
        expires_us = us_or_none(expires_at(spec, job.start_at or job.created_at))
    return (
        job.tenant,
        job.job_id,
        job.state,
        start_us,
        created_us,
        claim_key(spec.priority, created_us) if job.claim_key is None else job.claim_key,
        created_us if job.queued_at is None else to_us(job.queued_at),
        created_us,
        counted_us,
        expires_us,
        queue_us,
        *editable_row(spec),
        job.schedule or None,
        us_or_none(job.schedule_at),
        *_array_row(job),
        spec.fairness_key,
        spec.fairness_weight,
        None if spec.unique_key is None else spec.unique_key.key,
        spec.job_type,
        placement_text(spec.placement),
        keys_text(spec.held_keys),
    )


def _array_row(job: NewJob) -> Columns:
    if job.index is not None:
        return job.index.size, job.index.array_job_id, job.index.index, job.index.item
    return (None if job.spec.array is None else job.spec.array.size), None, None, None


def editable_row(spec: JobSpec) -> Columns:
    """What a user may edit, in the order of the columns."""
    return (
        spec.priority,
        span_us_or_none(spec.timeout),
        span_us(spec.stop_grace),
        retry_text(spec.retry),
        spec.queue,
        spec.name,
        text_map(spec.labels),
        us_or_none(spec.start_after),
        span_us_or_none(spec.start_delay),
        span_us_or_none(spec.queue_timeout),
        span_us_or_none(spec.total_timeout),
        us_or_none(spec.deadline),
        span_us_or_none(spec.idle_timeout),
    )


def spec_row(job: NewJob) -> Columns:
    """The fields of `insert_specs`."""
    spec, command = job.spec, job.spec.command
    return (
        job.tenant,
        job.job_id,
        spec.cluster,
        spec.output_limit_bytes,
        command.work_dir,
        dump_json(command.argv),
        text_map(command.env),
        command.stdin or None,
        unique_text(spec.unique_key),
    )


_EDITABLE = 13
"""How many columns `editable_row` has."""


# --- what is read -----------------------------------------------------------------------------


def command_of(argv: str, work_dir: str, env: str = "{}", stdin: bytes | None = None) -> Command:
    """A command out of its columns."""
    variables = {} if env == "{}" else parse_json(env)
    return Command(tuple(parse_json(argv)), variables, stdin or b"", work_dir)


def job_of(row: Columns, attempts: Sequence[Attempt] = (), dependencies: str | None = None) -> Job:
    """A job out of the columns of the fragment `job_columns`, with `full_columns` behind or not.

    What it depends on comes from the fragment `dependency_column`.
    """
    (
        tenant,
        job_id,
        state,
        revision,
        attempt_count,
        failure_count,
        lost_count,
        delete_requested,
        edit_version,
        created_us,
        updated_us,
        start_us,
        started_us,
        ended_us,
        exit_code,
        signal,
        reason,
        message,
        cluster,
        output_limit_bytes,
        work_dir,
        argv,
        percent,
        step,
        estimated_us,
        reported_us,
        schedule,
        schedule_us,
        fairness_key,
        fairness_weight,
        job_type,
        placement,
        keys,
        blocked_key,
        unique,
        array_size,
        array_id,
        array_index,
        array_item,
        array,
        *more,
    ) = row
    editable, full = more[:_EDITABLE], more[_EDITABLE:]
    command = command_of(argv, work_dir, *full)
    return Job(
        tenant=tenant,
        job_id=job_id,
        spec=dataclasses.replace(
            spec_of(command, cluster, output_limit_bytes, editable, dependencies),
            job_type=job_type,
            placement=placement_of(placement),
            concurrency_keys=named_keys(keys),
            fairness_key=fairness_key,
            fairness_weight=fairness_weight,
            unique_key=unique_of(unique) if array_id is None else None,
            array=array_of(array_size, array),
        ),
        blocked_key=blocked_key,
        state=State(state),
        created_at=from_us(created_us),
        updated_at=from_us(updated_us),
        edit_version=edit_version,
        revision=revision,
        reason=Reason(reason),
        message=message,
        attempt_count=attempt_count,
        failure_count=failure_count,
        lost_count=lost_count,
        exit_code=exit_code,
        signal=signal,
        start_at=instant_or_none(start_us),
        started_at=instant_or_none(started_us),
        ended_at=instant_or_none(ended_us),
        delete_requested=bool(delete_requested),
        progress=progress_of(percent, step, estimated_us, reported_us),
        attempts=tuple(attempts),
        schedule=schedule or "",
        schedule_at=instant_or_none(schedule_us),
        array_counts=None if array is None else ArrayCounts(*parse_json(array)[2:]),
        index=(None if array_id is None else Index(array_id, array_index, array_size, array_item)),
        **_judged(reason, dependencies),
    )


def array_of(size: int, text: str | None) -> ArraySpec | None:
    """The array that a job is, out of the fragment `array_columns`; without its items."""
    if text is None:
        return None
    max_parallel, max_failures, *_ = parse_json(text)
    return ArraySpec(size, (), max_parallel, max_failures)


def _judged(reason: int, dependencies: str | None) -> Mapping[str, Any]:
    """What became of the dependencies of a job."""
    if dependencies is None:
        return {}
    *_, cause_id, edges = parse_json(dependencies)
    return {
        "cause_job_id": cause_id if reason == Reason.DEPENDENCY else "",
        "verdicts": tuple(Verdict(verdict) for *_, verdict in edges),
    }


def _dependencies_of(text: str | None) -> Mapping[str, Any]:
    """What the fragment `dependency_column` says of a specification."""
    if text is None:
        return {}
    rule, need, on_unmet, _, edges = parse_json(text)
    return {
        "dependencies": tuple(
            Dependency(parent_id, Condition(condition), dt.timedelta(microseconds=delay_us))
            for parent_id, condition, delay_us, _ in edges
        ),
        "dependency_policy": DependencyPolicy(
            Rule(rule), need if rule == Rule.AT_LEAST else 0, OnUnmet(on_unmet)
        ),
    }


def spec_of(
    command: Command,
    cluster: str,
    output_limit_bytes: int,
    editable: Columns,
    dependencies: str | None = None,
) -> JobSpec:
    """A specification out of a command and the columns of `editable_row`.

    What was kept of a job before columns were added has fewer of them.
    """
    columns = [*editable, *[None] * (_EDITABLE - len(editable))]
    priority, timeout_us, stop_grace_us, retry, queue, name, labels, *timing = columns
    start_after_us, start_delay_us, queue_us, total_us, deadline_us, idle_us = timing
    return JobSpec(
        command=command,
        name=name,
        labels={} if labels == "{}" else parse_json(labels),
        queue=queue,
        priority=priority,
        cluster=cluster,
        timeout=span_or_none(timeout_us),
        retry=retry_policy(retry),
        stop_grace=dt.timedelta(microseconds=stop_grace_us),
        output_limit_bytes=output_limit_bytes,
        start_after=instant_or_none(start_after_us),
        start_delay=span_or_none(start_delay_us),
        **_dependencies_of(dependencies),
        queue_timeout=span_or_none(queue_us),
        total_timeout=span_or_none(total_us),
        deadline=instant_or_none(deadline_us),
        idle_timeout=span_or_none(idle_us),
    )


def submitted_of(row: Columns) -> JobSpec:
    """What was submitted, out of the columns of `find_submitted` behind tenant and id."""
    (
        *command,
        cluster,
        limit,
        editable,
        keys,
        fairness_key,
        weight,
        job_type,
        placement,
        unique,
        array_size,
        _,
        _,
        _,
        array,
        dependencies,
    ) = row
    return dataclasses.replace(
        spec_of(command_of(*command), cluster, limit, parse_json(editable), dependencies),
        job_type=job_type,
        placement=placement_of(placement),
        concurrency_keys=named_keys(keys),
        fairness_key=fairness_key,
        fairness_weight=weight,
        unique_key=unique_of(unique),
        array=array_of(array_size, array),
    )


def progress_of(
    percent: float | None, step: str, estimated_us: int | None, reported_us: int
) -> Progress | None:
    """A progress out of its columns; None where the outer join found none."""
    if percent is None:
        return None
    return Progress(percent, step, instant_or_none(estimated_us), from_us(reported_us))


def attempt_of(row: Columns) -> Attempt:
    """An attempt out of the columns of the fragment `attempt_columns`."""
    (
        attempt,
        state,
        worker_id,
        claimed_us,
        reason,
        message,
        started_us,
        ended_us,
        exit_code,
        signal,
        stdout_bytes,
        stderr_bytes,
        dropped_bytes,
        cpu_us,
        max_rss_bytes,
    ) = row
    return Attempt(
        attempt=attempt,
        state=AttemptState(state),
        worker_id=worker_id,
        claimed_at=from_us(claimed_us),
        reason=Reason(reason),
        message=message,
        started_at=instant_or_none(started_us),
        ended_at=instant_or_none(ended_us),
        exit_code=exit_code,
        signal=signal,
        stdout_bytes=stdout_bytes,
        stderr_bytes=stderr_bytes,
        dropped_bytes=dropped_bytes,
        cpu_s=cpu_us / 1_000_000,
        max_rss_bytes=max_rss_bytes,
    )


RESTORED_LEASE_US = 0
"""When the leases end that came out of a backup."""


def live_attempt_of(
    attempt: int, worker_id: str, claimed_us: int, started_us: int | None
) -> Attempt:
    """The attempt of a job that has a lease, out of the columns of the job."""
    state = AttemptState.STARTING if started_us is None else AttemptState.RUNNING
    return Attempt(
        attempt, state, worker_id, from_us(claimed_us), started_at=instant_or_none(started_us)
    )


def change_of(row: Columns) -> Change:
    """A change out of the columns of `list_changes`."""
    (
        position,
        tenant,
        job_id,
        revision,
        kind,
        state,
        previous_state,
        at_us,
        attempt,
        reason,
        message,
        exit_code,
        signal,
        start_us,
        percent,
        step,
        estimated_us,
    ) = row
    event = Event(
        tenant=tenant,
        job_id=job_id,
        revision=revision,
        kind=EventKind(kind),
        state=State(state),
        at=from_us(at_us),
        previous_state=None if previous_state is None else State(previous_state),
        reason=Reason(reason),
        message=message,
        attempt=attempt,
        exit_code=exit_code,
        signal=signal,
        start_at=instant_or_none(start_us),
        progress=progress_of(percent, step, estimated_us, at_us),
    )
    return Change(position_token(position), event)


def fence_of(row: Columns) -> Fence:
    """A fence out of its four columns."""
    tenant, job_id, attempt, epoch = row
    return Fence(tenant, job_id, attempt, epoch)


# --- opaque tokens ----------------------------------------------------------------------------


def position_token(position: int) -> str:
    """A position as a text that only the store reads."""
    return f"p{position:x}"


def position_of(token: str) -> int | None:
    """The position of a token; None for anything that is none."""
    digits = token[1:]
    if token[:1] != "p" or not digits or len(digits) > 15 or digits.strip("0123456789abcdef"):
        return None
    return int(digits, 16)


def cursor_token(query_digest: str, instant_us: int, job_id: str) -> str:
    """Where a page ended, bound to the query."""
    text = dump_json([query_digest, instant_us, job_id])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _is_job_id(found: object) -> bool:
    return isinstance(found, str) and found.isascii() and found.isalnum()


def cursor_of(token: str, query_digest: str) -> tuple[int, str]:
    """The instant and the job id of a cursor.

    Raises:
        PageTokenInvalid: it is none, or one of another query.
    """
    try:
        padded = token + "=" * (-len(token) % 4)
        found = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        digest, instant_us, job_id = found
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise PageTokenInvalid from None
    valid = type(instant_us) is int and abs(instant_us) < 1 << 62 and _is_job_id(job_id)
    if digest != query_digest or not valid:
        raise PageTokenInvalid
    return instant_us, job_id
