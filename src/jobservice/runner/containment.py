"""Containment: what holds the process tree of an attempt together, so that none of it gets away.

Two ways, one interface. `cgroup`: each tree is born in a cgroup of its own, which no process leaves
by forking, by setsid or by emptying its environment. `subreaper`: above each tree stands a forked
supervisor, to which every orphan of the tree falls. What happens is told to the owner of the tree,
which is the attempt.
"""

import os
import resource
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from .spawn import LaunchFailure, Program


class Exit(NamedTuple):
    """How a main process ended."""

    status: int
    """As wait(2) tells it."""
    cpu_s: float
    max_rss_bytes: int
    signalled: bool
    """Whether we had sent it a signal while it lived."""

    @classmethod
    def of(cls, status: int, usage: resource.struct_rusage, *, signalled: bool) -> "Exit":
        return cls(status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, signalled)


class Owner(Protocol):
    """The attempt, as its tree sees it."""

    def spawned(self, pid: int, start_time: int) -> None:
        """The main process exists. A start time of 0: nobody needs it to find the process."""

    def refused(self, failure: LaunchFailure) -> None:
        """No process came to be; the tree is over."""

    def exited(self, end: Exit) -> None:
        """The main process ended and was reaped. Its descendants may live on."""

    def emptied(self) -> None:
        """No process of the tree lives any more; the tree is over. After `exited`, unless lost."""


class Tree(Protocol):
    """The processes of one attempt."""

    def terminate(self) -> None:
        """Send SIGTERM to every process that has not had it. Repeat for newcomers."""

    def kill(self) -> None:
        """Kill every process. Repeat until `emptied` is called."""

    def handover(self) -> dict[str, Any]:
        """What a re-executed runner needs to go on with this tree."""


class Containment(Protocol):
    """One of the two ways."""

    name: str

    def spawn(self, owner: Owner, program: Program) -> Tree:
        """Start a program at the head of a new tree. A LaunchFailure is raised, or told later."""

    def adopt(self, owner: Owner, state: dict[str, Any]) -> Tree:
        """Go on with a tree that was handed over."""

    def reaped(self, pid: int, status: int, usage: resource.struct_rusage) -> None:
        """A child of the runner was reaped, whoever it was."""

    def handover(self) -> dict[str, Any]:
        """What a re-executed runner needs beside its trees."""

    def close(self) -> None:
        """Leave nothing behind. Only without trees."""


def reap_children() -> Iterator[tuple[int, int, resource.struct_rusage]]:
    """Every child that has ended by now, with its status and rusage.

    SIGCHLD comes through a signalfd and tells of all children at once, orphans that fell to us
    included; a pidfd each would cost four more system calls an attempt and could not see those. The
    pid of a child cannot be used again before it is reaped here, so it may be signalled until then.
    """
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, status, usage
