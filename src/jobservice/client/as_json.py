"""Values of the SDK as JSON, under the names of the proto files (ProtoJSON, original field names).

64-bit numbers are strings and bytes are base64, as ProtoJSON has it. Fields that have no presence
are always there, so that a script finds the same keys in every object.
"""

import functools
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from jobservice.client.values import JobStatus, LogChunk, MatchCount, Stream
from jobservice.model.event import Event
from jobservice.model.job import Job
from jobservice.model.limit import LimitUse
from jobservice.model.operation import Operation
from jobservice.model.queue import Queue, QueueStats
from jobservice.model.schedule import Backfill, Preview, Run, Schedule
from jobservice.model.worker import Worker
from jobservice.wire import convert, limits, queues, schedules, times, workers
from jobservice.wire import messages as pb
from jobservice.wire.operations import operation_message


@functools.singledispatch
def as_json(value: Any) -> dict[str, Any]:
    """A job, status, event or piece of output as a JSON object."""
    raise TypeError(f"{type(value).__name__} is no value of the API")


@as_json.register
def _(value: Job) -> dict[str, Any]:
    return _as_dict(convert.job_message(value, convert.View.FULL))


@as_json.register
def _(value: Event) -> dict[str, Any]:
    return _as_dict(convert.event_message(value))


@as_json.register
def _(value: Queue) -> dict[str, Any]:
    return _as_dict(queues.queue_message(value))


@as_json.register
def _(value: QueueStats) -> dict[str, Any]:
    return _as_dict(queues.stats_message(value))


@as_json.register
def _(value: LimitUse) -> dict[str, Any]:
    return _as_dict(limits.use_message(value))


@as_json.register
def _(value: Worker) -> dict[str, Any]:
    return _as_dict(workers.worker_message(value))


@as_json.register
def _(value: Schedule) -> dict[str, Any]:
    return _as_dict(schedules.schedule_message(value))


@as_json.register
def _(value: Run) -> dict[str, Any]:
    return _as_dict(schedules.run_message(value))


@as_json.register
def _(value: Backfill) -> dict[str, Any]:
    return _as_dict(schedules.backfill_message(value))


@as_json.register
def _(value: Preview) -> dict[str, Any]:
    return _as_dict(schedules.preview_message(value))


@as_json.register
def _(value: LogChunk) -> dict[str, Any]:
    number = list(Stream).index(value.stream) + 1
    return _as_dict(
        pb.ReadLogsResponse(
            attempt=value.attempt,
            stream=pb.LogStream.ValueType(number),
            offset=value.offset,
            data=value.data,
            dropped_bytes=value.dropped_bytes,
        )
    )


@as_json.register
def _(value: JobStatus) -> dict[str, Any]:
    return _as_dict(
        pb.JobStatus(
            job_id=value.job_id,
            state=int(value.state),  # type: ignore[arg-type]  # the numbers are the same
            reason=int(value.reason),  # type: ignore[arg-type]
            reason_message=value.message,
            waiting_reason=value.waiting_reason,
            queue_position=value.queue_position,
            attempt=convert.attempt_message(value.attempt) if value.attempt else None,
            failure_count=value.failure_count,
            lost_count=value.lost_count,
            progress_percent=value.progress_percent,
            current_step=value.current_step,
            estimated_completion=times.maybe_timestamp(value.estimated_completion),
            next_attempt_time=times.maybe_timestamp(value.start_at),
            create_time=times.timestamp(value.created_at),
            start_time=times.maybe_timestamp(value.started_at),
            end_time=times.maybe_timestamp(value.ended_at),
            revision=value.revision,
        )
    )


@as_json.register
def _(value: Operation) -> dict[str, Any]:
    return _as_dict(operation_message(value))


@as_json.register
def _(value: MatchCount) -> dict[str, Any]:
    return {"matched_count": str(value.count), "is_at_least": value.is_at_least}


def _as_dict(message: Message) -> dict[str, Any]:
    return MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
