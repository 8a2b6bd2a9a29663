"""What would be right: one sentence for each place in a request that has rules.

The rules themselves stand in `proto/`; a test holds the keys to them. A key is the message and the
field, with `[]` for one item of a list and `{key}` or `{value}` for one of a map.
"""

from collections.abc import Mapping

_JOB_ID = "must be a job id: `j` and 26 of `0-9 a-v`"
_NAME = "must be 1 to 63 of `a-z 0-9 -`, beginning with a letter and ending with a letter or digit"
_REQUEST_ID = "must be at most 128 printable ASCII characters without spaces"
_NO_NUL = "must not contain a NUL character"
_STATES = "must be at most 10 states"
_FILTER_NAME = "must be at most 256 characters, or 257 with a `*` at the end"
_FILTER_LABELS = "must be at most 8 labels"
_PAGE_SIZE = "must be 0 (for the default, 50) or above; more than 1,000 means 1,000"
_VIEW = "must be JOB_VIEW_BASIC, JOB_VIEW_FULL or JOB_VIEW_ID"
_BACKOFF = "must be from 0 s to 24 hours"
_INSTANT = "must be an instant from 1970 to 9999"
_OFFSET = "must be a position in the output, from 0"

REMEDIES: Mapping[str, str] = {
    "job_id": _JOB_ID,
    "Job.name": "must be at most 256 characters without control characters",
    "Job.labels": "must be at most 64 labels",
    "Job.labels{key}": ("a key must be 1 to 63 of `a-z 0-9 . _ / -`, beginning with a letter"),
    "Job.labels{value}": "must be at most 255 characters without a NUL character",
    "Job.queue": _NAME,
    "Job.cluster": _NAME,
    "Job.priority": "must be from -100 to 100",
    "Job.command": "must be given",
    "Job.timeout": "must be above 0 s and at most 365 days",
    "Job.stop_grace": "must be from 0 s to 1 hour",
    "Job.output_limit_bytes": "must be from 0 (for the default, 1 GiB) to 1 TiB",
    "Command.argv": "must hold the program to run, and at most 4,096 arguments with it",
    "Command.argv[]": _NO_NUL,
    "Command.env": "must be at most 1,024 variables",
    "Command.env{key}": "a name must be letters, digits and `_`, not beginning with a digit",
    "Command.env{value}": _NO_NUL,
    "Command.stdin": "must be at most 1 MiB",
    "Command.work_dir": (
        "must be an absolute path of at most 4,095 bytes without a NUL character, or empty for a "
        "fresh directory"
    ),
    "RetryPolicy.max_attempts": "must be from 0 (for the default, 1) to 1,000",
    "RetryPolicy.initial_backoff": _BACKOFF,
    "RetryPolicy.multiplier": "must be 0 (for the default, 2) or from 1 to 100",
    "RetryPolicy.max_backoff": _BACKOFF,
    "RetryPolicy.max_lost": "must be from 0 (for the default, 5) to 100",
    "CreateJobRequest.job": "must be given",
    "CreateJobRequest.request_id": _REQUEST_ID,
    "BatchCreateJobsRequest.requests": "must hold 1 to 1,000 creates",
    "BatchCreateJobsRequest.request_id": _REQUEST_ID,
    "BatchCreateJobsRequest.view": _VIEW,
    "GetJobRequest.job_id": _JOB_ID,
    "ListJobsRequest.states": _STATES,
    "ListJobsRequest.states[]": "must be a state",
    "ListJobsRequest.name": _FILTER_NAME,
    "ListJobsRequest.labels": _FILTER_LABELS,
    "ListJobsRequest.page_size": _PAGE_SIZE,
    "ListJobsRequest.view": _VIEW,
    "UpdateJobRequest.update_mask": "must be given",
    "CancelJobRequest.job_id": _JOB_ID,
    "DeleteJobRequest.job_id": _JOB_ID,
    "RetryJobRequest.job_id": _JOB_ID,
    "HoldJobRequest.job_id": _JOB_ID,
    "ReleaseJobRequest.job_id": _JOB_ID,
    "GetJobStatusRequest.job_id": _JOB_ID,
    "ListActiveJobsRequest.name": _FILTER_NAME,
    "ListActiveJobsRequest.labels": _FILTER_LABELS,
    "ListActiveJobsRequest.page_size": _PAGE_SIZE,
    "ListActiveJobsRequest.view": _VIEW,
    "GetJobHistoryRequest.states": "must be at most 4 states",
    "GetJobHistoryRequest.states[]": (
        "must be a final state: SUCCEEDED, FAILED, CANCELLED or SKIPPED"
    ),
    "GetJobHistoryRequest.name": _FILTER_NAME,
    "GetJobHistoryRequest.labels": _FILTER_LABELS,
    "GetJobHistoryRequest.ended_after": _INSTANT,
    "GetJobHistoryRequest.ended_before": _INSTANT,
    "GetJobHistoryRequest.page_size": _PAGE_SIZE,
    "GetJobHistoryRequest.view": _VIEW,
    "WatchJobsRequest.job_ids": "must be at most 1,000 ids",
    "WatchJobsRequest.job_ids[]": _JOB_ID,
    "ReadLogsRequest.job_id": _JOB_ID,
    "ReadLogsRequest.attempt": "must be the number of an attempt, or 0 for the newest",
    "ReadLogsRequest.stream": ("must be LOG_STREAM_STDOUT or LOG_STREAM_STDERR, or unset for both"),
    "ReadLogsRequest.stdout_offset": _OFFSET,
    "ReadLogsRequest.stderr_offset": _OFFSET,
}
