"""Process trees that do not want to end, and what a stop does to trees that do."""

import os
import signal
from functools import partial
from pathlib import Path

import psutil
import pytest

from jobservice.testing.wait import wait_until
from tests.runner.harness import Connection, Host, holders, hosted

TREES = 200
AT_ONCE = 2
KILL_RUNNER_EVERY = 20
DEPTH = 1
PROCESSES = 3
"""Of a tree of that depth."""


def tree_of(host: Host, compiled: Path, key: str, manner: str) -> dict[str, object]:
    pids = host.directory / f"pids-{key}"
    return host.order(
        key, [str(compiled / "daemons"), str(pids), str(DEPTH), manner], stop_grace_s=0.02
    )


def stands(host: Host, key: str) -> bool:
    path = host.directory / f"pids-{key}"
    return path.exists() and path.read_text().count("\n") >= PROCESSES


def is_up(host: Host, key: str) -> bool:
    return host.stdout(key).startswith(b"up")


def living(host: Host, key: str) -> list[int]:
    """Processes of a tree, found by their arguments: they have no environment."""
    return holders(str(host.directory / f"pids-{key}"))


@pytest.mark.timeout(180)
def test_two_hundred_trees_of_daemons_leave_nothing(host: Host, compiled: Path) -> None:
    worker = host.begin()
    for number in range(0, TREES, AT_ONCE):
        keys = [f"t{number + each}" for each in range(AT_ONCE)]
        manners = ["stay", "exit"] if number % 4 else ["stay", "stay"]
        worker.start(
            *(
                tree_of(host, compiled, key, manner)
                for key, manner in zip(keys, manners, strict=True)
            )
        )
        for key in keys:
            wait_until(partial(stands, host, key), what=f"the tree {key}")
        if number % KILL_RUNNER_EVERY == 0:
            host.kill()
            worker = host.begin()
        else:
            worker.stop(*keys)
        for key in keys:
            worker.end_of(key)
            assert not living(host, key), key
        worker.acknowledge(*keys)


def test_a_stop_is_term_then_kill(host: Host) -> None:
    worker = host.begin()
    polite = "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.02; done"
    worker.start(host.order("polite", polite),
                 host.order("deaf", "trap '' TERM; echo up; sleep 600 & wait; sleep 600",
                            stop_grace_s=0.3))  # fmt: skip
    for key in ("polite", "deaf"):
        wait_until(partial(is_up, host, key))
    worker.stop("polite", "deaf", "polite")
    end = worker.end_of("polite")
    assert (end["cause"], end["exit_code"]) == ("stop", 3)
    assert host.stdout("polite") == b"up\nbye\n"
    end = worker.end_of("deaf")
    assert (end["cause"], end["signal"]) == ("stop", signal.SIGKILL)


def test_the_grace_is_honoured(host: Host) -> None:
    worker = host.begin()
    script = (
        "trap 'sleep 0.7; echo done > written; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    )
    worker.start(host.order("slow", script, stop_grace_s=5))
    wait_until(lambda: host.stdout("slow") == b"up\n")
    worker.stop("slow")
    end = worker.end_of("slow")
    assert (end["cause"], end["exit_code"]) == ("stop", 0)
    assert (host.place("slow") / "work" / "written").read_text() == "done\n"


def test_a_job_that_had_exited_was_not_stopped(host: Host) -> None:
    worker = host.begin()
    fifo = host.directory / "up"
    os.mkfifo(fifo)
    worker.start(
        host.order(
            "over",
            "(trap '' TERM; echo up; sleep 600) & read x < up; exit 9",
            work_dir=str(host.directory),
        )
    )
    pid = worker.pid_of("over")
    wait_until(lambda: host.stdout("over") == b"up\n")
    fifo.write_text("go\n")
    wait_until(lambda: not Path(f"/proc/{pid}/exe").exists())
    worker.stop("over")
    end = worker.end_of("over")
    assert (end["cause"], end["exit_code"]) == ("exit", 9)


def test_a_stop_before_the_spawn_starts_nothing(host: Host) -> None:
    worker = host.begin()
    count = 60
    orders = [
        host.order(f"q{n}", f"echo > {host.directory}/ran-{n}; exec sleep 600")
        for n in range(count)
    ]
    keys = [order["key"] for order in orders]
    worker.start(*orders)
    worker.stop(*keys)
    for key in keys:
        assert worker.end_of(key)["cause"] == "stop"
    dropped = [key for key in keys if worker.ends[key]["started_at_ns"] is None]
    assert dropped, "some were still waiting"
    for key in dropped:
        assert not (host.directory / f"ran-{key[1:]}").exists()


def test_a_stop_of_what_nobody_knows_is_lost(host: Host) -> None:
    worker = host.begin()
    worker.stop("ghost")
    assert worker.end_of("ghost")["cause"] == "lost"


def test_a_run_timeout_stops_the_tree(host: Host) -> None:
    worker = host.begin()
    worker.start(host.order("long", "sleep 600 & sleep 600", run_timeout_s=0.2))
    end = worker.end_of("long")
    assert (end["cause"], end["signal"]) == ("run_timeout", signal.SIGTERM)
    assert 200_000_000 <= end["ended_at_ns"] - end["started_at_ns"] < 3_000_000_000


def test_a_stop_reaches_the_main_process_before_its_children(host: Host) -> None:
    """Else a shell sees its child die of the stop and exits, as if by itself, with a code."""
    worker = host.begin()
    keys = [f"m{n}" for n in range(60)]
    for n, key in enumerate(keys):
        worker.start(host.order(key, f"{'sleep 600 & ' * (n % 8)} echo up; sleep 600; exit 9"))
    wait_until(lambda: all(host.stdout(key) == b"up\n" for key in keys))
    worker.stop(*keys)
    ends = [worker.end_of(key) for key in keys]
    assert {(end["cause"], end["signal"]) for end in ends} == {("stop", signal.SIGTERM)}


def test_a_killed_supervisor_loses_its_tree_and_nothing_else(
    short_dir: Path, compiled: Path
) -> None:
    with hosted(short_dir, "subreaper") as host:
        worker = host.begin()
        worker.start(tree_of(host, compiled, "a", "stay"), tree_of(host, compiled, "b", "stay"))
        for key in "ab":
            wait_until(partial(stands, host, key))
        pid = worker.pid_of("a")
        supervisor = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(supervisor, signal.SIGKILL)
        assert worker.end_of("a")["cause"] == "lost"
        assert not living(host, "a")
        assert len(living(host, "b")) == PROCESSES
        worker.stop("b")
        assert worker.end_of("b")["cause"] == "stop"


def test_a_runner_that_dies_with_a_message_unread_leaves_no_tree(
    short_dir: Path, compiled: Path
) -> None:
    """The supervisor finds its socket reset instead of closed."""
    with hosted(short_dir, "subreaper") as host:
        worker = host.begin()
        pids, go = host.directory / "pids-reset", host.directory / "go"
        daemons = f"{compiled / 'daemons'} {pids} {DEPTH} exit"
        script = f"{daemons} & wait; until [ -e {go} ]; do sleep 0.01; done"
        worker.start(host.order("reset", script))
        wait_until(partial(stands, host, "reset"), what="the tree")
        main = worker.pid_of("reset")
        os.kill(host.pid, signal.SIGSTOP)
        go.touch()
        wait_until(lambda: not Path(f"/proc/{main}").exists(), what="that its end was told")
        assert living(host, "reset")
        host.kill()
        worker = host.begin()
        assert worker.end_of("reset")["cause"] == "lost"
        wait_until(lambda: not living(host, "reset"), what="the end of the tree")


def test_no_loss_is_told_before_the_last_supervisor_is_done(
    short_dir: Path, compiled: Path
) -> None:
    """What hides from the recovery is beneath a supervisor of the dead runner."""
    with hosted(short_dir, "subreaper") as host:
        worker = host.begin()
        worker.start(tree_of(host, compiled, "slow", "stay"))
        wait_until(partial(stands, host, "slow"))
        supervisor = psutil.Process(worker.pid_of("slow")).parent()
        assert supervisor is not None
        supervisor.suspend()
        host.kill()
        worker = host.begin()
        assert "slow" not in worker.ends
        assert living(host, "slow")
        supervisor.resume()
        assert worker.end_of("slow")["cause"] == "lost"
        assert not living(host, "slow")
        assert not list((host.directory / "runner").glob("trees-*"))[1:], "only our own is left"


def test_a_job_cannot_end_its_tree_by_a_signal_to_its_supervisor(short_dir: Path) -> None:
    with hosted(short_dir, "subreaper") as host:
        worker = host.begin()
        worker.start(host.order("k", "kill -TERM $PPID; kill -HUP $PPID; echo still here"))
        assert worker.end_of("k")["exit_code"] == 0
        assert host.stdout("k") == b"still here\n"


def test_a_fork_storm_is_ended(host: Host) -> None:
    worker = host.begin()
    child = "(trap '' TERM; sleep 0.01; sleep 600) & sleep 0.005"
    script = f"trap '' TERM; echo up; while :; do {child}; done"
    worker.start(host.order("storm", script, stop_grace_s=0.2))
    wait_until(lambda: host.stdout("storm") == b"up\n")
    worker.stop("storm")
    end = worker.end_of("storm")
    assert end["signal"] == signal.SIGKILL
    assert not holders(str(host.place("storm")))


def test_a_burst_of_a_thousand_exits_leaves_no_zombie(host: Host) -> None:
    worker: Connection = host.begin()
    count = 1000 if host.containment == "cgroup" else 300
    orders = [
        host.order(f"b{n}", ["/bin/sh", "-c", f"exit {n % 256}"], work_dir="/")
        for n in range(count)
    ]
    worker.start(*orders)
    worker.hear_until(lambda: len(worker.ends) == count, "every end")
    assert all(worker.ends[f"b{n}"]["exit_code"] == n % 256 for n in range(count))
    assert max(worker.told.values()) == 1
    assert not host.attempt_descriptors()
    children = Path(f"/proc/{host.pid}/task/{host.pid}/children")
    wait_until(lambda: not children.read_text().split(), what="the reaping of every child")
