"""The rules of queues, as Python calls: `client.queues`."""

import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any, Unpack

from google.protobuf.field_mask_pb2 import FieldMask

from jobservice.client import calls
from jobservice.client.values import QueueOptions
from jobservice.errors import InvalidRequest, Violation
from jobservice.model.queue import OnFull, PauseMode, Queue, QueueStats
from jobservice.wire import messages as pb
from jobservice.wire import queues as wire
from jobservice.wire.stubs import QueueServiceStub

QueueRef = str | Queue
"""A queue, or its name."""


def name_of(queue: QueueRef) -> str:
    """The name of a queue, however it is given."""
    return queue if isinstance(queue, str) else queue.name


class Queues:
    """The queues of the service; a `Client` has one of these."""

    def __init__(self, call: Callable[..., Any], stub: QueueServiceStub, page_size: int) -> None:
        self._call = call
        self._stub = stub
        self._page_size = page_size

    def create(self, name: str, **rules: Unpack[QueueOptions]) -> Queue:
        """Make a queue with rules.

        Args:
            name: Its name. Jobs may have named it already.
            **rules: See `QueueOptions`.
        """
        request = pb.CreateQueueRequest(queue=pb.Queue(name=name, **_fields(rules)))
        answer = self._call(self._stub.CreateQueue, request, repeatable=False)
        return wire.to_queue(answer.queue)

    def get(self, queue: QueueRef) -> Queue:
        """The rules of a queue that was made, or of `default`."""
        request = pb.GetQueueRequest(name=name_of(queue))
        return wire.to_queue(self._call(self._stub.GetQueue, request).queue)

    def list(self) -> Iterator[Queue]:
        """Queues that were made, and `default`, by name, read page by page as they are asked for."""
        request = pb.ListQueuesRequest(page_size=self._page_size)
        for page in calls.pages(self._call, self._stub.ListQueues, request):
            yield from map(wire.to_queue, page.queues)

    def update(self, queue: QueueRef, *, etag: str = "", **rules: Unpack[QueueOptions]) -> Queue:
        """Change rules of a queue; those not given stay.

        Args:
            queue: The queue or its name.
            etag: That of the queue as it was read, when the change must not overwrite another.
            **rules: See `QueueOptions`.
        """
        message = pb.Queue(name=name_of(queue), etag=etag, **_fields(rules))
        mask = FieldMask(paths=sorted(rules))
        request = pb.UpdateQueueRequest(queue=message, update_mask=mask)
        answer = self._call(self._stub.UpdateQueue, request, repeatable=not etag)
        return wire.to_queue(answer.queue)

    def delete(self, queue: QueueRef, *, etag: str = "", allow_missing: bool = False) -> None:
        """Forget the rules of a queue in which no job waits or runs."""
        request = pb.DeleteQueueRequest(name=name_of(queue), etag=etag, allow_missing=allow_missing)

        def expect_it_gone() -> None:
            request.allow_missing = True  # an earlier try may have deleted it

        self._call(self._stub.DeleteQueue, request, on_repeat=expect_it_gone)

    def pause(
        self,
        queue: QueueRef,
        *,
        mode: PauseMode | str = PauseMode.HOLD,
        reason: str = "",
        until: dt.datetime | None = None,
    ) -> Queue:
        """Stop a queue.

        Args:
            queue: The queue or its name.
            mode: "hold" starts nothing new, "drain" accepts nothing new.
            reason: Why, for people.
            until: When the pause ends by itself, an aware instant; None is not at all.
        """
        request = pb.PauseQueueRequest(
            name=name_of(queue),
            mode=int(_one_of(PauseMode, mode, "mode")),  # type: ignore[arg-type]
            reason=reason,
            resume_time=None if until is None else calls.timestamp_of(until, "resume_time"),
        )
        return wire.to_queue(self._call(self._stub.PauseQueue, request).queue)

    def resume(self, queue: QueueRef) -> Queue:
        """End the pause of a queue."""
        request = pb.ResumeQueueRequest(name=name_of(queue))
        return wire.to_queue(self._call(self._stub.ResumeQueue, request).queue)

    def stats(self, queue: QueueRef) -> QueueStats:
        """How full a queue is, how it moves, and what holds it up; also of one that nobody made."""
        request = pb.GetQueueStatsRequest(name=name_of(queue))
        return wire.to_stats(self._call(self._stub.GetQueueStats, request).stats)


def _fields(rules: QueueOptions) -> dict[str, Any]:
    """The fields of a message that rules stand for."""
    calls.only_known(rules, QueueOptions)
    fields: dict[str, Any] = {"description": rules.get("description", "")}
    fields["max_running"] = rules.get("max_running") or 0
    fields["max_depth"] = rules.get("max_depth") or 0
    max_age = rules.get("max_age")
    if max_age is not None:
        fields["max_age"] = calls.duration_of(max_age, "queue.max_age")
    if "on_full" in rules:
        fields["on_full"] = int(_one_of(OnFull, rules["on_full"], "queue.on_full"))
    return fields


def _one_of(kind: Any, given: Any, field: str) -> Any:
    """A value, or its name in either case."""
    if isinstance(given, kind):
        return given
    name = str(given).upper().replace("-", "_")
    if name not in kind.__members__:
        names = ", ".join(each.lower() for each in kind.__members__)
        raise InvalidRequest(
            [Violation(field, f"must be one of {names}; got {given!r}", "NOT_SENT")]
        )
    return kind[name]
