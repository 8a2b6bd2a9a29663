"""What the SDK takes and gives, besides the jobs and events of the model."""

import dataclasses
import datetime as dt
import enum
import os
from collections.abc import Mapping
from typing import TypedDict

from jobservice.model.job import Attempt
from jobservice.model.lifecycle import Reason, State
from jobservice.model.spec import RetryPolicy

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


class JobEdits(TypedDict, total=False):
    """What may be changed of a job; what is left out stays."""

    name: str
    labels: Mapping[str, str]
    """All labels: those that are not in it are removed."""
    priority: int | str
    queue: str
    timeout: Length | None
    """None removes the limit."""
    retries: int
    max_attempts: int
    retry_policy: RetryPolicy
    stop_grace: Length


class JobFilters(TypedDict, total=False):
    """Which jobs; every filter that is given must hold."""

    queue: str
    name: str
    """The whole name; a `*` at the end stands for any rest."""
    labels: Mapping[str, str]
    """Jobs that carry all of these."""


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
