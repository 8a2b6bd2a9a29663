"""What a user asks for: a command, and the rules by which it is tried. Frozen values, no I/O."""

import dataclasses
import datetime as dt
from collections.abc import Mapping
from types import MappingProxyType

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
class JobSpec:
    """All that a user says of a job. Defaults are filled in: nothing here is "unset"."""

    command: Command
    name: str = ""
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    queue: str = DEFAULT_QUEUE
    priority: int = 0
    cluster: str = DEFAULT_CLUSTER
    timeout: dt.timedelta | None = None
    """Of one attempt; None is without a limit."""
    retry: RetryPolicy = RetryPolicy()
    stop_grace: dt.timedelta = DEFAULT_STOP_GRACE
    output_limit_bytes: int = DEFAULT_OUTPUT_LIMIT_BYTES
