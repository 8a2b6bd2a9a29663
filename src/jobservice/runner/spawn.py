"""One process: its directory, its environment, its launch, and what a failed launch means.

WHAT A JOB SEES
- Environment, exactly: PATH (`DEFAULT_PATH`), HOME (of the runner's user), LANG=C.UTF-8; over these
  the job's own variables; over all of them JOBSERVICE_ATTEMPT_KEY (the key of the attempt) and
  JOBSERVICE_PROGRESS (the path of its progress file), which a job cannot set: a new runner finds
  what a dead one left by them. The worker adds JOBSERVICE_JOB_ID and JOBSERVICE_ATTEMPT (the number)
  in the same unchangeable way (`fixed_env` of the order). No TMPDIR: the default of programs, /tmp,
  holds.
- argv[0] is looked up in the job's own PATH, as execvp(3) does: a name with a slash is taken as a
  path (from the working directory), a candidate that may not be executed is skipped, and EACCES
  said if no other is found.
- The working directory is the job's own, else `work/` in the attempt's directory.
- Descriptors: 0 (its stdin, or /dev/null), 1 and 2 (pipes); no others.
- A session of its own without a terminal, no blocked signals, every signal at its default, umask
  022 as for any service (its directory is 0700, so nobody else reads it there; a job that writes to
  a directory of its own chooses who may).
- The soft limit of open files is the one the runner was started with.

`os.posix_spawn` is the way (vfork inside: its cost does not grow with our memory). It cannot change
the directory, so the runner, which has one thread, stands in the job's directory while it spawns.
"""

import contextlib
import errno
import os
import pwd
import resource
import signal
import stat
from typing import NamedTuple

from . import limits

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
UMASK = 0o022
_DEFAULT_SIGNALS = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class LaunchFailure(Exception):  # an outcome of a job, not an error of the runner
    """No process came to be; `step` is where it failed, `code` the errno, and the text says why."""

    def __init__(self, step: str, code: int, reason: str) -> None:
        if len(reason) > limits.MESSAGE_CHARACTERS - 100:
            reason = f"{reason[: limits.MESSAGE_CHARACTERS - 100]}…"
        super().__init__(f"{reason} ({step}: {errno.errorcode.get(code, code)})")
        self.step = step
        self.code = code
        self.reason = reason


class Program(NamedTuple):
    """What is launched. The descriptors stay the caller's."""

    argv: list[str]
    env: dict[str, str]
    work_dir: str | None
    """None: the directory `work_fd` refers to."""
    work_fd: int
    stdin: int
    stdout: int
    stderr: int


def _home() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_dir or "/"
    except KeyError:
        return "/"


_BASE_ENV = {"PATH": DEFAULT_PATH, "HOME": _home(), "LANG": "C.UTF-8"}


def environment(
    own: dict[str, str],
    fixed: dict[str, str],
    key: str,
    progress: str,
) -> dict[str, str]:
    """The whole environment of an attempt; nothing is inherited."""
    return {
        **_BASE_ENV,
        **own,
        **fixed,
        "JOBSERVICE_ATTEMPT_KEY": key,
        "JOBSERVICE_PROGRESS": progress,
    }


class Directories:
    """Makes the directories of attempts beneath one root, following no link on the way."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        os.makedirs(self.root, 0o700, exist_ok=True)
        self._root_fd = os.open(self.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def make(self, path: str) -> int:
        """The descriptor of an attempt's directory, which is made with its parents (0700)."""
        names = self._names(path)
        for tries_left in (2, 1, 0):
            try:
                return self._walk(names)
            except FileNotFoundError:  # a parent was empty, and removed between our two calls
                if not tries_left:
                    raise
            except OSError as error:
                raise LaunchFailure(
                    "attempt directory",
                    error.errno or 0,
                    f"The directory {path!r} cannot be made: {error.strerror}.",
                ) from None
        raise AssertionError("unreachable")

    def _walk(self, names: list[str]) -> int:
        fd = self._root_fd
        try:
            for name in names[:-1]:
                below = _enter_parent(fd, name)
                if fd != self._root_fd:
                    os.close(fd)
                fd = below
            return _enter(fd, names[-1])
        finally:
            if fd != self._root_fd:
                os.close(fd)

    def _names(self, path: str) -> list[str]:
        names = path[len(self.root) + 1 :].split("/")
        if not path.startswith(self.root + "/") or any(name in ("", ".", "..") for name in names):
            raise LaunchFailure(
                "attempt directory",
                errno.EINVAL,
                f"The directory {path!r} is not beneath {self.root!r}.",
            )
        return names


def _enter_parent(parent: int, name: str) -> int:
    """Open a directory that mostly exists already."""
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        return _enter(parent, name)


def _enter(parent: int, name: str) -> int:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)
    return os.open(name, _DIRECTORY, dir_fd=parent)


def make_work_directory(directory_fd: int) -> int:
    """The descriptor of `work/` in an attempt's directory."""
    try:
        return _enter(directory_fd, "work")
    except OSError as error:
        raise LaunchFailure(
            "working directory",
            error.errno or 0,
            f"The directory 'work' cannot be made: {error.strerror}.",
        ) from None


def make_stdin(data: bytes) -> int:
    """A read-only descriptor of `data`, in memory, so that no writer ever waits for the job."""
    fd = os.memfd_create("stdin", os.MFD_CLOEXEC)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise LaunchFailure(
            "standard input",
            error.errno or 0,
            f"{len(data)} bytes cannot be kept: {error.strerror}.",
        ) from None
    finally:
        os.close(fd)


def launch(program: Program) -> int:
    """Start a program and return its pid; raises LaunchFailure and nothing else."""
    _change_directory(program)
    path = find_program(program.argv[0], program.env["PATH"])
    try:
        return os.posix_spawn(
            path,
            program.argv,
            program.env,
            file_actions=(
                (os.POSIX_SPAWN_DUP2, program.stdin, 0),
                (os.POSIX_SPAWN_DUP2, program.stdout, 1),
                (os.POSIX_SPAWN_DUP2, program.stderr, 2),
            ),
            setsid=True,
            setsigmask=(),
            setsigdef=_DEFAULT_SIGNALS,
        )
    except OSError as error:
        raise _explained(path, program, error) from None
    except (ValueError, TypeError) as error:  # a NUL, or a lone surrogate
        raise LaunchFailure(
            "program", errno.EINVAL, f"Arguments and environment cannot be passed on: {error}."
        ) from None


def _change_directory(program: Program) -> None:
    try:
        if program.work_dir is None:
            os.fchdir(program.work_fd)
        else:
            os.chdir(program.work_dir)
    except OSError as error:
        reason = {
            errno.ENOENT: "does not exist",
            errno.ENOTDIR: "is not a directory",
            errno.EACCES: "may not be entered",
        }.get(error.errno or 0, f"cannot be entered: {error.strerror}")
        raise LaunchFailure(
            "working directory",
            error.errno or 0,
            f"The working directory {program.work_dir!r} {reason}.",
        ) from None
    except ValueError as error:
        raise LaunchFailure(
            "working directory", errno.EINVAL, f"The working directory cannot be a path: {error}."
        ) from None


def find_program(name: str, path: str) -> str:
    """Where a program is, by the rules of execvp(3); LaunchFailure when it is nowhere."""
    if "/" in name:
        return name
    forbidden = ""
    for place in path.split(":"):
        candidate = f"{place or '.'}/{name}"
        try:
            if not stat.S_ISREG(os.stat(candidate).st_mode):
                continue
        except (OSError, ValueError):
            continue
        if os.access(candidate, os.X_OK):
            return candidate
        forbidden = forbidden or candidate
    if forbidden:
        raise LaunchFailure(
            "program", errno.EACCES, f"The program {forbidden!r} is not executable."
        )
    raise LaunchFailure(
        "program", errno.ENOENT, f"The program {name!r} was not found in PATH ({path})."
    )


def _explained(path: str, program: Program, error: OSError) -> LaunchFailure:
    """Say what a failed exec means for the person who wrote the command."""
    code = error.errno or 0
    if code in (errno.EAGAIN, errno.ENOMEM):
        return LaunchFailure("process", code, f"The host cannot start a process: {error.strerror}.")
    if code == errno.E2BIG:
        size = sum(len(text) + 1 for text in program.argv)
        size += sum(len(name) + len(value) + 2 for name, value in program.env.items())
        reason = (
            f"The arguments and the environment of {path!r} are larger than the system"
            f" accepts ({size} characters)."
        )
    elif code == errno.ENOENT:
        reason = _explained_absence(path)
    elif code == errno.EACCES:
        reason = f"The program {path!r} {_explained_refusal(path)}."
    elif code == errno.ENOEXEC:
        reason = (
            f"The program {path!r} is neither an executable of this machine nor a script"
            " that begins with '#!'."
        )
    else:
        reason = f"The program {path!r} cannot be executed: {error.strerror}."
    return LaunchFailure("program", code, reason)


def _explained_absence(path: str) -> str:
    try:
        with open(path, "rb") as file:
            first = file.readline(256)
    except OSError:
        return f"The program {path!r} does not exist."
    if first.startswith(b"#!"):
        interpreter = os.fsdecode(first[2:].split()[0]) if first[2:].split() else ""
        return f"The interpreter {interpreter!r} of the script {path!r} does not exist."
    return f"The loader of the program {path!r} does not exist."


def _explained_refusal(path: str) -> str:
    if os.path.isdir(path):
        return "is a directory"
    if os.path.exists(path) and not os.access(path, os.X_OK):
        return "is not executable"
    return "or its interpreter may not be executed"


class FileLimit:
    """Many descriptors for the runner, and for jobs the soft limit it was started with."""

    def __init__(self) -> None:
        self.soft, self.hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._differs = self.soft != self.hard

    def raise_ours(self) -> None:
        if self._differs:
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (self.hard, self.hard))

    def lower_for_jobs(self) -> None:
        """Around a spawn; descriptors above the soft limit stay open."""
        if self._differs:
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.soft, self.hard))
