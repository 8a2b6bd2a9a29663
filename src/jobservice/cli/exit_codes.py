"""What the command exits with when the job decides: see docs/reference/cli.md.

A job's own exit code is passed on as it is. The others are those of shells and of timeout(1), so
that a script which ran the program by itself need not change.
"""

from jobservice.model.job import Job
from jobservice.model.lifecycle import Reason, State

TIMED_OUT = 124
NOT_LAUNCHED = 126
CANCELLED = 130
OTHER = 1


def exit_code_of(job: Job) -> int:
    """The exit code that stands for the end of a final job."""
    if job.state is State.SUCCEEDED:
        return 0
    if job.state is State.CANCELLED:
        return CANCELLED
    by_reason = {
        Reason.RUN_TIMEOUT: TIMED_OUT,
        Reason.QUEUE_TIMEOUT: TIMED_OUT,
        Reason.TOTAL_TIMEOUT: TIMED_OUT,
        Reason.IDLE_TIMEOUT: TIMED_OUT,
        Reason.LAUNCH_FAILED: NOT_LAUNCHED,
    }
    if job.reason in by_reason:
        return by_reason[job.reason]
    if job.reason is Reason.EXIT_CODE and job.exit_code:
        return job.exit_code
    if job.reason is Reason.SIGNAL and job.signal:
        return 128 + job.signal
    return OTHER
