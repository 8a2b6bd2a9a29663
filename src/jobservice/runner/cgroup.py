"""Containment by cgroup v2 directories; no controller is needed, only the right to make directories.

A process is born in the cgroup of its parent. So the runner waits parked in the cgroup of the *next*
attempt, spawns, and moves on to another one; to move in at the moment of the spawn would cost 8 ms on
an idle host (the kernel waits for all its processors), and to move the child afterwards would let it
fork first. The directories are pooled: one is used again when the kernel says that nothing lives in
it (`populated 0` in cgroup.events, which counts its sub-directories too).

The runner never kills the cgroup that it is in: an attempt's cgroup is one that it has left.

    MOUNT/OUR PATH/jobservice-ID/      ID is that of the data directory
        INCARNATION-0/                 one per attempt, or free, or the one the runner is parked in

Sources: cgroup-v2 (kernel documentation, admin-guide), cgroups(7).
"""

import contextlib
import errno
import os
import resource
import signal
import time
from typing import Any

from . import limits, log, processes
from .containment import Exit, Owner
from .reactor import PRIORITY, Reactor
from .spawn import LaunchFailure, Program, launch

KILL = "cgroup.kill"
"""The file that kills all in a cgroup at once, since Linux 5.14."""


def find_mount() -> str:
    """Where cgroup v2 is mounted, on a hybrid host too; empty when it is not."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            if after.startswith("cgroup2 "):
                return before.split()[4].encode().decode("unicode_escape")
    return ""


def own_path() -> str:
    """The cgroup that we are in, as a directory below the mount; empty without cgroup v2."""
    mount = find_mount()
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            if line.startswith("0::") and mount:
                return mount + line[3:].rstrip("\n").rstrip("/")
    return ""


def base_name(data_id: str) -> str:
    """The name of the directory in which the runner of a data directory keeps its cgroups."""
    return f"jobservice-{data_id}"


def find_bases(data_id: str) -> list[str]:
    """Every such directory of a data directory, wherever a former runner was started."""
    mount, name = find_mount(), base_name(data_id)
    if not mount:
        return []
    return [f"{place}/{name}" for place, below, _ in os.walk(mount) if name in below]


def is_populated(directory: str) -> bool:
    """Whether a process lives in a cgroup or beneath it; False for one that is gone."""
    try:
        with open(f"{directory}/cgroup.events", "rb") as file:
            return b"populated 1" in file.read()
    except OSError:
        return False


def kill_all(directory: str) -> None:
    """Kill every process in a cgroup and beneath it; one by one where it cannot be done at once."""
    try:
        _write_file(f"{directory}/{KILL}", b"1")
    except OSError:
        path = directory.removeprefix(find_mount())
        for place, _, _ in os.walk(directory):
            for pid in _pids_in(place):
                processes.send_signal(
                    pid,
                    signal.SIGKILL,
                    lambda pid: f"{processes.cgroup_of(pid)}/".startswith(f"{path}/"),
                )


def _pids_in(directory: str) -> set[int]:
    """The processes directly in a cgroup; none where it is gone."""
    with contextlib.suppress(OSError), open(f"{directory}/cgroup.procs", "rb") as file:
        return {int(pid) for pid in file.read().split()}
    return set()


def enter(directory: str) -> None:
    """Move ourselves to a cgroup."""
    with contextlib.suppress(OSError):
        _write_file(f"{directory}/cgroup.procs", b"0")


def remove(directory: str) -> bool:
    """Remove an empty cgroup and all beneath it; False while something lives there."""
    for place, _, _ in os.walk(directory, topdown=False):
        with contextlib.suppress(FileNotFoundError):
            try:
                os.rmdir(place)
            except OSError as error:
                if error.errno == errno.EBUSY:
                    return False
                raise
    return True


def _write_file(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


class Slot:
    """One pooled cgroup; its descriptors stay open."""

    __slots__ = ("events", "name", "procs")

    def __init__(self, name: str, procs: int, events: int) -> None:
        self.name = name
        self.procs = procs
        self.events = events

    def is_empty(self) -> bool:
        """Whether the kernel says that nothing lives in it."""
        return b"populated 0" in os.pread(self.events, 128, 0)

    def pids(self) -> set[int]:
        """The processes directly in it, those of its sub-directories not."""
        pids: set[int] = set()
        offset = 0
        while data := os.pread(self.procs, 65536, offset):
            pids.update(int(pid) for pid in data.split())
            offset += len(data)
        return pids

    def close(self) -> None:
        os.close(self.procs)
        os.close(self.events)


class CgroupTree:
    """The tree of an attempt: all that lives in its slot."""

    __slots__ = ("_had_term", "_pool", "owner", "pid", "signalled", "slot")

    def __init__(self, pool: "CgroupContainment", owner: Owner, slot: Slot, pid: int) -> None:
        self._pool = pool
        self.owner = owner
        self.slot = slot
        self.pid = pid
        """The main process; 0 once it was reaped."""
        self.signalled = False
        self._had_term: set[int] = set()

    def terminate(self) -> None:
        """TERM to all that had none yet, the main process first.

        A shell that sees its child die of the signal before it has its own exits with a code.
        """
        self.signalled = self.signalled or self.pid > 0
        before = self._pool.pids_of(self.slot) - self._had_term
        if not before:
            return
        for pid in sorted(before, key=lambda pid: (pid != self.pid, pid)):
            processes.send_signal(pid, signal.SIGTERM, self._is_member)
        self._had_term |= before

    def _is_member(self, pid: int) -> bool:
        path = f"{processes.cgroup_of(pid)}/"
        return path.startswith(f"{self._pool.cgroup_name}/{self.slot.name}/")

    def kill(self) -> None:
        self.signalled = self.signalled or self.pid > 0
        self._pool.kill(self.slot)

    def main_ended(self, status: int, usage: resource.struct_rusage) -> None:
        """The main process was reaped: say so, and whether anything is left."""
        self.pid = 0
        self.owner.exited(Exit.of(status, usage, signalled=self.signalled))
        self.look()

    def look(self) -> None:
        """End if nothing is left, else wait for the kernel to say so."""
        if self.slot.is_empty():
            self._pool.release(self.slot)
            self.owner.emptied()
        else:
            self._pool.watch(self)

    def handover(self) -> dict[str, Any]:
        return {
            "name": self.slot.name,
            "procs": self.slot.procs,
            "events": self.slot.events,
            "pid": self.pid,
            "signalled": self.signalled,
        }


class CgroupContainment:
    """The pool of cgroups of one runner."""

    name = "cgroup"

    def __init__(
        self, reactor: Reactor, base: str, incarnation: str, state: dict[str, Any] | None = None
    ) -> None:
        self._reactor = reactor
        self._base = base
        self._home = os.path.dirname(base)
        self._incarnation = incarnation
        self._trees: dict[int, CgroupTree] = {}
        self._free: list[Slot] = []
        self._count = state["count"] if state else 0
        self.cgroup_name = base.removeprefix(find_mount())
        if state is None:
            with contextlib.suppress(FileExistsError):
                os.mkdir(base, 0o755)
            try:
                self._parked = self._make()
                if not os.path.exists(f"{self.path_of(self._parked)}/{KILL}"):
                    self._parked.close()
                    raise FileNotFoundError(f"the kernel has no {KILL}, which Linux has since 5.14")
                os.write(self._parked.procs, b"0")
            except OSError:
                remove(base)
                raise
        else:
            self._parked = Slot(**state["parked"])

    def spawn(self, owner: Owner, program: Program) -> CgroupTree:
        following = self._take()
        try:
            pid = launch(program)
        except LaunchFailure:
            self._free.append(following)
            raise
        slot = self._parked
        if not self._park(following):
            self._evict(pid)
            raise LaunchFailure(
                "containment", errno.EBUSY, "The runner cannot leave the cgroup of the attempt."
            )
        tree = self._trees[pid] = CgroupTree(self, owner, slot, pid)
        owner.spawned(pid, 0)
        return tree

    def adopt(self, owner: Owner, state: dict[str, Any]) -> CgroupTree:
        slot = Slot(state["name"], state["procs"], state["events"])
        tree = CgroupTree(self, owner, slot, state["pid"])
        tree.signalled = state["signalled"]
        if tree.pid:
            self._trees[tree.pid] = tree
        else:
            self._reactor.after(0, tree.look)
        return tree

    def reaped(self, pid: int, status: int, usage: resource.struct_rusage) -> None:
        tree = self._trees.pop(pid, None)
        if tree is not None:
            tree.main_ended(status, usage)

    def watch(self, tree: CgroupTree) -> None:
        """Look at a tree again when the kernel says that its cgroup changed."""
        self._reactor.watch(tree.slot.events, PRIORITY, lambda: self._changed(tree))

    def _changed(self, tree: CgroupTree) -> None:
        if tree.slot.is_empty():
            tree.look()

    def pids_of(self, slot: Slot) -> set[int]:
        """Every process in a slot and in what the job made beneath it."""
        pids = slot.pids()
        for place, below, _ in os.walk(self.path_of(slot)):
            for name in below:
                pids |= _pids_in(f"{place}/{name}")
        return pids

    def path_of(self, slot: Slot) -> str:
        """The directory of a slot."""
        return f"{self._base}/{slot.name}"

    def kill(self, slot: Slot) -> None:
        """Kill all that lives in a slot, which must not be the one that we are in."""
        if slot is self._parked:
            raise AssertionError("the runner is in this cgroup")
        _write_file(f"{self.path_of(slot)}/{KILL}", b"1")

    def release(self, slot: Slot) -> None:
        """Take back an empty slot; one in which a job made cgroups of its own is not used again."""
        self._reactor.unwatch(slot.events)
        if len(self._free) < limits.CGROUPS_KEPT and os.stat(self.path_of(slot)).st_nlink == 2:
            self._free.append(slot)
        else:
            self._discard(slot)

    def _discard(self, slot: Slot) -> None:
        slot.close()
        with contextlib.suppress(OSError):
            remove(self.path_of(slot))

    def _take(self) -> Slot:
        if self._free:
            return self._free.pop()
        try:
            return self._make()
        except OSError as error:
            raise LaunchFailure(
                "containment", error.errno or 0, f"No cgroup can be made: {error.strerror}."
            ) from None

    def _make(self) -> Slot:
        name = f"{self._incarnation}-{self._count}"
        self._count += 1
        directory = f"{self._base}/{name}"
        os.mkdir(directory, 0o755)
        procs = os.open(f"{directory}/cgroup.procs", os.O_RDWR | os.O_CLOEXEC)
        try:
            events = os.open(f"{directory}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            os.close(procs)
            raise
        return Slot(name, procs, events)

    def _park(self, slot: Slot) -> bool:
        """Move the runner to a slot, or to a new one; False if it must stay with the child."""
        for _ in range(3):
            try:
                os.write(slot.procs, b"0")
            except OSError as error:
                log.say(f"cannot move to {self.path_of(slot)}: {error}")
                self._discard(slot)
                try:
                    slot = self._make()
                except OSError:
                    return False
            else:
                self._parked = slot
                return True
        return False

    def _evict(self, child: int) -> None:
        """Kill all but ourselves in the cgroup that we cannot leave; it stays the parked one."""
        os.kill(child, signal.SIGKILL)
        ours = os.getpid()
        while others := self._parked.pids() - {ours}:
            for pid in others:
                processes.send_signal(pid, signal.SIGKILL, lambda pid: pid in self._parked.pids())

    def handover(self) -> dict[str, Any]:
        for slot in self._free:
            slot.close()
            remove(self.path_of(slot))
        parked = self._parked
        return {
            "count": self._count,
            "base": self._base,
            "parked": {"name": parked.name, "procs": parked.procs, "events": parked.events},
        }

    def close(self) -> None:
        """Move back to where the runner was started and remove every directory."""
        for slot in [*self._free, self._parked]:
            slot.close()
        for place in (self._home, find_mount()):
            with contextlib.suppress(OSError):
                _write_file(f"{place}/cgroup.procs", b"0")
                break
        deadline = time.monotonic() + 1
        while not remove(self._base) and time.monotonic() < deadline:
            time.sleep(0.005)  # a last zombie is being unlinked; nobody waits for us any more
