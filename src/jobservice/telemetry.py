"""What the service says of itself: the set-up of its log, and the names of the fields on a line.

Every line is one event with fields, JSON when not on a terminal. `request_id`, `tenant`, `job` and
`attempt` are bound to the context of a call or given with the line, so a line about a job always
names it.
"""

import logging
import sys
from typing import Literal

import structlog

REQUEST_ID = "request_id"
TENANT = "tenant"
JOB = "job"
ATTEMPT = "attempt"

Logger = structlog.typing.FilteringBoundLogger


def configure_logging(
    level: Literal["debug", "info", "warning", "error"],
    form: Literal["auto", "json", "console"],
) -> None:
    """Send log lines of at least `level` to stderr in the given form, for the whole process."""
    as_json = form == "json" or (form == "auto" and not sys.stderr.isatty())
    renderer = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


def logger(part: str) -> Logger:
    """The log of one part of the service."""
    log: Logger = structlog.get_logger(part=part)
    return log


def attempt_fields(tenant: str, job_id: str, attempt: int) -> dict[str, object]:
    """The fields of a line about an attempt."""
    return {TENANT: tenant, JOB: job_id, ATTEMPT: attempt}
