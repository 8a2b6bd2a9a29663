"""What must hold of ends that somebody asked for, of pauses, of schedules, and of what is left."""

import collections
import itertools
from collections.abc import Iterator

from jobservice.model.lifecycle import FINAL
from jobservice.testing.history.history import History

_NAMES_OF_FINAL = {state.name for state in FINAL}


def cancelled_means_gone(history: History) -> Iterator[str]:
    """Nothing of a job is heard after a client was told that it is CANCELLED."""
    for call in history.calls:
        told = call.result.get("state") == "CANCELLED" and call.ended_at is not None
        job_id = call.arguments.get("job_id", "")
        if not told or history.revivals(job_id):
            continue
        if call.result.get("lives"):
            yield f"{job_id} is CANCELLED, and a process of it lives"
        for run in history.runs.get(job_id, ()):
            if call.ended_at is not None and run.last_at > call.ended_at:
                late = (run.last_at - call.ended_at) / 1e9
                yield f"{job_id}/{run.attempt} lived {late:.3f} s longer than its cancel"


def a_cancel_ends_its_job(history: History) -> Iterator[str]:
    """After a cancel that was acknowledged there is no new attempt, and the job comes to an end.

    An attempt that was claimed before it may be on its way, but not if the job is final.
    """
    for call in history.answered("cancel"):
        job_id = call.arguments["job_id"]
        job = history.jobs.get(job_id)
        if job is None or history.revivals(job_id) or call.ended_at is None:
            continue
        if job["state"] not in _NAMES_OF_FINAL:
            yield f"{job_id} was cancelled and is {job['state']}"
        claimed = 0 if call.result["state"] in _NAMES_OF_FINAL else call.result["attempt"]
        late = [
            run.attempt
            for run in history.runs.get(job_id, ())
            if run.start_at > call.ended_at and run.attempt > claimed
        ]
        if late:
            yield f"{job_id} began attempts {late} after it was cancelled"


def a_delete_leaves_nothing(history: History) -> Iterator[str]:
    """Of a deleted job there is no row, no directory and no process once a client was told."""
    for call in history.answered("delete"):
        job_id = call.arguments["job_id"]
        if job_id in history.jobs:
            yield f"{job_id} was deleted, and is there as {history.jobs[job_id]['state']}"
        if call.result.get("lives"):
            yield f"{job_id} was deleted, and a process of it lives"
        for run in history.runs.get(job_id, ()):
            if call.ended_at is not None and run.last_at > call.ended_at:
                yield f"{job_id}/{run.attempt} lived longer than its job"
    for job_id in sorted(history.directories - set(history.jobs)):
        yield f"{job_id} is gone, and its directory is there"


def a_paused_queue_starts_nothing(history: History) -> Iterator[str]:
    """Between the answer to a pause and the next resume nothing of the queue is claimed and started.

    The instant of a claim is from before its transaction, which may have waited for the resume: so what
    was claimed has to run before it was asked for.
    """
    if any(fault["kind"].startswith("clock") for fault in history.faults):
        return  # the instants of events cannot be compared then
    resumes = [call for call in history.calls if call.method == "resume"]
    for pause in history.answered("pause"):
        queue, begun = pause.arguments["queue"], pause.result["wall_us"]
        again = [
            resume.begun_at
            for resume in resumes
            if resume.arguments["queue"] == queue
            and (resume.ended_at is None or resume.ended_at > pause.begun_at)
        ]
        ended = min(again, default=None)
        for job_id, job in history.jobs.items():
            if job["queue"] != queue:
                continue
            for event in history.events.get(job_id, ()):
                if event["kind"] != "CLAIMED" or event["wall_us"] <= begun:
                    continue
                if ended is None or _started_at(history, job_id, event["attempt"]) < ended:
                    yield f"{job_id} was claimed while its queue {queue} was paused"


def _started_at(history: History, job_id: str, attempt: int) -> float:
    """By the witness; infinite where the attempt never ran."""
    runs = history.runs.get(job_id, ())
    return min((run.start_at for run in runs if run.attempt == attempt), default=float("inf"))


def schedules_fire_once(history: History) -> Iterator[str]:
    """Each nominal time of a schedule made one job, and none between two others is missing."""
    every = {
        call.arguments["schedule"]: call.arguments["every_us"]
        for call in history.calls
        if call.method == "create_schedule"
    }
    fires: dict[str, list[int]] = collections.defaultdict(list)
    for job in history.jobs.values():
        if job["schedule"]:
            fires[job["schedule"]].append(job["schedule_us"])
    for schedule, times in fires.items():
        twice = [at for at, count in collections.Counter(times).items() if count > 1]
        if twice:
            yield f"schedule {schedule} fired more than once for {sorted(twice)}"
        step = every.get(schedule)
        for before, after in itertools.pairwise(sorted(set(times))):
            if step is not None and after - before != step:
                yield f"schedule {schedule} fired for {before} and then for {after}"


def the_world_is_clean(history: History) -> Iterator[str]:
    """At the end nothing is left that belongs to nobody, and the store agrees with itself."""
    for left in history.left:
        yield f"{left['kind']}: {left['name']}"
