"""JobService: a self-hosted, gRPC-first job service.

The names below are loaded when they are first asked for (PEP 562): the runner is a module of this
package too, and must load neither grpc nor asyncio.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobservice.client.address import Tls as Tls
    from jobservice.client.sync import Client as Client
    from jobservice.client.values import LogChunk as LogChunk
    from jobservice.errors import JobServiceError as JobServiceError
    from jobservice.model.event import Event as Event
    from jobservice.model.event import EventKind as EventKind
    from jobservice.model.graph import Condition as Condition
    from jobservice.model.job import Job as Job
    from jobservice.model.lifecycle import State as State
    from jobservice.model.limit import ConcurrencyKey as ConcurrencyKey
    from jobservice.model.limit import OnConflict as OnConflict
    from jobservice.model.limit import Rate as Rate
    from jobservice.model.spec import Dependency as Dependency
    from jobservice.model.spec import RetryPolicy as RetryPolicy
    from jobservice.model.unique import OnDuplicate as OnDuplicate
    from jobservice.model.unique import UniqueKey as UniqueKey
    from jobservice.model.unique import UniqueScope as UniqueScope

__version__ = "0.1.0"
__all__ = [
    "Client",
    "ConcurrencyKey",
    "Condition",
    "Dependency",
    "Event",
    "EventKind",
    "Job",
    "JobServiceError",
    "LogChunk",
    "OnConflict",
    "OnDuplicate",
    "Rate",
    "RetryPolicy",
    "State",
    "Tls",
    "UniqueKey",
    "UniqueScope",
    "__version__",
]

_HOMES = {
    "Client": "jobservice.client.sync",
    "Condition": "jobservice.model.graph",
    "Dependency": "jobservice.model.spec",
    "ConcurrencyKey": "jobservice.model.limit",
    "Event": "jobservice.model.event",
    "EventKind": "jobservice.model.event",
    "Job": "jobservice.model.job",
    "JobServiceError": "jobservice.errors",
    "LogChunk": "jobservice.client.values",
    "OnConflict": "jobservice.model.limit",
    "OnDuplicate": "jobservice.model.unique",
    "Rate": "jobservice.model.limit",
    "RetryPolicy": "jobservice.model.spec",
    "State": "jobservice.model.lifecycle",
    "Tls": "jobservice.client.address",
    "UniqueKey": "jobservice.model.unique",
    "UniqueScope": "jobservice.model.unique",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
