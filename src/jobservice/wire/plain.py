"""Jobs that plainly break no rule, told apart in a few microseconds.

Evaluating the rules costs 15 to 20 µs a job, more than storing it, and nearly every job is far from
every limit. `is_plain` says so for those, and nothing of the others: what is not plain is judged by
the rules. So this is no second truth about what is valid, only a proof for the easy case; a test
holds it to the rules with random jobs around every limit.
"""

import re

from google.protobuf.duration_pb2 import Duration

from jobservice.wire._gen.v1 import job_pb2, job_service_pb2

FEW = 64
"""The most arguments, variables or labels of a plain job."""
SHORT = 8192
"""The most characters of a plain text, and of all arguments, or all of a map, together."""
LONGEST_TIMEOUT_S = 31_535_999
SHORTEST_TIMEOUT_S = 1
MOST_OUTPUT_BYTES = 1 << 40
MOST_STDIN_BYTES = 1 << 20

_REQUEST_ID = re.compile(r"[!-~]{0,128}").fullmatch
_NAME = re.compile(r"[ -~]{0,256}").fullmatch
_QUEUE = re.compile(r"([a-z]([a-z0-9-]{0,61}[a-z0-9])?)?").fullmatch
_LABEL = re.compile(r"[a-z][a-z0-9._/-]{0,62}").fullmatch
_VARIABLE = re.compile(r"(?!JOBSERVICE_)[A-Za-z_][A-Za-z0-9_]*").fullmatch
_VALUE_CHARACTERS = 255
_KEY = re.compile(r"[ -~]{0,128}").fullmatch
MOST_KEYS = 16
MOST_WEIGHT = 1_000_000


def is_plain_create(request: job_service_pb2.CreateJobRequest) -> bool:
    """Whether a create plainly breaks no rule."""
    return _REQUEST_ID(request.request_id) is not None and is_plain(request.job)


def is_plain_batch(request: job_service_pb2.BatchCreateJobsRequest) -> bool:
    """Whether a batch plainly breaks no rule."""
    requests = request.requests
    return (
        1 <= len(requests) <= 1000
        and 0 <= request.view <= max(job_service_pb2.JobView.values())
        and _REQUEST_ID(request.request_id) is not None
        and all(
            not each.request_id and not each.validate_only and is_plain(each.job)
            for each in requests
        )
    )


def is_plain(job: job_pb2.Job) -> bool:
    """Whether the job of a create plainly breaks no rule."""
    return (
        _is_plain_command(job.command)
        and _NAME(job.name) is not None
        and _QUEUE(job.queue) is not None
        and _QUEUE(job.cluster) is not None
        and _QUEUE(job.job_type) is not None
        and -100 <= job.priority <= 100
        and 0 <= job.output_limit_bytes <= MOST_OUTPUT_BYTES
        and not job.HasField("retry_policy")
        and not job.HasField("stop_grace")
        and not job.HasField("start_after")
        and not job.HasField("start_delay")
        and not job.HasField("dependency_policy")
        and not job.dependencies
        and not job.HasField("queue_timeout")
        and not job.HasField("total_timeout")
        and not job.HasField("deadline")
        and not job.HasField("unique_key")
        and not job.HasField("array")
        and not job.required_labels
        and not job.HasField("resources")
        and (not job.HasField("timeout") or _is_plain_timeout(job.timeout))
        and (not job.HasField("idle_timeout") or _is_plain_timeout(job.idle_timeout))
        and (not job.labels or _are_plain_labels(job))
        and _KEY(job.fairness_key) is not None
        and (not job.fairness_weight or 0.001 <= job.fairness_weight <= 1000)
        and (not job.concurrency_keys or _are_plain_keys(job))
    )


def _is_plain_command(command: job_pb2.Command) -> bool:
    argv = command.argv
    if not 1 <= len(argv) <= FEW or not argv[0]:
        return False
    text = "".join(argv) + command.work_dir
    return (
        len(text) <= SHORT
        and "\0" not in text
        and (not command.work_dir or _is_plain_directory(command.work_dir))
        and len(command.stdin) <= MOST_STDIN_BYTES
        and (not command.env or _is_plain_environment(command))
    )


def _is_plain_directory(path: str) -> bool:
    return path[0] == "/" and len(path) <= 1000


def _is_plain_environment(command: job_pb2.Command) -> bool:
    env = command.env
    if len(env) > FEW:
        return False
    text = "".join(env.values())
    return (
        len(text) <= SHORT
        and "\0" not in text
        and all(len(name) <= 128 and _VARIABLE(name) for name in env)
    )


def _are_plain_labels(job: job_pb2.Job) -> bool:
    labels = job.labels
    if len(labels) > FEW:
        return False
    values = list(labels.values())
    return (
        sum(map(len, values)) <= SHORT // 4
        and all(len(value) <= _VALUE_CHARACTERS and "\0" not in value for value in values)
        and all(_LABEL(key) for key in labels)
    )


def _are_plain_keys(job: job_pb2.Job) -> bool:
    keys = job.concurrency_keys
    return (
        len(keys) <= MOST_KEYS
        and len({each.key for each in keys}) == len(keys)
        and all(
            each.key
            and _KEY(each.key)
            and 0 <= each.weight <= (each.limit or MOST_WEIGHT)
            and 0 <= each.limit <= MOST_WEIGHT
            and 0 <= each.on_conflict <= max(job_pb2.OnConflict.values())
            for each in keys
        )
    )


def _is_plain_timeout(timeout: Duration) -> bool:
    return (
        SHORTEST_TIMEOUT_S <= timeout.seconds <= LONGEST_TIMEOUT_S
        and 0 <= timeout.nanos <= 999_999_999
    )
