"""A real service in processes of its own, for tests: start it, kill it, and see what it leaves."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from jobservice import mutants
from jobservice.testing.wait import wait_until

START_S = 30.0
STOP_S = 35.0
COMMAND = Path(sys.executable).with_name("jobservice")


class Server:
    """`jobservice serve` on a data directory. Leave it by `stop`, `kill` or the `with` block."""

    program: ClassVar[Sequence[str]] = (str(COMMAND),)
    _words: Sequence[str] = ("serve",)

    def __init__(
        self,
        data_dir: Path,
        *options: str,
        tcp: bool = False,
        env: dict[str, str] | None = None,
        database: str | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.database = database
        """Of PostgreSQL; None is the file of the data directory."""
        self._options = [*options, *(("--listen", "127.0.0.1:0") if tcp else ())]
        self.env = {"JOBSERVICE_RUNNER_IDLE_S": "0.5", **(env or {})}
        """What the next start finds in its environment besides that of this process."""
        if database is not None:
            self.env["JOBSERVICE_DATABASE"] = database
        self.process: subprocess.Popen[bytes] | None = None
        self.log_path = data_dir.parent / f"{data_dir.name}.log"

    @property
    def unix_address(self) -> str:
        """The address of the Unix socket."""
        return f"unix:{self.data_dir}/jobservice.sock"

    @property
    def tcp_address(self) -> str:
        """The address on loopback, when asked for with `tcp`."""
        lock: dict[str, list[str]] = json.loads((self.data_dir / "lock").read_text())
        return next(each for each in lock["addresses"] if not each.startswith("unix:"))

    @property
    def pid(self) -> int:
        """Of the server."""
        assert self.process is not None
        return self.process.pid

    @property
    def worker_id(self) -> str:
        """Of its worker, once it has begun."""
        return (self.data_dir / "worker-id").read_text().strip()

    def start(self, *, may_end: bool = False) -> Self:
        """Start the service and wait until it is ready; with `may_end`, or until it has ended."""
        self.spawn()
        wait_until(self._ready_or_ended, timeout_s=START_S, what="a service that is ready")
        if not may_end and self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"the service ended:\n{self.log_tail()}")
        return self

    def spawn(self) -> None:
        """Start the service without waiting."""
        command = [*self.program, *self._words, "--data-dir", str(self.data_dir), *self._options]
        ours = {k for k in os.environ if k.startswith("JOBSERVICE_")} - {mutants.VARIABLE}
        environment = {k: v for k, v in os.environ.items() if k not in ours}
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own command
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**environment, **self.env},
                start_new_session=True,
            )

    def stop(self) -> int:
        """Ask it to end, as an operator would; returns its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)

    def kill(self) -> None:
        """End it without a warning."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(STOP_S)

    def wait(self) -> int:
        """Its exit code, once it ends by itself."""
        assert self.process is not None
        return self.process.wait(START_S)

    def runner(self) -> psutil.Process | None:
        """The runner of the data directory, if one lives."""
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if "jobservice.runner" in words and any(str(self.data_dir) in each for each in words):
                return process
        return None

    def log_tail(self, lines: int = 30) -> str:
        """The end of what the service logged."""
        text = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def said(self, event: str) -> Iterator[Mapping[str, Any]]:
        """What it logged of an event, over all its starts; a line that a kill has torn is left out."""
        for line in self.log_path.read_text(errors="replace").splitlines():
            if f'"event": "{event}"' in line:
                with contextlib.suppress(ValueError):
                    yield json.loads(line)

    def leftovers(self) -> list[str]:
        """Processes that still belong to the data directory: the server, the runner, their jobs."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                about = [*process.cmdline(), *process.environ().values()]
                if process.status() != psutil.STATUS_ZOMBIE and any(
                    str(self.data_dir) in each for each in about
                ):
                    found.append(f"{process.pid} {' '.join(process.cmdline())[:200]}")
        return [each for each in found if not each.startswith(f"{os.getpid()} ")]

    def job_processes(self) -> list[str]:
        """The same without the server and the runner: processes of jobs, and what holds them."""
        runner = self.runner()
        known = {str(self.pid), str(runner.pid) if runner else ""}
        return [each for each in self.leftovers() if each.partition(" ")[0] not in known]

    @contextlib.contextmanager
    def stopped_at_the_end(self) -> Iterator[Self]:
        """The service, which is stopped when the block is left."""
        try:
            yield self
        finally:
            if self.process is not None and self.process.poll() is None:
                self.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()

    def _ready_or_ended(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None or self.is_ready()

    def is_ready(self) -> bool:
        """Whether it serves, as its health check says."""
        with _channel(self.unix_address) as channel, contextlib.suppress(grpc.RpcError):
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=2.0
            )
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
        return False


class RemoteWorker(Server):
    """`jobservice worker` on a data directory, for servers at some addresses; used like a `Server`."""

    def __init__(
        self, data_dir: Path, *addresses: str, slots: int = 2, env: dict[str, str] | None = None
    ) -> None:
        super().__init__(data_dir, "--slots", str(slots))
        self.env = {"JOBSERVICE_WORKER_RUNNER_IDLE_S": "0.5", **(env or {})}
        self._words = ("worker", "--server", ",".join(addresses))

    def spawn(self) -> None:
        self._log_begin = self.log_path.stat().st_size if self.log_path.exists() else 0
        super().spawn()

    def is_ready(self) -> bool:
        """Whether it works, as its log says since the last start."""
        return b'"event": "working"' in self.log_path.read_bytes()[self._log_begin :]


@contextlib.contextmanager
def _channel(address: str) -> Iterator[grpc.Channel]:
    channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
    try:
        yield channel
    finally:
        channel.close()
