"""What a new runner does about a dead predecessor, before it serves anybody.

A runner that leaves has nothing alive. One that died may have left process trees; nobody watches them
any more, so they are killed, proven gone, and their attempts reported as LOST. An attempt whose end is
in the journal keeps its true end.

Found are, in this order: all that lives in the cgroups of this data directory; the processes of the
journal, by pid *and* start time *and* boot id, with their descendants; and, as a second net, processes
whose environment at their start names an attempt of the journal or a progress file beneath our root.
No signal goes to a pid whose start time or boot is another.

A copy of a data directory beside the original, as somebody makes it to try an upgrade, has a journal
that names what runs for the original. The journal says where it was written, so a copy is told from a
directory that was moved, and what it names is left alone.

Without cgroups a process that emptied its environment and left its parents is found by none of these. It
has a supervisor above it, which kills its tree when the runner dies; so the supervisors of dead runners
are waited for, by the locks that they hold.
"""

import fcntl
import os
import signal
import time
from collections.abc import Callable, Sequence

from . import cgroup, journal, limits, log, processes
from .attempt import LOST
from .attempts import Attempts
from .output import lost_sizes
from .protocol import End
from .reactor import Reactor

_LOOK_AGAIN_S = 0.02
_LOOK_AGAIN_SLOWLY_S = 1.0


def original_of(contents: journal.Contents, directory: str) -> str:
    """Where the journal that we have a copy of is; empty if it was written here, or moved here."""
    written: str = contents.runner.get("directory", "")  # an older runner did not say
    try:
        with open(f"{written}/id", encoding="ascii") as file:
            is_there = file.read() == contents.runner.get("data_id")
        return written if is_there and not os.path.samefile(written, directory) else ""
    except (OSError, ValueError):
        return ""


def disown(contents: journal.Contents) -> None:
    """Forget what a copied journal has running: it runs for the original, which alone tells its end.

    Where the store was copied, too, the worker ends the leases in it that its runner does not know.
    """
    running = [key for key, entry in contents.entries.items() if entry.end is None]
    for key in running:
        del contents.entries[key]


class Recovery:
    """Ends what a dead runner left."""

    def __init__(
        self,
        contents: journal.Contents,
        data_id: str,
        attempts_root: str,
        boot_id: str,
        locks: Sequence[str],
    ) -> None:
        self._entries = {key: entry for key, entry in contents.entries.items() if not entry.end}
        self._same_boot = contents.runner.get("boot_id") == boot_id
        self._journal_is_whole = bool(contents.runner) and not contents.damaged
        self._root = attempts_root
        self._locks = list(locks)
        self._bases = cgroup.find_bases(data_id)
        self._leave_their_cgroups()

    def _leave_their_cgroups(self) -> None:
        """We may have been started by what we are about to kill."""
        ours = cgroup.own_path()
        for base in self._bases:
            if f"{ours}/".startswith(f"{base}/"):
                cgroup.enter(os.path.dirname(base))

    def is_needed(self) -> bool:
        """Whether anything may be alive."""
        return bool(self._bases or self._entries or self._locks) or not self._journal_is_whole

    def run(self) -> bool:
        """Kill, for RECOVERY_S at most; True when nothing is left."""
        deadline = time.monotonic() + limits.RECOVERY_S
        while not self.step():
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_AGAIN_S)
        return True

    def step(self) -> bool:
        """Kill what lives; True when nothing does any more."""
        if not self.is_needed():
            return True
        clean = self._empty_cgroups()
        self._locks = [path for path in self._locks if not _is_let_go(path)]
        clean = clean and not self._locks
        if self._same_boot or not self._journal_is_whole:
            for pid, started in self._find_processes():
                clean = False
                processes.send_signal(pid, signal.SIGKILL, _is_still(started))
        return clean

    def _empty_cgroups(self) -> bool:
        left = []
        for base in self._bases:
            if cgroup.is_populated(base):
                cgroup.kill_all(base)
            if not cgroup.remove(base):
                left.append(base)
        self._bases = left
        return not left

    def _find_processes(self) -> list[tuple[int, int]]:
        """Pid and start time of every process of an attempt that has no end."""
        heads = [(entry.pid, entry.start) for entry in self._entries.values() if entry.start]
        found = {
            pid for pid, started in heads if self._same_boot and processes.is_alive(pid, started)
        }
        found.update(pid for pid in processes.all_pids() if self._is_ours(pid))
        for pid in list(found):
            found.update(processes.descendants(pid, found))
        found.discard(os.getpid())
        pairs = [(pid, processes.start_time(pid)) for pid in found]
        return [(pid, started) for pid, started in pairs if processes.is_alive(pid, started)]

    def _is_ours(self, pid: int) -> bool:
        """Whether a process was started as part of an attempt of this data directory.

        Another one may have an attempt with the same key: a service that was restored beside the first.
        """
        variables = processes.environment_of(pid)
        progress = variables.get("JOBSERVICE_PROGRESS", "")
        if variables.get("JOBSERVICE_ATTEMPT_KEY") in self._entries:
            return not self._is_elsewhere(progress)
        return progress.startswith(f"{self._root}/") and processes.shares_our_files(pid)

    def _is_elsewhere(self, progress: str) -> bool:
        """Whether a progress file is one of another data directory that is there."""
        root = os.path.dirname(os.path.dirname(os.path.dirname(progress)))
        try:
            return not os.path.samefile(root, self._root)
        except OSError:  # it was moved, or there is no path
            return False

    def report(self, attempts: Attempts) -> None:
        """Every attempt that had no end is lost now."""
        for key, entry in self._entries.items():
            attempts.end_lost(key, _lost_end(key, entry))
        self._entries = {}

    def announce(self, attempts: Attempts) -> None:
        """Some processes do not die: say that these attempts are stopping."""
        log.say(f"{len(self._entries)} attempts of a dead runner are not yet proven gone")
        attempts.lost.update((key, entry.started_at_ns) for key, entry in self._entries.items())

    def go_on(self, reactor: Reactor, attempts: Attempts) -> None:
        """Look again until nothing is left, then report."""
        if self.step():
            self.report(attempts)
        else:
            reactor.after(_LOOK_AGAIN_SLOWLY_S, lambda: self.go_on(reactor, attempts))


def _is_let_go(path: str) -> bool:
    """Whether no supervisor holds a lock any more; its file is removed then."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def _is_still(started: int) -> Callable[[int], bool]:
    return lambda pid: processes.start_time(pid) == started


def _lost_end(key: str, entry: journal.Entry) -> End:
    sizes = lost_sizes(entry.directory)
    return End(
        key,
        LOST,
        entry.started_at_ns,
        time.time_ns(),
        message="The runner that watched it died.",
        stdout_bytes=sizes[0],
        stderr_bytes=sizes[1],
        dropped_bytes=sizes[2],
    )
