"""Mutants: deliberate bugs, each switched on by a test to see that the tests catch it.

`JOBSERVICE_MUTANT=lease.never_over` has this process make that one mistake; without the variable each of
these places is one comparison. Names that begin with `runner.` are those of the runner, which is handed
them at its start.
"""

import os
from typing import Any

from jobservice.errors import SetupError

VARIABLE = "JOBSERVICE_MUTANT"

NAMES = {
    "adopt.forgets": "a worker that starts anew takes nothing over of what runs",
    "cancel.answered_early": "a cancel that waits returns before the tree is gone",
    "commit.answered_early": "calls are answered before their transaction is committed",
    "commit.unsynced": "commits are not synced to the disk",
    "delete.leaves_files": "a delete leaves the output of the job",
    "delete.leaves_rows": "a delete leaves rows that belong to the job",
    "dependency.not_told": "the end of a job is not told to those that wait for it",
    "end.told_once": "an end that could not be recorded is not told again",
    "event.without_move": "an event is written without the move that it tells of",
    "fence.ignored": "whoever reports on an attempt is believed to have the newest lease",
    "key.not_woken": "those that wait for a concurrency key do not hear that it is free",
    "lease.never_over": "no lease ever runs out",
    "lease.over_early": "leases run out an hour too early",
    "limit.counted_aside": "what is in use is counted beside the leases, by a counter that only grows",
    "limit.not_alone": "limits are read while others may be granting leases too",
    "limit.read_once": "a claim does not count what it has granted itself",
    "misfire.one_more": "one fire more is made up for than the rule allows",
    "output.begins_again": "output is read from its beginning, whatever offset was asked for",
    "pause.ignored": "jobs start from a queue on hold",
    "request.any_body": "a request id is answered with the jobs of then, also for another body",
    "request.forgotten": "the request id is not stored with the job",
    "restore.keeps_leases": "a restored backup goes on with the leases that it had",
    "retry.not_counted": "a failed attempt that is tried again does not count",
    "schedule.at_or_after": "the next fire may be the last one again",
    "silence.not_minded": "a worker in a server goes on in silence, whoever else there is",
    "timeout.early": "the time of a job is over a microsecond too early",
    "unique.ignored": "a job is created although another has its unique key",
    "watch.forgets_its_place": "a watch that is resumed begins with what comes from now on",
    "runner.kills_parent_alone": "a stop kills the main process and not its tree",
}
OF_RUNNER = "runner."


class Mutants:
    """Which mistake is made, if any."""

    def __init__(self, setting: str) -> None:
        self._chosen = setting
        if setting and setting not in NAMES:
            raise SetupError(f"{VARIABLE} names {setting}; the mutants are {', '.join(NAMES)}.")

    def is_on(self, name: str) -> bool:
        """Whether this mistake is made."""
        return name == self._chosen


CHOSEN = os.environ.get(VARIABLE, "")
"""What this process was started with; empty but in tests. Services, workers and runners warn of it."""
mutant = Mutants(CHOSEN).is_on
"""Ask it with the name of the mistake; the environment is read once, when this is imported."""

ASIDE: dict[str, Any] = {}
"""What a mutant keeps from one call to the next."""
