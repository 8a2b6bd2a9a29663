"""What would be right: one sentence for each place in a request that has rules.

The rules themselves stand in `proto/`; a test holds the keys to them. A key is the message and the
field, with `[]` for one item of a list and `{key}` or `{value}` for one of a map.
"""

from collections.abc import Mapping

_JOB_ID = "must be a job id: `j` and 26 of `0-9 a-v`"
_NAME = "must be 1 to 63 of `a-z 0-9 -`, beginning with a letter and ending with a letter or digit"
_SCHEDULE_ID = f"must be a name: {_NAME.removeprefix('must be ')}"
_REQUEST_ID = "must be at most 128 printable ASCII characters without spaces"
_NO_NUL = "must not contain a NUL character"
_STATES = "must be at most 10 states"
_FILTER_NAME = "must be at most 256 characters, or 257 with a `*` at the end"
_FILTER_LABELS = "must be at most 8 labels"
_OPERATION_ID = "must be the id of an operation: `o` and 26 of `0-9 a-v`"
_FILTER = "must be at most 2,000 characters"
_PAGE_SIZE = "must be 0 (for the default, 50) or above; more than 1,000 means 1,000"
_VIEW = "must be JOB_VIEW_BASIC, JOB_VIEW_FULL or JOB_VIEW_ID"
_BACKOFF = "must be from 0 s to 24 hours"
_INSTANT = "must be an instant from 1970 to 9999"
_AN_ATTEMPT = "must be above 0 s and at most 365 days"
_LONG = "must be above 0 s and at most 3,650 days"
_OFFSET = "must be a position in the output, from 0"
_LIMIT = "must be from 0 (for no limit) to 1,000,000"
_LIMIT_KIND = "must be LIMIT_KIND_SERVICE, LIMIT_KIND_TENANT or LIMIT_KIND_KEY"
_KEY = "must be at most 128 characters without control characters"

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
    "Job.timeout": _AN_ATTEMPT,
    "Job.idle_timeout": _AN_ATTEMPT,
    "Job.stop_grace": "must be from 0 s to 1 hour",
    "Job.output_limit_bytes": "must be from 0 (for the default, 1 GiB) to 1 TiB",
    "Job.start_after": _INSTANT,
    "Job.start_delay": "must be from 0 s to 3,650 days",
    "Job.concurrency_keys": "must be at most 16 keys",
    "Job.fairness_key": "must be at most 128 characters without control characters",
    "Job.fairness_weight": "must be 0 (for the default, 1) or from 0.001 to 1,000",
    "ConcurrencyKey.key": "must be 1 to 128 characters without control characters",
    "ConcurrencyKey.limit": (
        "must be from 0 (for what the limit of that name says, else 1) to 1,000,000"
    ),
    "ConcurrencyKey.weight": "must be from 0 (for the default, 1) to 1,000,000",
    "ConcurrencyKey.on_conflict": "must be one of the policies, or unset to wait",
    "Job.queue_timeout": _LONG,
    "Job.total_timeout": _LONG,
    "Job.deadline": _INSTANT,
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
    "Job.dependencies": "must be at most 1,000 dependencies",
    "Dependency.parent": "must name a job: `job_id`, or in a batch `request_index`",
    "Dependency.job_id": _JOB_ID,
    "Dependency.request_index": "must be the place of another job of the batch, from 0",
    "Dependency.condition": "must be SUCCEEDED (the default), FAILED or FINISHED",
    "Dependency.delay": "must be from 0 s to 365 days",
    "DependencyPolicy.rule": "must be ALL (the default), ANY, AT_LEAST or ALWAYS",
    "DependencyPolicy.at_least": "must be from 1 to the number of dependencies",
    "DependencyPolicy.on_unmet": "must be SKIP (the default), FAIL or HOLD",
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
    "ListJobsRequest.filter": _FILTER,
    "UpdateJobRequest.update_mask": "must be given",
    "CancelJobRequest.job_id": _JOB_ID,
    "DeleteJobRequest.job_id": _JOB_ID,
    "RetryJobRequest.job_id": _JOB_ID,
    "HoldJobRequest.job_id": _JOB_ID,
    "MoveJobRequest.job_id": _JOB_ID,
    "MoveJobRequest.before": _JOB_ID,
    "MoveJobRequest.after": _JOB_ID,
    "MoveJobRequest.top": "true, or another place",
    "MoveJobRequest.bottom": "true, or another place",
    "MoveJobRequest.place": "one of top, bottom, before and after",
    "ReleaseJobRequest.job_id": _JOB_ID,
    "GetJobStatusRequest.job_id": _JOB_ID,
    "ListActiveJobsRequest.name": _FILTER_NAME,
    "ListActiveJobsRequest.labels": _FILTER_LABELS,
    "ListActiveJobsRequest.page_size": _PAGE_SIZE,
    "ListActiveJobsRequest.view": _VIEW,
    "ListActiveJobsRequest.filter": _FILTER,
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
    "GetJobHistoryRequest.filter": _FILTER,
    "WatchJobsRequest.job_ids": "must be at most 1,000 ids",
    "WatchJobsRequest.job_ids[]": _JOB_ID,
    "Schedule.schedule_id": _SCHEDULE_ID,
    "Schedule.description": "must be at most 1,024 characters without control characters",
    "Schedule.job": "must be given",
    "Schedule.timing": "must be given",
    "Schedule.overlap": (
        "must be OVERLAP_POLICY_SKIP, BUFFER_ONE, BUFFER_ALL, CANCEL_OTHER or ALLOW"
    ),
    "Schedule.pause_after_failures": "must be from 0 (for never) to 100",
    "ScheduleTiming.cron": "must be at most 256 characters",
    "ScheduleTiming.every": "must be from 1 s to 366 days",
    "ScheduleTiming.phase": "must be from 0 s to below `every`",
    "ScheduleTiming.at": _INSTANT,
    "ScheduleTiming.time_zone": "must be a name of the IANA database, such as Europe/Berlin",
    "ScheduleTiming.start_time": _INSTANT,
    "ScheduleTiming.end_time": _INSTANT,
    "ScheduleTiming.jitter": "must be from 0 s to 1 day",
    "Misfire.policy": "must be MISFIRE_POLICY_SKIP, LAST or ALL",
    "Misfire.max_count": "must be from 0 (for the default, 10) to 100",
    "Misfire.window": "must be from 1 s to 31 days",
    "CreateScheduleRequest.schedule": "must be given",
    "GetScheduleRequest.schedule_id": _SCHEDULE_ID,
    "ListSchedulesRequest.page_size": _PAGE_SIZE,
    "UpdateScheduleRequest.update_mask": "must be given",
    "DeleteScheduleRequest.schedule_id": _SCHEDULE_ID,
    "PauseScheduleRequest.schedule_id": _SCHEDULE_ID,
    "PauseScheduleRequest.reason": "must be at most 256 characters without control characters",
    "PauseScheduleRequest.resume_time": _INSTANT,
    "ResumeScheduleRequest.schedule_id": _SCHEDULE_ID,
    "PreviewScheduleRequest.schedule_id": _SCHEDULE_ID,
    "PreviewScheduleRequest.count": "must be from 0 (for the default, 10) to 1,000",
    "PreviewScheduleRequest.after": _INSTANT,
    "TriggerScheduleRequest.schedule_id": _SCHEDULE_ID,
    "BackfillScheduleRequest.schedule_id": _SCHEDULE_ID,
    "BackfillScheduleRequest.start_time": _INSTANT,
    "BackfillScheduleRequest.end_time": _INSTANT,
    "BackfillScheduleRequest.jobs_per_minute": "must be from 0 (for the default, 60) to 6,000",
    "CancelBackfillRequest.schedule_id": _SCHEDULE_ID,
    "ListScheduleRunsRequest.schedule_id": _SCHEDULE_ID,
    "ListScheduleRunsRequest.page_size": _PAGE_SIZE,
    "ReadLogsRequest.job_id": _JOB_ID,
    "ReadLogsRequest.attempt": "must be the number of an attempt, or 0 for the newest",
    "ReadLogsRequest.stream": ("must be LOG_STREAM_STDOUT or LOG_STREAM_STDERR, or unset for both"),
    "ReadLogsRequest.stdout_offset": _OFFSET,
    "ReadLogsRequest.stderr_offset": _OFFSET,
    "CreateOperationRequest.filter": "must be 1 to 2,000 characters; `*` is all jobs",
    "CreateOperationRequest.action": (
        "must be OPERATION_ACTION_CANCEL, _HOLD, _RELEASE, _RETRY, _DELETE or _SET_PRIORITY"
    ),
    "CreateOperationRequest.priority": "must be from -100 to 100",
    "CreateOperationRequest.reason": "must be at most 256 characters without control characters",
    "CreateOperationRequest.max_per_second": "must be from 0 (without a limit) to 100,000",
    "CreateOperationRequest.request_id": _REQUEST_ID,
    "GetOperationRequest.operation_id": _OPERATION_ID,
    "CancelOperationRequest.operation_id": _OPERATION_ID,
    "ListOperationsRequest.page_size": _PAGE_SIZE,
    "Queue.name": _NAME,
    "Queue.description": "must be at most 1,024 characters without a NUL character",
    "Queue.max_running": _LIMIT,
    "Queue.max_depth": "must be from 0 (for no bound) to 10,000,000",
    "Queue.max_age": "must be above 0 s and at most 3,650 days, or unset for no bound",
    "Queue.on_full": "must be one of the policies, or unset to reject",
    "CreateQueueRequest.queue": "must be given",
    "GetQueueRequest.name": _NAME,
    "ListQueuesRequest.page_size": _PAGE_SIZE,
    "UpdateQueueRequest.update_mask": "must be given",
    "DeleteQueueRequest.name": _NAME,
    "PauseQueueRequest.name": _NAME,
    "PauseQueueRequest.mode": "must be PAUSE_MODE_HOLD or PAUSE_MODE_DRAIN, or unset to hold",
    "PauseQueueRequest.reason": "must be at most 256 characters without control characters",
    "PauseQueueRequest.resume_time": _INSTANT,
    "ResumeQueueRequest.name": _NAME,
    "GetQueueStatsRequest.name": _NAME,
    "Limit.kind": _LIMIT_KIND,
    "Limit.name": _KEY,
    "Limit.max_running": _LIMIT,
    "Limit.weight": "must be 0 (for the default, 1) or from 0.001 to 1,000",
    "Rate.starts": "must be from 1 to 1,000,000",
    "Rate.period": "must be given, from 1 ms to 365 days",
    "Rate.burst": "must be from 0 (for the default, 1) to 1,000,000",
    "SetLimitRequest.limit": "must be given",
    "GetLimitRequest.kind": _LIMIT_KIND,
    "GetLimitRequest.name": _KEY,
    "ListLimitsRequest.page_size": _PAGE_SIZE,
    "DeleteLimitRequest.kind": _LIMIT_KIND,
    "DeleteLimitRequest.name": _KEY,
}
