"""JobService: a self-hosted, gRPC-first job service."""

__version__ = "0.1.0"
