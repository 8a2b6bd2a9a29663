"""Which jobs a request for a page asks for."""

import dataclasses
import datetime as dt
from collections.abc import Mapping

from jobservice.model.filter import Filter, parse
from jobservice.model.lifecycle import ACTIVE, FINAL, State
from jobservice.wire._gen.v1 import job_service_pb2
from jobservice.wire.times import maybe_instant

ListRequest = (
    job_service_pb2.ListJobsRequest
    | job_service_pb2.ListActiveJobsRequest
    | job_service_pb2.GetJobHistoryRequest
)


@dataclasses.dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs a request for a page asks for; named as the fields of a store's query."""

    states: frozenset[State]
    queue: str
    name: str
    """The whole name, or with `name_is_prefix` how it begins; empty is any."""
    name_is_prefix: bool
    labels: Mapping[str, str]
    ended_from: dt.datetime | None = None
    ended_before: dt.datetime | None = None
    filter: Filter | None = None


def to_filter(request: ListRequest) -> JobFilter:
    """The filter of a request for a page. States are spelled out, never empty."""
    name = request.name
    after = before = None
    if isinstance(request, job_service_pb2.GetJobHistoryRequest):
        after, before = (
            maybe_instant(request, "ended_after"),
            maybe_instant(request, "ended_before"),
        )
    return JobFilter(
        states=_states(request),
        queue=request.queue,
        name=name.removesuffix("*"),
        name_is_prefix=name.endswith("*"),
        labels=dict(request.labels),
        ended_from=after,
        ended_before=before,
        filter=parse(request.filter) if request.filter else None,
    )


def _states(request: ListRequest) -> frozenset[State]:
    if isinstance(request, job_service_pb2.ListActiveJobsRequest):
        return ACTIVE
    given = frozenset(State(number) for number in request.states)
    if isinstance(request, job_service_pb2.GetJobHistoryRequest):
        return given or FINAL
    return given or frozenset(State)
