"""Between the messages of limits and the values of the model; what `convert.py` says holds here too.

| of the wire | of the model |
|---|---|
| `Limit` of a request | `Limit` (`to_limit`, `limit_message`) |
| `Limit` of a response | `LimitUse` (`use_message`, `to_use`) |
"""

from jobservice.model.limit import NORMAL_WEIGHT, Limit, LimitKind, LimitUse, Rate
from jobservice.wire import convert, times
from jobservice.wire._gen.v1 import limit_pb2


def to_limit(message: limit_pb2.Limit, tenant: str = "") -> Limit:
    """A limit, with the defaults filled in; that of the service is of no tenant."""
    kind = LimitKind(message.kind)
    return Limit(
        tenant="" if kind is LimitKind.SERVICE else tenant,
        kind=kind,
        name=message.name,
        max_running=message.max_running or None,
        rate=_to_rate(message.rate) if message.HasField("rate") else None,
        weight=convert.to_weight(message.weight),
        updated_at=times.maybe_instant(message, "update_time"),
    )


def _to_rate(message: limit_pb2.Rate) -> Rate:
    return Rate(message.starts, times.to_timedelta(message.period), message.burst or 1)


def limit_message(limit: Limit) -> limit_pb2.Limit:
    """A limit as the wire has it, without its use."""
    rate = limit.rate
    return limit_pb2.Limit(
        kind=int(limit.kind),  # type: ignore[arg-type]  # the numbers are the same
        name=limit.name,
        max_running=limit.max_running or 0,
        rate=None if rate is None else _rate_message(rate),
        weight=0 if limit.weight == NORMAL_WEIGHT else limit.weight / NORMAL_WEIGHT,
        update_time=times.maybe_timestamp(limit.updated_at),
    )


def _rate_message(rate: Rate) -> limit_pb2.Rate:
    return limit_pb2.Rate(starts=rate.starts, period=times.duration(rate.period), burst=rate.burst)


def use_message(use: LimitUse) -> limit_pb2.Limit:
    """A limit with its use."""
    message = limit_message(use.limit)
    message.running = use.running
    if use.waiting is not None:
        message.waiting = use.waiting
    message.holder_job_ids.extend(use.holders)
    if use.next_start_at is not None:
        message.next_start_time.CopyFrom(times.timestamp(use.next_start_at))
    return message


def to_use(message: limit_pb2.Limit) -> LimitUse:
    """A limit with its use."""
    return LimitUse(
        limit=to_limit(message),
        running=message.running,
        waiting=times.maybe_value(message, "waiting"),
        holders=tuple(message.holder_job_ids),
        next_start_at=times.maybe_instant(message, "next_start_time"),
    )
