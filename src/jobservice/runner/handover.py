"""How a running runner becomes a newer one: it executes the new program in its own place.

The process stays the same, and with it its pid, its children, their pipes and the lock; only the
program changes. What the new one must know goes through a memfd as JSON; the descriptors in it are
inherited, everything else is closed by the exec. The journal is kept, the listening socket stays open
(so a worker that connects meanwhile waits in its queue), blocked signals stay pending.

If the new program cannot be executed, the old one goes on.
"""

import json
import os
from collections.abc import Iterator
from typing import Any

from . import failpoint, log

FORMAT = 1
"""Of the state. A newer runner reads every older format."""

_DESCRIPTORS = frozenset(
    (
        "fd",
        "pipe",
        "file",
        "procs",
        "events",
        "control",
        "directory_fd",
        "listener",
        "lock",
        "journal",
    )
)


def descriptors(state: object) -> Iterator[int]:
    """Every descriptor that a state names."""
    if isinstance(state, dict):
        for name, value in state.items():
            if name in _DESCRIPTORS and isinstance(value, int) and value >= 0:
                yield value
            else:
                yield from descriptors(value)
    elif isinstance(state, list | tuple):
        for value in state:
            yield from descriptors(value)


def execute(command: list[str], state: dict[str, Any]) -> None:
    """Become `command`, which gets `--resume FD`. Returns only if that failed."""
    memory = os.memfd_create("handover", 0)
    try:
        data = memoryview(json.dumps(state | {"format": FORMAT}).encode())
        while data:
            data = data[os.write(memory, data) :]
        os.lseek(memory, 0, os.SEEK_SET)
        _set_inheritable(state, inheritable=True)
        failpoint.reach(failpoint.UPGRADING)
        os.execv(command[0], [*command, "--resume", str(memory)])  # no shell wanted
    except (OSError, ValueError) as error:
        log.say(f"the upgrade to {command} failed: {error}")
        _set_inheritable(state, inheritable=False)
    finally:
        os.close(memory)


def load(memory: int) -> dict[str, Any]:
    """The state that `execute` wrote."""
    with os.fdopen(memory, "rb") as file:
        state: dict[str, Any] = json.load(file)
    if state["format"] > FORMAT:
        raise RuntimeError(f"the state has format {state['format']}, of a newer runner")
    _set_inheritable(state, inheritable=False)
    return state


def _set_inheritable(state: dict[str, Any], *, inheritable: bool) -> None:
    for fd in descriptors(state):
        os.set_inheritable(fd, inheritable)
