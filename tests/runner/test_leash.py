"""How long attempts go on without their worker, in both kinds of containment."""

import time

from jobservice.testing.wait import wait_until
from tests.runner.harness import Connection, Host, is_gone

TREE = "trap '' TERM; setsid sh -c \"trap '' TERM; echo x; sleep 600\" & sleep 600"
SHORT_S = 1.5


def hold(worker: Connection, seconds: float) -> float:
    """Everything may go on for so long; until when."""
    until = time.clock_gettime(time.CLOCK_BOOTTIME) + seconds
    worker.send({"type": "leash", "until": until})
    return until


def test_everything_ends_at_its_instant_though_nobody_is_there(host: Host) -> None:
    worker = host.begin()
    worker.start(host.order("a", TREE, stop_grace_s=600), host.order("b", "exit 3"))
    pid = worker.pid_of("a")
    assert worker.end_of("b")["cause"] == "exit"
    wait_until(lambda: host.stdout("a") == b"x\n")
    until = hold(worker, SHORT_S)
    worker.close()
    wait_until(lambda: is_gone(pid), what="the end of the tree")
    assert time.clock_gettime(time.CLOCK_BOOTTIME) >= until
    end = host.connect().end_of("a")
    assert (end["cause"], end["signal"]) == ("silenced", 9)


def test_nothing_is_started_until_there_is_a_later_instant(host: Host) -> None:
    hold(host.begin(), 0.0)
    host.connect()
    worker = host.connect()  # by now the runner has looked at the time
    worker.start(host.order("a", "exit 0"))
    assert worker.end_of("a")["cause"] == "silenced"
    hold(worker, 600.0)
    worker.start(host.order("b", "exit 0"))
    assert worker.end_of("b")["cause"] == "exit"


def test_a_later_instant_takes_the_place_of_the_one_before(host: Host) -> None:
    worker = host.begin()
    worker.start(host.order("a", "sleep 600"), host.order("b", "sleep 2; exit 3"))
    worker.pid_of("a")
    hold(worker, 0.5)
    hold(worker, 600.0)
    assert worker.end_of("b")["cause"] == "exit"
    worker.stop("a")
    assert worker.end_of("a")["cause"] == "stop"


def test_who_is_told_so_goes_on_for_ever(host: Host) -> None:
    worker = host.begin()
    worker.start(host.order("a", "sleep 600"))
    worker.pid_of("a")
    until = hold(worker, SHORT_S)
    worker.send({"type": "leash", "until": None})
    worker.start(host.order("b", "sleep 2; exit 3"))
    assert worker.end_of("b")["cause"] == "exit"
    assert time.clock_gettime(time.CLOCK_BOOTTIME) > until
    worker.stop("a")
    assert worker.end_of("a")["cause"] == "stop"


def test_a_newer_runner_keeps_to_the_instant(host: Host) -> None:
    worker = host.begin()
    worker.start(host.order("a", TREE))
    pid = worker.pid_of("a")
    hold(worker, SHORT_S)
    worker.send({"type": "upgrade", "command": host.command()})
    worker.wait_closed()
    wait_until(lambda: is_gone(pid), what="the end of the tree")
    assert host.connect().end_of("a")["cause"] == "silenced"


def test_a_leash_that_makes_no_sense_is_ignored(host: Host) -> None:
    worker = host.begin()
    worker.send({"type": "leash", "until": "soon"})
    worker.start(host.order("a", "exit 0"))
    assert worker.end_of("a")["cause"] == "exit"
