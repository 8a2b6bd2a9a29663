"""A supervisor: the process above the tree of an attempt, where there are no cgroups.

It is a forked child of the runner and a *subreaper* (prctl(2), PR_SET_CHILD_SUBREAPER): a process of
its tree whose parent ends becomes its child, also one that double-forked, called setsid and emptied
its environment. So the tree is empty exactly when the supervisor has no child any more (wait4 says
ECHILD): a proof, not a guess. It starts the program, reaps, signals the tree when told, reports, and
waits for the next program when the tree is empty: to fork one per attempt would cost three times as
much as the attempt.

When the runner dies (by any signal) the supervisor kills its whole tree and ends: it learns it from
the end of their socket and by PR_SET_PDEATHSIG. Until then it holds a lock that it has from the runner:
so the next runner knows that there are trees it cannot see (`recovery`).

Over a pair of SOCK_SEQPACKET sockets. To the supervisor: a program (a JSON object, with its
descriptors), or one byte, TERMINATE or KILL, which means nothing while there is no tree. From it:
`{"spawned": pid, "start": ticks}` or `{"failed": [step, errno, reason]}`, then
`{"exited": [status, cpu_s, max_rss_bytes, signalled]}`, then `{"empty": true}`.
"""

import contextlib
import errno
import json
import os
import select
import signal
import socket
import time
from typing import NoReturn

from . import processes, system
from .containment import Exit, reap_children
from .spawn import LaunchFailure, Program, launch

TERMINATE = b"T"
KILL = b"K"
MESSAGE_BYTES = 1 << 20
_KILL_AGAIN_MS = 5


def encode_program(program: Program) -> tuple[bytes, list[int]]:
    """A program as a message: its words, and its descriptors beside them."""
    words = json.dumps([program.argv, program.env, program.work_dir], separators=(",", ":"))
    fds = [program.stdin, program.stdout, program.stderr]
    return words.encode(), fds if program.work_fd < 0 else [*fds, program.work_fd]


def decode_program(data: bytes, fds: list[int]) -> Program:
    """The program of a message; the descriptors are ours now."""
    argv, env, work_dir = json.loads(data)
    work_fd = fds[3] if len(fds) > 3 else -1
    return Program(argv, env, work_dir, work_fd, *fds[:3])


class Supervisor:
    """The body of the forked process. It never returns."""

    def __init__(self, control: socket.socket, runner: int) -> None:
        self._control = control
        self._runner = runner
        self._poll = select.poll()
        self._has_tree = False
        self._main = 0
        self._signalled = False
        self._had_term: set[int] = set()
        self._killing = False
        self._alone = False
        """The runner is dead."""

    def run(self, program: Program) -> NoReturn:
        """Run a program, and others after it, until the runner lets go."""
        try:
            system.become_subreaper()
            signals = system.signal_descriptor((signal.SIGCHLD, signal.SIGTERM))
            system.signal_on_parent_death(signal.SIGTERM)
            if os.getppid() == self._runner:
                self._begin(program)
                self._loop(signals)
        finally:
            try:
                self._leave_nothing()
            finally:
                os._exit(0)

    def _leave_nothing(self) -> None:
        """Whatever ended the loop: no tree outlives its supervisor."""
        while self._has_tree:
            self._signal_tree(signal.SIGKILL)
            self._reap()
            time.sleep(_KILL_AGAIN_MS / 1000)

    def _begin(self, program: Program) -> None:
        self._signalled = self._killing = False
        self._had_term.clear()
        try:
            self._main = launch(program)
        except LaunchFailure as failure:
            self._tell(failed=[failure.step, failure.code, failure.reason])
        else:
            self._has_tree = True
            self._tell(spawned=self._main, start=processes.start_time(self._main))
        finally:
            for fd in {program.stdin, program.stdout, program.stderr, program.work_fd} - {-1}:
                os.close(fd)
            os.chdir("/")

    def _tell(self, **message: object) -> None:
        with contextlib.suppress(OSError):  # the runner is gone: we learn that elsewhere
            self._control.send(json.dumps(message).encode())

    def _loop(self, signals: int) -> None:
        self._poll.register(signals, select.POLLIN)
        self._poll.register(self._control, select.POLLIN)
        while True:
            self._reap()
            if self._alone and not self._has_tree:
                return
            for fd, _ in self._poll.poll(_KILL_AGAIN_MS if self._killing else None):
                if fd == signals:
                    self._drain(signals)
                else:
                    self._obey()
            if self._killing:
                self._signal_tree(signal.SIGKILL)

    def _reap(self) -> None:
        """Reap all that has ended, and say so when nothing is left."""
        if not self._has_tree:
            return
        for pid, status, usage in reap_children():
            if pid == self._main:
                self._main = 0
                self._tell(exited=Exit.of(status, usage, signalled=self._signalled))
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            self._has_tree = self._killing = False
            self._tell(empty=True)

    def _drain(self, signals: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(signals, 64 * system.SIGNAL_INFO_BYTES)
        if os.getppid() != self._runner:  # else it was a job that sent SIGTERM to its parent
            self._be_alone()

    def _be_alone(self) -> None:
        self._alone = True
        self._killing = self._has_tree

    def _obey(self) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(
                self._control, MESSAGE_BYTES, 4, socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionResetError:  # it died with something of ours unread: unix(7)
            data, fds = b"", []
        if not data:  # the runner has died, or has no more use for us
            self._poll.unregister(self._control)
            self._be_alone()
        elif data == TERMINATE:
            self._signal_tree(signal.SIGTERM)
        elif data == KILL:
            self._killing = self._has_tree
        else:
            self._begin(decode_program(data, fds))

    def _signal_tree(self, number: signal.Signals) -> None:
        self._reap()
        if not self._has_tree:
            return
        self._signalled = self._signalled or self._main > 0
        skipped = self._had_term if number is signal.SIGTERM else frozenset[int]()
        for pid in processes.descendants(os.getpid()):
            if pid not in skipped:
                processes.send_signal(pid, number, processes.is_our_descendant)
                if number is signal.SIGTERM:
                    self._had_term.add(pid)


def fork_supervisor(program: Program, lock: int) -> tuple[int, socket.socket]:
    """Fork a supervisor that runs `program`; its pid and our end of the socket.

    It keeps the descriptor `lock`, and nothing else of ours, for as long as it lives.

    Raises:
        LaunchFailure: the host has no process or no socket for us.
    """
    try:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError as error:
        raise LaunchFailure(
            "process", error.errno or 0, f"No socket for a supervisor: {error.strerror}."
        ) from None
    runner = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        ours.close()
        theirs.close()
        raise LaunchFailure(
            "process", error.errno or 0, f"The host cannot start a process: {error.strerror}."
        ) from None
    if pid == 0:
        _become_supervisor(theirs, lock, runner, program)
    theirs.close()
    ours.setblocking(False)
    return pid, ours


def _become_supervisor(
    control: socket.socket, lock: int, runner: int, program: Program
) -> NoReturn:
    """In the forked child: let go of everything that is the runner's."""
    try:
        kept = sorted(
            {
                control.fileno(),
                lock,
                program.stdin,
                program.stdout,
                program.stderr,
                program.work_fd,
                0,
                1,
                2,
            }
            - {-1}
        )
        for low, high in zip(kept, [*kept[1:], 2**20], strict=True):
            if high - low > 1:
                os.closerange(low + 1, high)
        Supervisor(control, runner).run(program)
    finally:
        os._exit(errno.ECHILD)
