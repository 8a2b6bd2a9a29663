"""What the SDK takes and gives, besides the jobs and events of the model."""

import dataclasses
import datetime as dt
import enum
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TypedDict

from jobservice.model.job import Attempt, Job
from jobservice.model.lifecycle import Reason, State
from jobservice.model.limit import ConcurrencyKey
from jobservice.model.queue import OnFull
from jobservice.model.schedule import Misfire, MisfirePolicy, Overlap
from jobservice.model.spec import Dependency, RetryPolicy
from jobservice.model.unique import UniqueKey

Length = float | dt.timedelta
"""A length of time: seconds, or a timedelta."""


class JobOptions(TypedDict, total=False):
    """What may be said of a job besides its command line. Everything left out has its default."""

    name: str
    """For people; need not be unique."""
    labels: Mapping[str, str]
    queue: str
    priority: int | str
    """From -100 to 100, or "high" (50), "medium" (0), "low" (-50)."""
    cluster: str
    env: Mapping[str, str]
    """The environment of the program; nothing is inherited."""
    stdin: bytes | str
    """What the program reads; text is sent as UTF-8."""
    work_dir: str | os.PathLike[str]
    """Absolute; left out, a fresh directory of the attempt."""
    timeout: Length | None
    """How long one attempt may run; left out, without a limit."""
    idle_timeout: Length | None
    """How long one attempt may be silent, without output and progress; left out, without a limit."""
    retries: int
    """How often a failed attempt is tried again. Give one of `retries`, `max_attempts` and
    `retry_policy`."""
    max_attempts: int
    """How many attempts may fail before the job does: `retries` + 1."""
    retry_policy: RetryPolicy
    """All rules of retries, with their backoff."""
    stop_grace: Length
    """Between SIGTERM and SIGKILL; left out, 10 s."""
    output_limit_bytes: int
    """Of stdout and stderr of an attempt together; left out, 1 GiB."""
    start_after: dt.datetime | None
    """The earliest start, an aware instant; left out, at once."""
    start_delay: Length | None
    """The same, counted from the creation. Give one of the two."""
    after: "Iterable[str | Job | JobStatus | Dependency]"
    """The jobs that it waits for, which have to succeed unless a `Dependency` says otherwise."""
    after_rule: int | str
    """How many of them it takes: "all" (left out), "any", a number, or "always": it runs once all are
    final, whatever they did."""
    after_unmet: str
    """What becomes of it when they ended otherwise: "skip" (left out), "fail" or "hold"."""
    keys: Sequence[str | ConcurrencyKey]
    """Names shared with other jobs, of which only so many may run at once; a name alone is one at a
    time, or what the limit of that name says."""
    unique: str | UniqueKey
    """What makes it one of a kind: while another job with this key is not final, that one is returned
    and nothing is created; a `UniqueKey` has more rules."""
    job_type: str
    """What kind of work it is, for limits and filters."""
    required_labels: Mapping[str, str]
    """Labels that the worker must have which runs it."""
    resources: Mapping[str, float]
    """What an attempt takes of what its worker has: "cpu" in processors, "memory" in bytes, and
    anything that workers count, such as "gpu"."""
    fairness_key: str
    """Jobs with different keys take turns."""
    fairness_weight: float
    """The share of its fairness key, from 0.001 to 1,000; left out, 1."""
    queue_timeout: Length | None
    """The longest wait for a worker; left out, without a limit."""
    total_timeout: Length | None
    """How long it may take all in all, with every wait and attempt; left out, without a limit."""
    deadline: dt.datetime | None
    """When it has to be final, an aware instant; left out, never."""
    array: int | Sequence[str]
    """Has it stand for many of its kind: how many, or an item for each, which its process finds in
    `JOBSERVICE_ARRAY_ITEM`."""
    max_parallel: int
    """How many indices of an array may run at once; left out, without a limit."""
    max_failures: int
    """Once more indices have failed the array is stopped; left out, never."""


class JobEdits(TypedDict, total=False):
    """What may be changed of a job; what is left out stays."""

    name: str
    labels: Mapping[str, str]
    """All labels: those that are not in it are removed."""
    priority: int | str
    queue: str
    timeout: Length | None
    """None removes the limit."""
    idle_timeout: Length | None
    """None removes the limit."""
    retries: int
    max_attempts: int
    retry_policy: RetryPolicy
    stop_grace: Length
    start_after: dt.datetime | None
    """None is at once."""
    queue_timeout: Length | None
    total_timeout: Length | None
    deadline: dt.datetime | None
    """None removes it, as of the other two."""


class TimingOptions(TypedDict, total=False):
    """When a schedule fires: one of `cron`, `every` and `at`, and what narrows it."""

    cron: str
    """5 fields, or one such as @daily; `H` is drawn from the name of the schedule."""
    every: Length
    """Once in each such length of time, counted from 1970."""
    phase: Length
    """By how much `every` is shifted."""
    at: dt.datetime
    """Once, at this instant."""
    time_zone: str
    """The IANA name of the zone that `cron` is read in; left out, UTC."""
    start_time: dt.datetime
    """No fire before it."""
    end_time: dt.datetime
    """No fire at it or after."""
    jitter: Length
    """Each fire is due by a time of its own below this later."""


class ScheduleOptions(TimingOptions, total=False):
    """What may be said of a schedule besides its jobs. Everything left out has its default."""

    description: str
    """For people."""
    misfire: Misfire | MisfirePolicy | str
    """What becomes of missed fires: "skip", "last" (the default) or "all", or with its numbers."""
    overlap: Overlap | str
    """What a fire does while a job of the schedule is not final: "skip" (the default), "buffer_one",
    "buffer_all", "cancel_other" or "allow"."""
    pause_after_failures: int
    """After so many jobs in a row that failed the schedule is paused; 0 is never."""


class QueueOptions(TypedDict, total=False):
    """The rules of a queue; what is left out has its default, and on an update stays."""

    description: str
    max_running: int | None
    """How many of its jobs may run at once; None is without a limit."""
    max_depth: int | None
    """How many may be QUEUED when another one comes; None is without a bound."""
    max_age: Length | None
    """It is full while its oldest job has been QUEUED for longer; None is without a bound."""
    on_full: OnFull | str
    """What becomes of a job for a full queue: "reject" (left out), "replace_oldest",
    "replace_newest" or "coalesce"."""


class JobFilters(TypedDict, total=False):
    """Which jobs; every filter that is given must hold."""

    queue: str
    name: str
    """The whole name; a `*` at the end stands for any rest."""
    labels: Mapping[str, str]
    """Jobs that carry all of these."""
    filter: str
    """An AIP-160 filter, such as `state = FAILED AND labels.team = core`."""


class Stream(enum.StrEnum):
    """A stream of a process."""

    STDOUT = "stdout"
    STDERR = "stderr"


@dataclasses.dataclass(frozen=True, slots=True)
class LogChunk:
    """A piece of the output of an attempt, or a gap in it."""

    attempt: int
    stream: Stream
    offset: int
    """The position of its first byte in the stream."""
    data: bytes
    """As it was written; empty for a gap."""
    dropped_bytes: int = 0
    """When above 0: so many bytes were over the output limit of the job and are not kept."""


@dataclasses.dataclass(frozen=True, slots=True)
class JobStatus:
    """Where a job is right now, without what was asked for."""

    job_id: str
    state: State
    revision: int
    created_at: dt.datetime
    reason: Reason = Reason.NONE
    message: str = ""
    """One sentence about the reason, for a person."""
    waiting_reason: str = ""
    """What a job that does not run waits for, for a person."""
    queue_position: int | None = None
    """How many jobs would start before this QUEUED one; None on all others."""
    attempt: Attempt | None = None
    """The newest; None before the first."""
    failure_count: int = 0
    lost_count: int = 0
    progress_percent: float | None = None
    """0 to 100; None until the attempt says something."""
    current_step: str = ""
    estimated_completion: dt.datetime | None = None
    start_at: dt.datetime | None = None
    """When a SCHEDULED job becomes due."""
    started_at: dt.datetime | None = None
    ended_at: dt.datetime | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class MatchCount:
    """For how many jobs a filter holds."""

    count: int
    is_at_least: bool
    """There may be more: the count ended there."""
