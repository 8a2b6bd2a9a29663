"""What must hold of attempts: one at a time, each once, told as it was, within every limit."""

import collections
import itertools
from collections.abc import Iterable, Iterator

from jobservice.testing.history.history import History, Run


def one_attempt_lives_at_a_time(history: History) -> Iterator[str]:
    """No attempt begins while anything of another one of its job lives, by the lock of the witness."""
    for run in history.all_runs():
        if not run.alone:
            yield f"{run.job_id}/{run.attempt} began while another attempt of it lived"
    for job_id, runs in history.runs.items():
        for before, after in itertools.pairwise(runs):
            if after.start_at < before.last_at:
                late = (before.last_at - after.start_at) / 1e9
                yield f"{job_id}/{before.attempt} lived {late:.3f} s into attempt {after.attempt}"


def an_attempt_runs_once(history: History) -> Iterator[str]:
    """Each attempt has one process at most, and later attempts have later leases."""
    for job_id, runs in history.runs.items():
        twice = [
            n for n, count in collections.Counter(run.attempt for run in runs).items() if count > 1
        ]
        if twice:
            yield f"{job_id} ran attempts {twice} more than once"
        leases = sorted({(run.attempt, run.epoch) for run in runs})
        if any(after[1] <= before[1] for before, after in itertools.pairwise(leases)):
            yield f"{job_id} has attempts with old leases: {leases}"
    for key, entries in history.runner.items():
        pids = {entry["pid"] for entry in entries if entry["what"] == "spawned"}
        if len(pids) > 1:
            yield f"the runner started {key} as {sorted(pids)}"


def ends_are_told_as_they_were(history: History) -> Iterator[str]:
    """What is remembered of the end of an attempt is what the witness in it saw."""
    for job_id, job in history.jobs.items():
        runs = {run.attempt: run for run in history.runs.get(job_id, ())}
        known = {attempt["attempt"] for attempt in job["attempts"]}
        for attempt in job["attempts"]:
            run = runs.get(attempt["attempt"])
            wrong = _contradiction(attempt["state"], attempt["exit_code"], run)
            if wrong:
                yield f"{job_id}/{attempt['attempt']} is {attempt['state']}, and {wrong}"
        unknown = set(runs) - known
        if unknown:
            yield f"{job_id} ran attempts {sorted(unknown)} that nobody knows of"


def _contradiction(state: str, exit_code: int | None, run: Run | None) -> str:
    """What the witness says against the end of an attempt."""
    if exit_code is not None and run is None:
        return f"exited with {exit_code} without having run"
    if exit_code is not None and run is not None and run.code is None:
        return f"exited with {exit_code} without having come to its end"
    if exit_code is not None and run is not None and run.code != exit_code:
        return f"exited with {run.code}, not {exit_code}"
    if state == "SUCCEEDED" and exit_code != 0:
        return f"its exit code is {exit_code}"
    return ""


def the_runner_saw_the_same_ends(history: History) -> Iterator[str]:
    """What is remembered of the end of an attempt is what the runner saw, which it sees once."""
    seen: dict[tuple[str, int], set[tuple[int | None, int | None]]] = {}
    for key, entries in history.runner.items():
        _, job_id, number, _ = key.split("/")
        ends = {(each["code"], each["signal"]) for each in entries if each["what"] == "ended"}
        if len(ends) > 1:
            yield f"the runner told of {key} the ends {sorted(map(str, ends))}"
        seen.setdefault((job_id, int(number)), set()).update(ends)
    for job_id, job in history.jobs.items():
        for attempt in job["attempts"]:
            told = attempt["exit_code"], attempt["signal"]
            ends = seen.get((job_id, attempt["attempt"]), set())
            if ends and attempt["state"] in {"SUCCEEDED", "FAILED"} and told not in ends:
                yield f"{job_id}/{attempt['attempt']} ended with {ends}, and {told} is remembered"


def attempts_are_counted(history: History) -> Iterator[str]:
    """Attempts are numbered through, failures and losses counted apart, and both are bounded."""
    for job_id, job in history.jobs.items():
        numbers = [attempt["attempt"] for attempt in job["attempts"]]
        if numbers != list(range(1, job["attempt_count"] + 1)):
            yield f"{job_id} has counted {job['attempt_count']} attempts and has {numbers}"
        states = collections.Counter(attempt["state"] for attempt in job["attempts"])
        if history.revivals(job_id):
            continue  # which begin to count anew
        if states["FAILED"] != job["failure_count"]:
            yield f"{job_id} has {states['FAILED']} failed attempts and counts {job['failure_count']}"
        if job["failure_count"] > job["max_attempts"]:
            yield f"{job_id} failed {job['failure_count']} times, with {job['max_attempts']} allowed"
        if states["LOST"] != job["lost_count"]:
            yield f"{job_id} has {states['LOST']} lost attempts and counts {job['lost_count']}"


def limits_are_kept(history: History) -> Iterator[str]:
    """Of jobs with a key no more ran at once than its limit allows, nor of all than there are slots."""
    for key, most in history.limits.items():
        runs = [run for run in history.all_runs() if key in run.keys]
        found = _most_at_once(runs)
        if found > most:
            yield f"{found} jobs with the key {key} ran at once, {most} are allowed"
    if history.slots is not None:
        found = _most_at_once(history.all_runs())
        if found > history.slots:
            yield f"{found} jobs ran at once in {history.slots} slots"


def _most_at_once(runs: Iterable[Run]) -> int:
    """How many were alive at the same instant; one that ends as another begins does not count."""
    moments = sorted(moment for run in runs for moment in ((run.start_at, 1), (run.last_at, -1)))
    return max(itertools.accumulate(change for _, change in moments), default=0)


def dependencies_come_first(history: History) -> Iterator[str]:
    """A job that waits for others to succeed starts after the witness in each of them has ended well."""
    for job_id, job in history.jobs.items():
        for parent in job["parents"]:
            ends = [run.last_at for run in history.runs.get(parent, ()) if run.code == 0]
            for run in history.runs.get(job_id, ()):
                if not ends or min(ends) > run.start_at:
                    yield f"{job_id} started before {parent}, which it waits for, had succeeded"
