"""Which schedules and jobs a call is about, before it is run: to lock them all at once, in one order."""

from collections.abc import Iterable, Sequence

from jobservice.model.attempt import Fence
from jobservice.model.lease import AttemptEnd, AttemptStart, ProgressReport
from jobservice.store.port import JobKey, MoveCall, StopRequest
from jobservice.store.verbs.attempts import FencesCall, FinishCall
from jobservice.store.verbs.group import Calls
from jobservice.store.verbs.jobs import DeleteCall, StopCall, UpdateCall
from jobservice.store.verbs.operations import StepCall
from jobservice.store.verbs.schedules import ChangeCall, DropCall, FireCall
from jobservice.store.verbs.submit import InsertCall

Keys = set[tuple[str, str]]
"""Tenants, and ids of jobs or schedules."""


def jobs_of(batch: Calls) -> Keys:
    """The jobs that calls name. What a call finds by itself (the queue, what is due) is not in it."""
    return {key for call in batch for key in _keys(call.item)}


def schedules_of(batch: Calls) -> Keys:
    """The schedules that calls name."""
    named = (ChangeCall, DropCall, FireCall)
    keys = [call.item.key for call in batch if isinstance(call.item, named)]
    return {(key.tenant, key.schedule_id) for key in keys}


def _keys(item: object) -> Iterable[tuple[str, str]]:
    match item:
        case InsertCall():
            return item.family.outside
        case FinishCall():
            return map(_key, item.ends)
        case FencesCall():
            return map(_key, item.fences)
        case StopCall(stops=about) | DeleteCall(keys=about) | MoveCall(keys=about):
            return map(_key, about)
        case StepCall(step=step):
            return [(step.key.tenant, job_id) for job_id in step.job_ids]
        case UpdateCall(key=key) | (JobKey() as key, _):
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
