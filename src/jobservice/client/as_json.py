"""Values of the SDK as JSON, under the names of the proto files (ProtoJSON, original field names).

64-bit numbers are strings and bytes are base64, as ProtoJSON has it. Fields that have no presence
are always there, so that a script finds the same keys in every object.
"""

import functools
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from jobservice.client.values import JobStatus, LogChunk, Stream
from jobservice.model.event import Event
from jobservice.model.job import Job
from jobservice.wire import convert
from jobservice.wire import messages as pb


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
            estimated_completion=convert.maybe_timestamp(value.estimated_completion),
            next_attempt_time=convert.maybe_timestamp(value.start_at),
            create_time=convert.timestamp(value.created_at),
            start_time=convert.maybe_timestamp(value.started_at),
            end_time=convert.maybe_timestamp(value.ended_at),
            revision=value.revision,
        )
    )


def _as_dict(message: Message) -> dict[str, Any]:
    return MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
