"""Which schedules and jobs a call is about, before it is run: to lock them all at once, in one order."""

from collections.abc import Iterable, Sequence

from jobservice.model.attempt import Fence
from jobservice.model.job import NewJob
from jobservice.model.lease import AttemptEnd, AttemptStart, ProgressReport
from jobservice.model.output import LogAppend
from jobservice.store.port import JobKey, MoveCall, StopRequest
from jobservice.store.verbs import queues
from jobservice.store.verbs.attempts import FencesCall, FinishCall
from jobservice.store.verbs.claim import ClaimCall
from jobservice.store.verbs.group import Calls
from jobservice.store.verbs.jobs import DeleteCall, StopCall, UpdateCall
from jobservice.store.verbs.operations import StepCall
from jobservice.store.verbs.retry import retry_job
from jobservice.store.verbs.schedules import ChangeCall, DropCall, FireCall
from jobservice.store.verbs.submit import InsertCall
from jobservice.store.verbs.unique import replaces

Keys = set[tuple[str, str]]
"""Tenants, and ids of jobs or schedules, or names."""


def jobs_of(batch: Calls) -> Keys:
    """The jobs that calls name. What a call finds by itself (the queue, what is due) is not in it."""
    return {key for call in batch for key in _keys(call.item)}


def revived_of(batch: Calls) -> Keys:
    """The jobs that calls may run again, or change with such: their arrays are locked with them."""
    calls = [call for call in batch if call.verb is retry_job or isinstance(call.item, StepCall)]
    return jobs_of(calls)


def unique_of(batch: Calls) -> Keys:
    """The unique keys of which at most one job is to be: tenants and names."""
    inserts = [call.item for call in batch if isinstance(call.item, InsertCall)]
    return {name for insert in inserts if insert.is_unique for name in insert.unique_names}


def replacing_of(batch: Calls) -> list[NewJob]:
    """The new jobs that others may have to end for: these are found by the rows of `wanted`."""
    inserts = [call.item for call in batch if isinstance(call.item, InsertCall)]
    return [job for insert in inserts if insert.is_unique for job in insert.new if replaces(job)]


def schedules_of(batch: Calls) -> Keys:
    """The schedules that calls name."""
    named = (ChangeCall, DropCall, FireCall)
    keys = [call.item.key for call in batch if isinstance(call.item, named)]
    return {(key.tenant, key.schedule_id) for key in keys}


def changes_rules(batch: Calls) -> bool:
    """Whether calls change the rules of queues, or limits: no claim goes by older ones after that."""
    changing = {queues.save_queue, queues.delete_queue, queues.save_limit, queues.delete_limit}
    return any(call.verb in changing for call in batch)


def goes_by_rules(batch: Calls) -> bool:
    """Whether calls start jobs, as rules of queues and limits allow."""
    return any(isinstance(call.item, ClaimCall) for call in batch)


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
            return [
                _key(each)
                for each in item
                if isinstance(each, AttemptStart | ProgressReport | LogAppend)
            ]
        case _:
            return []


def _key(
    about: Fence | JobKey | StopRequest | AttemptEnd | AttemptStart | ProgressReport | LogAppend,
) -> tuple[str, str]:
    of_attempts = AttemptEnd | AttemptStart | ProgressReport | LogAppend
    where = about.fence if isinstance(about, of_attempts) else about
    return where.tenant, where.job_id
