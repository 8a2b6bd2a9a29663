"""Every error of JobService, as one short tree.

    JobServiceError             gRPC code             CLI exit code
      InvalidRequest            INVALID_ARGUMENT      2    the caller must change the request
      PageTokenInvalid          INVALID_ARGUMENT      2    a token of another query, or none of ours
      NotFound                  NOT_FOUND             66   no such job (or not this tenant's)
        ScheduleNotFound        NOT_FOUND             66   no such schedule, likewise
        OperationNotFound       NOT_FOUND             66   no such operation
        QueueNotFound           NOT_FOUND             66   nobody made such a queue
        LimitNotFound           NOT_FOUND             66   nobody set such a limit
        WorkerNotFound          NOT_FOUND             66   no worker of this id has registered
      AlreadyExists             ALREADY_EXISTS        73   the request_id was used with another body
        DuplicateJob            ALREADY_EXISTS        73   another job has the unique key
        QueueExists             ALREADY_EXISTS        73   there is a queue of this name
        ScheduleExists          ALREADY_EXISTS        73   another schedule has this name
        WorkerElsewhere         ALREADY_EXISTS        73   a worker elsewhere says the same id
      EtagMismatch              ABORTED               75   the job was edited since it was read
      InvalidTransition         FAILED_PRECONDITION   65   the state of the job does not allow it
      QueueInUse                FAILED_PRECONDITION   65   a job waits or runs in the queue
      ResumeTokenExpired        OUT_OF_RANGE          65   the watch token is older than the history
      StoreFull                 RESOURCE_EXHAUSTED    74   the disk of the database is full
      LimitExceeded             RESOURCE_EXHAUSTED    75   a limit of the service is reached; wait
      QueueFull                 RESOURCE_EXHAUSTED    75   the queue has as many jobs as it takes; wait
      KeyTaken                  RESOURCE_EXHAUSTED    75   a key is taken, and the job does not wait
      QueueDrained              FAILED_PRECONDITION   65   the queue takes no new jobs
      Unavailable               UNAVAILABLE           69   the service cannot answer now; try again
        StoreUnavailable        UNAVAILABLE           69   the database cannot be written or read
        StoreBusy               UNAVAILABLE           69   the database takes too long
        ExecutorUnavailable     UNAVAILABLE           69   the runner cannot be reached or started
        Draining                UNAVAILABLE           69   the service is shutting down
        Deposed                 UNAVAILABLE           69   another server has the duties now
      DeadlineExceeded          DEADLINE_EXCEEDED     124  the call took longer than it may
      Internal                  INTERNAL              70   a fault of ours; the log has the details
      SetupError                (at start only)       78   the service cannot start as configured

One class is one code, one exit code and one section of `docs/reference/errors.md`; a test walks the
tree in all directions. The docstring of a class is its default message. `reason` is the ErrorInfo's
reason, in UPPER_SNAKE. A job that fails is an outcome, not an error.
"""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import ClassVar


@dataclasses.dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong with one field of a request."""

    field: str
    """The path of the field in the request, such as `requests[3].job.command.argv`."""
    message: str
    """What is wrong and what would be right."""
    rule: str = "INVALID"
    """Which rule it breaks, in UPPER_SNAKE."""


class JobServiceError(Exception):
    """JobService could not do what was asked."""

    code: ClassVar[str] = "UNKNOWN"
    reason: ClassVar[str] = "UNKNOWN"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str = "", **metadata: str) -> None:
        super().__init__(message or self.default_message())
        self.metadata: Mapping[str, str] = metadata

    @property
    def message(self) -> str:
        """What went wrong and what to do, for a person."""
        return str(self.args[0])

    @classmethod
    def default_message(cls) -> str:
        """The first line of the docstring."""
        return inspect.cleandoc(cls.__doc__ or "").partition("\n")[0]


class InvalidRequest(JobServiceError):
    """The request is not valid."""

    code, reason, exit_code = "INVALID_ARGUMENT", "INVALID_REQUEST", 2

    def __init__(self, violations: Sequence[Violation]) -> None:
        lines = "; ".join(f"{v.field}: {v.message}" for v in violations[:20])
        more = f"; and {len(violations) - 20} more" if len(violations) > 20 else ""
        super().__init__(f"The request is not valid. {lines}{more}")
        self.violations = tuple(violations)


class PageTokenInvalid(JobServiceError):
    """The page token is not one of this query; begin again without a token."""

    code, reason, exit_code = "INVALID_ARGUMENT", "PAGE_TOKEN_INVALID", 2


class NotFound(JobServiceError):
    """There is no such job."""

    code, reason, exit_code = "NOT_FOUND", "JOB_NOT_FOUND", 66


class ScheduleNotFound(NotFound):
    """There is no such schedule."""

    reason = "SCHEDULE_NOT_FOUND"


class OperationNotFound(NotFound):
    """There is no such operation."""

    reason = "OPERATION_NOT_FOUND"


class QueueNotFound(NotFound):
    """Nobody made such a queue."""

    reason = "QUEUE_NOT_FOUND"


class LimitNotFound(NotFound):
    """Nobody set such a limit."""

    reason = "LIMIT_NOT_FOUND"


class WorkerNotFound(NotFound):
    """There is no such worker."""

    reason = "WORKER_NOT_FOUND"


class AlreadyExists(JobServiceError):
    """The request_id was used before, with another body or for a job that was deleted since."""

    code, reason, exit_code = "ALREADY_EXISTS", "REQUEST_ID_REUSED", 73


class DuplicateJob(AlreadyExists):
    """Another job has the unique key, and the new one does not want to be a second."""

    reason = "DUPLICATE_JOB"


class ScheduleExists(AlreadyExists):
    """There is another schedule of this name."""

    reason = "SCHEDULE_EXISTS"


class QueueExists(AlreadyExists):
    """There is a queue of this name already; change it instead."""

    reason = "QUEUE_EXISTS"


class WorkerElsewhere(AlreadyExists):
    """A worker on another host or in another directory has this id, and is heard of."""

    reason = "WORKER_ELSEWHERE"


class EtagMismatch(JobServiceError):
    """The job was edited since it was read; read it again and repeat the change."""

    code, reason, exit_code = "ABORTED", "ETAG_MISMATCH", 75


class InvalidTransition(JobServiceError):
    """The state of the job does not allow this."""

    code, reason, exit_code = "FAILED_PRECONDITION", "INVALID_STATE", 65

    def __init__(self, message: str = "", *, state: str, trigger: str, **metadata: str) -> None:
        super().__init__(
            message or f"A job in state {state} does not allow {trigger}.",
            state=state,
            trigger=trigger,
            **metadata,
        )


class QueueInUse(JobServiceError):
    """A job waits or runs in the queue; cancel its jobs, or move them to another."""

    code, reason, exit_code = "FAILED_PRECONDITION", "QUEUE_IN_USE", 65


class ResumeTokenExpired(JobServiceError):
    """The resume token is older than the recorded changes; watch again without a token."""

    code, reason, exit_code = "OUT_OF_RANGE", "RESUME_TOKEN_EXPIRED", 65


class StoreFull(JobServiceError):
    """The disk that holds the database is full; nothing was changed. Free some space."""

    code, reason, exit_code = "RESOURCE_EXHAUSTED", "STORE_FULL", 74


class LimitExceeded(JobServiceError):
    """A limit of the service is reached; try again later."""

    code, reason, exit_code = "RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED", 75


class QueueFull(JobServiceError):
    """The queue is full; try again later."""

    code, reason, exit_code = "RESOURCE_EXHAUSTED", "QUEUE_FULL", 75


class KeyTaken(JobServiceError):
    """A concurrency key of the job is taken; try again later."""

    code, reason, exit_code = "RESOURCE_EXHAUSTED", "KEY_TAKEN", 75


class QueueDrained(JobServiceError):
    """The queue takes no new jobs."""

    code, reason, exit_code = "FAILED_PRECONDITION", "QUEUE_DRAINED", 65


class Unavailable(JobServiceError):
    """The service cannot answer now; try again."""

    code, reason, exit_code = "UNAVAILABLE", "UNAVAILABLE", 69


class StoreUnavailable(Unavailable):
    """The database cannot be reached now; try again."""

    reason = "STORE_UNAVAILABLE"


class StoreBusy(Unavailable):
    """The database is there, but too slow, or others hold what is to be changed; try again."""

    reason = "STORE_BUSY"


class ExecutorUnavailable(Unavailable):
    """The runner cannot be reached or started."""

    reason = "EXECUTOR_UNAVAILABLE"


class Draining(Unavailable):
    """The service is shutting down; try again, or another server."""

    reason = "DRAINING"


class Deposed(Unavailable):
    """Another server leads now; nothing was changed."""

    reason = "DEPOSED"


class DeadlineExceeded(JobServiceError):
    """The call took longer than its deadline; what it began may still be done."""

    code, reason, exit_code = "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", 124


class Internal(JobServiceError):
    """The service has a fault; its log has the details under the request id."""

    code, reason, exit_code = "INTERNAL", "INTERNAL", 70


class SetupError(JobServiceError):
    """The service cannot start as it is configured."""

    code, reason, exit_code = "FAILED_PRECONDITION", "SETUP", 78
