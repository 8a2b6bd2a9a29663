"""Which jobs a call is about, before it is run: to lock them all at once, in one order."""

from collections.abc import Iterable, Sequence

from jobservice.model.attempt import Fence
from jobservice.model.lease import AttemptEnd, AttemptStart, ProgressReport
from jobservice.store.port import JobKey, StopRequest
from jobservice.store.verbs.attempts import FencesCall, FinishCall
from jobservice.store.verbs.group import Calls
from jobservice.store.verbs.jobs import DeleteCall, StopCall, UpdateCall

Keys = set[tuple[str, str]]
"""Tenants and job ids."""


def jobs_of(batch: Calls) -> Keys:
    """The jobs that calls name. What a call finds by itself (the queue, what is due) is not in it."""
    return {key for call in batch for key in _keys(call.item)}


def _keys(item: object) -> Iterable[tuple[str, str]]:
    match item:
        case FinishCall():
            return map(_key, item.ends)
        case FencesCall():
            return map(_key, item.fences)
        case StopCall():
            return map(_key, item.stops)
        case DeleteCall():
            return map(_key, item.keys)
        case UpdateCall():
            return [_key(item.key)]
        case (JobKey() as key, _):
            return [_key(key)]
        case Sequence():
            return [_key(each) for each in item if isinstance(each, AttemptStart | ProgressReport)]
        case _:
            return []


def _key(
    about: Fence | JobKey | StopRequest | AttemptEnd | AttemptStart | ProgressReport,
) -> tuple[str, str]:
    where = about.fence if isinstance(about, AttemptEnd | AttemptStart | ProgressReport) else about
    return where.tenant, where.job_id
