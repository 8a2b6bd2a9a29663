"""The generated messages, for the parts above: the one door to `_gen`."""

from google.protobuf.descriptor import Descriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from jobservice.wire._gen.v1.job_pb2 import Array as Array
from jobservice.wire._gen.v1.job_pb2 import ArrayStatus as ArrayStatus
from jobservice.wire._gen.v1.job_pb2 import Attempt as Attempt
from jobservice.wire._gen.v1.job_pb2 import Command as Command
from jobservice.wire._gen.v1.job_pb2 import ConcurrencyKey as ConcurrencyKey
from jobservice.wire._gen.v1.job_pb2 import Dependency as Dependency
from jobservice.wire._gen.v1.job_pb2 import DependencyPolicy as DependencyPolicy
from jobservice.wire._gen.v1.job_pb2 import Job as Job
from jobservice.wire._gen.v1.job_pb2 import RetryPolicy as RetryPolicy
from jobservice.wire._gen.v1.job_pb2 import UniqueKey as UniqueKey
from jobservice.wire._gen.v1.job_service_pb2 import DESCRIPTOR as _FILE
from jobservice.wire._gen.v1.job_service_pb2 import BatchCreateJobsRequest as BatchCreateJobsRequest
from jobservice.wire._gen.v1.job_service_pb2 import (
    BatchCreateJobsResponse as BatchCreateJobsResponse,
)
from jobservice.wire._gen.v1.job_service_pb2 import CancelJobRequest as CancelJobRequest
from jobservice.wire._gen.v1.job_service_pb2 import CancelJobResponse as CancelJobResponse
from jobservice.wire._gen.v1.job_service_pb2 import CreateJobRequest as CreateJobRequest
from jobservice.wire._gen.v1.job_service_pb2 import CreateJobResponse as CreateJobResponse
from jobservice.wire._gen.v1.job_service_pb2 import DeleteJobRequest as DeleteJobRequest
from jobservice.wire._gen.v1.job_service_pb2 import DeleteJobResponse as DeleteJobResponse
from jobservice.wire._gen.v1.job_service_pb2 import GetJobHistoryRequest as GetJobHistoryRequest
from jobservice.wire._gen.v1.job_service_pb2 import GetJobHistoryResponse as GetJobHistoryResponse
from jobservice.wire._gen.v1.job_service_pb2 import GetJobRequest as GetJobRequest
from jobservice.wire._gen.v1.job_service_pb2 import GetJobResponse as GetJobResponse
from jobservice.wire._gen.v1.job_service_pb2 import GetJobStatusRequest as GetJobStatusRequest
from jobservice.wire._gen.v1.job_service_pb2 import GetJobStatusResponse as GetJobStatusResponse
from jobservice.wire._gen.v1.job_service_pb2 import HoldJobRequest as HoldJobRequest
from jobservice.wire._gen.v1.job_service_pb2 import HoldJobResponse as HoldJobResponse
from jobservice.wire._gen.v1.job_service_pb2 import JobEvent as JobEvent
from jobservice.wire._gen.v1.job_service_pb2 import JobStatus as JobStatus
from jobservice.wire._gen.v1.job_service_pb2 import ListActiveJobsRequest as ListActiveJobsRequest
from jobservice.wire._gen.v1.job_service_pb2 import ListActiveJobsResponse as ListActiveJobsResponse
from jobservice.wire._gen.v1.job_service_pb2 import ListJobsRequest as ListJobsRequest
from jobservice.wire._gen.v1.job_service_pb2 import ListJobsResponse as ListJobsResponse
from jobservice.wire._gen.v1.job_service_pb2 import LogStream as LogStream
from jobservice.wire._gen.v1.job_service_pb2 import MoveJobRequest as MoveJobRequest
from jobservice.wire._gen.v1.job_service_pb2 import MoveJobResponse as MoveJobResponse
from jobservice.wire._gen.v1.job_service_pb2 import ReadLogsRequest as ReadLogsRequest
from jobservice.wire._gen.v1.job_service_pb2 import ReadLogsResponse as ReadLogsResponse
from jobservice.wire._gen.v1.job_service_pb2 import ReleaseJobRequest as ReleaseJobRequest
from jobservice.wire._gen.v1.job_service_pb2 import ReleaseJobResponse as ReleaseJobResponse
from jobservice.wire._gen.v1.job_service_pb2 import RetryJobRequest as RetryJobRequest
from jobservice.wire._gen.v1.job_service_pb2 import RetryJobResponse as RetryJobResponse
from jobservice.wire._gen.v1.job_service_pb2 import SnapshotComplete as SnapshotComplete
from jobservice.wire._gen.v1.job_service_pb2 import UpdateJobRequest as UpdateJobRequest
from jobservice.wire._gen.v1.job_service_pb2 import UpdateJobResponse as UpdateJobResponse
from jobservice.wire._gen.v1.job_service_pb2 import WatchJobsRequest as WatchJobsRequest
from jobservice.wire._gen.v1.job_service_pb2 import WatchJobsResponse as WatchJobsResponse
from jobservice.wire._gen.v1.limit_pb2 import Limit as Limit
from jobservice.wire._gen.v1.limit_pb2 import LimitKind as LimitKind
from jobservice.wire._gen.v1.limit_pb2 import Rate as Rate
from jobservice.wire._gen.v1.limit_service_pb2 import DESCRIPTOR as _LIMITS
from jobservice.wire._gen.v1.limit_service_pb2 import DeleteLimitRequest as DeleteLimitRequest
from jobservice.wire._gen.v1.limit_service_pb2 import DeleteLimitResponse as DeleteLimitResponse
from jobservice.wire._gen.v1.limit_service_pb2 import GetLimitRequest as GetLimitRequest
from jobservice.wire._gen.v1.limit_service_pb2 import GetLimitResponse as GetLimitResponse
from jobservice.wire._gen.v1.limit_service_pb2 import ListLimitsRequest as ListLimitsRequest
from jobservice.wire._gen.v1.limit_service_pb2 import ListLimitsResponse as ListLimitsResponse
from jobservice.wire._gen.v1.limit_service_pb2 import SetLimitRequest as SetLimitRequest
from jobservice.wire._gen.v1.limit_service_pb2 import SetLimitResponse as SetLimitResponse
from jobservice.wire._gen.v1.operation_service_pb2 import DESCRIPTOR as _OPERATIONS
from jobservice.wire._gen.v1.operation_service_pb2 import (
    CancelOperationRequest as CancelOperationRequest,
)
from jobservice.wire._gen.v1.operation_service_pb2 import (
    CancelOperationResponse as CancelOperationResponse,
)
from jobservice.wire._gen.v1.operation_service_pb2 import (
    CreateOperationRequest as CreateOperationRequest,
)
from jobservice.wire._gen.v1.operation_service_pb2 import (
    CreateOperationResponse as CreateOperationResponse,
)
from jobservice.wire._gen.v1.operation_service_pb2 import GetOperationRequest as GetOperationRequest
from jobservice.wire._gen.v1.operation_service_pb2 import (
    GetOperationResponse as GetOperationResponse,
)
from jobservice.wire._gen.v1.operation_service_pb2 import (
    ListOperationsRequest as ListOperationsRequest,
)
from jobservice.wire._gen.v1.operation_service_pb2 import (
    ListOperationsResponse as ListOperationsResponse,
)
from jobservice.wire._gen.v1.operation_service_pb2 import Operation as Operation
from jobservice.wire._gen.v1.operation_service_pb2 import OperationAction as OperationAction
from jobservice.wire._gen.v1.queue_pb2 import Queue as Queue
from jobservice.wire._gen.v1.queue_pb2 import QueuePause as QueuePause
from jobservice.wire._gen.v1.queue_pb2 import QueueStats as QueueStats
from jobservice.wire._gen.v1.queue_service_pb2 import DESCRIPTOR as _QUEUES
from jobservice.wire._gen.v1.queue_service_pb2 import CreateQueueRequest as CreateQueueRequest
from jobservice.wire._gen.v1.queue_service_pb2 import CreateQueueResponse as CreateQueueResponse
from jobservice.wire._gen.v1.queue_service_pb2 import DeleteQueueRequest as DeleteQueueRequest
from jobservice.wire._gen.v1.queue_service_pb2 import DeleteQueueResponse as DeleteQueueResponse
from jobservice.wire._gen.v1.queue_service_pb2 import GetQueueRequest as GetQueueRequest
from jobservice.wire._gen.v1.queue_service_pb2 import GetQueueResponse as GetQueueResponse
from jobservice.wire._gen.v1.queue_service_pb2 import GetQueueStatsRequest as GetQueueStatsRequest
from jobservice.wire._gen.v1.queue_service_pb2 import GetQueueStatsResponse as GetQueueStatsResponse
from jobservice.wire._gen.v1.queue_service_pb2 import ListQueuesRequest as ListQueuesRequest
from jobservice.wire._gen.v1.queue_service_pb2 import ListQueuesResponse as ListQueuesResponse
from jobservice.wire._gen.v1.queue_service_pb2 import PauseQueueRequest as PauseQueueRequest
from jobservice.wire._gen.v1.queue_service_pb2 import PauseQueueResponse as PauseQueueResponse
from jobservice.wire._gen.v1.queue_service_pb2 import ResumeQueueRequest as ResumeQueueRequest
from jobservice.wire._gen.v1.queue_service_pb2 import ResumeQueueResponse as ResumeQueueResponse
from jobservice.wire._gen.v1.queue_service_pb2 import UpdateQueueRequest as UpdateQueueRequest
from jobservice.wire._gen.v1.queue_service_pb2 import UpdateQueueResponse as UpdateQueueResponse
from jobservice.wire._gen.v1.schedule_pb2 import Backfill as Backfill
from jobservice.wire._gen.v1.schedule_pb2 import Misfire as Misfire
from jobservice.wire._gen.v1.schedule_pb2 import OverlapPolicy as OverlapPolicy
from jobservice.wire._gen.v1.schedule_pb2 import Schedule as Schedule
from jobservice.wire._gen.v1.schedule_pb2 import ScheduleRun as ScheduleRun
from jobservice.wire._gen.v1.schedule_pb2 import ScheduleTiming as ScheduleTiming
from jobservice.wire._gen.v1.schedule_service_pb2 import DESCRIPTOR as _SCHEDULES
from jobservice.wire._gen.v1.schedule_service_pb2 import (
    BackfillScheduleRequest as BackfillScheduleRequest,
)
from jobservice.wire._gen.v1.schedule_service_pb2 import (
    BackfillScheduleResponse as BackfillScheduleResponse,
)
from jobservice.wire._gen.v1.schedule_service_pb2 import (
    CancelBackfillRequest as CancelBackfillRequest,
)
from jobservice.wire._gen.v1.schedule_service_pb2 import (
    CancelBackfillResponse as CancelBackfillResponse,
)
from jobservice.wire._gen.v1.schedule_service_pb2 import (
    CreateScheduleRequest as CreateScheduleRequest,
)
from jobservice.wire._gen.v1.schedule_service_pb2 import (
    CreateScheduleResponse as CreateScheduleResponse,
)
from jobservice.wire._gen.v1.schedule_service_pb2 import (
    DeleteScheduleRequest as DeleteScheduleRequest,
)
from jobservice.wire._gen.v1.schedule_service_pb2 import (
    DeleteScheduleResponse as DeleteScheduleResponse,
)
from jobservice.wire._gen.v1.schedule_service_pb2 import GetScheduleRequest as GetScheduleRequest
from jobservice.wire._gen.v1.schedule_service_pb2 import GetScheduleResponse as GetScheduleResponse
from jobservice.wire._gen.v1.schedule_service_pb2 import (
    ListScheduleRunsRequest as ListScheduleRunsRequest,
)
from jobservice.wire._gen.v1.schedule_service_pb2 import (
    ListScheduleRunsResponse as ListScheduleRunsResponse,
)
from jobservice.wire._gen.v1.schedule_service_pb2 import (
    ListSchedulesRequest as ListSchedulesRequest,
)
from jobservice.wire._gen.v1.schedule_service_pb2 import (
    ListSchedulesResponse as ListSchedulesResponse,
)
from jobservice.wire._gen.v1.schedule_service_pb2 import (
    PauseScheduleRequest as PauseScheduleRequest,
)
from jobservice.wire._gen.v1.schedule_service_pb2 import (
    PauseScheduleResponse as PauseScheduleResponse,
)
from jobservice.wire._gen.v1.schedule_service_pb2 import (
    PreviewScheduleRequest as PreviewScheduleRequest,
)
from jobservice.wire._gen.v1.schedule_service_pb2 import (
    PreviewScheduleResponse as PreviewScheduleResponse,
)
from jobservice.wire._gen.v1.schedule_service_pb2 import (
    ResumeScheduleRequest as ResumeScheduleRequest,
)
from jobservice.wire._gen.v1.schedule_service_pb2 import (
    ResumeScheduleResponse as ResumeScheduleResponse,
)
from jobservice.wire._gen.v1.schedule_service_pb2 import ScheduleFire as ScheduleFire
from jobservice.wire._gen.v1.schedule_service_pb2 import (
    TriggerScheduleRequest as TriggerScheduleRequest,
)
from jobservice.wire._gen.v1.schedule_service_pb2 import (
    TriggerScheduleResponse as TriggerScheduleResponse,
)
from jobservice.wire._gen.v1.schedule_service_pb2 import (
    UpdateScheduleRequest as UpdateScheduleRequest,
)
from jobservice.wire._gen.v1.schedule_service_pb2 import (
    UpdateScheduleResponse as UpdateScheduleResponse,
)
from jobservice.wire._gen.v1.worker_pb2 import Resources as Resources
from jobservice.wire._gen.v1.worker_pb2 import Worker as Worker
from jobservice.wire._gen.v1.worker_service_pb2 import DESCRIPTOR as _WORKERS
from jobservice.wire._gen.v1.worker_service_pb2 import AppendLogsRequest as AppendLogsRequest
from jobservice.wire._gen.v1.worker_service_pb2 import AppendLogsResponse as AppendLogsResponse
from jobservice.wire._gen.v1.worker_service_pb2 import ClaimJobsRequest as ClaimJobsRequest
from jobservice.wire._gen.v1.worker_service_pb2 import ClaimJobsResponse as ClaimJobsResponse
from jobservice.wire._gen.v1.worker_service_pb2 import DrainWorkerRequest as DrainWorkerRequest
from jobservice.wire._gen.v1.worker_service_pb2 import DrainWorkerResponse as DrainWorkerResponse
from jobservice.wire._gen.v1.worker_service_pb2 import ExtendLeasesRequest as ExtendLeasesRequest
from jobservice.wire._gen.v1.worker_service_pb2 import ExtendLeasesResponse as ExtendLeasesResponse
from jobservice.wire._gen.v1.worker_service_pb2 import (
    FinishAttemptsRequest as FinishAttemptsRequest,
)
from jobservice.wire._gen.v1.worker_service_pb2 import (
    FinishAttemptsResponse as FinishAttemptsResponse,
)
from jobservice.wire._gen.v1.worker_service_pb2 import GetWorkerRequest as GetWorkerRequest
from jobservice.wire._gen.v1.worker_service_pb2 import GetWorkerResponse as GetWorkerResponse
from jobservice.wire._gen.v1.worker_service_pb2 import ListLeasesRequest as ListLeasesRequest
from jobservice.wire._gen.v1.worker_service_pb2 import ListLeasesResponse as ListLeasesResponse
from jobservice.wire._gen.v1.worker_service_pb2 import ListWorkersRequest as ListWorkersRequest
from jobservice.wire._gen.v1.worker_service_pb2 import ListWorkersResponse as ListWorkersResponse
from jobservice.wire._gen.v1.worker_service_pb2 import LogEnd as LogEnd
from jobservice.wire._gen.v1.worker_service_pb2 import (
    RegisterWorkerRequest as RegisterWorkerRequest,
)
from jobservice.wire._gen.v1.worker_service_pb2 import (
    RegisterWorkerResponse as RegisterWorkerResponse,
)
from jobservice.wire._gen.v1.worker_service_pb2 import (
    ReportProgressRequest as ReportProgressRequest,
)
from jobservice.wire._gen.v1.worker_service_pb2 import (
    ReportProgressResponse as ReportProgressResponse,
)
from jobservice.wire._gen.v1.worker_service_pb2 import ResumeWorkerRequest as ResumeWorkerRequest
from jobservice.wire._gen.v1.worker_service_pb2 import ResumeWorkerResponse as ResumeWorkerResponse
from jobservice.wire._gen.v1.worker_service_pb2 import StartAttemptsRequest as StartAttemptsRequest
from jobservice.wire._gen.v1.worker_service_pb2 import (
    StartAttemptsResponse as StartAttemptsResponse,
)
from jobservice.wire._gen.v1.worker_service_pb2 import (
    UnclaimAttemptsRequest as UnclaimAttemptsRequest,
)
from jobservice.wire._gen.v1.worker_service_pb2 import (
    UnclaimAttemptsResponse as UnclaimAttemptsResponse,
)
from jobservice.wire._gen.v1.worker_service_pb2 import WatchStopsRequest as WatchStopsRequest
from jobservice.wire._gen.v1.worker_service_pb2 import WatchStopsResponse as WatchStopsResponse

SERVICE: ServiceDescriptor = _FILE.services_by_name["JobService"]
"""The service with its methods, in the order of the proto."""
SCHEDULE_SERVICE: ServiceDescriptor = _SCHEDULES.services_by_name["ScheduleService"]
"""That of schedules, likewise."""
OPERATION_SERVICE: ServiceDescriptor = _OPERATIONS.services_by_name["OperationService"]
"""That of changes of many jobs."""
QUEUE_SERVICE: ServiceDescriptor = _QUEUES.services_by_name["QueueService"]
LIMIT_SERVICE: ServiceDescriptor = _LIMITS.services_by_name["LimitService"]
WORKER_SERVICE: ServiceDescriptor = _WORKERS.services_by_name["WorkerService"]
SERVICES = (
    SERVICE,
    SCHEDULE_SERVICE,
    OPERATION_SERVICE,
    QUEUE_SERVICE,
    LIMIT_SERVICE,
    WORKER_SERVICE,
)
"""Every service of the API."""


def message_class(descriptor: Descriptor) -> type[Message]:
    """The class of the messages that a descriptor describes."""
    return GetMessageClass(descriptor)
