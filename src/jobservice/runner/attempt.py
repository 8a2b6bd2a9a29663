"""The life of an attempt: launch, timeouts, stop ladder, drain, end.

    starting --spawned--> running --stop, timeout--> stopping
        |                    |                          |
        | refused            | main process exits       | main process exits
        v                    v                          v
      ended <--- pipes drained <--- tree empty <--- what is left is stopped

An attempt ends when its main process was reaped, no process of its tree lives and its pipes are
drained. The job is its main process: what outlives it may linger for LINGER_S and is then stopped.
A stop is TERM to the whole tree, again for newcomers, and after the grace KILL, again until nothing
lives. The cause of an end is what ended the main process: when it had ended before a signal was sent,
that is EXIT, whatever was asked for.

Of a sign of life (a byte, a line of progress) only the time is noted. The timer of an idle timeout looks
at it when it fires, after it has read what is there, and is set anew as long as there was one.
"""

import base64
import contextlib
import os
import signal
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from . import failpoint, limits
from .containment import Exit, Tree
from .output import Output, Stream
from .progress import ProgressFile
from .protocol import End, Order, parse_order
from .reactor import IN, Timer
from .spawn import LaunchFailure, Program, environment, make_stdin, make_work_directory

if TYPE_CHECKING:
    from .attempts import Attempts

STARTING, RUNNING, STOPPING, ENDED = "starting", "running", "stopping", "ended"
EXIT, STOP, RUN_TIMEOUT, IDLE_TIMEOUT, LAUNCH_FAILED, LOST, SILENCED = (
    "exit",
    "stop",
    "run_timeout",
    "idle_timeout",
    "launch_failed",
    "lost",
    "silenced",
)


class Attempt:
    """One attempt that has not ended. It owns its directory's descriptor, its pipes and its timers."""

    __slots__ = (
        "alive_at",
        "cause",
        "directory_fd",
        "drain_timer",
        "exit",
        "host",
        "idle_timer",
        "key",
        "kill_at",
        "last_progress",
        "order",
        "output",
        "phase",
        "pid",
        "progress",
        "rescan_s",
        "started_at_ns",
        "step_timer",
        "timeout_timer",
        "tree",
    )

    def __init__(self, host: "Attempts", order: Order) -> None:
        self.host = host
        self.order = order
        self.key = order.key
        self.phase = STARTING
        self.cause = ""
        """What we did to it: STOP, RUN_TIMEOUT, IDLE_TIMEOUT, LOST, SILENCED; empty for nothing."""
        self.tree: Tree | None = None
        self.pid = 0
        self.started_at_ns: int | None = None
        self.exit: Exit | None = None
        self.directory_fd = -1
        self.output: Output | None = None
        self.progress = ProgressFile()
        self.last_progress: tuple[int, float, str] | None = None
        self.timeout_timer: Timer | None = None
        self.idle_timer: Timer | None = None
        self.alive_at = 0.0
        """The monotonic instant of its last sign of life."""
        self.step_timer: Timer | None = None
        self.drain_timer: Timer | None = None
        self.rescan_s = limits.RESCAN_FIRST_S
        self.kill_at = 0.0

    # --- launch --------------------------------------------------------------------------------

    def launch(self) -> None:
        """Make what the process needs and start it; a failure is an end."""
        try:
            self.directory_fd = self.host.directories.make(self.order.directory)
            self._launch_in_directory()
        except LaunchFailure as failure:
            self.refused(failure)
        except OSError as error:
            self.refused(
                LaunchFailure(
                    "descriptors", error.errno or 0, f"The host has none left: {error.strerror}."
                )
            )

    def _launch_in_directory(self) -> None:
        ours: list[int] = []
        try:
            stdin = self._open_stdin(ours)
            stdout, stderr = self._open_pipes(ours)
            work_fd = -1
            if self.order.work_dir is None:
                work_fd = make_work_directory(self.directory_fd)
                ours.append(work_fd)
            env = environment(
                self.order.env, self.order.fixed_env, self.key, f"{self.order.directory}/progress"
            )
            self.tree = self.host.containment.spawn(
                self,
                Program(self.order.argv, env, self.order.work_dir, work_fd, stdin, stdout, stderr),
            )
        finally:
            for fd in ours:
                os.close(fd)
        self._watch_output()

    def _open_stdin(self, ours: list[int]) -> int:
        if not self.order.stdin:
            return self.host.null
        fd = make_stdin(base64.b64decode(self.order.stdin))
        ours.append(fd)
        return fd

    def _open_pipes(self, ours: list[int]) -> tuple[int, int]:
        out, stdout = os.pipe2(os.O_CLOEXEC)
        ours.append(stdout)
        try:
            err, stderr = os.pipe2(os.O_CLOEXEC)
        except OSError:
            os.close(out)
            raise
        ours.append(stderr)
        os.set_blocking(out, False)
        os.set_blocking(err, False)
        self.output = Output(self.directory_fd, (out, err), self.order.output_limit_bytes)
        self.output.begin(time.time_ns())
        return stdout, stderr

    def _watch_output(self) -> None:
        if self.output is not None:
            for stream in (self.output.stdout, self.output.stderr):
                if stream.pipe >= 0:
                    self.host.reactor.watch(stream.pipe, IN, partial(self._pump, stream))

    def spawned(self, pid: int, start_time: int) -> None:
        """The main process exists: its timeouts begin."""
        self.pid = pid
        self.started_at_ns = time.time_ns()
        if self.phase == STARTING:
            self.phase = RUNNING
        if self.order.run_timeout_s is not None:
            self._time_out_at(time.monotonic() + self.order.run_timeout_s)
        if self.order.idle_timeout_s is not None:
            self.alive_at = time.monotonic()
            self._look_for_life_at(self._silent_at())
        self.host.note_spawned(self, start_time)

    def _time_out_at(self, due: float) -> None:
        self.timeout_timer = self.host.reactor.at(due, self._timed_out)

    def _look_for_life_at(self, due: float) -> None:
        self.idle_timer = self.host.reactor.at(due, self._look_for_life)

    def refused(self, failure: LaunchFailure) -> None:
        """No process came to be."""
        self.tree = None
        self._end(LAUNCH_FAILED, str(failure))

    # --- stop ----------------------------------------------------------------------------------

    def stop(self, cause: str) -> None:
        """Stop the tree; repeats do no harm."""
        if self.phase == ENDED or self.cause:
            return
        if self.tree is None and self.pid == 0:
            self._end(cause, "It was stopped before it was started.")
            return
        self.phase = STOPPING
        self.cause = cause
        if self.tree is not None:
            self._stop_tree(self.order.stop_grace_s if self.exit is None else self._leftover_s())

    def kill(self, cause: str) -> None:
        """End the tree without a grace, whatever was asked for before."""
        if self.phase == ENDED:
            return
        if self.tree is None and self.pid == 0:
            self._end(cause, "It was stopped before it was started.")
            return
        self.phase = STOPPING
        self.cause = cause
        if self.tree is not None:
            self._stop_tree(0.0)

    def _timed_out(self) -> None:
        self.host.reap()
        if self.exit is None:
            self.stop(RUN_TIMEOUT)

    def _look_for_life(self) -> None:
        """Stop an attempt that was silent for too long, or look again when it would be."""
        self.idle_timer = None
        if self._silent_at() <= time.monotonic():
            self._listen()
        if self.phase != RUNNING:
            return
        if time.monotonic() < self._silent_at():
            self._look_for_life_at(self._silent_at())
            return
        self.host.reap()
        if self.exit is None:
            self.stop(IDLE_TIMEOUT)

    def _silent_at(self) -> float:
        """When it will have been silent for too long."""
        return self.alive_at + (self.order.idle_timeout_s or 0.0)

    def _listen(self) -> None:
        """Take in what it said while we were busy, or stopped ourselves."""
        if self.output is not None:
            for stream in (self.output.stdout, self.output.stderr):
                if stream.pipe >= 0:
                    self._pump(stream)
        with contextlib.suppress(OSError):
            self.look_at_progress()

    def _stop_tree(self, grace_s: float) -> None:
        self._cancel(self.step_timer)
        self.kill_at = time.monotonic() + grace_s
        self.rescan_s = limits.RESCAN_FIRST_S
        self._step()

    def _step(self) -> None:
        """One step of the ladder; it is climbed until the tree is empty."""
        if self.tree is None:
            return
        left_s = self.kill_at - time.monotonic()
        if left_s > 0:
            wait_s = min(self.rescan_s, left_s)
            self.rescan_s = min(2 * self.rescan_s, limits.RESCAN_LAST_S)
        else:
            wait_s = limits.KILL_AGAIN_S
        # First of all, for a signal may fail: without a free descriptor, say.
        self.step_timer = self.host.reactor.after(wait_s, self._step)
        if left_s > 0:
            self.tree.terminate()
        elif failpoint.mutant("runner.kills_parent_alone"):
            if self.exit is None:  # else the pid may be another's by now
                os.kill(self.pid, signal.SIGKILL)
        else:
            self.tree.kill()

    # --- end -----------------------------------------------------------------------------------

    def exited(self, end: Exit) -> None:
        """The main process was reaped; its tree is empty too, or gets the ladder soon."""
        self.exit = end
        self._cancel(self.timeout_timer)
        self._cancel(self.idle_timer)
        failpoint.reach(failpoint.EXITED_UNREPORTED)
        if self.step_timer is None:
            self.step_timer = self.host.reactor.after(limits.LINGER_S, self._stop_leftover)

    def _stop_leftover(self) -> None:
        self._stop_tree(self._leftover_s())

    def _leftover_s(self) -> float:
        """The grace of what outlives its main process."""
        return min(limits.LEFTOVER_GRACE_S, self.order.stop_grace_s)

    def emptied(self) -> None:
        """Nothing lives any more; what is in the pipes is still to come."""
        self.tree = None
        self._cancel(self.step_timer)
        if self.output is not None:
            self._drain(self.output.stdout)
            self._drain(self.output.stderr)
            if self.output.is_open():
                self.drain_timer = self.host.reactor.after(limits.DRAIN_S, self._ended)
                return
        self._ended()

    def _drain(self, stream: Stream) -> None:
        """Read a stream to its end, but not for ever if an outsider keeps writing to it."""
        for _ in range(4):
            if stream.pipe < 0:
                return
            self._pump(stream)

    def _pump(self, stream: Stream) -> None:
        if self.output is None:
            return
        before = stream.total
        goes_on = self.output.pump(stream)
        if stream.total != before:
            self.alive_at = time.monotonic()
        if goes_on:
            return
        self.host.reactor.unwatch(stream.pipe)
        stream.close_pipe()
        if self.tree is None and not self.output.is_open():
            self._ended()

    def _ended(self) -> None:
        if self.exit is None:
            self._end(LOST, "Its supervisor was killed.")
        elif self.cause and self.exit.signalled:
            self._end(self.cause, "")
        else:
            self._end(EXIT, "")

    def _end(self, cause: str, message: str) -> None:
        """Let go of everything and hand in the end."""
        if self.phase == ENDED:
            return
        self.phase = ENDED
        for timer in (self.timeout_timer, self.idle_timer, self.step_timer, self.drain_timer):
            self._cancel(timer)
        sizes = self._finish_output()
        messages = [message, self._core_message(), self.output.complaint() if self.output else ""]
        if self.directory_fd >= 0:
            if self.pid:
                self.look_at_progress(final=True)
            os.close(self.directory_fd)
            self.directory_fd = -1
        self.host.note_end(
            self,
            End(
                self.key,
                cause,
                self.started_at_ns,
                time.time_ns(),
                *self._status(),
                " ".join(filter(None, messages))[: limits.MESSAGE_CHARACTERS],
                round(self.exit.cpu_s, 6) if self.exit else 0.0,
                self.exit.max_rss_bytes if self.exit else 0,
                *sizes,
            ),
        )

    def _status(self) -> tuple[int | None, int | None]:
        """Exit code and signal."""
        if self.exit is None:
            return None, None
        code = os.waitstatus_to_exitcode(self.exit.status)
        return (code, None) if code >= 0 else (None, -code)

    def _core_message(self) -> str:
        return "It dumped core." if self.exit and os.WCOREDUMP(self.exit.status) else ""

    def _finish_output(self) -> tuple[int, int, int]:
        output = self.output
        if output is None:
            return 0, 0, 0
        for stream in (output.stdout, output.stderr):
            self.host.reactor.unwatch(stream.pipe)
        output.finish()
        return output.stdout.total, output.stderr.total, output.dropped()

    def look_at_progress(self, *, final: bool = False) -> None:
        """Tell what the job wrote to its progress file since the last look."""
        found = self.progress.look(self.directory_fd, final=final)
        if self.progress.heard:
            self.alive_at = time.monotonic()
        if found is not None:
            self.last_progress = (time.time_ns(), *found)
            self.host.reports.add_progress(self.key, *self.last_progress)

    @staticmethod
    def _cancel(timer: Timer | None) -> None:
        if timer is not None:
            timer.cancel()

    # --- a new program in our place ------------------------------------------------------------

    def handover(self) -> dict[str, Any]:
        """What a re-executed runner needs; `resume` takes it. Timers are monotonic instants."""

        def due(timer: Timer | None) -> float | None:
            return timer.due if timer is not None and timer.callback is not None else None

        return {
            "order": self.order._asdict() | {"stdin": ""},
            "phase": self.phase,
            "cause": self.cause,
            "pid": self.pid,
            "started_at_ns": self.started_at_ns,
            "exit": self.exit,
            "directory_fd": self.directory_fd,
            "tree": self.tree.handover() if self.tree else None,
            "output": self.output.handover() if self.output else None,
            "progress": self.last_progress,
            "progress_file": self.progress.handover(),
            "timeout": due(self.timeout_timer),
            "idle": due(self.idle_timer),
            "alive_at": self.alive_at,
            "step": due(self.step_timer),
            "drain": due(self.drain_timer),
            "kill_at": self.kill_at,
        }

    @classmethod
    def resume(cls, host: "Attempts", state: dict[str, Any]) -> "Attempt":
        """The attempt that `handover` described."""
        attempt = cls(host, parse_order(state["order"]))
        attempt.phase, attempt.cause, attempt.pid = state["phase"], state["cause"], state["pid"]
        attempt.started_at_ns = state["started_at_ns"]
        attempt.exit = Exit(*state["exit"]) if state["exit"] else None
        attempt.directory_fd = state["directory_fd"]
        attempt.last_progress = tuple(state["progress"]) if state["progress"] else None
        attempt.kill_at = state["kill_at"]
        attempt.alive_at = state.get("alive_at", 0.0)  # an older runner knew of no silence
        if "progress_file" in state:
            attempt.progress.resume(state["progress_file"])
        if state["output"]:
            attempt.output = Output.resume(attempt.directory_fd, state["output"])
            attempt._watch_output()
        if state["tree"]:
            attempt.tree = host.containment.adopt(attempt, state["tree"])
        if state["timeout"]:
            attempt._time_out_at(state["timeout"])
        if state.get("idle"):
            attempt._look_for_life_at(state["idle"])
        if state["step"]:
            attempt.step_timer = host.reactor.at(state["step"], attempt._resume_step)
        if state["drain"]:
            attempt.drain_timer = host.reactor.at(state["drain"], attempt._ended)
        return attempt

    def _resume_step(self) -> None:
        if self.kill_at:
            self._step()
        else:
            self._stop_leftover()
