"""The generated messages, for the parts above: the one door to `_gen`."""

from google.protobuf.descriptor import Descriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from jobservice.wire._gen.v1.job_pb2 import Attempt as Attempt
from jobservice.wire._gen.v1.job_pb2 import Command as Command
from jobservice.wire._gen.v1.job_pb2 import Job as Job
from jobservice.wire._gen.v1.job_pb2 import RetryPolicy as RetryPolicy
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

SERVICE: ServiceDescriptor = _FILE.services_by_name["JobService"]
"""The service with its methods, in the order of the proto."""


def message_class(descriptor: Descriptor) -> type[Message]:
    """The class of the messages that a descriptor describes."""
    return GetMessageClass(descriptor)
