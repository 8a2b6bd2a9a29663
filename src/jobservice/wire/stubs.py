"""The generated stubs, for clients. Apart from the messages, because they load grpc."""

from jobservice.wire._gen.v1.job_service_pb2_grpc import JobServiceStub as JobServiceStub
from jobservice.wire._gen.v1.limit_service_pb2_grpc import LimitServiceStub as LimitServiceStub
from jobservice.wire._gen.v1.operation_service_pb2_grpc import (
    OperationServiceStub as OperationServiceStub,
)
from jobservice.wire._gen.v1.queue_service_pb2_grpc import QueueServiceStub as QueueServiceStub
from jobservice.wire._gen.v1.schedule_service_pb2_grpc import (
    ScheduleServiceStub as ScheduleServiceStub,
)
from jobservice.wire._gen.v1.worker_service_pb2_grpc import WorkerServiceStub as WorkerServiceStub
