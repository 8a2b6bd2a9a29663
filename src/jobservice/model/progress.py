"""Progress: when an attempt will be done if it goes on at its rate."""

import datetime as dt

LONGEST_ESTIMATE = dt.timedelta(days=3650)


def estimated_completion(
    percent: float, started_at: dt.datetime, reported_at: dt.datetime
) -> dt.datetime | None:
    """The end by the rate from the start until now; None where that says nothing."""
    elapsed = reported_at - started_at
    if percent <= 0 or elapsed <= dt.timedelta(0):
        return None
    # In seconds, for these may be more than a timedelta can hold: a job may say 1e-12 %.
    remaining_s = elapsed.total_seconds() * ((100 - min(percent, 100.0)) / percent)
    if not remaining_s < LONGEST_ESTIMATE.total_seconds():
        return None
    return reported_at + dt.timedelta(seconds=remaining_s)
