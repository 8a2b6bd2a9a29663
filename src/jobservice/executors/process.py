"""The executor of this host: it speaks to the runner over its socket, and starts it if there is none.

The runner outlives us. We connect, say hello, and hear of everything it knows; from then on frames go
both ways (`runner/protocol.py` describes them). Nothing here polls: writes are gathered and sent once
per turn of the loop, reads come from the loop, and a runner that is being started is waited for
through a pipe. The module does not import the runner: what both must agree on is written twice, and a
test holds the two together.
"""

import asyncio
import base64
import contextlib
import datetime as dt
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import jobservice
from jobservice import clock
from jobservice.errors import ExecutorUnavailable
from jobservice.executors.port import (
    Ended,
    KnownAttempt,
    Phase,
    Progressed,
    Report,
    Started,
    StartOrder,
)
from jobservice.model.attempt import Cause, Fence, Outcome
from jobservice.telemetry import logger

PROTOCOL = 1
SILENCED = "silenced"
"""The cause of the end of what the runner ended because our time was over."""
FRAME_LIMIT_BYTES = 32 * 1024 * 1024
_BATCH_BYTES = 4 * 1024 * 1024
_LENGTH_BYTES = 4

CONNECT_S = 20.0
"""All of `connect`: a new runner first ends what a dead one left, for 5 s at most."""
HELLO_S = 5.0
LEAVE_S = 5.0
"""How long `close` waits for a runner that was told to leave."""
_AGAIN_S = 0.05
_LOG_BYTES = 1024 * 1024

Message = dict[str, Any]


def version_numbers(version: str) -> tuple[int, ...]:
    """A version to compare: the numbers at its beginning."""
    numbers = []
    for part in version.split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers)


class _Link(asyncio.Protocol):
    """One connection: bytes to messages and back."""

    def __init__(self, on_message: Callable[[Message], None], on_lost: Callable[[], None]) -> None:
        self._on_message = on_message
        self._on_lost = on_lost
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._pending: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self.closed = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        start = 0
        while len(self._buffer) - start >= _LENGTH_BYTES:
            body = start + _LENGTH_BYTES
            length = int.from_bytes(self._buffer[start:body], "big")
            if len(self._buffer) - body < length:
                break
            start = body + length
            self._on_message(json.loads(self._buffer[body:start]))
        del self._buffer[:start]

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        if not self.closed.done():
            self.closed.set_result(None)
            self._on_lost()

    def send(self, message: Message) -> None:
        """Send a frame at the end of this turn of the loop."""
        body = json.dumps(message, separators=(",", ":")).encode()
        if not self._pending:
            self._loop.call_soon(self._flush)
        self._pending.append(len(body).to_bytes(_LENGTH_BYTES, "big") + body)

    def _flush(self) -> None:
        frames, self._pending = self._pending, []
        if self._transport is not None:
            self._transport.write(b"".join(frames))

    def close(self) -> None:
        """Close without calling `on_lost`."""
        if not self.closed.done():
            self.closed.set_result(None)
        if self._transport is not None:
            self._flush()
            self._transport.close()


class ProcessExecutor:
    """Attempts as processes of this host, below `data_dir/attempts`, by the runner of `data_dir`."""

    def __init__(self, data_dir: Path, *, containment: str = "auto", idle_s: float = 60.0) -> None:
        self._runner_dir = data_dir.absolute() / "runner"
        self._attempts_dir = data_dir.absolute() / "attempts"
        self._containment = containment
        self._idle_s = idle_s
        self._link: _Link | None = None
        self._hello: asyncio.Future[Message] | None = None
        self._on_reports: Callable[[Sequence[Report]], None] = lambda _: None
        self._early: list[Message] | None = None
        self._log = logger("executor")
        self.containment = ""
        """What is in force, after `connect`: cgroup or subreaper."""
        self.runner_pid = 0

    # --- the verbs -----------------------------------------------------------------------------

    async def connect(
        self,
        on_reports: Callable[[Sequence[Report]], None],
        on_lost: Callable[[], None],
    ) -> Sequence[KnownAttempt]:
        self._on_reports = on_reports
        self._drop_link()
        try:
            async with asyncio.timeout(CONNECT_S):
                hello = await self._greet(on_lost)
                if version_numbers(hello["software"]) < version_numbers(jobservice.__version__):
                    hello = await self._upgrade(on_lost)
        except TimeoutError:
            raise ExecutorUnavailable(
                f"The runner of {self._runner_dir} does not answer; its pid is in"
                f" {self._runner_dir / 'lock'}, and {self._runner_dir / 'runner.log'} may say why."
            ) from None
        except OSError as error:
            raise ExecutorUnavailable(f"The runner cannot be started: {error}.") from error
        if hello["protocol"] != PROTOCOL:
            self._drop_link()
            raise ExecutorUnavailable(
                f"The runner of {self._runner_dir} speaks protocol {hello['protocol']} and this"
                f" version {PROTOCOL}; it serves running jobs of another version. Use that version,"
                " or end the runner once its jobs have ended."
            )
        self.containment = hello["containment"]
        self.runner_pid = hello["pid"]
        asyncio.get_running_loop().call_soon(self._release_early)
        return list(_known(hello["attempts"]))

    def start(self, orders: Sequence[StartOrder]) -> None:
        for batch in _batches([self._order(order) for order in orders]):
            self._send({"type": "start", "attempts": batch})

    def stop(self, fences: Sequence[Fence]) -> None:
        if fences:
            self._send({"type": "stop", "keys": [str(fence) for fence in fences]})

    def keep_until(self, until_s: float | None) -> None:
        self._send({"type": "leash", "until": until_s})

    def acknowledge(self, fences: Sequence[Fence]) -> None:
        if fences:
            self._send({"type": "ack", "keys": [str(fence) for fence in fences]})

    async def close(self, *, stop_runner: bool) -> None:
        link = self._link
        if link is not None and stop_runner:
            self._send({"type": "shutdown", "stop_jobs": False})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LEAVE_S):
                    self._link = None
                    await asyncio.shield(link.closed)
        if link is not None:
            link.close()
        self._link = None

    # --- the connection ------------------------------------------------------------------------

    def _send(self, message: Message) -> None:
        """Send, or drop it: who lost the runner learns from `connect` what it knows."""
        if self._link is not None:
            self._link.send(message)

    def _drop_link(self) -> None:
        if self._link is not None:
            self._link.close()
        self._link = None

    async def _greet(self, on_lost: Callable[[], None]) -> Message:
        """Connect and say hello, as often as it takes, starting a runner if there is none."""
        while True:
            try:
                return await self._greet_once(on_lost)
            except (FileNotFoundError, ConnectionError):
                await self._start_runner()

    async def _greet_once(self, on_lost: Callable[[], None]) -> Message:
        loop = asyncio.get_running_loop()
        hello: asyncio.Future[Message] = loop.create_future()
        self._hello = hello
        self._early = []
        _, link = await loop.create_unix_connection(
            lambda: _Link(self._take, lambda: self._lost(on_lost)), sock=self._dial()
        )
        self._link = link
        link.send({"type": "hello", "protocol": PROTOCOL})
        async with asyncio.timeout(HELLO_S):
            return await hello

    def _dial(self) -> socket.socket:
        """A connected socket. A Unix connect does not wait: there is a queue, or there is nobody."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.connect(str(self._runner_dir / "runner.sock"))
        except OSError:
            sock.close()
            raise
        return sock

    def _lost(self, on_lost: Callable[[], None]) -> None:
        """The connection broke: before the hello `_greet` tries again, after it the caller must."""
        if self._hello is not None and not self._hello.done():
            self._hello.set_exception(ConnectionResetError("the runner left"))
        elif self._link is not None:
            self._link = None
            on_lost()

    async def _upgrade(self, on_lost: Callable[[], None]) -> Message:
        """Have an older runner become this version; it keeps its jobs."""
        assert self._link is not None
        link, self._link = self._link, None
        link.send({"type": "upgrade", "command": self._command()})
        await asyncio.shield(link.closed)
        return await self._greet(on_lost)

    # --- what the runner tells -----------------------------------------------------------------

    def _take(self, message: Message) -> None:
        if message.get("type") == "hello":
            if self._hello is not None and not self._hello.done():
                self._hello.set_result(message)
        elif message.get("type") == "reports":
            if self._early is not None:
                self._early.append(message)
            else:
                self._pass_on(message)

    def _release_early(self) -> None:
        """Pass on what came before `connect` had returned."""
        early, self._early = self._early or [], None
        for message in early:
            self._pass_on(message)

    def _pass_on(self, message: Message) -> None:
        """Hand a frame on; a fault in that must not break the link, on which all jobs depend."""
        try:
            self._on_reports(list(_reports(message)))
        except Exception:  # noqa: BLE001  # one frame must not end the link
            self._log.exception("reports_not_heard")

    def _order(self, order: StartOrder) -> Message:
        return {
            "key": str(order.fence),
            "directory": str(order.directory.absolute()),
            "argv": list(order.argv),
            "env": order.env,
            "fixed_env": {
                "JOBSERVICE_JOB_ID": order.fence.job_id,
                "JOBSERVICE_ATTEMPT": str(order.fence.attempt),
            },
            "stdin": base64.b64encode(order.stdin).decode(),
            "work_dir": order.work_dir,
            "run_timeout_s": order.run_timeout_s,
            "stop_grace_s": order.stop_grace_s,
            "output_limit_bytes": order.output_limit_bytes,
            "idle_timeout_s": order.idle_timeout_s,
        }

    # --- starting it ---------------------------------------------------------------------------

    def _command(self) -> list[str]:
        program = Path(jobservice.__file__).parent / "runner" / "__main__.py"
        return [
            sys.executable, "-I", "-S", "-X", "utf8", str(program), "jobservice.runner",
            "--dir", str(self._runner_dir), "--attempts", str(self._attempts_dir),
            "--containment", self._containment, "--idle", str(self._idle_s),
            "--software", jobservice.__version__,
        ]  # fmt: skip

    async def _start_runner(self) -> None:
        """Start a runner, detached, and wait until it serves or says why it cannot."""
        ready, theirs = os.pipe()
        try:
            pid = self._spawn_runner(theirs)
        finally:
            os.close(theirs)
        try:
            answer = await _read_to_end(ready)
        finally:
            os.close(ready)
        # It forked itself away from us before it did anything else: the parent has exited.
        await asyncio.to_thread(os.waitpid, pid, 0)
        if answer == "ready":
            return
        if "serves" not in answer:
            raise ExecutorUnavailable(f"The runner cannot be started: {answer or self._log_tail()}")
        await asyncio.sleep(
            _AGAIN_S
        )  # another one holds the lock: it serves, or leaves, any moment

    def _spawn_runner(self, ready: int) -> int:
        self._runner_dir.mkdir(0o700, parents=True, exist_ok=True)
        log = self._runner_dir / "runner.log"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        if log.exists() and log.stat().st_size > _LOG_BYTES:
            flags |= os.O_TRUNC
        environment = {"LANG": "C.UTF-8"}
        for switch in ("JOBSERVICE_FAILPOINT", "JOBSERVICE_MUTANT"):
            chosen = os.environ.get(switch, "")
            if chosen.startswith("runner."):
                environment[switch] = chosen
        return os.posix_spawn(
            sys.executable, [*self._command(), "--ready-fd", "3"], environment,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, ready, 3),
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )  # fmt: skip

    def _log_tail(self) -> str:
        try:
            lines = (self._runner_dir / "runner.log").read_text(errors="replace").splitlines()
        except OSError as error:
            return str(error)
        return lines[-1] if lines else "it said nothing"


async def _read_to_end(fd: int) -> str:
    """What the writer of a pipe says until it closes it."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    data = bytearray()
    os.set_blocking(fd, False)

    def read() -> None:
        piece = os.read(fd, 4096)
        data.extend(piece)
        if not piece and not ended.done():
            ended.set_result(None)

    loop.add_reader(fd, read)
    try:
        await ended
    finally:
        loop.remove_reader(fd)
    return data.decode(errors="replace").strip()


def _batches(orders: list[Message]) -> Iterator[list[Message]]:
    """Orders in frames well below the limit; what is large is the input."""
    batch: list[Message] = []
    size = 0
    for order in orders:
        if (batch and size + len(order["stdin"]) > _BATCH_BYTES) or len(batch) >= 1000:
            yield batch
            batch, size = [], 0
        batch.append(order)
        size += (
            len(order["stdin"])
            + sum(map(len, order["argv"]))
            + sum(len(name) + len(value) for name, value in order["env"].items())
        )
    if batch:
        yield batch


def _instant(nanoseconds: int) -> dt.datetime:
    return clock.from_us(nanoseconds // 1000)


def _fence(key: str) -> Fence | None:
    """The fence of a key; None for one that is not ours."""
    try:
        return Fence.parse(key)
    except ValueError:
        return None


def _known(attempts: list[Message]) -> Iterator[KnownAttempt]:
    for line in attempts:
        fence = _fence(line["key"])
        if fence is not None:
            started = line["started_at_ns"]
            yield KnownAttempt(
                fence, Phase(line["phase"]), None if started is None else _instant(started),
                line["pid"],
            )  # fmt: skip


def _reports(message: Message) -> Iterator[Report]:
    """The reports of a frame, in order per attempt, without those that make no sense."""
    for part, read in (("started", _started), ("progress", _progressed), ("ended", _ended)):
        for line in message[part]:
            try:
                report = read(line)
            except Exception:  # noqa: BLE001  # one must not keep the others away
                logger("executor").exception("report_makes_no_sense", report=line)
                continue
            if report is not None:
                yield report


def _started(line: list[Any]) -> Started | None:
    key, at_ns, pid = line
    fence = _fence(key)
    return None if fence is None else Started(fence, _instant(at_ns), pid)


def _progressed(line: list[Any]) -> Progressed | None:
    key, at_ns, percent, step = line
    fence = _fence(key)
    return None if fence is None else Progressed(fence, _instant(at_ns), percent, _text(step))


def _ended(end: Message) -> Ended | None:
    fence = _fence(end["key"])
    return None if fence is None else Ended(fence, _outcome(end), silenced=end["cause"] == SILENCED)


def _text(said: str) -> str:
    """What a job or its runner said, without what no store can keep: a NUL, a lone surrogate."""
    return said.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _outcome(end: Message) -> Outcome:
    started = end["started_at_ns"]
    return Outcome(
        cause=Cause.LOST if end["cause"] == SILENCED else Cause(end["cause"]),
        ended_at=_instant(end["ended_at_ns"]),
        started_at=None if started is None else _instant(started),
        exit_code=end["exit_code"],
        signal=end["signal"],
        message=_text(end["message"]),
        cpu_s=end["cpu_s"],
        max_rss_bytes=end["max_rss_bytes"],
        stdout_bytes=end["stdout_bytes"],
        stderr_bytes=end["stderr_bytes"],
        dropped_bytes=end["dropped_bytes"],
    )
