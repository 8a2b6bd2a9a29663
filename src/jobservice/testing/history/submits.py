"""What must hold of creates: nothing acknowledged is lost, nothing comes to be twice or from nowhere."""

import collections
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet

from jobservice.testing.history.history import FAIL, INFO, OK, Call, History


def no_acknowledged_job_is_lost(history: History) -> Iterator[str]:
    """Each job that a client was told of is in the store, or was deleted."""
    for call in history.answered("create"):
        for job_id in call.result["job_ids"]:
            if job_id not in history.jobs and not history.is_deleted(job_id):
                yield f"{job_id} was acknowledged to {call.client} and is gone"


def a_request_makes_its_jobs_once(history: History) -> Iterator[str]:
    """All answers to a request id name the same jobs, and the store has these and no others of it."""
    made: dict[str, set[str]] = collections.defaultdict(set)
    for job_id, job in history.jobs.items():
        if not job["array"]:
            made[job["name"]].add(job_id)
    requests: dict[str, list[Call]] = collections.defaultdict(list)
    for call in history.calls:
        if call.method == "create":
            requests[call.arguments["request"]].append(call)
    for request, calls in requests.items():
        told = {tuple(call.result["job_ids"]) for call in calls if call.outcome == OK}
        if len(told) > 1:
            yield f"request {request} was told of several sets of jobs: {sorted(told)}"
        yield from _unexpected(
            request, calls, {each for ids in told for each in ids}, made[request]
        )


def _unexpected(
    request: str, calls: Sequence[Call], told: AbstractSet[str], made: AbstractSet[str]
) -> Iterator[str]:
    """What a request made that nobody was told of, or that it should not have made."""
    outcomes, count = {call.outcome for call in calls}, calls[0].arguments["count"]
    if told and not made <= told:
        yield f"request {request} made {sorted(made - told)} besides {sorted(told)}"
    if outcomes == {FAIL} and made:
        yield f"request {request} was refused and made {sorted(made)}"
    if not told and INFO in outcomes and len(made) not in {0, count}:
        yield f"request {request} of {count} made {sorted(made)}: neither all nor none"


def no_job_comes_from_nowhere(history: History) -> Iterator[str]:
    """Each job and each run traces back to what somebody asked for."""
    asked = {call.arguments["request"] for call in history.calls if call.method == "create"}
    schedules = {
        call.arguments["schedule"] for call in history.calls if call.method == "create_schedule"
    }
    for job_id, job in history.jobs.items():
        if job["array"]:
            if job["array"] not in history.jobs:
                yield f"{job_id} is of the array {job['array']}, which is not there"
        elif job["name"] not in asked and job["schedule"] not in schedules:
            yield f"nobody asked for {job_id}, which is called {job['name']!r}"
    for job_id in history.runs:
        if job_id not in history.jobs and not history.is_deleted(job_id):
            yield f"{job_id} ran and is in no store"
