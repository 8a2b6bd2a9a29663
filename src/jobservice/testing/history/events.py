"""What must hold of events: without a gap, along the table of moves, and seen so by everybody."""

import itertools
import sys
from collections.abc import Iterator

from jobservice.model.event import EventKind
from jobservice.model.lifecycle import FINAL, State
from jobservice.testing.history.history import OK, History
from jobservice.testing.history.witness import output_of
from jobservice.testing.invariants import OUTSIDE, is_move

_NAMES_OF_FINAL = {state.name for state in FINAL}
_OUTSIDE = {kind.name for kind in OUTSIDE}
_AGAIN = {"RETRIED", "REOPENED", "UPDATED"}


def events_have_no_gap(history: History) -> Iterator[str]:
    """The events of a job are numbered from 1 in the order of commits, and lead to where it is."""
    for job_id in history.jobs.keys() - history.events.keys():
        yield f"{job_id} has no events"
    for job_id, events in history.events.items():
        numbered = [event for event in events if event["kind"] not in _OUTSIDE]
        revisions = [event["revision"] for event in numbered]
        known = history.jobs.get(job_id)
        if known is None and history.is_deleted(job_id):
            continue  # its events go with it
        if known is None:
            yield f"{job_id} has events, and is no job"
        elif revisions != list(range(1, len(numbered) + 1)):
            yield f"{job_id} has the revisions {revisions}"
        else:
            last = (numbered[-1]["state"], numbered[-1]["revision"]) if numbered else None
            if last != (known["state"], known["revision"]):
                yield f"{job_id} is {known['state']} at {known['revision']}, its events end at {last}"


def moves_are_those_of_the_table(history: History) -> Iterator[str]:
    """Each event begins where the one before it ended, and is a move of the table."""
    for job_id, events in history.events.items():
        numbered = [event for event in events if event["kind"] not in _OUTSIDE]
        for before, after in itertools.pairwise(numbered):
            kind, source, target = after["kind"], after["previous"], after["state"]
            if source != before["state"]:
                yield f"{job_id}: {kind} begins at {source}, after {before['state']}"
            elif not is_move(EventKind[kind], State[source], State[target]):
                yield f"{job_id}: {kind} from {source} to {target} is no move"
            elif source in _NAMES_OF_FINAL and kind not in _AGAIN:
                yield f"{job_id}: {kind} after its end"


def every_job_ends(history: History) -> Iterator[str]:
    """Once all faults are over each job comes to its end."""
    for job_id, job in history.jobs.items():
        if job["state"] not in _NAMES_OF_FINAL:
            yield f"{job_id} is still {job['state']}: {job['why']}"


def reads_never_go_back(history: History) -> Iterator[str]:
    """Whoever asks after an answer was given hears nothing older than that answer."""
    moments: list[tuple[int, int, str, int]] = []
    for call in history.calls:
        if call.outcome == OK and "revision" in call.result and call.ended_at is not None:
            job_id, revision = call.arguments["job_id"], call.result["revision"]
            moments.append((call.ended_at, 1, job_id, revision))
    reads = sorted(
        (call for call in history.calls if call.outcome == OK and "revision" in call.result),
        key=lambda call: call.begun_at,
    )
    newest: dict[str, int] = {}
    told = iter(sorted(moments))
    coming = next(told, None)
    for call in reads:
        while coming is not None and coming[0] < call.begun_at:
            _, _, job_id, revision = coming
            newest[job_id] = max(newest.get(job_id, 0), revision)
            coming = next(told, None)
        job_id, revision = call.arguments["job_id"], call.result["revision"]
        if revision < newest.get(job_id, 0):
            yield f"{call.client} read {job_id} at {revision}, after {newest[job_id]} was told"


def watchers_miss_and_repeat_nothing(history: History) -> Iterator[str]:
    """From the first that a watcher hears of a job on it hears of every change once, in order.

    A snapshot that broke off is told again from its beginning. Who is behind when a job is deleted may
    miss what its history would have told, which goes with it.
    """
    for (stream, job_id), frames in history.frames.items():
        numbered = [frame for frame in frames if frame["kind"] not in _OUTSIDE]
        told = [(frame["revision"], frame["kind"] == "snapshot") for frame in numbered]
        least, most = 1, sys.maxsize if history.is_deleted(job_id) else 1
        if not all(
            after >= before if is_snapshot else least <= after - before <= most
            for (before, _), (after, is_snapshot) in itertools.pairwise(told)
        ):
            yield f"{stream} was told of {job_id} at {[revision for revision, _ in told]}"
        elif told and job_id in history.jobs:
            newest = history.jobs[job_id]["revision"]
            if told[-1][0] < newest:
                yield f"{stream} was told of {job_id} up to {told[-1][0]}, and it is at {newest}"


def watchers_hear_what_the_store_has(history: History) -> Iterator[str]:
    """A change is told to watchers as it is remembered."""
    for (stream, job_id), frames in history.frames.items():
        if history.is_deleted(job_id):
            continue  # its events went with it
        known = {
            event["revision"]: (event["kind"], event["state"])
            for event in history.events.get(job_id, ())
            if event["kind"] not in _OUTSIDE
        }
        for frame in frames:
            if frame["kind"] == "snapshot" or frame["kind"] in _OUTSIDE:
                continue
            told = frame["kind"], frame["state"]
            if known.get(frame["revision"]) != told:
                yield f"{stream} was told {told} of {job_id} at {frame['revision']}; it is {known}"


def output_is_exact(history: History) -> Iterator[str]:
    """What is read of the output of an attempt is what it wrote, without a gap or a repeat."""
    for output in history.outputs:
        job_id, attempt = output["job_id"], output["attempt"]
        end = 0
        for offset, length in output["pieces"]:
            if offset != end:
                yield f"the output of {job_id}/{attempt} goes on at {offset} after {end}"
            end = offset + length
        runs = [run for run in history.runs.get(job_id, ()) if run.attempt == attempt]
        remembered = history.jobs.get(job_id, {}).get("attempts", ())
        lost = any(each["attempt"] == attempt and each["state"] == "LOST" for each in remembered)
        if len(runs) != 1 or runs[0].code is None or lost:
            continue  # with its runner an attempt loses what was not read yet
        expected = output_of(f"default/{job_id}/{attempt}/{runs[0].epoch}", runs[0].lines)
        if output["text"] != expected:
            yield f"the output of {job_id}/{attempt} is {output['text']!r}, not {expected!r}"
