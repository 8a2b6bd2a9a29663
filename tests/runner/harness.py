"""A runner of one's own, and a worker's end of its socket that remembers all it heard."""

import contextlib
import json
import os
import re
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jobservice
from jobservice import mutants
from jobservice.testing.wait import wait_until

PROGRAM = Path(jobservice.__file__).parent / "runner" / "__main__.py"
DEADLINE_S = 2.0 if mutants.VARIABLE in os.environ else 20.0
"""How long anything is waited for; not for long with a mutant, which may be why it does not come."""
SHELL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Message = dict[str, Any]


def frame(message: object) -> bytes:
    body = json.dumps(message).encode()
    return len(body).to_bytes(4, "big") + body


def process_lines(pid: int, name: str) -> dict[str, str]:
    """The `Name: value` lines of /proc/PID/`name`."""
    text = Path(f"/proc/{pid}/{name}").read_text()
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def is_gone(pid: int) -> bool:
    """Whether a process lives no more. Who is to reap it, if not the runner, may take his time."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def holders(token: str) -> list[int]:
    """Living processes whose command line or environment holds a token."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            about = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            if token.encode() in about:
                found.append(int(entry.name))
    return found


class Connection:
    """What a worker sees of the runner."""

    def __init__(self, path: Path, *, greet: bool = True) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADLINE_S)
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise
        self._buffer = b""
        self.started: dict[str, tuple[int, int]] = {}
        self.progress: dict[str, list[tuple[float, str]]] = {}
        self.ends: dict[str, Message] = {}
        self.told: Counter[str] = Counter()
        self.hello: Message = {}
        if greet:
            self.send({"type": "hello", "protocol": 1})
            self.hello = self.receive()

    def send(self, message: object) -> None:
        self.socket.sendall(frame(message))

    def receive(self) -> Message:
        """The next message; ConnectionResetError when there will be none."""
        length = int.from_bytes(self._exactly(4), "big")
        message: Message = json.loads(self._exactly(length))
        return message

    def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            data = self.socket.recv(1 << 20)
            if not data:
                raise ConnectionResetError
            self._buffer += data
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    def hear(self) -> None:
        """Take in the next reports."""
        message = self.receive()
        assert message["type"] == "reports", message
        for key, at_ns, pid in message["started"]:
            self.started[key] = (at_ns, pid)
        for key, _, percent, step in message["progress"]:
            self.progress.setdefault(key, []).append((percent, step))
        for end in message["ended"]:
            self.told[end["key"]] += 1
            self.ends[end["key"]] = end

    def hear_until(self, fact: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not fact():
            assert time.monotonic() < deadline, f"{what} did not come"
            self.hear()

    def start(self, *orders: Message) -> None:
        self.send({"type": "start", "attempts": list(orders)})

    def stop(self, *keys: str) -> None:
        self.send({"type": "stop", "keys": list(keys)})

    def acknowledge(self, *keys: str) -> None:
        self.send({"type": "ack", "keys": list(keys)})

    def pid_of(self, key: str) -> int:
        self.hear_until(lambda: key in self.started, f"the start of {key}")
        return self.started[key][1]

    def end_of(self, key: str) -> Message:
        self.hear_until(lambda: key in self.ends, f"the end of {key}")
        return self.ends[key]

    def wait_closed(self) -> None:
        with contextlib.suppress(ConnectionResetError):
            while True:
                self.hear()

    def close(self) -> None:
        self.socket.close()


class Host:
    """A data directory, the runner that serves it, and what must not be left of it."""

    def __init__(self, directory: Path, containment: str) -> None:
        self.directory = directory
        self.containment = containment
        self.attempts = directory / "attempts"
        self.socket_path = directory / "runner" / "runner.sock"
        self._connections: list[Connection] = []

    # --- the runner ----------------------------------------------------------------------------

    def run(self, *, idle_s: float = 60.0, failpoint: str = "", flags: tuple[str, ...] = ()) -> str:
        """Start a runner; returns what it says of its readiness."""
        ready, theirs = os.pipe()
        environment = {"JOBSERVICE_FAILPOINT": failpoint} if failpoint else {}
        environment |= {k: v for k, v in os.environ.items() if k == mutants.VARIABLE}
        log = self.directory / "log"
        pid = os.posix_spawn(
            sys.executable, [*self.command(idle_s, flags), "--ready-fd", "3"], environment,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, theirs, 3),
                (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )  # fmt: skip
        os.close(theirs)
        with os.fdopen(ready) as file:
            answer = file.read()
        os.waitpid(pid, 0)
        return answer

    def command(self, idle_s: float = 60.0, flags: tuple[str, ...] = ()) -> list[str]:
        return [
            sys.executable, "-I", "-S", "-X", "utf8", str(PROGRAM), "jobservice.runner",
            "--dir", str(self.directory / "runner"), "--attempts", str(self.attempts),
            "--containment", self.containment, "--idle", str(idle_s), *flags,
        ]  # fmt: skip

    @property
    def pid(self) -> int:
        return int((self.directory / "runner" / "lock").read_text())

    def connect(self, *, greet: bool = True) -> Connection:
        connection = Connection(self.socket_path, greet=greet)
        self._connections.append(connection)
        return connection

    def begin(self, **options: Any) -> Connection:
        """Start a runner and connect to it."""
        answer = self.run(**options)
        assert answer == "ready", answer
        return self.connect()

    def kill(self) -> None:
        """SIGKILL the runner."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: is_gone(pid), what="the death of the runner")

    def leave(self) -> None:
        """Have the runner stop everything and leave."""
        with contextlib.suppress(OSError):
            pid = self.pid
            connection = self.connect()
            connection.send({"type": "shutdown", "stop_jobs": True})
            connection.wait_closed()
            wait_until(lambda: is_gone(pid), timeout_s=DEADLINE_S, what="the end of the runner")

    def attempt_descriptors(self) -> list[str]:
        """What the runner holds open of attempts: pipes, directories, files."""
        found = []
        for entry in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = str(entry.readlink())
                if target.startswith(("pipe:", f"{self.attempts}/")):
                    found.append(target)
        return found

    # --- orders --------------------------------------------------------------------------------

    def order(self, key: str, argv: list[str] | str, **changes: Any) -> Message:
        """An order; a text is a command of the shell."""
        return {
            "key": key, "directory": str(self.place(key)),
            "argv": ["sh", "-c", argv] if isinstance(argv, str) else argv,
            "env": {}, "fixed_env": {}, "stdin": "", "work_dir": None, "run_timeout_s": None,
            "stop_grace_s": 2.0, "output_limit_bytes": 1 << 30,
        } | changes  # fmt: skip

    def place(self, key: str) -> Path:
        return self.attempts / "shard" / key.replace("/", "-")

    def stdout(self, key: str) -> bytes:
        return self._bytes(key, "stdout")

    def stderr(self, key: str) -> bytes:
        return self._bytes(key, "stderr")

    def _bytes(self, key: str, name: str) -> bytes:
        path = self.place(key) / name
        return path.read_bytes() if path.exists() else b""

    # --- nothing is left -----------------------------------------------------------------------

    def cgroups(self) -> list[str]:
        """The cgroups of this data directory."""
        path = self.directory / "runner" / "id"
        name = f"jobservice-{path.read_text()}" if path.exists() else "jobservice-none"
        mounts = re.findall(
            r"^\S+ \S+ \S+ \S+ (\S+) .* - cgroup2 ",
            Path("/proc/self/mountinfo").read_text(),
            re.MULTILINE,
        )
        return [place for mount in mounts for place, _, _ in os.walk(mount) if name in place]

    def assert_nothing_left(self) -> None:
        self.leave()
        for connection in self._connections:
            connection.close()
        try:
            wait_until(
                lambda: not holders(str(self.directory)),
                timeout_s=DEADLINE_S,
                what="the end of every process",
            )
        finally:
            for pid in holders(str(self.directory)):  # where this fails: in nobody's way any more
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        assert not self.cgroups()
        log = self.directory / "log"
        text = log.read_text() if log.exists() else ""
        assert "Traceback" not in text, text


@contextlib.contextmanager
def hosted(directory: Path, containment: str) -> Iterator[Host]:
    """A host; at the end nothing may be left of it."""
    host = Host(directory, containment)
    try:
        yield host
    except BaseException:
        with contextlib.suppress(Exception):
            host.leave()
        raise
    host.assert_nothing_left()
