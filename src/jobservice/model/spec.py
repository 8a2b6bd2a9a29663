"""What a user asks for: a command, and the rules by which it is tried. Frozen values, no I/O."""

import dataclasses
import datetime as dt
from collections.abc import Mapping
from types import MappingProxyType

from jobservice.model.array import ArraySpec
from jobservice.model.graph import Condition, OnUnmet, Rule
from jobservice.model.limit import NORMAL_WEIGHT, ConcurrencyKey, type_key
from jobservice.model.unique import UniqueKey
from jobservice.model.worker import ANYWHERE, Placement

DEFAULT_QUEUE = "default"
DEFAULT_CLUSTER = "local"
DEFAULT_TENANT = "default"
DEFAULT_OUTPUT_LIMIT_BYTES = 1 << 30
DEFAULT_STOP_GRACE = dt.timedelta(seconds=10)
PRIORITIES: Mapping[str, int] = MappingProxyType({"high": 50, "medium": 0, "low": -50})
"""The named levels; any integer from -100 to 100 is a priority."""
PRIORITY_MIN, PRIORITY_MAX = -100, 100


@dataclasses.dataclass(frozen=True, slots=True)
class Command:
    """A program and what it is given."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    stdin: bytes = b""
    work_dir: str = ""
    """Absolute, or empty for a fresh directory of the attempt."""


@dataclasses.dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a failed attempt is tried again; see `model/retry.py` for the arithmetic."""

    max_attempts: int = 1
    """How many attempts may fail by the job's own doing before the job does."""
    initial_backoff: dt.timedelta = dt.timedelta(seconds=1)
    multiplier: float = 2.0
    max_backoff: dt.timedelta = dt.timedelta(minutes=10)
    max_lost: int = 5
    """How many attempts may be lost by the infrastructure before the job fails with LOST."""


@dataclasses.dataclass(frozen=True, slots=True)
class Dependency:
    """Another job, and how it has to end for this one to run."""

    job_id: str = ""
    """Empty where `request_index` says which."""
    condition: Condition = Condition.SUCCEEDED
    delay: dt.timedelta = dt.timedelta(0)
    """How long after its end the job starts at the earliest."""
    request_index: int | None = None
    """Of another job of the same batch, until that has an id."""


@dataclasses.dataclass(frozen=True, slots=True)
class DependencyPolicy:
    """When a job with dependencies runs, and what becomes of it when it cannot."""

    rule: Rule = Rule.ALL
    at_least: int = 0
    """With `Rule.AT_LEAST` alone."""
    on_unmet: OnUnmet = OnUnmet.SKIP


@dataclasses.dataclass(frozen=True, slots=True)
class JobSpec:
    """All that a user says of a job. Defaults are filled in: nothing here is "unset"."""

    command: Command
    name: str = ""
    job_type: str = ""
    """What kind of work it is; limits bind the jobs of a type."""
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    queue: str = DEFAULT_QUEUE
    priority: int = 0
    cluster: str = DEFAULT_CLUSTER
    timeout: dt.timedelta | None = None
    """Of one attempt; None is without a limit."""
    retry: RetryPolicy = RetryPolicy()
    stop_grace: dt.timedelta = DEFAULT_STOP_GRACE
    output_limit_bytes: int = DEFAULT_OUTPUT_LIMIT_BYTES
    start_after: dt.datetime | None = None
    """The earliest start; None is at once, or after `start_delay`."""
    start_delay: dt.timedelta | None = None
    """The earliest start, counted from the creation. Not together with `start_after`."""
    concurrency_keys: tuple[ConcurrencyKey, ...] = ()
    """Each names another key; the job starts when it can have all of them at once."""
    unique_key: UniqueKey | None = None
    """What makes it one of a kind."""
    fairness_key: str = ""
    """Jobs of a tenant with different keys take turns."""
    fairness_weight: int = NORMAL_WEIGHT
    """The share of its fairness key, in thousandths."""
    dependencies: tuple[Dependency, ...] = ()
    """Empty in lists."""
    dependency_policy: DependencyPolicy = DependencyPolicy()
    queue_timeout: dt.timedelta | None = None
    """Of one wait for a worker; None is without a limit."""
    total_timeout: dt.timedelta | None = None
    """Of all of it: every wait, attempt and backoff. See `model/bounds.py`."""
    deadline: dt.datetime | None = None
    idle_timeout: dt.timedelta | None = None
    """How long one attempt may be silent; None is without a limit."""
    placement: Placement = ANYWHERE
    """What it asks of the worker that runs it."""
    array: ArraySpec | None = None
    """Where the job stands for many of its kind."""

    @property
    def held_keys(self) -> tuple[ConcurrencyKey, ...]:
        """All keys that it holds while it runs: its own, and that of its type."""
        if not self.job_type:
            return self.concurrency_keys
        return (*self.concurrency_keys, type_key(self.job_type))
