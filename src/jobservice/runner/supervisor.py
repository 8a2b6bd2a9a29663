"""Containment without cgroups: above the tree of each attempt stands a forked supervisor.

A supervisor is a child of the runner and a *subreaper* (prctl(2), PR_SET_CHILD_SUBREAPER): a process
of its tree whose parent ends becomes its child, also one that double-forked, called setsid and emptied
its environment. So the tree is empty exactly when the supervisor has no child any more (wait4 says
ECHILD): a proof, not a guess. It starts the program, reaps, signals the tree when told, reports, and
ends when the tree is empty.

When the runner dies (by any signal) the supervisor kills its whole tree and ends: it learns it from
the end of their socket and by PR_SET_PDEATHSIG. When a supervisor is killed its tree falls to the
runner, which is a subreaper itself and kills what it does not know; the attempt is LOST.

To the supervisor: one byte, TERMINATE or KILL. From it, JSON datagrams (SOCK_SEQPACKET):
`{"spawned": pid, "start": ticks}` or `{"failed": [step, errno, reason]}`, then
`{"exited": [status, cpu_s, max_rss_bytes, signalled]}`, then `{"empty": true}`.
"""

import contextlib
import errno
import json
import os
import resource
import select
import signal
import socket
from typing import Any, NoReturn

from . import limits, log, processes, system
from .containment import Exit, Owner, reap_children
from .reactor import IN, Reactor, Timer
from .spawn import LaunchFailure, Program, launch

TERMINATE = b"T"
KILL = b"K"
_MESSAGE_BYTES = 65536
_KILL_AGAIN_MS = 5
_ORPHANS_AGAIN_S = 0.02


class Supervisor:
    """The body of the forked process. It never returns."""

    def __init__(self, control: socket.socket, runner: int) -> None:
        self._control = control
        self._runner = runner
        self._main = 0
        self._signalled = False
        self._had_term: set[int] = set()
        self._killing = False

    def run(self, program: Program) -> NoReturn:
        """Start the program, stay until its tree is empty."""
        try:
            system.become_subreaper()
            signals = system.signal_descriptor((signal.SIGCHLD, signal.SIGTERM))
            system.signal_on_parent_death(signal.SIGTERM)
            if os.getppid() == self._runner and self._start(program):
                self._loop(signals)
        finally:
            os._exit(0)

    def _start(self, program: Program) -> bool:
        try:
            self._main = launch(program)
        except LaunchFailure as failure:
            self._tell(failed=[failure.step, failure.code, failure.reason])
            return False
        finally:
            for fd in {program.stdin, program.stdout, program.stderr, program.work_fd}:
                with contextlib.suppress(OSError):
                    os.close(fd)
        os.chdir("/")
        self._tell(spawned=self._main, start=processes.start_time(self._main))
        return True

    def _tell(self, **message: object) -> None:
        with contextlib.suppress(OSError):  # the runner is gone: we learn that elsewhere
            self._control.send(json.dumps(message).encode())

    def _loop(self, signals: int) -> None:
        poll = select.poll()
        poll.register(signals, select.POLLIN)
        poll.register(self._control, select.POLLIN)
        while not self._reap():
            ready = poll.poll(_KILL_AGAIN_MS if self._killing else None)
            for fd, _ in ready:
                if fd == signals:
                    self._drain(signals)
                else:
                    self._obey(poll)
            if self._killing:
                self._signal_tree(signal.SIGKILL)

    def _reap(self) -> bool:
        """Reap all that has ended; True when nothing is left."""
        for pid, status, usage in reap_children():
            if pid == self._main:
                self._main = 0
                self._tell(exited=Exit.of(status, usage, signalled=self._signalled))
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            self._tell(empty=True)
            return True
        return False

    def _drain(self, signals: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(signals, 64 * system.SIGNAL_INFO_BYTES)
        if os.getppid() != self._runner:  # else it was a job that sent SIGTERM to its parent
            self._killing = True

    def _obey(self, poll: select.poll) -> None:
        command = self._control.recv(1)
        if command == TERMINATE:
            self._signal_tree(signal.SIGTERM)
        else:  # KILL, or the end of the runner
            self._killing = True
            if not command:
                poll.unregister(self._control)

    def _signal_tree(self, number: signal.Signals) -> None:
        self._reap()
        self._signalled = self._signalled or self._main > 0
        skipped = self._had_term if number is signal.SIGTERM else frozenset[int]()
        for pid in processes.descendants(os.getpid()):
            if pid not in skipped:
                processes.send_signal(pid, number, is_our_descendant)
        if number is signal.SIGTERM:
            self._had_term.update(processes.descendants(os.getpid()))


def is_our_descendant(pid: int) -> bool:
    """Whether a pid names a process beneath us now."""
    ours, seen = os.getpid(), 0
    while pid > 1 and seen < 10_000:
        if pid == ours:
            return True
        pid, seen = processes.parent(pid), seen + 1
    return False


class SupervisedTree:
    """The runner's side of one supervisor."""

    __slots__ = ("_containment", "_deadline", "control", "finished", "owner", "pid", "supervisor")

    def __init__(self, containment: "SubreaperContainment", owner: Owner, supervisor: int,
                 control: socket.socket) -> None:
        self._containment = containment
        self.owner = owner
        self.supervisor = supervisor
        self.control = control
        self.pid = 0
        self.finished = False
        """Told to be over; the supervisor itself may still have to be reaped."""
        self._deadline: Timer | None = None

    def terminate(self) -> None:
        self._send(TERMINATE)

    def kill(self) -> None:
        """Have the tree killed; a supervisor that does not manage it in time is killed itself."""
        self._send(KILL)
        if self._deadline is None:
            self._deadline = self._containment.reactor.after(
                limits.SUPERVISOR_DEADLINE_S, self._overdue)

    def _overdue(self) -> None:
        if not self.finished:
            log.say(f"supervisor {self.supervisor} does not empty its tree")
            self._containment.kill_supervisor(self)

    def _send(self, command: bytes) -> None:
        with contextlib.suppress(OSError):  # it has ended: its last messages are on their way
            self.control.send(command)

    def receive(self) -> None:
        """Read what the supervisor says, until it has said all."""
        while not self.finished:
            try:
                data = self.control.recv(_MESSAGE_BYTES)
            except (BlockingIOError, ConnectionResetError):
                return
            if not data:
                self._containment.reactor.unwatch(self.control.fileno())
                return
            self._take(json.loads(data))

    def _take(self, message: dict[str, Any]) -> None:
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
        self.finished = True
        if self._deadline is not None:
            self._deadline.cancel()
        self._containment.reactor.unwatch(self.control.fileno())
        self.control.close()

    def handover(self) -> dict[str, Any]:
        return {
            "supervisor": self.supervisor, "control": self.control.fileno(), "pid": self.pid,
            "orphaned": self._containment.is_orphaned(self),
        }


class SubreaperContainment:
    """All supervisors of one runner."""

    name = "subreaper"

    def __init__(self, reactor: Reactor, state: dict[str, Any] | None = None) -> None:
        self.reactor = reactor
        self._trees: dict[int, SupervisedTree] = {}
        self._orphaned: list[SupervisedTree] = []
        self._finished: set[int] = set(state["finished"]) if state else set()
        if state:
            reactor.after(0, self._look_for_orphans)

    def spawn(self, owner: Owner, program: Program) -> SupervisedTree:
        ours, theirs = _socket_pair()
        runner = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            ours.close()
            theirs.close()
            raise LaunchFailure("process", error.errno or 0,
                                f"The host cannot start a process: {error.strerror}.") from None
        if pid == 0:
            _become_supervisor(theirs, runner, program)
        theirs.close()
        ours.setblocking(False)
        return self._add(SupervisedTree(self, owner, pid, ours))

    def adopt(self, owner: Owner, state: dict[str, Any]) -> SupervisedTree:
        control = socket.socket(fileno=state["control"])
        control.setblocking(False)
        tree = SupervisedTree(self, owner, state["supervisor"], control)
        tree.pid = state["pid"]
        if state["orphaned"]:
            self._orphaned.append(tree)
            return tree
        return self._add(tree)

    def _add(self, tree: SupervisedTree) -> SupervisedTree:
        self._trees[tree.supervisor] = tree
        self.reactor.watch(tree.control.fileno(), IN, tree.receive)
        return tree

    def reaped(self, pid: int, status: int, usage: resource.struct_rusage) -> None:
        del status, usage
        if pid in self._finished:
            self._finished.discard(pid)
            return
        tree = self._trees.pop(pid, None)
        if tree is None:
            return
        tree.receive()
        if not tree.finished:
            log.say(f"supervisor {pid} was killed")
            self._orphaned.append(tree)
            self._look_for_orphans()

    def is_orphaned(self, tree: SupervisedTree) -> bool:
        """Whether the supervisor of a tree was killed, and the tree is being killed by us."""
        return tree in self._orphaned

    def kill_supervisor(self, tree: SupervisedTree) -> None:
        """Kill a supervisor; its tree falls to us."""
        if tree.supervisor in self._trees:
            os.kill(tree.supervisor, signal.SIGKILL)

    def _look_for_orphans(self) -> None:
        """Kill what fell to us, with all beneath it; the trees end when nothing is left of them."""
        supervisors = self._trees.keys() | self._finished
        orphans = [pid for pid in processes.children(os.getpid()) if pid not in supervisors]
        for orphan in orphans:
            for pid in [orphan, *processes.descendants(orphan)]:
                processes.send_signal(pid, signal.SIGKILL, is_our_descendant)
        if any(processes.start_time(pid) for pid in orphans):
            self.reactor.after(_ORPHANS_AGAIN_S, self._look_for_orphans)
            return
        trees, self._orphaned = self._orphaned, []
        for tree in trees:
            tree.finish()
            tree.owner.emptied()

    def handover(self) -> dict[str, Any]:
        finished = {pid for pid, tree in self._trees.items() if tree.finished}
        return {"finished": sorted(finished | self._finished)}

    def close(self) -> None:
        """Nothing is kept between attempts."""


def _socket_pair() -> tuple[socket.socket, socket.socket]:
    try:
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError as error:
        raise LaunchFailure("process", error.errno or 0,
                            f"No socket for a supervisor: {error.strerror}.") from None


def _become_supervisor(control: socket.socket, runner: int, program: Program) -> NoReturn:
    """In the forked child: let go of everything that is the runner's."""
    try:
        kept = sorted({control.fileno(), program.stdin, program.stdout, program.stderr,
                       program.work_fd, 0, 1, 2} - {-1})
        for low, high in zip(kept, [*kept[1:], 2**20], strict=True):
            if high - low > 1:
                os.closerange(low + 1, high)
        Supervisor(control, runner).run(program)
    finally:
        os._exit(errno.ECHILD)
