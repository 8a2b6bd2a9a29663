"""Signals that cannot be sent at once: a stop goes on, and is in the way of no other one."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from jobservice.runner import attempts as attempts_module
from jobservice.runner import cgroup, limits, main
from jobservice.runner.attempt import LOST, RUNNING, SILENCED, STOP, Attempt
from jobservice.runner.attempts import Attempts
from jobservice.runner.containment import Exit
from jobservice.runner.journal import Journal
from jobservice.runner.protocol import Order
from jobservice.runner.reactor import Reactor
from jobservice.runner.spawn import Directories, FileLimit
from jobservice.runner.subreaper import SubreaperContainment


class Tree:
    """Processes that only a KILL ends; the first signals fail, as without a free descriptor."""

    def __init__(self, owner: Attempt, failures: int) -> None:
        self._owner = owner
        self._failures = failures

    def terminate(self) -> None:
        self._try()

    def kill(self) -> None:
        self._try()
        self._owner.host.reactor.after(0, self._end)

    def _end(self) -> None:
        self._owner.exited(Exit(9, 0.0, 0, signalled=True))
        self._owner.emptied()

    def _try(self) -> None:
        if self._failures:
            self._failures -= 1
            raise OSError(24, "Too many open files")

    def handover(self) -> dict[str, Any]:
        raise NotImplementedError


@pytest.fixture
def attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Attempts]:
    """Attempts without processes."""
    monkeypatch.setattr(FileLimit, "raise_ours", lambda self: None)
    monkeypatch.setattr(attempts_module, "reap_children", lambda: iter(()))
    monkeypatch.setattr(limits, "KILL_AGAIN_S", 0.01)
    journal = Journal(str(tmp_path / "journal"), {}, {})
    made = Attempts(Reactor(), journal, cast("Any", None), Directories(str(tmp_path)))
    yield made
    os.close(made.null)


def run(attempts: Attempts, key: str, *, failures: int = 0, grace_s: float = 0.0) -> None:
    order = Order(key, "/nowhere", ["x"], {}, {}, "", None, None, grace_s, 0, None)
    attempt = attempts.live[key] = Attempt(attempts, order)
    attempt.phase, attempt.pid, attempt.tree = RUNNING, 1, Tree(attempt, failures)


def causes(attempts: Attempts) -> dict[str, str]:
    """Of all of them, once they have ended."""
    while attempts.live:
        attempts.reactor.turn(busy=False)
    return {key: end.cause for key, end in attempts.reports.unacknowledged.items()}


@pytest.mark.parametrize("grace_s", [0.0, 0.05])
def test_a_stop_goes_on_after_a_signal_that_could_not_be_sent(
    attempts: Attempts, grace_s: float
) -> None:
    run(attempts, "a", failures=1, grace_s=grace_s)
    run(attempts, "b", grace_s=grace_s)
    attempts.stop(["a", "b"])
    assert causes(attempts) == {"a": STOP, "b": STOP}


def test_all_are_stopped_though_one_signal_fails(attempts: Attempts) -> None:
    for key, failures in (("a", 2), ("b", 0), ("c", 1)):
        run(attempts, key, failures=failures)
    attempts.stop_all(LOST)
    assert causes(attempts) == {"a": LOST, "b": LOST, "c": LOST}


def test_all_end_in_silence_though_one_signal_fails(attempts: Attempts) -> None:
    for key, failures in (("a", 2), ("b", 0), ("c", 1)):
        run(attempts, key, failures=failures, grace_s=600)
    attempts.leash.hold(0.0)
    assert causes(attempts) == {"a": SILENCED, "b": SILENCED, "c": SILENCED}


@pytest.fixture
def old_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cgroups without the file that kills all at once."""
    monkeypatch.setattr(cgroup, "KILL", "cgroup.not_there")


@pytest.fixture
def choose(tmp_path: Path) -> Callable[[str], Any]:
    """How the runner chooses its containment."""
    program: Any = SimpleNamespace(
        _data_id=f"test{os.getpid()}",
        _reactor=Reactor(),
        _locks_path=lambda incarnation: str(tmp_path / incarnation),
    )

    def chosen(wanted: str) -> Any:
        program._flags = SimpleNamespace(containment=wanted)
        return main.Program._choose_containment(program, "i")

    return chosen


@pytest.mark.usefixtures("old_kernel")
def test_without_cgroup_kill_there_is_the_subreaper(choose: Callable[[str], Any]) -> None:
    before = cgroup.own_path()
    made = choose("auto")
    made.close()
    assert isinstance(made, SubreaperContainment)
    with pytest.raises(main.CannotStart, match=r"no cgroup\.not_there, .*5\.14"):
        choose("cgroup")
    assert cgroup.own_path() == before
    assert cgroup.find_bases(f"test{os.getpid()}") == []


@pytest.mark.usefixtures("old_kernel")
def test_without_cgroup_kill_what_a_dead_runner_left_is_killed_one_by_one() -> None:
    base = Path(cgroup.own_path(), f"jobservice-left{os.getpid()}")
    below = base / "i-0" / "of a job"
    below.mkdir(parents=True)
    with subprocess.Popen(["sleep", "600"]) as left:
        (below / "cgroup.procs").write_text(str(left.pid))
        cgroup.kill_all(str(base))
        assert left.wait(10) == -9
    assert cgroup.remove(str(base))
