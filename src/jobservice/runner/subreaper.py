"""Containment without cgroups: the runner's side of its supervisors.

What a supervisor is and says stands in `supervisor`. A supervisor whose tree is empty waits for the
next attempt; all that wait are let go when nothing has run for a moment. When a supervisor is killed
its tree falls to the runner, which is a subreaper itself and kills every child that it does not know;
the attempt is LOST.
"""

import contextlib
import fcntl
import json
import os
import resource
import signal
import socket
from typing import Any

from . import limits, log, processes
from .containment import Exit, Owner
from .reactor import IN, Reactor, Timer
from .spawn import LaunchFailure, Program
from .supervisor import (
    KILL,
    MESSAGE_BYTES,
    TERMINATE,
    encode_program,
    fork_supervisor,
)

_ORPHANS_AGAIN_S = 0.02


class Handle:
    """One supervisor, until it is reaped."""

    __slots__ = ("control", "pid", "tree")

    def __init__(self, pid: int, control: socket.socket) -> None:
        self.pid = pid
        self.control = control
        self.tree: SupervisedTree | None = None
        """What it supervises; None while it waits."""


class SupervisedTree:
    """The tree of an attempt, beneath its supervisor."""

    __slots__ = ("_containment", "_deadline", "handle", "owner", "pid")

    def __init__(self, containment: "SubreaperContainment", owner: Owner, handle: Handle) -> None:
        self._containment = containment
        self.owner = owner
        self.handle = handle
        self.pid = 0
        self._deadline: Timer | None = None

    def terminate(self) -> None:
        self._send(TERMINATE)

    def kill(self) -> None:
        """Have the tree killed; a supervisor that does not manage it in time is killed itself."""
        self._send(KILL)
        if self._deadline is None:
            self._deadline = self._containment.reactor.after(
                limits.SUPERVISOR_DEADLINE_S, self._overdue
            )

    def _overdue(self) -> None:
        log.say(f"supervisor {self.handle.pid} does not empty its tree")
        self._containment.kill_supervisor(self.handle)

    def _send(self, command: bytes) -> None:
        with contextlib.suppress(OSError):  # it has ended: its last messages are on their way
            self.handle.control.send(command)

    def take(self, message: dict[str, Any]) -> None:
        """What its supervisor says."""
        if "spawned" in message:
            self.pid = message["spawned"]
            self.owner.spawned(self.pid, message["start"])
        elif "failed" in message:
            self.finish()
            self.owner.refused(LaunchFailure(*message["failed"]))
        elif "exited" in message:
            self.pid = 0
            self.owner.exited(Exit(*message["exited"]))
        elif "empty" in message:
            self.finish()
            self.owner.emptied()

    def finish(self) -> None:
        """The tree is over."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._containment.release(self.handle)

    def handover(self) -> dict[str, Any]:
        return {
            "supervisor": self.handle.pid,
            "control": self.handle.control.fileno(),
            "pid": self.pid,
            "orphaned": self._containment.is_orphaned(self),
        }


class SubreaperContainment:
    """All supervisors of one runner."""

    name = "subreaper"

    def __init__(
        self, reactor: Reactor, lock_path: str, state: dict[str, Any] | None = None
    ) -> None:
        self.reactor = reactor
        self._lock_path = lock_path
        self._lock = os.open(
            lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        fcntl.flock(self._lock, fcntl.LOCK_SH)  # and with us every supervisor, until it ends
        self._handles: dict[int, Handle] = {}
        self._waiting: list[Handle] = []
        self._orphaned: list[SupervisedTree] = []
        self._rest_timer: Timer | None = None
        if state is not None:
            reactor.after(0, self._look_for_orphans)

    # --- trees ---------------------------------------------------------------------------------

    def spawn(self, owner: Owner, program: Program) -> SupervisedTree:
        handle = self._employ(program)
        if handle is None:
            handle = self._add(Handle(*fork_supervisor(program, self._lock)))
        handle.tree = SupervisedTree(self, owner, handle)
        return handle.tree

    def _employ(self, program: Program) -> Handle | None:
        """A supervisor that waited and has the program now; None if there is none that can."""
        if not self._waiting:
            return None
        handle = self._waiting.pop()
        data, fds = encode_program(program)
        try:
            socket.send_fds(handle.control, [data], fds)
        except OSError:  # too large for a datagram, or it was killed
            self._waiting.append(handle)
            return None
        return handle

    def adopt(self, owner: Owner, state: dict[str, Any]) -> SupervisedTree:
        control = socket.socket(fileno=state["control"])
        control.setblocking(False)
        handle = Handle(state["supervisor"], control)
        handle.tree = SupervisedTree(self, owner, handle)
        handle.tree.pid = state["pid"]
        if state["orphaned"]:
            self._orphaned.append(handle.tree)
        else:
            self._add(handle)
        return handle.tree

    def _add(self, handle: Handle) -> Handle:
        self._handles[handle.pid] = handle
        self.reactor.watch(handle.control.fileno(), IN, lambda: self._receive(handle))
        return handle

    def _receive(self, handle: Handle) -> None:
        """Read what a supervisor says."""
        while handle.tree is not None:
            try:
                data = handle.control.recv(MESSAGE_BYTES)
            except (BlockingIOError, ConnectionResetError):
                return
            if not data:
                break
            handle.tree.take(json.loads(data))
        else:
            return
        self.reactor.unwatch(handle.control.fileno())

    def release(self, handle: Handle) -> None:
        """A supervisor has nothing to do any more: it waits, or is let go."""
        handle.tree = None
        if handle.pid in self._handles and len(self._waiting) < limits.SUPERVISORS_KEPT:
            self._waiting.append(handle)
            if self._rest_timer is None:
                self._rest_timer = self.reactor.after(limits.SUPERVISORS_REST_S, self._rest)
        else:
            self._let_go(handle)

    def _rest(self) -> None:
        self._rest_timer = None
        if len(self._waiting) == len(self._handles):
            while self._waiting:
                self._let_go(self._waiting.pop())
        else:
            self._rest_timer = self.reactor.after(limits.SUPERVISORS_REST_S, self._rest)

    def _let_go(self, handle: Handle) -> None:
        """Close the socket: a supervisor without a tree ends, and is reaped like any child."""
        if handle.control.fileno() >= 0:
            self.reactor.unwatch(handle.control.fileno())
            handle.control.close()

    # --- deaths of supervisors -----------------------------------------------------------------

    def reaped(self, pid: int, status: int, usage: resource.struct_rusage) -> None:
        del status, usage
        handle = self._handles.pop(pid, None)
        if handle is None:
            return
        if handle in self._waiting:
            self._waiting.remove(handle)
        self._receive(handle)
        if handle.tree is None:
            self._let_go(handle)
            return
        log.say(f"supervisor {pid} was killed")
        self.reactor.unwatch(handle.control.fileno())
        self._orphaned.append(handle.tree)
        self._look_for_orphans()

    def is_orphaned(self, tree: SupervisedTree) -> bool:
        """Whether the supervisor of a tree was killed, and the tree is being killed by us."""
        return tree in self._orphaned

    def kill_supervisor(self, handle: Handle) -> None:
        """Kill a supervisor; its tree falls to us."""
        if handle.pid in self._handles:
            os.kill(handle.pid, signal.SIGKILL)

    def _look_for_orphans(self) -> None:
        """Kill what fell to us, with all beneath it; the trees end when nothing is left of them."""
        orphans = [pid for pid in processes.children(os.getpid()) if pid not in self._handles]
        for orphan in orphans:
            for pid in [orphan, *processes.descendants(orphan)]:
                processes.send_signal(pid, signal.SIGKILL, processes.is_our_descendant)
        if any(processes.start_time(pid) for pid in orphans):
            self.reactor.after(_ORPHANS_AGAIN_S, self._look_for_orphans)
            return
        trees, self._orphaned = self._orphaned, []
        for tree in trees:
            tree.finish()
            tree.owner.emptied()

    # --- the end -------------------------------------------------------------------------------

    def handover(self) -> dict[str, Any]:
        self._end_idle()
        return {}

    def close(self) -> None:
        """End the supervisors that have no tree; nothing is to be proven to the next runner."""
        self._end_idle()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._lock_path)

    def _end_idle(self) -> None:
        idle = [handle for handle in self._handles.values() if handle.tree is None]
        self._waiting.clear()
        for handle in idle:
            del self._handles[handle.pid]
            self._let_go(handle)
            os.kill(handle.pid, signal.SIGKILL)
            os.waitpid(handle.pid, 0)
