"""The service of the runner: what it refuses, what it survives, and that it rests when idle."""

import contextlib
import os
import random
import sys
import time
from pathlib import Path

import pytest

import jobservice
from jobservice.executors import process
from jobservice.runner import limits, protocol
from jobservice.runner.progress import parse_line
from jobservice.runner.reactor import Reactor
from jobservice.testing.wait import wait_until
from tests.runner.harness import Connection, Host, frame, is_gone, process_lines


def works(host: Host, worker: Connection, key: str) -> None:
    worker.start(host.order(key, "exit 3"))
    assert worker.end_of(key)["exit_code"] == 3


def test_frames_that_make_no_sense_harm_nobody(plain_host: Host) -> None:
    worker = plain_host.begin()
    nonsense = (b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"type":"start"}',
                b'{"type":"nothing"}', b'{"type":["x"]}', b'{"type":"stop","keys":{"a":1}}',
                b'{"type":"ack","keys":[1,null]}', b'{"type":"upgrade","command":[]}',
                b'{"type":"start","attempts":{"key":1}}')  # fmt: skip
    for body in nonsense:
        worker.socket.sendall(len(body).to_bytes(4, "big") + body)
    works(plain_host, worker, "still")


def test_a_length_over_the_limit_closes_the_connection_only(plain_host: Host) -> None:
    worker = plain_host.begin()
    worker.socket.sendall((limits.FRAME_LIMIT_BYTES + 1).to_bytes(4, "big"))
    worker.wait_closed()
    works(plain_host, plain_host.connect(), "next")


def test_frames_may_come_in_any_pieces(plain_host: Host) -> None:
    worker = plain_host.begin()
    data = b"".join(frame({"type": "start", "attempts": [plain_host.order(f"p{n}", "exit 0")]})
                    for n in range(5))  # fmt: skip
    chance = random.Random(7)
    while data:
        size = chance.randint(1, 400)
        worker.socket.sendall(data[:size])
        data = data[size:]
    for number in range(5):
        worker.end_of(f"p{number}")


def test_random_messages_harm_nobody(plain_host: Host) -> None:
    chance = random.Random(11)
    values: list[object] = [
        None,
        0,
        -1,
        1e308,
        "x",
        "",
        [],
        {},
        ["x"],
        {"key": "k"},
        True,
        "\ud800",
    ]
    names = ["type", "keys", "attempts", "command", "stop_jobs", "key", "argv", "env", "directory"]
    worker = plain_host.begin()
    for _ in range(500):
        message = {name: chance.choice(values) for name in chance.sample(names, 4)}
        message["type"] = chance.choice(["start", "stop", "ack", "hello", "x"])
        if message["type"] == "start":
            message["attempts"] = [
                {name: chance.choice(values) for name in names} for _ in range(3)
            ]
        with contextlib.suppress(BrokenPipeError):
            worker.send(message)
    works(plain_host, plain_host.connect(), "alive")


def test_what_is_said_before_the_hello_is_ignored(plain_host: Host) -> None:
    plain_host.run()
    stranger = plain_host.connect(greet=False)
    stranger.start(plain_host.order("early", "exit 0"))
    worker = plain_host.connect()
    assert worker.hello["attempts"] == []


def test_a_worker_that_does_not_read_costs_no_memory(plain_host: Host) -> None:
    worker = plain_host.begin()
    text = "x" * 1500
    for first in range(0, 4000, 1000):
        worker.start(*(plain_host.order(f"m{n}", [f"/no/{text}"], work_dir="/")
                       for n in range(first, first + 1000)))  # fmt: skip
    wait_until(lambda: len(list(plain_host.attempts.glob("*/*"))) == 4000, timeout_s=50)
    assert int(process_lines(plain_host.pid, "status")["VmRSS"].split()[0]) < 150_000
    worker.hear_until(lambda: len(worker.ends) == 4000, "every end")


def wakeups(pid: int) -> tuple[int, int]:
    """Voluntary switches, and ticks of processor time."""
    status = process_lines(pid, "status")
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(status["voluntary_ctxt_switches"]), int(stat[11]) + int(stat[12])


def test_an_idle_runner_sleeps(host: Host) -> None:
    worker = host.begin()
    works(host, worker, "before")
    worker.acknowledge("before")
    pid, marker = host.pid, host.directory / "marker"
    wait_until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S")
    worker.hear_until(lambda: not worker_has_more(worker), "silence")
    marker.touch()
    begun = marker.stat().st_mtime
    wait_until(lambda: later(begun, limits.SUPERVISORS_REST_S + 0.7))
    before = wakeups(pid)
    wait_until(lambda: later(begun, limits.SUPERVISORS_REST_S + 2.7))
    assert wakeups(pid) == before


def later(than: float, by_s: float) -> bool:
    return time.time() > than + by_s


def worker_has_more(worker: Connection) -> bool:
    worker.socket.setblocking(False)
    try:
        return bool(worker.socket.recv(1))
    except BlockingIOError:
        return False
    finally:
        worker.socket.setblocking(True)


def test_an_idle_runner_leaves_and_a_busy_one_stays(host: Host) -> None:
    worker = host.begin(idle_s=0.3)
    worker.start(host.order("long", "sleep 600"))
    worker.pid_of("long")
    pid = host.pid
    worker.close()
    begun = (host.directory / "runner" / "lock").stat().st_mtime
    wait_until(lambda: later(begun, 1.0))
    assert not is_gone(pid)
    worker = host.connect()
    worker.stop("long")
    worker.end_of("long")
    worker.close()
    wait_until(lambda: is_gone(pid))


def test_a_shutdown_waits_for_what_runs(host: Host) -> None:
    worker = host.begin()
    fifo = host.directory / "go"
    os.mkfifo(fifo)
    worker.start(host.order("last", f"read x < {fifo}; exit 6"))
    worker.pid_of("last")
    worker.send({"type": "shutdown", "stop_jobs": False})
    fifo.write_text("go\n")
    assert worker.end_of("last")["exit_code"] == 6
    worker.wait_closed()


def test_its_files_are_its_owners_alone(plain_host: Host) -> None:
    plain_host.begin()
    assert plain_host.socket_path.stat().st_mode & 0o777 == 0o600
    assert (plain_host.directory / "runner").stat().st_mode & 0o777 == 0o700
    assert plain_host.attempts.stat().st_mode & 0o777 == 0o700


def test_a_path_that_is_too_long_for_a_socket_is_explained(tmp_path: Path) -> None:
    host = Host(tmp_path / ("d" * 100), "auto")
    host.directory.mkdir()
    assert "too long" in host.run()


def test_it_loads_neither_grpc_nor_a_subprocess_module(plain_host: Host) -> None:
    plain_host.begin()
    maps = Path(f"/proc/{plain_host.pid}/maps").read_text()
    assert "grpc" not in maps
    assert "_asyncio" not in maps
    assert "_posixsubprocess" not in maps


def test_it_is_small(plain_host: Host) -> None:
    plain_host.begin()
    memory = int(process_lines(plain_host.pid, "status")["VmRSS"].split()[0])
    assert memory < 20_000, "KiB"


# --- progress ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("line", "meaning"), [
    (b"40", (40.0, "")), (b"40.5 reading", (40.5, "reading")), (b" 7%  two words ", (7.0, "two words")),
    (b"-3", (0.0, "")), (b"250 x", (100.0, "x")), (b"nan", None), (b"inf", None), (b"", None),
    (b"abc", None), (b"%", None), (b"40x", None), (b"\xff\xfe", None), (b"50 \xff", (50.0, "\ufffd")),
])  # fmt: skip
def test_lines_of_progress(line: bytes, meaning: tuple[float, str] | None) -> None:
    assert parse_line(line) == meaning


def test_progress_is_told_while_it_runs_and_at_its_end(host: Host) -> None:
    worker = host.begin()
    fifo = host.directory / "go"
    os.mkfifo(fifo)
    script = f"""
        echo 10 first >> $JOBSERVICE_PROGRESS; echo 20 second >> $JOBSERVICE_PROGRESS
        read x < {fifo}
        echo nonsense >> $JOBSERVICE_PROGRESS; printf '99 last' >> $JOBSERVICE_PROGRESS
    """
    worker.start(host.order("p", script))
    worker.hear_until(lambda: "p" in worker.progress, "the progress")
    assert worker.progress["p"] == [(20.0, "second")]
    assert host.connect().hello
    worker = host.connect()
    worker.hear_until(lambda: "p" in worker.progress, "the progress, told again")
    fifo.write_text("go\n")
    worker.end_of("p")
    assert worker.progress["p"][-1] == (99.0, "last")


@pytest.mark.parametrize("trick", [
    "mkfifo $JOBSERVICE_PROGRESS", "mkdir $JOBSERVICE_PROGRESS",
    "ln -s /etc/passwd $JOBSERVICE_PROGRESS",
    "head -c 3000000 /dev/zero > $JOBSERVICE_PROGRESS", "ln -s /dev/zero $JOBSERVICE_PROGRESS",
    "yes '50 x' | head -c 3000000 > $JOBSERVICE_PROGRESS; : > $JOBSERVICE_PROGRESS",
])  # fmt: skip
def test_a_progress_file_that_is_none(host: Host, trick: str) -> None:
    worker = host.begin()
    worker.start(host.order("trick", f"{trick}; sleep 1.1; exit 2"))
    assert worker.end_of("trick")["exit_code"] == 2


# --- what both ends must agree on --------------------------------------------------------------


def test_the_executor_and_the_runner_speak_the_same() -> None:
    assert process.PROTOCOL == protocol.PROTOCOL
    assert process.FRAME_LIMIT_BYTES == limits.FRAME_LIMIT_BYTES


def test_the_largest_frame_is_refused_by_the_writer_too() -> None:
    with pytest.raises(protocol.FrameError):
        protocol.encode({"x": "y" * (limits.FRAME_LIMIT_BYTES + 1)})


def test_cancelled_timers_do_not_pile_up() -> None:
    reactor = Reactor()
    for _ in range(10_000):
        reactor.after(3600, lambda: None).cancel()
    assert len(reactor._timers) < 300
    called: list[int] = []
    reactor.after(0.001, lambda: called.append(1))
    while not called:
        reactor.turn(busy=False)


def test_a_fault_in_a_handler_does_not_end_the_loop(capsys: pytest.CaptureFixture[str]) -> None:
    reactor = Reactor()
    called: list[int] = []

    def fail() -> None:
        raise RuntimeError("on purpose")

    reactor.after(0, fail)
    reactor.after(0, lambda: called.append(1))
    while not called:
        reactor.turn(busy=False)
    assert "on purpose" in capsys.readouterr().err


def test_it_runs_as_a_module_too() -> None:
    program = [sys.executable, "-m", "jobservice.runner", "--help"]
    ready, theirs = os.pipe()
    source = str(Path(jobservice.__file__).parent.parent)
    pid = os.posix_spawn(sys.executable, program, {"PYTHONPATH": source},
                         file_actions=[(os.POSIX_SPAWN_DUP2, theirs, 1)])  # fmt: skip
    os.close(theirs)
    with os.fdopen(ready) as file:
        assert "--attempts" in file.read()
    assert os.waitpid(pid, 0)[1] == 0
