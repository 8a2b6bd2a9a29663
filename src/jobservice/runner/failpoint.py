"""Named places where a test may kill the runner: `JOBSERVICE_FAILPOINT=runner.intent_journaled`.

With the variable unset a failpoint costs one comparison. `NAMES` is what a test enumerates.
"""

import os
import signal

INTENT_JOURNALED = "runner.intent_journaled"
"""The order is in the journal, its process is not started."""
SPAWNED_UNJOURNALED = "runner.spawned_unjournaled"
"""The process lives, the journal does not know its pid."""
EXITED_UNREPORTED = "runner.exited_unreported"
"""The main process was reaped, nothing of its end is written."""
ENDED_UNREPORTED = "runner.ended_unreported"
"""The end is in the journal, no worker was told."""
REPORTED_UNACKNOWLEDGED = "runner.reported_unacknowledged"
"""A worker was told of the end and has not acknowledged it."""
UPGRADING = "runner.upgrading"
"""Everything is handed over, the new program is not yet executed."""

NAMES = (
    INTENT_JOURNALED,
    SPAWNED_UNJOURNALED,
    EXITED_UNREPORTED,
    ENDED_UNREPORTED,
    REPORTED_UNACKNOWLEDGED,
    UPGRADING,
)

_mutant = os.environ.get("JOBSERVICE_MUTANT", "")
_chosen = os.environ.get("JOBSERVICE_FAILPOINT", "")


def reach(name: str) -> None:
    """Die here, if this is the chosen failpoint."""
    if name == _chosen:
        os.kill(os.getpid(), signal.SIGKILL)


def mutant(name: str) -> bool:
    """Whether a test wants this deliberate bug; see `jobservice.mutants`."""
    return name == _mutant


def switched_on() -> str:
    """What has this runner make mistakes or die, for its log; empty but in tests."""
    found = [
        f"{variable}={chosen} is set"
        for variable, chosen in (("JOBSERVICE_MUTANT", _mutant), ("JOBSERVICE_FAILPOINT", _chosen))
        if chosen
    ]
    return " and ".join(found)
