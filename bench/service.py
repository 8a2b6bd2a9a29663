"""The service under measurement, in processes of its own, and raw calls to it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import grpc

from bench.profiling import Profiler
from jobservice.model.lifecycle import FINAL, State
from jobservice.wire import messages as pb

COMMAND = Path(sys.executable).with_name("jobservice")
START_S = 30.0
STOP_S = 40.0
LOOK_EVERY_S = 0.02
CALL = "/jobservice.v1.JobService/"

Call = Callable[[bytes], bytes]
"""A unary call with the bytes of its messages."""


class Service:
    """`jobservice serve` on a fresh data directory, for a `with` block."""

    def __init__(
        self,
        data_dir: Path,
        *options: str,
        slots: int = 2,
        tcp: bool = False,
        profiler: Profiler | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.unix_address = f"unix:{data_dir}/jobservice.sock"
        self._slots = slots
        self._options = ["--slots", str(slots), *options]
        self._options += ["--listen", "127.0.0.1:0"] if tcp else []
        self._log_path = data_dir.with_suffix(".log")
        self._profiler = profiler
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        command = [str(COMMAND), "serve", "--data-dir", str(self.data_dir), *self._options]
        env = {k: v for k, v in os.environ.items() if not k.startswith("JOBSERVICE_")}
        env["JOBSERVICE_RUNNER_IDLE_S"] = "0.5"
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env
            )
        wait_for(lambda: self._ended() or bool(self._addresses()), START_S, "the service to serve")
        if self._ended():
            raise RuntimeError(f"the service ended:\n{self._log_path.read_text()[-2000:]}")
        if self._profiler is not None:
            self._profile(self._profiler)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        if self._profiler is not None:
            self._profiler.finish()
        runner = self.runner_pid()
        end(self._process)
        if runner:
            wait_for(lambda: not is_alive(runner), STOP_S, "the runner to leave")

    @property
    def pid(self) -> int:
        """Of the server."""
        assert self._process is not None
        return self._process.pid

    @property
    def tcp_address(self) -> str:
        """HOST:PORT on loopback."""
        return next(each for each in self._addresses() if not each.startswith("unix:"))

    def runner_pid(self) -> int:
        """Of the runner; 0 when none lives."""
        try:
            pid = int((self.data_dir / "runner" / "lock").read_text())
        except (OSError, ValueError):
            return 0
        return pid if is_alive(pid) else 0

    def _profile(self, profiler: Profiler) -> None:
        profiler.attach("server", self.pid)
        if self._slots:
            wait_for(lambda: bool(self.runner_pid()), START_S, "the runner")
            profiler.attach("runner", self.runner_pid())

    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _addresses(self) -> list[str]:
        try:
            lock: dict[str, list[str]] = json.loads((self.data_dir / "lock").read_text())
        except (OSError, ValueError):
            return []
        return lock["addresses"]


def wait_for(look: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Look until it is so.

    Raises:
        TimeoutError: it did not come in time.
    """
    deadline = time.monotonic() + timeout_s
    while not look():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s} s for {what}")
        time.sleep(LOOK_EVERY_S)


def is_alive(pid: int) -> bool:
    """Whether a process lives; one that has ended and waits to be reaped does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process that we started to end, and see to it."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


# --- calls ------------------------------------------------------------------------------------


@contextlib.contextmanager
def connected(address: str) -> Iterator[grpc.Channel]:
    """A channel of its own."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    channel = grpc.insecure_channel(address, options=options)
    try:
        grpc.channel_ready_future(channel).result(timeout=START_S)
        yield channel
    finally:
        channel.close()


def raw(channel: grpc.Channel, method: str) -> Call:
    """A method of the service by its name, without encoding or decoding."""
    call: Any = channel.unary_unary(f"{CALL}{method}")
    return cast(Call, call)


def create_request(*argv: str, name: str = "") -> pb.CreateJobRequest:
    """What every row submits: an ordinary small job."""
    return pb.CreateJobRequest(job=pb.Job(name=name, command=pb.Command(argv=argv)))


def batch(size: int, *argv: str, name: str = "") -> bytes:
    """A batch of such jobs, ready to be sent."""
    one = create_request(*argv, name=name)
    return pb.BatchCreateJobsRequest(requests=[one] * size).SerializeToString()


def jobs_named(channel: grpc.Channel, name: str) -> Iterator[pb.Job]:
    """Every job of a name, as the service tells it."""
    list_jobs = raw(channel, "ListJobs")
    token = ""
    while True:
        request = pb.ListJobsRequest(name=name, page_size=1000, page_token=token)
        page = pb.ListJobsResponse.FromString(list_jobs(request.SerializeToString()))
        yield from page.jobs
        token = page.next_page_token
        if not token:
            return


def read_logs(channel: grpc.Channel, job_id: str) -> bytes:
    """All output of the newest attempt of a job."""
    call: Any = channel.unary_stream(f"{CALL}ReadLogs")
    answers = call(pb.ReadLogsRequest(job_id=job_id).SerializeToString())
    return b"".join(pb.ReadLogsResponse.FromString(each).data for each in answers)


def is_final(channel: grpc.Channel, job_id: str) -> bool:
    """Whether a job has come to its end."""
    answer = raw(channel, "GetJob")(pb.GetJobRequest(job_id=job_id).SerializeToString())
    return State(pb.GetJobResponse.FromString(answer).job.state) in FINAL


def is_quiet(channel: grpc.Channel) -> bool:
    """Whether every job is final."""
    request = pb.ListActiveJobsRequest(page_size=1).SerializeToString()
    answer = raw(channel, "ListActiveJobs")(request)
    return not pb.ListActiveJobsResponse.FromString(answer).jobs
