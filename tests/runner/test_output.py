"""Output: every byte, in its place, whatever the job does to its descriptors."""

import hashlib
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobservice.runner import limits
from jobservice.runner.output import GAP, OPEN, TIME, Output, Record, parse_index
from jobservice.testing.wait import wait_until
from tests.examples import examples
from tests.runner.harness import Connection, Host, Message, is_gone, process_lines

MIB = 1 << 20


@pytest.fixture
def worker(host: Host) -> Connection:
    return host.begin()


def end_by(worker: Connection, order: Message) -> Message:
    worker.start(order)
    return worker.end_of(order["key"])


def index_of(host: Host, key: str) -> list[Record]:
    path = host.place(key) / "index"
    return parse_index(path.read_bytes()) if path.exists() else []


def test_reopening_the_streams_loses_nothing(host: Host, worker: Connection) -> None:
    end_by(worker, host.order("dev", """
        echo one; echo two > /dev/stdout; echo three; echo 2one >&2
        echo 2two > /dev/stderr; echo both | tee /dev/stderr; echo four >> /dev/stdout
    """))  # fmt: skip
    assert host.stdout("dev") == b"one\ntwo\nthree\nboth\nfour\n"
    assert host.stderr("dev") == b"2one\n2two\nboth\n"


def test_a_silent_job_has_no_files(host: Host, worker: Connection) -> None:
    end = end_by(worker, host.order("silent", ["true"]))
    assert (end["stdout_bytes"], end["stderr_bytes"], end["dropped_bytes"]) == (0, 0, 0)
    assert sorted(path.name for path in host.place("silent").iterdir()) == ["work"]
    with_dir = end_by(worker, host.order("own", ["true"], work_dir="/"))
    assert with_dir["exit_code"] == 0
    assert list(host.place("own").iterdir()) == []


def test_binary_output_is_kept_as_it_is(host: Host, worker: Connection, tmp_path: Path) -> None:
    data = os.urandom(300_000) + b"\xff\xfe\x00\x80" * 1000 + bytes(5000)
    (tmp_path / "data").write_bytes(data)
    end_by(worker, host.order("bin", f"cat {tmp_path}/data; cat {tmp_path}/data >&2"))
    assert host.stdout("bin") == data
    assert host.stderr("bin") == data


def test_one_line_of_100_mb_in_flat_memory(host: Host, worker: Connection) -> None:
    def memory() -> int:
        return int(process_lines(host.pid, "status")["VmRSS"].split()[0]) * 1024

    end_by(worker, host.order("warm", "head -c 3000000 /dev/zero"))
    before = memory()
    end = end_by(worker, host.order("line", "head -c 100000000 /dev/zero | tr '\\0' x"))
    assert end["stdout_bytes"] == 100_000_000
    assert memory() - before < 2 * MIB
    digest = hashlib.sha256()
    for _ in range(100):
        digest.update(b"x" * 1_000_000)
    path = host.place("line") / "stdout"
    assert hashlib.sha256(path.read_bytes()).digest() == digest.digest()


def numbered(count: int) -> bytes:
    """Lines that say where they stand."""
    return b"".join(b"%015d\n" % number for number in range(count))


NUMBERED = "import sys; w = sys.{}.buffer.write; [w(b'%015d\\n' % n) for n in range({})]"


def test_over_the_limit_head_and_tail_are_kept(host: Host, worker: Connection) -> None:
    count = 400_000  # 6.4 MB
    end = end_by(worker, host.order(
        "over", [sys.executable, "-c", NUMBERED.format("stdout", count)],
        output_limit_bytes=MIB,
    ))  # fmt: skip
    total = 16 * count
    assert end["stdout_bytes"] == total
    assert end["dropped_bytes"] == total - MIB
    data = host.stdout("over")
    gap = next(record for record in index_of(host, "over") if record.kind == GAP)
    assert gap.offset == MIB // 2
    assert gap.length == total - MIB
    expected = numbered(count)
    assert len(data) == total
    assert data[: gap.offset] == expected[: gap.offset]
    assert data[gap.offset + gap.length :] == expected[gap.offset + gap.length :]
    assert not data[gap.offset : gap.offset + gap.length].strip(b"\0")
    blocks = (host.place("over") / "stdout").stat().st_blocks * 512
    assert blocks <= MIB + 3 * 4096


def test_a_quiet_stderr_beside_a_flood_keeps_all(host: Host, worker: Connection) -> None:
    end = end_by(
        worker,
        host.order(
            "quiet",
            "echo early >&2; head -c 9000000 /dev/zero; echo late >&2",
            output_limit_bytes=100_000,
        ),
    )
    assert host.stderr("quiet") == b"early\nlate\n"
    assert end["dropped_bytes"] == 9_000_011 - 100_000
    (gap,) = (record for record in index_of(host, "quiet") if record.kind == GAP)
    assert gap.stream == 1


@pytest.mark.parametrize("limit", [0, 1, 5000])
def test_tiny_limits(host: Host, worker: Connection, limit: int) -> None:
    end = end_by(
        worker,
        host.order(
            "tiny", "head -c 2000000 /dev/zero | tr '\\0' y; echo x >&2", output_limit_bytes=limit
        ),
    )
    assert end["dropped_bytes"] == 2_000_002 - limit
    kept = host.stdout("tiny").count(b"y") + len(host.stderr("tiny").replace(b"\0", b""))
    assert kept == limit


def test_a_flood_does_not_starve_others(host: Host, worker: Connection) -> None:
    worker.start(host.order("flood", ["yes"], output_limit_bytes=MIB))
    worker.pid_of("flood")
    for number in range(20):
        end_by(worker, host.order(f"n{number}", f"echo {number}"))
        assert host.stdout(f"n{number}") == b"%d\n" % number
    path = host.place("flood") / "stdout"
    wait_until(lambda: path.stat().st_size > 50 * MIB)
    assert path.stat().st_blocks * 512 < 16 * MIB
    worker.stop("flood")
    end = worker.end_of("flood")
    assert end["stdout_bytes"] - end["dropped_bytes"] == MIB


def test_the_index_tells_the_time(host: Host, worker: Connection, tmp_path: Path) -> None:
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    worker.start(host.order("time", f"echo a; read x < {fifo}; echo b; echo c >&2"))
    worker.pid_of("time")
    wait_until(lambda: host.stdout("time") == b"a\n")
    first = (host.place("time") / "stdout").stat().st_mtime_ns
    wait_until(lambda: time.time_ns() - first > 200_000_000)
    fifo.write_text("go\n")
    end = worker.end_of("time")
    records = index_of(host, "time")
    assert {(r.kind, r.stream, r.offset, r.length) for r in records} == {
        (TIME, 1, 2, 2), (TIME, 2, 0, 2),
    }  # fmt: skip
    assert all(end["started_at_ns"] < r.time_ns <= end["ended_at_ns"] for r in records)


def test_a_process_substitution_may_finish(host: Host, worker: Connection) -> None:
    script = "exec > >(read -r line; read -t 0.05 < <(:); echo got $line); echo hello"
    end_by(worker, host.order("subst", ["bash", "-c", script]))
    assert host.stdout("subst") == b"got hello\n"


def test_a_grandchild_that_holds_stdout_is_ended(host: Host, worker: Connection) -> None:
    end = end_by(worker, host.order("hold", "(echo early; sleep 600) & echo main; exit 5"))
    assert (end["cause"], end["exit_code"]) == ("exit", 5)
    assert sorted(host.stdout("hold").split()) == [b"early", b"main"]
    assert end["ended_at_ns"] - end["started_at_ns"] < 3_000_000_000


def test_an_outsider_that_holds_stdout_delays_the_end_by_two_seconds(
    host: Host, worker: Connection
) -> None:
    worker.start(host.order("out", "echo x; exec sleep 600"))
    pid = worker.pid_of("out")
    wait_until(lambda: host.stdout("out") == b"x\n")
    holder = os.open(f"/proc/{pid}/fd/1", os.O_WRONLY)
    try:
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: is_gone(pid))
        gone_at = time.time_ns()
        os.write(holder, b"late\n")
        end = worker.end_of("out")
    finally:
        os.close(holder)
    assert host.stdout("out") == b"x\nlate\n"
    assert (end["cause"], end["signal"]) == ("exit", signal.SIGKILL)
    assert 1_500_000_000 < end["ended_at_ns"] - gone_at < 6_000_000_000


@pytest.fixture
def small_disk(short_dir: Path) -> Path:
    """A file system of 1 MiB as the root of attempts."""
    place = short_dir / "attempts"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)], check=False,
        capture_output=True,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    return place


def test_a_full_disk_blocks_no_job_and_is_told(plain_host: Host, small_disk: Path) -> None:
    try:
        worker = plain_host.begin()
        end = end_by(
            worker,
            plain_host.order("full", [sys.executable, "-c", NUMBERED.format("stdout", 200_000)]),
        )
        assert end["exit_code"] == 0
        assert end["stdout_bytes"] == 3_200_000
        assert "No space left on device" in end["message"]
        gap = next(r for r in index_of(plain_host, "full") if r.kind == GAP)
        assert gap.length not in (0, OPEN)
        assert end["dropped_bytes"] == gap.length
        data = plain_host.stdout("full")
        assert len(data) == 3_200_000
        assert data[: gap.offset] == numbered(200_000)[: gap.offset]
        plain_host.leave()
    finally:
        subprocess.run(["umount", "-l", str(small_disk)], check=True)


# --- the writer alone --------------------------------------------------------------------------


@given(
    pieces=st.lists(st.tuples(st.sampled_from([1, 2]), st.integers(1, 60_000)), max_size=40),
    limit=st.integers(0, 200_000),
)
@settings(
    max_examples=examples(150),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_the_limit_holds_exactly_and_what_is_kept_is_true(
    tmp_path: Path, pieces: list[tuple[int, int]], limit: int
) -> None:
    directory = tmp_path / os.urandom(6).hex()
    directory.mkdir()
    directory_fd = os.open(directory, os.O_PATH)
    ends = [os.pipe(), os.pipe()]
    for out, _ in ends:
        os.set_blocking(out, False)
    output = Output(directory_fd, (ends[0][0], ends[1][0]), limit)
    output.begin(0)
    written = {1: bytearray(), 2: bytearray()}
    for number, size in pieces:
        stream = output.stdout if number == 1 else output.stderr
        start = len(written[number]) // 8
        data = b"".join(struct.pack(">Q", start + n + 1) for n in range(size // 8 + 1))
        os.write(ends[number - 1][1], data)
        written[number] += data
        while stream.total < len(written[number]):
            assert output.pump(stream)
        held = output.stdout.held + output.stderr.held
        assert held <= limit + limits.DROP_STEP_LEAST_BYTES + 2 * limits.SPLICE_BYTES
    for _, end in ends:
        os.close(end)
    output.finish()
    os.close(directory_fd)
    total = len(written[1]) + len(written[2])
    assert output.dropped() == max(0, total - limit)
    index = directory / "index"
    records = parse_index(index.read_bytes()) if index.exists() else []
    for number, name in ((1, "stdout"), (2, "stderr")):
        expected = written[number]
        for gap in records:
            if gap.kind == GAP and gap.stream == number:
                expected[gap.offset : gap.offset + gap.length] = bytes(gap.length)
        path = directory / name
        assert (path.read_bytes() if path.exists() else b"") == bytes(expected)


def test_the_interval_of_time_records_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TIME_RECORDS_PER_DOUBLING", 8)
    directory_fd = os.open(tmp_path, os.O_PATH)
    out, into = os.pipe()
    output = Output(directory_fd, (out, -1), 1 << 20)
    for number in range(20):
        output.index.add_time(1, number, number, 1)
    assert output.index.is_due(800_000_000, 0)
    assert not output.index.is_due(799_999_999, 0)
    os.close(into)
    output.stderr.pipe = -1
    output.finish()
    os.close(directory_fd)
    assert len(parse_index((tmp_path / "index").read_bytes())) == 20


def test_where_files_have_no_holes_the_head_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(95, "not supported")

    monkeypatch.setattr("jobservice.runner.output.punch_hole", refuse)
    directory_fd = os.open(tmp_path, os.O_PATH)
    out, into = os.pipe()
    os.set_blocking(out, False)
    output = Output(directory_fd, (out, -1), 10_000)
    for number in range(20):
        os.write(into, b"z" * 50_000)
        while output.stdout.total < 50_000 * (number + 1):
            output.pump(output.stdout)
    os.close(into)
    output.finish()
    os.close(directory_fd)
    gaps = [r for r in parse_index((tmp_path / "index").read_bytes()) if r.kind == GAP]
    data = (tmp_path / "stdout").read_bytes()
    assert len(data) == 1_000_000
    for gap in gaps:
        assert not data[gap.offset : gap.offset + gap.length].strip(b"\0")
    assert data.count(b"z") == 1_000_000 - sum(gap.length for gap in gaps)
