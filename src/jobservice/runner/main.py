"""The program: flags, the lock of the data directory, the session, and the start of the parts.

    python -m jobservice.runner --dir DIR/runner --attempts DIR/attempts [flags]

`--containment` cgroup | subreaper | auto; auto is cgroup where that is possible. `--idle` seconds
without attempt and connection after which the runner leaves. `--ready-fd` a descriptor to which
`ready`, or the reason why not, is written. `--foreground` does not leave the session. `--resume` a
descriptor with the state of the program that we replace.

In DIR/runner, 0700: `runner.sock` (0600), `lock` (flock; holds the pid), `journal`, `id` (of the data
directory, made once), `runner.log`.

Exit codes: 0 it left because there was nothing to do; 75 another runner serves this directory; 1 it
cannot work here, and says why on stderr and to `--ready-fd`.
"""

import argparse
import contextlib
import fcntl
import os
import signal
import socket
import sys
import time
from typing import Any

from . import cgroup, failpoint, handover, journal, limits, log, system
from .attempts import Attempts
from .cgroup import CgroupContainment
from .containment import Containment
from .processes import start_time
from .reactor import Reactor
from .recovery import Recovery, disown, original_of
from .service import Identity, Service
from .spawn import UMASK, Directories
from .subreaper import SubreaperContainment

EXIT_LOCKED = 75
_SOCKET_PATH_BYTES = 107


class CannotStart(Exception):  # a sentence for a person, with an exit code
    """The runner cannot work here."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def parse_flags(arguments: list[str]) -> argparse.Namespace:
    """The flags of this program."""
    parser = argparse.ArgumentParser(prog="jobservice.runner", allow_abbrev=False)
    parser.add_argument("name", nargs="?", help="by which `pgrep -f jobservice.runner` finds it")
    parser.add_argument("--dir", required=True, help="the runner's own directory")
    parser.add_argument("--attempts", required=True, help="the root of attempts' directories")
    parser.add_argument("--containment", choices=("cgroup", "subreaper", "auto"), default="auto")
    parser.add_argument("--idle", type=float, default=limits.IDLE_S, metavar="SECONDS")
    parser.add_argument("--software", default="0", help="the version to tell in the hello")
    parser.add_argument("--ready-fd", type=int, default=-1, metavar="FD")
    parser.add_argument("--resume", type=int, default=-1, metavar="FD")
    parser.add_argument("--foreground", action="store_true")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the runner; returns its exit code."""
    flags = parse_flags(sys.argv[1:] if arguments is None else arguments)
    try:
        if flags.resume >= 0:
            state = handover.load(flags.resume)
        else:
            state = None
            _detach(flags)
        program = Program(flags, state)
    except (CannotStart, OSError) as error:
        log.say(f"cannot start: {error}")
        _tell_readiness(flags.ready_fd, str(error))
        return error.code if isinstance(error, CannotStart) else 1
    if switched_on := failpoint.switched_on():
        log.say(f"warning: {switched_on}, which is for tests: this runner does wrong on purpose")
    _tell_readiness(flags.ready_fd, "ready")
    return program.run()


def _detach(flags: argparse.Namespace) -> None:
    """Be nobody's child and hold nothing of whoever started us."""
    _close_inherited(flags.ready_fd)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE}:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if not flags.foreground:
        if os.fork():
            os._exit(0)
        os.setsid()
    os.umask(UMASK)
    os.chdir("/")


def _close_inherited(kept: int) -> None:
    if kept > 2:  # stdin, stdout and stderr stay
        os.closerange(3, kept)
        os.set_inheritable(kept, False)  # its signature
    os.closerange(max(3, kept + 1), 2**20)


def _tell_readiness(fd: int, message: str) -> None:
    if fd >= 0:
        with contextlib.suppress(OSError):
            os.write(fd, message.encode())
            os.close(fd)


LOCKS = "trees-"
"""How the files begin that the supervisors of a runner hold locks on."""


class Program:
    """All parts of a runner, built for a data directory."""

    def __init__(self, flags: argparse.Namespace, state: dict[str, Any] | None) -> None:
        self._flags = flags
        self._directory = os.path.abspath(flags.dir)
        os.makedirs(self._directory, 0o700, exist_ok=True)
        self._lock = state["lock"] if state else self._take_lock()
        self._boot_id = system.boot_id()
        system.become_subreaper()
        self._reactor = Reactor()
        if state is None:
            self._start()
        else:
            self._resume(state)

    def _path(self, name: str) -> str:
        return f"{self._directory}/{name}"

    def _locks_path(self, incarnation: str) -> str:
        """What the supervisors of a runner hold a lock on while they live."""
        return self._path(f"{LOCKS}{incarnation}")

    # --- a new runner --------------------------------------------------------------------------

    def _start(self) -> None:
        incarnation = os.urandom(4).hex()
        contents = journal.read(self._path("journal"))
        if contents.damaged:
            log.say(f"{contents.damaged} damaged lines of the journal were skipped")
        original = original_of(contents, self._directory)
        if original:
            log.say(f"this is a copy of {original}: what runs for that is left alone")
            disown(contents)
        self._data_id = self._read_data_id(afresh=bool(original))
        recovery = Recovery(
            contents,
            self._data_id,
            os.path.abspath(self._flags.attempts),
            self._boot_id,
            locks=[
                self._path(name) for name in os.listdir(self._directory) if name.startswith(LOCKS)
            ],
        )
        recovered = recovery.run()
        containment = self._choose_containment(incarnation)
        record = self._journal_record(incarnation)
        kept = journal.Journal(self._path("journal"), record, contents.entries)
        attempts = self._make_attempts(kept, containment)
        for entry in contents.entries.values():
            if entry.end is not None:
                attempts.reports.add_end(entry.end)
        if recovered:
            recovery.report(attempts)
            attempts.write_journal()
        else:
            recovery.announce(attempts)
            recovery.go_on(self._reactor, attempts)
        self._make_service(attempts, self._listen(), incarnation)

    def _take_lock(self) -> int:
        fd = os.open(
            self._path("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        deadline = time.monotonic() + limits.LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    holder = os.read(fd, 32).decode(errors="replace").strip()
                    raise CannotStart(
                        f"runner {holder} serves {self._directory}", EXIT_LOCKED
                    ) from None
                time.sleep(0.02)
            else:
                os.ftruncate(fd, 0)
                os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
                return fd

    def _read_data_id(self, *, afresh: bool) -> str:
        """The id of the data directory, made once, and `afresh` for a copy."""
        path, data_id = self._path("id"), ""
        with contextlib.suppress(FileNotFoundError), open(path, encoding="ascii") as file:
            data_id = file.read().strip()
        if afresh or len(data_id) != 16 or not data_id.isalnum():  # as made below
            data_id = os.urandom(8).hex()
            fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            os.write(fd, data_id.encode())
            os.close(fd)
            os.rename(f"{path}.new", path)
        return data_id

    def _choose_containment(self, incarnation: str) -> Containment:
        wanted = self._flags.containment
        if wanted != "subreaper":
            home = cgroup.own_path()
            try:
                if not home:
                    raise FileNotFoundError("cgroup v2 is not mounted")
                base = f"{home}/{cgroup.base_name(self._data_id)}"
                return CgroupContainment(self._reactor, base, incarnation)
            except OSError as error:
                if wanted == "cgroup":
                    raise CannotStart(f"no containment by cgroup here: {error}") from None
                log.say(f"containment by subreaper, since cgroups are not to be had: {error}")
        return SubreaperContainment(self._reactor, self._locks_path(incarnation))

    def _listen(self) -> socket.socket:
        path = self._path("runner.sock")
        if len(os.fsencode(path)) > _SOCKET_PATH_BYTES:
            raise CannotStart(
                f"the path of the socket is too long ({path}): use a data directory"
                f" with a path of fewer than {_SOCKET_PATH_BYTES - 18} bytes"
            )
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        former = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(former)
        listener.listen(16)
        listener.setblocking(False)
        return listener

    # --- one that goes on ----------------------------------------------------------------------

    def _resume(self, state: dict[str, Any]) -> None:
        incarnation = state["incarnation"]
        self._data_id = self._read_data_id(afresh=False)
        contents = journal.read(self._path("journal"))
        containment: Containment
        if state["containment_name"] == CgroupContainment.name:
            containment = CgroupContainment(
                self._reactor, state["containment"]["base"], incarnation, state["containment"]
            )
        else:
            locks = self._locks_path(incarnation)
            containment = SubreaperContainment(self._reactor, locks, state["containment"])
        kept = journal.Journal(
            self._path("journal"),
            self._journal_record(incarnation),
            contents.entries,
            state["journal"],
        )
        attempts = self._make_attempts(kept, containment)
        attempts.resume(state["attempts"])
        listener = socket.socket(fileno=state["listener"])
        listener.setblocking(False)
        self._make_service(attempts, listener, incarnation)

    # --- both ----------------------------------------------------------------------------------

    def _journal_record(self, incarnation: str) -> dict[str, Any]:
        return {
            "incarnation": incarnation,
            "boot_id": self._boot_id,
            "directory": self._directory,
            "data_id": self._data_id,
            "pid": os.getpid(),
            "start": start_time(os.getpid()),
        }

    def _make_attempts(self, kept: journal.Journal, containment: Containment) -> Attempts:
        self._attempts = Attempts(
            self._reactor, kept, containment, Directories(self._flags.attempts)
        )
        return self._attempts

    def _make_service(self, attempts: Attempts, listener: socket.socket, incarnation: str) -> None:
        identity = Identity(incarnation, self._boot_id, self._flags.software)
        self._service = Service(self._reactor, attempts, listener, identity, self._flags.idle)

    def run(self) -> int:
        """Serve, and leave nothing behind but the journal."""
        while True:
            self._service.run()
            if self._service.upgrade_command is None:
                break
            self._upgrade(self._service.upgrade_command)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path("runner.sock"))
        self._service.close()
        self._attempts.write_journal()
        self._attempts.containment.close()
        return 0

    def _upgrade(self, command: list[str]) -> None:
        """Hand over; if the new program cannot be executed, go on as before."""
        self._attempts.reap()
        self._attempts.write_journal()
        state = self._service.handover()
        handover.execute(
            command,
            state
            | {
                "lock": self._lock,
                "journal": self._attempts.journal.handover(),
                "containment_name": self._attempts.containment.name,
                "containment": self._attempts.containment.handover(),
            },
        )
        self._service.upgrade_command = None
