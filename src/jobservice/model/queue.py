"""The order of a queue: one static key, so that a claim is one walk along an index."""

import datetime as dt

from jobservice.clock import to_us

AGEING_S_PER_POINT = 36
"""How many seconds of waiting are worth one point of priority.

A high job (50) goes before every low one (-50) that was queued up to an hour before it; the low one
is never passed by work that came more than an hour later, so its wait is bounded.
"""


def claim_key(priority: int, queued_at: dt.datetime) -> int:
    """Where a job stands: smaller goes first, and equal keys go by job id."""
    return to_us(queued_at) - priority * AGEING_S_PER_POINT * 1_000_000
