"""Checks: every invariant over a history, and what that comes to.

A history in which nothing went wrong on purpose, or too little happened, proves nothing: it is
inconclusive, and does not pass.
"""

import collections
import dataclasses
import enum
from collections.abc import Callable, Iterator, Mapping, Sequence

from jobservice.testing.history import attempts, ends, events, order, submits
from jobservice.testing.history.history import History

Invariant = Callable[[History], Iterator[str]]

INVARIANTS: Sequence[Invariant] = (
    submits.no_acknowledged_job_is_lost,
    submits.a_request_makes_its_jobs_once,
    submits.no_job_comes_from_nowhere,
    attempts.one_attempt_lives_at_a_time,
    attempts.an_attempt_runs_once,
    attempts.ends_are_told_as_they_were,
    attempts.the_runner_saw_the_same_ends,
    attempts.attempts_are_counted,
    attempts.limits_are_kept,
    attempts.dependencies_come_first,
    events.events_have_no_gap,
    events.moves_are_those_of_the_table,
    events.every_job_ends,
    events.reads_never_go_back,
    events.watchers_miss_and_repeat_nothing,
    events.watchers_hear_what_the_store_has,
    events.output_is_exact,
    order.jobs_start_in_order,
    order.an_epoch_has_one_leader,
    ends.cancelled_means_gone,
    ends.a_cancel_ends_its_job,
    ends.a_delete_leaves_nothing,
    ends.a_paused_queue_starts_nothing,
    ends.schedules_fire_once,
    ends.the_world_is_clean,
)
KILL = "kill"
"""How the kinds of faults begin that end a process without a warning."""
LEAST_KILLS = 100
LEAST_JOBS = 1_000
FINDINGS = 20
"""How many findings of one invariant are told."""


class Outcome(enum.StrEnum):
    """What a history comes to."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What was found in a history."""

    outcome: Outcome
    findings: Mapping[str, Sequence[str]]
    """By the name of the invariant; those without any are left out."""
    jobs: int
    runs: int
    calls: int
    faults: Mapping[str, int]
    """By kind."""

    @property
    def kills(self) -> int:
        """How many processes were ended without a warning."""
        return sum(count for kind, count in self.faults.items() if kind.startswith(KILL))

    def __str__(self) -> str:
        said = f"{self.outcome}: {self.jobs} jobs, {self.runs} runs, {self.kills} kills"
        told = [f"{name}: {each}" for name, found in self.findings.items() for each in found]
        return "\n".join([said, *told])


def check(
    history: History, *, least_kills: int = LEAST_KILLS, least_jobs: int = LEAST_JOBS
) -> Verdict:
    """Check every invariant.

    Args:
        history: All that was seen.
        least_kills: With fewer faults than this it is inconclusive.
        least_jobs: The same of jobs.
    """
    findings = {
        invariant.__name__: found[:FINDINGS]
        for invariant in INVARIANTS
        if (found := list(invariant(history)))
    }
    faults = collections.Counter(fault["kind"] for fault in history.faults)
    verdict = Verdict(
        Outcome.FAILED if findings else Outcome.PASSED,
        findings,
        jobs=len(history.events),
        runs=sum(map(len, history.runs.values())),
        calls=len(history.calls),
        faults=dict(sorted(faults.items())),
    )
    few = verdict.kills < least_kills or verdict.jobs < least_jobs or not verdict.faults
    if verdict.outcome is Outcome.PASSED and few:
        return dataclasses.replace(verdict, outcome=Outcome.INCONCLUSIVE)
    return verdict
