"""Limits, as Python calls: `client.limits`."""

from collections.abc import Callable, Iterator
from typing import Any

from jobservice.client import calls
from jobservice.errors import InvalidRequest, Violation
from jobservice.model.limit import Limit, LimitKind, LimitUse, Rate
from jobservice.wire import limits as wire
from jobservice.wire import messages as pb
from jobservice.wire.stubs import LimitServiceStub

Kind = LimitKind | str
"""A kind, or its name: "service", "tenant", "key" or "job_type"."""


class Limits:
    """The limits of the service; a `Client` has one of these."""

    def __init__(self, call: Callable[..., Any], stub: LimitServiceStub, page_size: int) -> None:
        self._call = call
        self._stub = stub
        self._page_size = page_size

    def set(
        self,
        kind: Kind,
        name: str = "",
        *,
        max_running: int | None = None,
        rate: Rate | None = None,
        weight: float = 1.0,
    ) -> LimitUse:
        """Set a limit, in place of the one of that kind and name.

        Args:
            kind: "service", "tenant", "key" or "job_type".
            name: The concurrency key or the type that it is about.
            max_running: How much may run at once; None is without a limit.
            rate: How often jobs with the key, or of the type, may start; None is as often as they can.
            weight: The share of the tenant in the turns.
        """
        message = wire.limit_message(Limit("", _kind_of(kind), name, max_running, rate))
        message.weight = 0.0 if weight == 1 else weight
        request = pb.SetLimitRequest(limit=message)
        return wire.to_use(self._call(self._stub.SetLimit, request).limit)

    def get(self, kind: Kind, name: str = "") -> LimitUse:
        """A limit that was set, with its use."""
        request = pb.GetLimitRequest(kind=_number(kind), name=name)
        return wire.to_use(self._call(self._stub.GetLimit, request).limit)

    def list(self) -> Iterator[LimitUse]:
        """Every limit there is with its use, read page by page as they are asked for."""
        request = pb.ListLimitsRequest(page_size=self._page_size)
        for page in calls.pages(self._call, self._stub.ListLimits, request):
            yield from map(wire.to_use, page.limits)

    def delete(self, kind: Kind, name: str = "", *, allow_missing: bool = False) -> None:
        """Forget a limit that was set."""
        request = pb.DeleteLimitRequest(kind=_number(kind), name=name, allow_missing=allow_missing)

        def expect_it_gone() -> None:
            request.allow_missing = True  # an earlier try may have deleted it

        self._call(self._stub.DeleteLimit, request, on_repeat=expect_it_gone)


def _number(kind: Kind) -> Any:
    return int(_kind_of(kind))


def _kind_of(kind: Kind) -> LimitKind:
    if isinstance(kind, LimitKind):
        return kind
    name = kind.upper().replace("-", "_")
    if name not in LimitKind.__members__:
        text = f"must be service, tenant, key or job_type; got {kind!r}"
        raise InvalidRequest([Violation("kind", text, "NOT_SENT")])
    return LimitKind[name]
