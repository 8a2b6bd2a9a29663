"""The calls of the SDK about operations: changes of many jobs at once."""

import abc
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from jobservice.client import calls
from jobservice.client.values import Length, MatchCount
from jobservice.clock import Clock
from jobservice.errors import DeadlineExceeded
from jobservice.model.operation import Action, Operation, OperationState
from jobservice.wire import messages as pb
from jobservice.wire.operations import to_operation
from jobservice.wire.stubs import OperationServiceStub

PAGE_SIZE = 200
FIRST_LOOK_S = 0.05
LONGEST_LOOK_S = 1.0
"""How often an operation is looked at that is waited for: the longer it takes, the more seldom."""

Response = TypeVar("Response")
OperationRef = str | Operation
"""An operation, or its id."""


class OperationCalls(abc.ABC):
    """A part of `Client`, which has the transport."""

    _operations: OperationServiceStub
    _clock: Clock
    _wake: threading.Event

    @abc.abstractmethod
    def _call(self, method: Callable[..., Response], request: Any) -> Response:
        """One answer."""

    def bulk(
        self,
        action: Action | str,
        filter: str,  # noqa: A002 - the name that it has everywhere
        *,
        priority: int | str | None = None,
        reason: str = "",
        max_per_second: int = 0,
        request_id: str = "",
    ) -> Operation:
        """Begin a change of all jobs for which a filter holds; it goes on by itself.

        Args:
            action: "cancel", "hold", "release", "retry", "delete" or "set_priority".
            filter: An AIP-160 filter; `*` is all jobs.
            priority: The new one, for "set_priority".
            reason: Why, for people.
            max_per_second: How many jobs to change in a second at most; 0 is without a limit.
            request_id: Calls with the same id begin one operation; left out, a new one.
        """
        request = calls.operation_request(action, filter, priority)
        request.request_id = request_id or uuid.uuid4().hex
        with calls.refusing(""):
            request.reason = reason
            request.max_per_second = max_per_second
        return to_operation(self._call(self._operations.CreateOperation, request).operation)

    def bulk_count(self, action: Action | str, filter: str) -> MatchCount:  # noqa: A002 - as above
        """For how many jobs a filter holds now; nothing is changed."""
        request = calls.operation_request(action, filter, 0)
        request.validate_only = True
        answer = self._call(self._operations.CreateOperation, request)
        return MatchCount(answer.operation.matched_count, answer.is_at_least)

    def operation(self, operation: OperationRef) -> Operation:
        """An operation as it is now."""
        request = pb.GetOperationRequest(operation_id=_id_of(operation))
        return to_operation(self._call(self._operations.GetOperation, request).operation)

    def operations(self) -> Iterator[Operation]:
        """Operations, newest first, read page by page as they are asked for."""
        request = pb.ListOperationsRequest(page_size=PAGE_SIZE)
        for page in calls.pages(self._call, self._operations.ListOperations, request):
            yield from map(to_operation, page.operations)

    def cancel_operation(self, operation: OperationRef) -> Operation:
        """End an operation where it is; what it has changed stays so."""
        request = pb.CancelOperationRequest(operation_id=_id_of(operation))
        return to_operation(self._call(self._operations.CancelOperation, request).operation)

    def wait_operation(self, operation: OperationRef, timeout: Length | None = None) -> Operation:
        """The operation once it has come to its end.

        Raises:
            DeadlineExceeded: it has not after `timeout`; it goes on.
        """
        seconds = calls.seconds_of(timeout)
        begin_s, look_s = self._clock.monotonic_s(), FIRST_LOOK_S
        while True:
            found = self.operation(operation)
            if found.state is not OperationState.RUNNING:
                return found
            if seconds is not None and self._clock.monotonic_s() + look_s - begin_s > seconds:
                raise DeadlineExceeded(
                    f"After {seconds:g} s operation {found.operation_id} goes on still."
                )
            self._wake.wait(look_s)
            look_s = min(look_s * 1.5, LONGEST_LOOK_S)


def _id_of(operation: OperationRef) -> str:
    return operation if isinstance(operation, str) else operation.operation_id
