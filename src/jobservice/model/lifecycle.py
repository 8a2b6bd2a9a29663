"""The life of a job: its states, what moves it, and the one table of all moves.

Nothing else compares two states to decide a third. The engine asks `step`; each SQL statement that
writes a state names its moves in its header, and a test holds those to this table.

| state | who moves it on |
|---|---|
| BLOCKED | the end of the jobs it depends on |
| SCHEDULED | its start (`release_due`), the end of a parent, a cancel, a hold, the end of its time |
| HELD | a person who releases or cancels it, the end of its time |
| QUEUED | a worker's claim, a cancel, a hold, the end of its time (`time_out_jobs`) |
| RUNNING | the end or loss of its attempt, a cancel or delete, the end of its time |
| STOPPING | the end of its attempt, once the process tree is gone |
| SUCCEEDED, FAILED, CANCELLED, SKIPPED | `RetryJob`; `DeleteJob` and retention remove it |
"""

import enum
from collections.abc import Mapping
from types import MappingProxyType

from jobservice.errors import InvalidTransition


class State(enum.IntEnum):
    """Where a job is. The numbers are those of the wire and of the stores, for ever."""

    BLOCKED = 1
    SCHEDULED = 2
    HELD = 3
    QUEUED = 4
    RUNNING = 5
    STOPPING = 6
    SUCCEEDED = 7
    FAILED = 8
    CANCELLED = 9
    SKIPPED = 10


class Reason(enum.IntEnum):
    """Why a job is in its state; a closed list, with the numbers of the wire and the stores."""

    NONE = 0
    EXIT_CODE = 1
    SIGNAL = 2
    OOM = 3
    RUN_TIMEOUT = 4
    QUEUE_TIMEOUT = 5
    TOTAL_TIMEOUT = 6
    IDLE_TIMEOUT = 7
    LOST = 8
    LAUNCH_FAILED = 9
    INPUT_MISSING = 10
    OUTPUT_MISSING = 11
    DISK_LIMIT = 12
    DEPENDENCY = 13
    SUPERSEDED = 14
    PREEMPTED = 15
    USER = 16
    POLICY = 17
    INTERNAL = 18


class Trigger(enum.StrEnum):
    """What may happen to a job. Where a trigger has several results, the engine says which."""

    CLAIM = "claim"
    OPEN = "open"
    UNCLAIM = "unclaim"
    SUCCEED = "succeed"
    FAIL = "fail"
    RETRY_LATER = "retry_later"
    LOSE = "lose"
    STOP = "stop"
    CANCEL = "cancel"
    DUE = "due"
    HOLD = "hold"
    RELEASE_TO_BLOCKED = "release_to_blocked"
    RELEASE_TO_SCHEDULED = "release_to_scheduled"
    RELEASE_TO_QUEUED = "release_to_queued"
    UNBLOCK = "unblock"
    UNBLOCK_LATER = "unblock_later"
    SKIP = "skip"
    REVIVE = "revive"
    REOPEN = "reopen"


_S, _T = State, Trigger

TRANSITIONS: Mapping[tuple[State, Trigger], State] = MappingProxyType(
    {
        (_S.BLOCKED, _T.UNBLOCK): _S.QUEUED,
        (_S.BLOCKED, _T.UNBLOCK_LATER): _S.SCHEDULED,
        (_S.BLOCKED, _T.SKIP): _S.SKIPPED,
        (_S.BLOCKED, _T.FAIL): _S.FAILED,
        (_S.BLOCKED, _T.HOLD): _S.HELD,
        (_S.BLOCKED, _T.CANCEL): _S.CANCELLED,
        (_S.SCHEDULED, _T.DUE): _S.QUEUED,
        (_S.SCHEDULED, _T.HOLD): _S.HELD,
        (_S.SCHEDULED, _T.CANCEL): _S.CANCELLED,
        (_S.SCHEDULED, _T.SKIP): _S.SKIPPED,
        (_S.SCHEDULED, _T.FAIL): _S.FAILED,
        (_S.HELD, _T.RELEASE_TO_BLOCKED): _S.BLOCKED,
        (_S.HELD, _T.RELEASE_TO_SCHEDULED): _S.SCHEDULED,
        (_S.HELD, _T.RELEASE_TO_QUEUED): _S.QUEUED,
        (_S.HELD, _T.CANCEL): _S.CANCELLED,
        (_S.HELD, _T.SKIP): _S.SKIPPED,
        (_S.HELD, _T.FAIL): _S.FAILED,
        (_S.QUEUED, _T.CLAIM): _S.RUNNING,
        (_S.QUEUED, _T.OPEN): _S.RUNNING,
        (_S.QUEUED, _T.HOLD): _S.HELD,
        (_S.QUEUED, _T.CANCEL): _S.CANCELLED,
        (_S.QUEUED, _T.FAIL): _S.FAILED,
        (_S.QUEUED, _T.SKIP): _S.SKIPPED,
        (_S.RUNNING, _T.SUCCEED): _S.SUCCEEDED,
        (_S.RUNNING, _T.FAIL): _S.FAILED,
        (_S.RUNNING, _T.RETRY_LATER): _S.SCHEDULED,
        (_S.RUNNING, _T.LOSE): _S.QUEUED,
        (_S.RUNNING, _T.UNCLAIM): _S.QUEUED,
        (_S.RUNNING, _T.STOP): _S.STOPPING,
        (_S.STOPPING, _T.CANCEL): _S.CANCELLED,
        (_S.STOPPING, _T.SUCCEED): _S.SUCCEEDED,
        (_S.STOPPING, _T.FAIL): _S.FAILED,
        (_S.STOPPING, _T.RETRY_LATER): _S.SCHEDULED,
        (_S.STOPPING, _T.LOSE): _S.QUEUED,
        (_S.SUCCEEDED, _T.REVIVE): _S.QUEUED,
        (_S.FAILED, _T.REVIVE): _S.QUEUED,
        (_S.CANCELLED, _T.REVIVE): _S.QUEUED,
        (_S.SKIPPED, _T.REVIVE): _S.QUEUED,
        (_S.SKIPPED, _T.REOPEN): _S.BLOCKED,
    }
)

FIRST = frozenset({State.BLOCKED, State.SCHEDULED, State.QUEUED})
"""The states in which a job comes to be."""
FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.SKIPPED})
WAITING = frozenset({State.BLOCKED, State.SCHEDULED, State.HELD, State.QUEUED})
LIVE = frozenset({State.RUNNING, State.STOPPING})
"""The states in which an attempt holds a lease."""
ACTIVE = WAITING | LIVE


def step(state: State, trigger: Trigger) -> State:
    """The state that `trigger` leads to.

    Raises:
        InvalidTransition: the table has no such move.
    """
    try:
        return TRANSITIONS[state, trigger]
    except KeyError:
        raise InvalidTransition(state=state.name, trigger=trigger.value) from None
