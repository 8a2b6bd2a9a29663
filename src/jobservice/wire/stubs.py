"""The generated stub, for clients. Apart from the messages, because it loads grpc."""

from jobservice.wire._gen.v1.job_service_pb2_grpc import JobServiceStub as JobServiceStub
