"""Backoff between attempts: exponential with full jitter, as numbers only."""

import datetime as dt

from jobservice.model.spec import RetryPolicy


def backoff(policy: RetryPolicy, failure_count: int, fraction: float) -> dt.timedelta:
    """The wait before the retry that follows the `failure_count`-th failure (from 1).

    `fraction` is a random number in [0, 1). Full jitter: the wait is spread evenly between zero and
    the exponential ceiling (AWS Architecture Blog, "Exponential Backoff And Jitter").
    """
    longest_s = policy.max_backoff.total_seconds()
    ceiling_s = policy.initial_backoff.total_seconds()
    for _ in range(failure_count - 1):
        ceiling_s *= policy.multiplier
        if ceiling_s >= longest_s:
            break
    return dt.timedelta(seconds=min(ceiling_s, longest_s) * fraction)
