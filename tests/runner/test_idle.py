"""Idle timeouts: an attempt that says nothing for too long is stopped, and none that speaks in time."""

import os
import signal
import sys
import time

import pytest

from jobservice.runner import limits
from jobservice.testing.wait import wait_until
from tests.runner.harness import DEADLINE_S, Connection, Host, holders, is_gone

LONG_S = 2.0
"""Longer than a busy machine keeps a process from its next word."""
SPEAK = "n=0; while [ $n -lt 30 ]; do {}; n=$((n+1)); sleep 0.1; done; exit 7"
"""For longer than LONG_S, without being silent for it."""
KIB_OF_64 = "head -c 65536 /dev/zero"

AS_IF_OF_AN_OLDER = """
import json, os, sys

def strip(state):
    if isinstance(state, list):
        return list(map(strip, state))
    if not isinstance(state, dict):
        return state
    newer = {"idle", "alive_at", "progress_file", "idle_timeout_s"}
    return {name: strip(value) for name, value in state.items() if name not in newer}

with os.fdopen(int(sys.argv[-1]), "rb") as file:
    state = strip(json.load(file))
memory = os.memfd_create("older", 0)
with os.fdopen(os.dup(memory), "wb") as file:
    file.write(json.dumps(state).encode())
os.lseek(memory, 0, os.SEEK_SET)
os.execv(sys.argv[1], [*sys.argv[1:-1], str(memory)])
"""


def upgrade(host: Host, worker: Connection, *before: str) -> Connection:
    command = [*before, *host.command(flags=("--software", "9"))]
    worker.send({"type": "upgrade", "command": command})
    worker.wait_closed()
    return host.connect()


def test_an_attempt_that_says_nothing_is_stopped_with_its_tree(host: Host) -> None:
    worker = host.begin()
    stubborn = "trap '' TERM; while :; do sleep 0.05; done"
    worker.start(
        host.order("mute", "sleep 600 & setsid sleep 600 & exec sleep 600", idle_timeout_s=0.2),
        host.order("stubborn", stubborn, idle_timeout_s=0.2, stop_grace_s=0.1),
        host.order("free", "exec sleep 600"),
    )
    for key, by in (("mute", signal.SIGTERM), ("stubborn", signal.SIGKILL)):
        end = worker.end_of(key)
        assert (end["cause"], end["exit_code"], end["signal"]) == ("idle_timeout", None, by)
        assert not holders(str(host.place(key)))
    worker.stop("free")
    assert worker.end_of("free")["cause"] == "stop"


def test_what_speaks_in_time_runs_on(host: Host) -> None:
    worker = host.begin()
    says = {
        "out": "echo $n",
        "err": "echo $n >&2",
        "progress": "echo $n >> $JOBSERVICE_PROGRESS",
        "nonsense": "echo still here >> $JOBSERVICE_PROGRESS",
        "flood": KIB_OF_64,
    }
    worker.start(
        *(
            host.order(key, SPEAK.format(text), idle_timeout_s=LONG_S, output_limit_bytes=1000)
            for key, text in says.items()
        )
    )
    for key in says:
        end = worker.end_of(key)
        assert (end["cause"], end["exit_code"]) == ("exit", 7), key
    assert worker.ends["flood"]["dropped_bytes"] == 30 * 65_536 - 1000, (
        "a sign of life all the same"
    )


def test_lines_count_also_where_silence_is_shorter_than_the_time_between_looks(host: Host) -> None:
    worker = host.begin()
    writes = "while [ $(date +%s) -lt $end ]; do echo x >> $JOBSERVICE_PROGRESS; done"
    script = f"end=$(($(date +%s) + 3)); {writes}; exit 7"
    worker.start(host.order("p", script, idle_timeout_s=limits.PROGRESS_S * 0.7))
    assert worker.end_of("p")["exit_code"] == 7


@pytest.mark.parametrize(
    "last", ["echo up", "echo up >&2", "echo 10 up >> $JOBSERVICE_PROGRESS", "printf half"]
)
def test_a_silence_after_the_last_word_is_one(host: Host, last: str) -> None:
    worker = host.begin()
    worker.start(host.order("s", f"{last}; exec sleep 600", idle_timeout_s=0.3))
    end = worker.end_of("s")
    assert (end["cause"], end["signal"]) == ("idle_timeout", signal.SIGTERM)
    assert host.stdout("s") + host.stderr("s") in {b"up\n", b"half", b""}


def test_half_a_line_of_progress_is_no_line(host: Host) -> None:
    worker = host.begin()
    half = "while :; do printf x >> $JOBSERVICE_PROGRESS; sleep 0.05; done"
    worker.start(host.order("h", half, idle_timeout_s=0.3))
    assert worker.end_of("h")["cause"] == "idle_timeout"


def test_the_first_timeout_that_is_over_counts(host: Host) -> None:
    worker = host.begin()
    worker.start(
        host.order("run", "exec sleep 600", run_timeout_s=0.2, idle_timeout_s=60),
        host.order("idle", "exec sleep 600", run_timeout_s=60, idle_timeout_s=0.2),
        host.order("done", "exit 3", idle_timeout_s=60),
    )
    causes = {key: worker.end_of(key)["cause"] for key in ("run", "idle", "done")}
    assert causes == {"run": "run_timeout", "idle": "idle_timeout", "done": "exit"}


def test_it_holds_without_a_worker(host: Host) -> None:
    worker = host.begin()
    worker.start(host.order("alone", "echo up; exec sleep 600", idle_timeout_s=0.4))
    pid = worker.pid_of("alone")
    worker.close()
    wait_until(lambda: is_gone(pid))
    assert host.connect().end_of("alone")["cause"] == "idle_timeout"


def test_what_was_said_while_the_runner_was_stopped_was_said(host: Host) -> None:
    worker = host.begin()
    flag, count = host.directory / "flag", host.directory / "count"
    speak = f"until [ -e {flag} ]; do echo x; echo x >> {count}; sleep 0.05; done; exit 7"
    worker.start(host.order("w", speak, idle_timeout_s=LONG_S))
    worker.pid_of("w")
    pid, began = host.pid, time.monotonic()
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: time.monotonic() - began > LONG_S and count.read_text().count("x") > 20)
    os.kill(pid, signal.SIGCONT)
    flag.touch()
    assert worker.end_of("w")["exit_code"] == 7


# --- the runner becomes a newer one ------------------------------------------------------------


def test_an_upgrade_keeps_the_clock_running(host: Host) -> None:
    """Upgraded again and again, each time before its silence is over, it comes to its end."""
    worker = host.begin()
    flag = host.directory / "flag"
    worker.start(
        host.order("mute", "exec sleep 600", idle_timeout_s=LONG_S),
        host.order("said", "echo 10 up >> $JOBSERVICE_PROGRESS; exec sleep 600",
                   idle_timeout_s=LONG_S),
        host.order("speaks", f"until [ -e {flag} ]; do echo x; sleep 0.1; done; exit 7",
                   idle_timeout_s=LONG_S),
        host.order("free", "exec sleep 600"),
    )  # fmt: skip
    worker.pid_of("free")
    deadline = time.monotonic() + DEADLINE_S
    phases = {"mute": "running", "said": "running"}
    while set(phases.values()) != {"ended"}:
        assert time.monotonic() < deadline, phases
        worker = upgrade(host, worker)
        known = {line["key"]: line["phase"] for line in worker.hello["attempts"]}
        phases = {key: known[key] for key in phases}
    for key in phases:
        assert worker.end_of(key)["cause"] == "idle_timeout"
    flag.touch()
    assert worker.end_of("speaks")["exit_code"] == 7
    worker.stop("free")
    assert worker.end_of("free")["cause"] == "stop"


def test_what_an_older_runner_hands_over_has_no_idle_timeout(host: Host) -> None:
    worker = host.begin()
    worker.start(host.order("old", "echo 10 up >> $JOBSERVICE_PROGRESS; exec sleep 600",
                            idle_timeout_s=LONG_S))  # fmt: skip
    worker.pid_of("old")
    worker = upgrade(host, worker, sys.executable, "-I", "-S", "-c", AS_IF_OF_AN_OLDER)
    assert worker.hello["software"] == "9"
    worker.start(host.order("new", "exec sleep 600", idle_timeout_s=LONG_S))
    assert worker.end_of("new")["cause"] == "idle_timeout"
    assert "old" not in worker.ends
    worker.stop("old")
    assert worker.end_of("old")["cause"] == "stop"
