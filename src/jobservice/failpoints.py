"""Failpoints: named places where a test may have the process killed, as a crash would.

`JOBSERVICE_FAILPOINT=store.after_commit` kills this process with SIGKILL the first time it comes by
that place, `store.after_commit@5` the fifth time. Without the variable a failpoint is one comparison.
Names that begin with `runner.` are those of the runner, which is handed them at its start.
"""

import os
import signal

from jobservice.errors import SetupError

VARIABLE = "JOBSERVICE_FAILPOINT"

NAMES = frozenset(
    {
        "store.before_commit",
        "store.after_commit",
        "worker.claimed_unsent",
        "worker.end_received_unrecorded",
        "worker.recorded_unacknowledged",
        "bulk.batch_read",
        "bulk.batch_done",
        "leftovers.removed",
    }
)
"""Every place of the server; a test kills it at each of them."""
OF_RUNNER = "runner."
"""How the names of the runner's places begin; it knows them itself."""


class Failpoints:
    """Which place kills the process, and after how many passes."""

    def __init__(self, setting: str) -> None:
        self.armed, _, passes = setting.partition("@")
        self._passes = int(passes) if passes.isdecimal() else 1
        ours = bool(self.armed) and not self.armed.startswith(OF_RUNNER)
        if ours and self.armed not in NAMES:
            raise SetupError(
                f"{VARIABLE} names {self.armed}; the failpoints are {', '.join(sorted(NAMES))}."
            )

    def reach(self, name: str) -> None:
        """Die here if this is the armed place and its time has come."""
        if name == self.armed:
            self._passes -= 1
            if self._passes <= 0:
                os.kill(os.getpid(), signal.SIGKILL)


CHOSEN = os.environ.get(VARIABLE, "")
"""What this process was started with; empty but in tests. Services, workers and runners warn of it."""
failpoint = Failpoints(CHOSEN).reach
"""Call it with the name of the place; the environment is read once, when this is imported."""
