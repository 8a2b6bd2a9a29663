"""Between the messages of queues and the values of the model; what `convert.py` says holds here too.

| of the wire | of the model |
|---|---|
| `Queue` | `Queue` (`queue_message`, `to_queue`) |
| `UpdateQueueRequest` | new values by field of `Queue` (`to_queue_edits`) |
| `QueueStats` | `QueueStats` (`stats_message`, `to_stats`) |
"""

from typing import Any

from jobservice.clock import EPOCH
from jobservice.model.queue import Obstacle, OnFull, Pause, PauseMode, Queue, QueueStats
from jobservice.wire import times
from jobservice.wire._gen.v1 import queue_pb2, queue_service_pb2


def to_queue(message: queue_pb2.Queue, tenant: str = "") -> Queue:
    """A queue, with the defaults filled in. The wire leaves out the tenant."""
    pause = message.pause
    return Queue(
        tenant=tenant,
        name=message.name,
        description=message.description,
        max_running=message.max_running or None,
        max_depth=message.max_depth or None,
        max_age=times.maybe_length(message, "max_age"),
        on_full=OnFull(message.on_full or OnFull.REJECT),
        pause=_to_pause(pause) if message.HasField("pause") else None,
        created_at=times.maybe_instant(message, "create_time") or EPOCH,
        updated_at=times.maybe_instant(message, "update_time") or EPOCH,
        edit_version=int(message.etag.removeprefix("e") or "0", 16),
    )


def _to_pause(message: queue_pb2.QueuePause) -> Pause:
    return Pause(
        PauseMode(message.mode),
        times.to_instant(message.start_time),
        message.reason,
        times.maybe_instant(message, "resume_time"),
    )


def to_queue_edits(request: queue_service_pb2.UpdateQueueRequest) -> dict[str, object]:
    """The new value of each field in the mask; unset means the default."""
    queue = to_queue(request.queue)
    return {path: getattr(queue, path) for path in request.update_mask.paths}


def queue_message(queue: Queue) -> queue_pb2.Queue:
    """A queue as the wire has it; `default` has no times before somebody changed it."""
    fields: dict[str, Any] = {}
    if queue.max_age is not None:
        fields["max_age"] = times.duration(queue.max_age)
    if queue.pause is not None:
        fields["pause"] = _pause_message(queue.pause)
    if queue.edit_version:
        fields["create_time"] = times.timestamp(queue.created_at)
        fields["update_time"] = times.timestamp(queue.updated_at)
    return queue_pb2.Queue(
        name=queue.name,
        description=queue.description,
        max_running=queue.max_running or 0,
        max_depth=queue.max_depth or 0,
        on_full=int(queue.on_full),  # type: ignore[arg-type]  # the numbers are the same
        etag=queue.etag,
        **fields,
    )


def _pause_message(pause: Pause) -> queue_pb2.QueuePause:
    return queue_pb2.QueuePause(
        mode=int(pause.mode),  # type: ignore[arg-type]  # the numbers are the same
        reason=pause.reason,
        start_time=times.timestamp(pause.since),
        resume_time=times.maybe_timestamp(pause.until),
    )


def stats_message(stats: QueueStats) -> queue_pb2.QueueStats:
    """How a queue moves, as the wire has it."""
    age = stats.oldest_age
    return queue_pb2.QueueStats(
        name=stats.name,
        depth=stats.depth,
        oldest_age=None if age is None else times.duration(age),
        running=stats.running,
        created_per_second=stats.created_per_second,
        started_per_second=stats.started_per_second,
        obstacle=int(stats.obstacle),  # type: ignore[arg-type]  # the numbers are the same
        obstacle_message=stats.obstacle_message,
    )


def to_stats(message: queue_pb2.QueueStats) -> QueueStats:
    """How a queue moves."""
    return QueueStats(
        name=message.name,
        depth=message.depth,
        oldest_age=times.maybe_length(message, "oldest_age"),
        running=message.running,
        created_per_second=message.created_per_second,
        started_per_second=message.started_per_second,
        obstacle=Obstacle(message.obstacle),
        obstacle_message=message.obstacle_message,
    )
