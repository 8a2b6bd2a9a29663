"""Arrays between the messages of the wire and the values of the model."""

from typing import Any

from jobservice.model.array import ArrayCounts, ArraySpec, Index
from jobservice.model.job import Job
from jobservice.wire._gen.v1 import job_pb2


def to_array(job: job_pb2.Job) -> ArraySpec | None:
    """The array that is asked for; None where the job stands for itself."""
    if not job.HasField("array"):
        return None
    array = job.array
    return ArraySpec(
        size=array.size or len(array.items),
        items=tuple(array.items),
        max_parallel=array.max_parallel or None,
        max_failures=array.max_failures if array.HasField("max_failures") else None,
    )


def array_message(array: ArraySpec) -> job_pb2.Array:
    """An array as the wire has it, without its items."""
    return job_pb2.Array(
        size=array.size, max_parallel=array.max_parallel or 0, max_failures=array.max_failures
    )


def array_fields(job: Job) -> dict[str, Any]:
    """What a job has only as an array, or as an index of one."""
    fields: dict[str, Any] = {}
    if job.array_counts is not None:
        counts = job.array_counts
        fields["array_status"] = job_pb2.ArrayStatus(
            made_count=counts.made,
            succeeded_count=counts.succeeded,
            failed_count=counts.failed,
            dropped_count=counts.dropped,
        )
    if job.index is not None:
        fields["array_job_id"] = job.index.array_job_id
        fields["array_index"] = job.index.index
        fields["array_item"] = job.index.item
    return fields


def array_values(job: job_pb2.Job) -> dict[str, Any]:
    """The same as a client reads it."""
    return {"array_counts": _to_counts(job), "index": _to_index(job)}


def _to_counts(job: job_pb2.Job) -> ArrayCounts | None:
    """How far an array is."""
    if not job.HasField("array_status"):
        return None
    status = job.array_status
    return ArrayCounts(
        status.made_count, status.succeeded_count, status.failed_count, status.dropped_count
    )


def _to_index(job: job_pb2.Job) -> Index | None:
    """Which index of which array a job is; the wire does not say of how many."""
    if not job.array_job_id:
        return None
    item = job.array_item if job.HasField("array_item") else None
    return Index(job.array_job_id, job.array_index, 0, item)
