"""When a job may start, and when its time is over."""

import datetime as dt

from jobservice.model.spec import JobSpec

LONGEST_AHEAD = dt.timedelta(days=3650)
"""How far ahead a start or a deadline may lie."""


def starts_at(spec: JobSpec, created_at: dt.datetime) -> dt.datetime | None:
    """The earliest start of a job that is created at an instant; None is at once."""
    start_at = spec.start_after
    if spec.start_delay is not None:
        start_at = created_at + spec.start_delay
    return start_at if start_at is not None and start_at > created_at else None


def expires_at(spec: JobSpec, counted_from: dt.datetime) -> dt.datetime | None:
    """When a job has to be final; None is without a limit.

    Its total time is counted from its creation, from the first start that was asked for, or from its
    last retry.
    """
    limits = []
    if spec.total_timeout is not None:
        limits.append(counted_from + spec.total_timeout)
    if spec.deadline is not None:
        limits.append(spec.deadline)
    return min(limits, default=None)
