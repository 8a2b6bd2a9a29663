"""Who dies when: the worker, the runner, both; what is adopted, what is lost, what is told twice."""

import json
import os
import random
import signal
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobservice.runner import failpoint
from jobservice.testing.wait import wait_until
from tests.runner.harness import Connection, Host, holders, is_gone

COUNTING = "n=0; while [ $n -lt {} ]; do echo $n; n=$((n+1)); {}; done; exit {}"

UNTIL = ("n=0; while [ ! -e {flag} ]; do echo $n; n=$((n+1)); sleep 0.001; done;"
         " echo $n > count; exit {code}")  # fmt: skip


def lines(count: int) -> bytes:
    return b"".join(b"%d\n" % number for number in range(count))


# --- the worker goes ---------------------------------------------------------------------------


def test_a_new_worker_adopts_what_runs(host: Host) -> None:
    worker = host.begin()
    worker.start(*(host.order(f"a{n}", COUNTING.format(200, "sleep 0.001", n)) for n in range(20)))
    pids = {f"a{n}": worker.pid_of(f"a{n}") for n in range(20)}
    worker.close()
    second = host.connect()
    assert second.hello["pid"] == host.pid
    known = {line["key"]: line for line in second.hello["attempts"]}
    assert {key: line["pid"] or pids[key] for key, line in known.items()} == pids
    for number in range(20):
        end = second.end_of(f"a{number}")
        assert (end["cause"], end["exit_code"]) == ("exit", number)
        assert host.stdout(f"a{number}") == lines(200)


def test_ends_are_told_until_they_are_acknowledged(host: Host) -> None:
    worker = host.begin()
    worker.start(host.order("x", "exit 4"))
    first = worker.end_of("x")
    again = worker
    for _ in range(2):
        again = host.connect()
        assert again.hello["attempts"] == [
            {"key": "x", "phase": "ended", "started_at_ns": first["started_at_ns"], "pid": None}
        ]
        assert again.end_of("x") == first
    again.acknowledge("x", "never-heard-of")
    last = host.connect()
    assert last.hello["attempts"] == []
    last.start(host.order("x", "exit 5"))
    assert last.end_of("x") == first, "a late repeat starts nothing"
    last.stop("x")
    last.hear_until(lambda: last.told["x"] >= 1, "the end")
    last.acknowledge("x")


def test_a_known_key_is_not_started_twice(host: Host) -> None:
    worker = host.begin()
    order = host.order("once", f"echo x >> {host.directory}/ran; sleep 600")
    worker.start(order, order)
    worker.start(order)
    worker.pid_of("once")
    host.connect().start(order)
    wait_until((host.directory / "ran").exists)
    third = host.connect()
    third.stop("once")
    assert third.end_of("once")["cause"] == "stop"
    assert (host.directory / "ran").read_text() == "x\n"


def test_the_newest_connection_counts(host: Host) -> None:
    first = host.begin()
    second = host.connect()
    first.wait_closed()
    second.start(host.order("y", "exit 0"))
    assert second.end_of("y")["exit_code"] == 0


def test_a_run_timeout_holds_without_a_worker(host: Host) -> None:
    worker = host.begin()
    worker.start(host.order("t", "echo up; exec sleep 600", run_timeout_s=0.4))
    pid = worker.pid_of("t")
    worker.close()
    wait_until(lambda: is_gone(pid))
    end = host.connect().end_of("t")
    assert (end["cause"], end["signal"]) == ("run_timeout", signal.SIGTERM)


# --- the runner goes ---------------------------------------------------------------------------


def test_a_killed_runner_loses_its_attempts_and_leaves_none_alive(host: Host) -> None:
    worker = host.begin()
    worker.start(
        host.order("done", "echo whole; exit 6"),
        host.order("plain", "echo some; exec sleep 600"),
        host.order("session", "setsid sleep 600 & echo some; sleep 600"),
    )
    worker.end_of("done")
    for key in ("plain", "session"):
        worker.pid_of(key)
        wait_until(lambda key=key: host.stdout(key) == b"some\n")  # type: ignore[misc]
    host.kill()
    worker = host.begin()
    assert {line["key"]: line["phase"] for line in worker.hello["attempts"]} == {
        "done": "ended", "plain": "ended", "session": "ended",
    }  # fmt: skip
    assert not [pid for pid in holders(str(host.attempts)) if pid != host.pid]
    assert worker.end_of("done")["exit_code"] == 6
    for key in ("plain", "session"):
        end = worker.end_of(key)
        assert (end["cause"], end["exit_code"], end["signal"]) == ("lost", None, None)
        assert end["stdout_bytes"] == 5
        assert end["started_at_ns"] is not None
        assert end["message"]


@pytest.mark.parametrize("is_moved", [False, True])
def test_what_runs_for_another_directory_is_left_alone(
    host: Host, other_host: Host, is_moved: bool
) -> None:
    """As of a service that was restored beside the first: it has attempts of the same jobs."""
    daemons = []
    for each in (host, other_host):
        each.begin().start(each.order("same", "setsid sleep 600 & echo $! >&2; exec sleep 600"))
        wait_until(lambda each=each: each.stderr("same").endswith(b"\n"))  # type: ignore[misc]
        daemons.append(int(each.stderr("same")))
    host.kill()
    if is_moved:
        host.attempts = host.attempts.rename(host.directory / "moved")
    assert host.begin().end_of("same")["cause"] == "lost"
    wait_until(lambda: is_gone(daemons[0]))
    assert not is_gone(daemons[1])
    [line] = other_host.connect().hello["attempts"]
    assert line["phase"] == "running"


@pytest.mark.parametrize("is_running", [False, True])
def test_a_copy_leaves_alone_what_runs_for_the_original(
    host: Host, other_host: Host, is_running: bool
) -> None:
    """As somebody makes it to try an upgrade: `cp -a` of the data directory of a running service."""
    worker = host.begin()
    worker.start(
        host.order("ran", "exit 3"), host.order("runs", "setsid sleep 600 & echo $! >&2; wait")
    )
    worker.end_of("ran")
    wait_until(lambda: host.stderr("runs").endswith(b"\n"))
    daemon = int(host.stderr("runs"))
    if not is_running:
        host.kill()
    outlives = is_running or host.containment == "cgroup"
    subprocess.run(["cp", "-a", f"{host.directory}/.", other_host.directory], check=True)
    for is_second in (False, True):  # that one finds a journal that was written here
        if is_second:
            other_host.kill()
        theirs = other_host.begin()
        assert [each["key"] for each in theirs.hello["attempts"]] == ["ran"]
        assert theirs.end_of("ran")["exit_code"] == 3
    assert is_gone(daemon) == (not outlives)
    if is_running:
        assert {each["phase"] for each in host.connect().hello["attempts"]} == {"running", "ended"}
    else:
        assert host.begin().end_of("runs")["cause"] == "lost"
        assert is_gone(daemon)


@pytest.mark.parametrize("name", [n for n in failpoint.NAMES if n != failpoint.UPGRADING])
def test_a_start_has_one_end_wherever_the_runner_dies(host: Host, name: str) -> None:
    worker = host.begin(failpoint=name)
    keys = [f"f{n}" for n in range(4)]
    worker.start(*(host.order(key, f"echo {key} >> {host.directory}/ran; exit 3") for key in keys))
    worker.wait_closed()
    first = {key: dict(end) for key, end in worker.ends.items()}
    wait_until(lambda: is_gone(host.pid))
    worker = host.begin()
    for key in keys:
        end = worker.end_of(key)
        assert end["cause"] in {"exit", "lost"}
        if end["cause"] == "exit":
            assert end["exit_code"] == 3
        if key in first:
            assert end == first[key]
    assert max(worker.told.values()) == 1
    assert not [pid for pid in holders(str(host.attempts)) if pid != host.pid]
    ran = (host.directory / "ran").read_text().split() if (host.directory / "ran").exists() else []
    assert len(ran) == len(set(ran))
    worker.acknowledge(*keys)
    assert host.connect().hello["attempts"] == []


def test_a_runner_that_leaves_keeps_ends_for_the_next(host: Host) -> None:
    worker = host.begin(idle_s=0.2)
    worker.start(host.order("kept", "exit 12"))
    worker.end_of("kept")
    pid = host.pid
    worker.close()
    wait_until(lambda: is_gone(pid), what="the end of the idle runner")
    assert not host.socket_path.exists()
    assert not host.cgroups()
    worker = host.begin()
    assert worker.end_of("kept")["exit_code"] == 12


def test_a_second_runner_is_refused(plain_host: Host) -> None:
    plain_host.begin()
    answer = plain_host.run()
    assert answer.startswith(f"runner {plain_host.pid} serves")


def test_sigterm_stops_the_attempts_and_the_runner(host: Host) -> None:
    worker = host.begin()
    worker.start(host.order("term", "sleep 600"))
    worker.pid_of("term")
    pid = host.pid
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: is_gone(pid))
    assert host.begin().end_of("term")["cause"] == "lost"


# --- a damaged or foreign journal --------------------------------------------------------------


def journal_line(record: object) -> bytes:
    body = json.dumps(record).encode()
    return b"%08x %b\n" % (zlib.crc32(body), body)


@pytest.fixture
def innocent() -> "Iterator[subprocess.Popen[bytes]]":
    """A process that a stale journal may name."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def start_ticks(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


@pytest.mark.parametrize("stale", ["start time", "boot"])
def test_a_stale_pid_is_not_signalled(
    host: Host, innocent: "subprocess.Popen[bytes]", stale: str
) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    start = start_ticks(innocent.pid) - (1 if stale == "start time" else 0)
    runner = {"incarnation": "x", "boot_id": boot if stale == "start time" else "another"}
    (host.directory / "runner").mkdir()
    (host.directory / "runner" / "journal").write_bytes(
        journal_line({"runner": runner})
        + journal_line({"intents": [["old", str(host.place("old"))]]})
        + journal_line({"spawned": [["old", innocent.pid, start, 1]]})
    )
    assert host.begin().end_of("old")["cause"] == "lost"
    assert innocent.poll() is None


def test_the_pid_of_the_journal_is_killed_when_it_is_the_one(
    host: Host, innocent: "subprocess.Popen[bytes]"
) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    (host.directory / "runner").mkdir()
    (host.directory / "runner" / "journal").write_bytes(
        journal_line({"runner": {"incarnation": "x", "boot_id": boot}})
        + journal_line({"intents": [["old", str(host.place("old"))]]})
        + journal_line({"spawned": [["old", innocent.pid, start_ticks(innocent.pid), 1]]})
    )
    assert host.begin().end_of("old")["cause"] == "lost"
    assert innocent.wait() == -signal.SIGKILL


def damaged(data: bytes, chance: random.Random) -> bytes:
    """A journal with a piece cut off, or some bits turned."""
    if chance.random() < 0.3:
        return data[: chance.randrange(len(data))]
    changed = bytearray(data)
    for _ in range(chance.randint(1, 5)):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def test_a_damaged_journal_stops_nobody(host: Host) -> None:
    worker = host.begin()
    for seed in range(12):
        chance = random.Random(seed)
        keys = [f"{seed}-{n}" for n in range(4)]
        worker.start(*(host.order(key, "sleep 600" if n % 2 else "exit 8")
                       for n, key in enumerate(keys)))  # fmt: skip
        for key in keys[::2]:
            worker.end_of(key)
        for key in keys[1::2]:
            worker.pid_of(key)
        host.kill()
        journal = host.directory / "runner" / "journal"
        journal.write_bytes(damaged(journal.read_bytes(), chance))
        worker = host.begin()
        left = [pid for pid in holders(str(host.attempts)) if pid != host.pid]
        assert not left, f"seed {seed}"
        for line in worker.hello["attempts"]:
            end = worker.end_of(line["key"])
            assert end["cause"] in {"exit", "lost"}
        worker.acknowledge(*worker.ends)


def test_the_journal_stays_small(plain_host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    from jobservice.runner import journal, limits  # noqa: PLC0415
    from jobservice.runner.protocol import End  # noqa: PLC0415

    monkeypatch.setattr(limits, "JOURNAL_COMPACT_BYTES", 10_000)
    path = plain_host.directory / "journal"
    kept = journal.Journal(str(path), {"boot_id": "b"}, {})
    for number in range(2000):
        key = f"k{number}"
        kept.add_intents([(key, "/d")])
        kept.add_spawned(key, number, 1, 2)
        kept.add_end(End(key, "exit", 1, 2, 0))
        kept.flush()
        if number % 100:
            kept.add_acknowledged([key])
    kept.flush()
    contents = journal.read(str(path))
    assert sorted(contents.entries) == sorted(f"k{n}" for n in range(0, 2000, 100))
    assert all(entry.end is not None for entry in contents.entries.values())
    assert contents.runner == {"boot_id": "b"}
    assert path.stat().st_size < 40_000


# --- the runner becomes a newer one ------------------------------------------------------------


def upgrade(host: Host, worker: Connection, command: list[str] | None = None) -> Connection:
    worker.send({"type": "upgrade", "command": command or host.command(flags=("--software", "9"))})
    worker.wait_closed()
    return host.connect()


def test_an_upgrade_touches_no_attempt(host: Host, compiled: Path) -> None:
    worker = host.begin()
    pid = host.pid
    tree, flag = host.directory / "pids", host.directory / "flag"
    worker.start(
        *(host.order(f"u{n}", UNTIL.format(flag=flag, code=n)) for n in range(5)),
        host.order("flood", ["yes"], output_limit_bytes=1 << 20),
        host.order("timeout", "exec sleep 600", run_timeout_s=1.5),
        host.order("ended", "exit 77"),
        host.order("tree", [str(compiled / "daemons"), str(tree), "1", "stay"], stop_grace_s=0.1),
        host.order("progress", "echo 10 first > $JOBSERVICE_PROGRESS;"
                               f" until [ -e {flag} ]; do sleep 0.05; done;"
                               " echo 20 second >> $JOBSERVICE_PROGRESS; exit 1"),
    )  # fmt: skip
    pids = {key: worker.pid_of(key) for key in ("u0", "flood", "tree")}
    worker.end_of("ended")
    wait_until(lambda: tree.exists() and tree.read_text().count("\n") == 3)
    for _ in range(3):
        worker = upgrade(host, worker)
        assert worker.hello["pid"] == pid
        assert worker.hello["software"] == "9"
        known = {line["key"]: line["pid"] for line in worker.hello["attempts"]}
        assert pids.items() <= known.items()
    assert worker.end_of("ended")["exit_code"] == 77
    flag.touch()
    for number in range(5):
        assert worker.end_of(f"u{number}")["exit_code"] == number
        count = int((host.place(f"u{number}") / "work" / "count").read_text())
        assert host.stdout(f"u{number}") == lines(count)
    assert worker.end_of("timeout")["cause"] == "run_timeout"
    assert worker.end_of("progress")["exit_code"] == 1
    assert worker.progress["progress"][-1] == (20.0, "second")
    worker.stop("flood", "tree")
    end = worker.end_of("flood")
    assert end["stdout_bytes"] - end["dropped_bytes"] == 1 << 20
    assert worker.end_of("tree")["cause"] == "stop"
    assert not holders(str(tree))
    worker.start(host.order("after", "exit 5"))
    assert worker.end_of("after")["exit_code"] == 5
    assert not host.attempt_descriptors()


def test_an_upgrade_in_the_middle_of_a_stop_ends_the_stop(host: Host, compiled: Path) -> None:
    worker = host.begin()
    tree = host.directory / "pids"
    worker.start(host.order("s", [str(compiled / "daemons"), str(tree), "1", "stay"],
                            stop_grace_s=0.5))  # fmt: skip
    wait_until(lambda: tree.exists() and tree.read_text().count("\n") == 3)
    worker.stop("s")
    worker = upgrade(host, worker)
    end = worker.end_of("s")
    assert (end["cause"], end["signal"]) == ("stop", signal.SIGKILL)


def test_an_upgrade_that_cannot_be_executed_changes_nothing(host: Host) -> None:
    worker = host.begin()
    worker.start(host.order("r", "exec sleep 600"))
    worker.pid_of("r")
    worker = upgrade(host, worker, ["/no/such/python"])
    assert worker.hello["pid"] == host.pid
    worker.start(host.order("n", "exit 3"))
    assert worker.end_of("n")["exit_code"] == 3
    worker.stop("r")
    assert worker.end_of("r")["cause"] == "stop"


def test_a_runner_killed_in_an_upgrade_leaves_nothing(host: Host) -> None:
    worker = host.begin(failpoint=failpoint.UPGRADING)
    worker.start(host.order("u", "exec sleep 600"))
    worker.pid_of("u")
    pid = host.pid
    worker.send({"type": "upgrade", "command": host.command()})
    worker.wait_closed()
    wait_until(lambda: is_gone(pid))
    assert host.begin().end_of("u")["cause"] == "lost"
