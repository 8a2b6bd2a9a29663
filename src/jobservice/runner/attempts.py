"""All attempts of a runner: what waits to be started, what runs, and what has ended.

What is told about them, and when they may be forgotten, is in `reports`; what one goes through is in
`attempt`.
"""

import contextlib
import os
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from . import failpoint, limits, log
from .attempt import ENDED, LAUNCH_FAILED, LOST, SILENCED, STARTING, STOP, STOPPING, Attempt
from .containment import Containment, reap_children
from .journal import Journal
from .leash import Leash
from .protocol import End, Order, parse_order
from .reactor import Reactor, Timer
from .reports import Reports
from .spawn import Directories, FileLimit

_SILENCE = "no service answered the worker in time"


class Attempts:
    """All attempts of this runner: what runs, what waits to be started, and what has ended."""

    def __init__(
        self, reactor: Reactor, journal: Journal, containment: Containment, directories: Directories
    ) -> None:
        self.reactor = reactor
        self.journal = journal
        self.containment = containment
        self.directories = directories
        self.reports = Reports()
        self.leash = Leash(reactor, self._silence)
        self.null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self.live: dict[str, Attempt] = {}
        self.lost: dict[str, int | None] = {}
        """Attempts of a dead runner whose processes are not yet proven gone: key, started_at_ns."""
        self._waiting: deque[Attempt] = deque()
        self._acknowledged: OrderedDict[str, End] = OrderedDict()
        self._files = FileLimit()
        self._files.raise_ours()
        self._progress_timer: Timer | None = None
        self._ends_in_turn = 0

    # --- what the worker asks for --------------------------------------------------------------

    def start(self, entries: Iterable[object]) -> None:
        """Take orders; those that are known already are told again, not started again."""
        fresh: dict[str, Attempt] = {}
        for entry in entries:
            order = self._parse(entry)
            if order is not None and order.key not in fresh and not self._tell_again(order.key):
                fresh[order.key] = Attempt(self, order)
        if self.leash.is_over():
            for key in fresh:
                self._add_end(End(key, SILENCED, None, time.time_ns(), message=_SILENCE))
            return
        if not fresh:
            return
        self.journal.add_intents([(key, each.order.directory) for key, each in fresh.items()])
        failpoint.reach(failpoint.INTENT_JOURNALED)
        self.live.update(fresh)
        self._waiting.extend(fresh.values())

    def _parse(self, entry: object) -> Order | None:
        """An order; None for one that makes no sense, which ends at once if it has a new key."""
        key = entry.get("key") if isinstance(entry, dict) else None
        try:
            order = parse_order(entry)
        except ValueError as error:
            log.say(f"an order makes no sense: {error}")
            if isinstance(key, str) and key and not self._tell_again(key):
                self._refuse(key, f"The order makes no sense: {error}.")
            return None
        if len(self.live) >= limits.ATTEMPTS_LIMIT and not self._tell_again(order.key):
            self._refuse(order.key, f"The runner has {limits.ATTEMPTS_LIMIT} attempts already.")
            return None
        return order

    def _refuse(self, key: str, message: str) -> None:
        self._add_end(End(key, LAUNCH_FAILED, None, time.time_ns(), message=message))

    def _tell_again(self, key: str) -> bool:
        """Whether an attempt is known; if it has ended, its end is told again."""
        if key in self.live or key in self.lost:
            return True
        end = self.reports.unacknowledged.get(key) or self._acknowledged.get(key)
        if end is None:
            return False
        self.reports.add_end(end)
        return True

    def stop(self, keys: Iterable[str]) -> None:
        """Stop attempts; one that nobody knows has ended as LOST."""
        self.reap()
        for key in keys:
            attempt = self.live.get(key)
            if attempt is not None:
                self._guarded(attempt, partial(attempt.stop, STOP))
            elif not self._tell_again(key):
                self._add_end(
                    End(
                        key,
                        LOST,
                        None,
                        time.time_ns(),
                        message="The runner does not know this attempt.",
                    )
                )

    def acknowledge(self, keys: Iterable[str]) -> None:
        """Forget ends, all but what a late repeat of their start or stop needs."""
        forgotten = []
        for key in keys:
            end = self.reports.acknowledge(key)
            if end is not None:
                self._acknowledged[key] = end
                forgotten.append(key)
        while len(self._acknowledged) > limits.ACKNOWLEDGED_KEPT:
            self._acknowledged.popitem(last=False)
        if forgotten:
            self.journal.add_acknowledged(forgotten)

    def stop_all(self, cause: str) -> None:
        """Stop everything."""
        self.reap()
        for attempt in list(self.live.values()):
            self._guarded(attempt, partial(attempt.stop, cause))

    def _silence(self) -> None:
        """The worker's time is over: end everything at once."""
        self.reap()
        if self.live:
            log.say(f"{_SILENCE}: ending {len(self.live)} attempts")
        for attempt in list(self.live.values()):
            self._guarded(attempt, partial(attempt.kill, SILENCED))

    @staticmethod
    def _guarded(attempt: Attempt, end: Callable[[], None]) -> None:
        """End an attempt; a fault in that must not spare the others. Its ladder goes on by itself."""
        try:
            end()
        except Exception:  # noqa: BLE001  # as in the loop of the runner
            log.fault(f"ending {attempt.key}")

    # --- what happens --------------------------------------------------------------------------

    def is_waiting(self) -> bool:
        """Whether there are orders to be started."""
        return bool(self._waiting)

    def is_idle(self) -> bool:
        """Whether nothing runs, waits or must be proven gone."""
        return not self.live and not self.lost

    def launch_some(self) -> None:
        """Start a few of the orders that wait."""
        if not self._waiting:
            return
        self._files.lower_for_jobs()
        for _ in range(limits.SPAWNS_PER_TURN):
            if not self._waiting:
                break
            attempt = self._waiting.popleft()
            if attempt.phase == STARTING:
                attempt.launch()
        self._files.raise_ours()
        if not self._waiting:
            os.chdir("/")  # hold no job's directory, which may be on a mount that must go away

    def reap(self) -> None:
        """Take note of every child that has ended."""
        for pid, status, usage in reap_children():
            try:
                self.containment.reaped(pid, status, usage)
            except Exception:  # noqa: BLE001  # the others have ended too
                log.fault(f"reaping {pid}")

    def note_spawned(self, attempt: Attempt, start_time: int) -> None:
        """A process exists."""
        failpoint.reach(failpoint.SPAWNED_UNJOURNALED)
        assert attempt.started_at_ns is not None  # set by the caller
        self.journal.add_spawned(attempt.key, attempt.pid, start_time, attempt.started_at_ns)
        self.reports.add_started(attempt.key, attempt.started_at_ns, attempt.pid)
        if self._progress_timer is None:
            self._progress_timer = self.reactor.after(limits.PROGRESS_S, self._look_at_progress)

    def note_end(self, attempt: Attempt, end: End) -> None:
        """An attempt has ended."""
        self.live.pop(attempt.key, None)
        self._add_end(end)

    def _add_end(self, end: End) -> None:
        self.journal.add_end(end)
        self.reports.add_end(end)
        self._ends_in_turn += 1

    def write_journal(self) -> None:
        """At the end of each turn, before anything is told."""
        self.journal.flush()
        if self._ends_in_turn:
            self._ends_in_turn = 0
            failpoint.reach(failpoint.ENDED_UNREPORTED)

    def end_lost(self, key: str, end: End) -> None:
        """An attempt of a dead runner has an end, and no process."""
        self.lost.pop(key, None)
        self._add_end(end)

    def _look_at_progress(self) -> None:
        self._progress_timer = None
        for attempt in self.live.values():
            if attempt.pid and attempt.directory_fd >= 0:
                with contextlib.suppress(OSError):
                    attempt.look_at_progress()
        if self.live:
            self._progress_timer = self.reactor.after(limits.PROGRESS_S, self._look_at_progress)

    def tell_all_again(self) -> None:
        """For a new connection."""
        self.reports.begin_again()
        for attempt in self.live.values():
            if attempt.last_progress is not None:
                self.reports.add_progress(attempt.key, *attempt.last_progress)

    def known(self) -> list[dict[str, Any]]:
        """Every attempt, for the hello."""
        found = [
            _line(each.key, each.phase, each.started_at_ns, each.pid) for each in self.live.values()
        ]
        found += [_line(key, STOPPING, started, 0) for key, started in self.lost.items()]
        found += [
            _line(end.key, ENDED, end.started_at_ns, 0)
            for end in self.reports.unacknowledged.values()
        ]
        return found

    # --- a new program in our place ------------------------------------------------------------

    def handover(self) -> dict[str, Any]:
        """What a re-executed runner needs; `resume` takes it."""
        return {
            "attempts": [each.handover() for each in self.live.values() if each.pid or each.tree],
            "waiting": [each.order._asdict() for each in self._waiting if each.phase == STARTING],
            "ended": list(self.reports.unacknowledged.values()),
            "acknowledged": list(self._acknowledged.values()),
            "file_limit": self._files.soft,
            "leash": self.leash.until,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Go on where another program left off."""
        self._files.soft = state["file_limit"]
        if state.get("leash") is not None:  # an older runner knows of none
            self.leash.hold(state["leash"])
        for fields in state["ended"]:
            self.reports.add_end(End(*fields))
        self._acknowledged.update((fields[0], End(*fields)) for fields in state["acknowledged"])
        for each in state["attempts"]:
            attempt = Attempt.resume(self, each)
            self.live[attempt.key] = attempt
        for each in state["waiting"]:
            attempt = Attempt(self, parse_order(each))
            self.live[attempt.key] = attempt
            self._waiting.append(attempt)
        if self.live:
            self._progress_timer = self.reactor.after(limits.PROGRESS_S, self._look_at_progress)


def _line(key: str, phase: str, started_at_ns: int | None, pid: int) -> dict[str, Any]:
    return {"key": key, "phase": phase, "started_at_ns": started_at_ns, "pid": pid or None}
