"""Logs: byte-exact, per attempt and stream, from any offset, live and ever after."""

import contextlib
import functools
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from jobservice import Client, Job, RetryPolicy, State
from jobservice.errors import InvalidRequest, NotFound
from jobservice.testing.server import Server
from jobservice.testing.wait import wait_until
from jobservice.wire import messages as pb
from jobservice.wire.stubs import JobServiceStub
from tests.integration.bare import LATER, answered, output, running
from tests.integration.conftest import Serve

MIB = 1 << 20
STDOUT: Any = 1
STDERR: Any = 2
AT_ONCE = RetryPolicy(max_attempts=5, initial_backoff=LATER.initial_backoff * 0)


def shell(client: Client, script: str, **options: Any) -> Job:
    return client.wait(client.create(["sh", "-c", script], **options), timeout=50)


def read(stub: JobServiceStub, **fields: Any) -> list[pb.ReadLogsResponse]:
    return answered(stub.ReadLogs, pb.ReadLogsRequest(**fields))  # type: ignore[return-value]


def text(pieces: list[pb.ReadLogsResponse]) -> bytes:
    return b"".join(each.data for each in pieces)


# --- streams and offsets --------------------------------------------------------------------------


def test_streams_are_kept_apart_and_read_from_any_offset(
    stub: JobServiceStub, local: Client
) -> None:
    job = shell(local, "printf 0123456789; printf abcdef >&2; exit 1")
    pieces = read(stub, job_id=job.job_id)
    assert {(each.stream, each.data) for each in pieces} == {
        (STDOUT, b"0123456789"), (STDERR, b"abcdef"),
    }  # fmt: skip
    assert {(each.attempt, each.offset, each.dropped_bytes) for each in pieces} == {(1, 0, 0)}
    assert text(read(stub, job_id=job.job_id, stream=STDERR)) == b"abcdef"
    for offset in (0, 1, 9, 10, 11):
        found = read(stub, job_id=job.job_id, stream=STDOUT, stdout_offset=offset)
        assert text(found) == b"0123456789"[offset:]
        assert [each.offset for each in found] == ([offset] if offset < 10 else [])
    both = read(stub, job_id=job.job_id, stdout_offset=8, stderr_offset=5)
    assert {(each.stream, each.offset, each.data) for each in both} == {
        (STDOUT, 8, b"89"), (STDERR, 5, b"f"),
    }  # fmt: skip
    assert read(stub, job_id=job.job_id, stream=STDOUT, stderr_offset=99)[0].offset == 0


def test_a_job_without_output_or_attempt_has_empty_logs(local: Client, parked: Client) -> None:
    assert list(local.logs(shell(local, "exit 0"))) == []
    assert list(parked.logs(parked.create(["true"]))) == []
    assert list(parked.logs(parked.cancel(parked.create(["true"])), follow=True)) == []


def test_an_attempt_that_is_not_there(client: Client) -> None:
    job = shell(client, "echo x")
    for attempt in (2, 99):
        with pytest.raises(InvalidRequest) as caught:
            list(client.logs(job, attempt))
        assert [each.rule for each in caught.value.violations] == ["ATTEMPT_NOT_FOUND"]
    assert b"".join(each.data for each in client.logs(job, 1)) == b"x\n"


def test_attempts_have_logs_of_their_own(client: Client) -> None:
    script = "echo try $JOBSERVICE_ATTEMPT; exit $((3 - JOBSERVICE_ATTEMPT))"
    job = shell(client, script, retry_policy=AT_ONCE)
    assert [output(client, job, attempt=n) for n in (0, 1, 2, 3)] == [
        b"try 3\n", b"try 1\n", b"try 2\n", b"try 3\n",
    ]  # fmt: skip


# --- following ------------------------------------------------------------------------------------


def test_a_follower_sees_output_as_it_comes(client: Client, tmp_path: Path) -> None:
    """Each line is only written when the one before it was read."""
    script = (
        f"cd {tmp_path}; for n in 1 2 3; do echo $n; until test -e $n; do sleep 0.02; done; done"
    )
    job = client.create(["sh", "-c", script])
    seen = b""
    for chunk in client.logs(job, follow=True):
        seen += chunk.data
        (tmp_path / seen.decode().split()[-1]).touch()
    assert seen == b"1\n2\n3\n"
    assert client.get(job).state is State.SUCCEEDED, "the end is told when all is read"


def test_a_follower_goes_from_attempt_to_attempt(client: Client) -> None:
    script = "echo try $JOBSERVICE_ATTEMPT; sleep 0.1; exit $((4 - JOBSERVICE_ATTEMPT))"
    job = client.create(["sh", "-c", script], retry_policy=AT_ONCE)
    followed = [(each.attempt, each.offset, each.data) for each in client.logs(job, follow=True)]
    assert followed == [(n, 0, b"try %d\n" % n) for n in (1, 2, 3, 4)]
    assert client.get(job).state is State.SUCCEEDED
    one = [each.data for each in client.logs(job, 2, follow=True)]
    assert one == [b"try 2\n"], "an attempt that is named is the only one"


def test_a_follower_of_a_queued_job_waits_for_it(local: Client, service: Server) -> None:
    blockers = [local.create(["sleep", "600"]) for _ in range(4)]
    for each in blockers:
        running(local, each)
    job = local.create(["echo", "at last"])
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(lambda: list(local.logs(job, follow=True)))
        local.cancel(blockers[0])
        assert [each.data for each in reading.result(20)] == [b"at last\n"]
    assert service.process is not None


def test_a_follower_leaves_when_the_job_is_deleted(local: Client) -> None:
    job = running(local, local.create(["sh", "-c", "echo x; sleep 600"]))
    chunks = local.logs(job, follow=True)
    assert next(chunks).data == b"x\n"
    local.delete(job)
    with contextlib.suppress(NotFound):  # unless it has seen the end of the job before its deletion
        assert list(chunks) == []


# --- what is written ------------------------------------------------------------------------------

REOPENED = {
    "echo one; echo two > /dev/stdout; echo three": (b"one\ntwo\nthree\n", b""),
    "echo one; echo two >> /dev/stdout": (b"one\ntwo\n", b""),
    "echo one >&2; echo two > /dev/stderr; echo three >&2": (b"", b"one\ntwo\nthree\n"),
    "echo x | tee /dev/stderr; echo y >&2": (b"x\n", b"x\ny\n"),
    "echo a; echo b > /proc/self/fd/1; cat /dev/null > /dev/stdout; echo c": (b"a\nb\nc\n", b""),
    "echo a; (echo b; echo c >&2) & wait": (b"a\nb\n", b"c\n"),
    "echo a; setsid sh -c 'sleep 0.1; echo late' & echo b; wait": (b"a\nb\nlate\n", b""),
}


@pytest.mark.parametrize("script", REOPENED)
def test_streams_that_are_opened_anew_lose_nothing(local: Client, script: str) -> None:
    job = shell(local, script)
    assert job.state is State.SUCCEEDED
    assert (output(local, job), output(local, job, "stderr")) == REOPENED[script]


def test_any_bytes_are_kept_as_they_are(client: Client) -> None:
    data = bytes(range(256)) * 1000 + b"\xff\xfe\x00\r\n\xc3\x28"
    job = client.wait(client.create(["tee", "/dev/stderr"], stdin=data), timeout=20)
    assert output(client, job) == output(client, job, "stderr") == data
    [attempt] = job.attempts
    assert (attempt.stdout_bytes, attempt.stderr_bytes) == (len(data), len(data))


def test_a_line_of_100_mb_is_exact_and_memory_stays_flat(local: Client, service: Server) -> None:
    script = (
        "import os, hashlib\nh = hashlib.sha256()\n"
        "for n in range(100):\n"
        "    p = hashlib.sha256(b'%d' % n).hexdigest().encode() * 15_625\n"
        "    h.update(p)\n    while p: p = p[os.write(1, p):]\n"
        "os.write(2, h.hexdigest().encode())"
    )
    runner = service.runner()
    assert runner is not None
    processes = [psutil.Process(service.pid), runner]
    before = [each.memory_info().rss for each in processes]
    job = local.create(["python3", "-c", script])
    most = [0, 0]
    digest, size = hashlib.sha256(), 0
    for chunk in local.logs(job, stream="stdout", follow=True):
        assert chunk.offset == size
        assert len(chunk.data) <= 65_536
        digest.update(chunk.data)
        size += len(chunk.data)
        if chunk.offset % (4 * MIB) < 65_536:
            most = [max(m, p.memory_info().rss) for m, p in zip(most, processes, strict=True)]
    assert size == 100_000_000
    assert output(local, job, "stderr").decode() == digest.hexdigest()
    grown = [(m - b) / MIB for m, b in zip(most, before, strict=True)]
    assert max(grown) < 24, f"server and runner grew by {grown} MiB"


# --- the limit ------------------------------------------------------------------------------------


def test_over_the_limit_head_and_tail_are_kept(stub: JobServiceStub, local: Client) -> None:
    whole = b"".join(b"%07d\n" % n for n in range(100_000))
    script = "seq -f %07.0f 0 99999; printf 'to stderr' >&2"
    job = shell(local, script, output_limit_bytes=100_000)
    [attempt] = job.attempts
    assert attempt.stdout_bytes == len(whole)
    assert attempt.dropped_bytes == len(whole) + 9 - 100_000
    pieces = read(stub, job_id=job.job_id, stream=STDOUT)
    [gap] = [each for each in pieces if each.dropped_bytes]
    assert (gap.data, gap.dropped_bytes) == (b"", attempt.dropped_bytes)
    position = 0
    for each in pieces:
        assert each.offset == position
        assert each.data == whole[position : position + len(each.data)]
        position += len(each.data) + each.dropped_bytes
    assert position == len(whole)
    assert gap.offset > 40_000, "the head"
    assert len(whole) - gap.offset - gap.dropped_bytes > 40_000, "the tail"
    assert output(local, job, "stderr") == b"to stderr"
    inside = read(stub, job_id=job.job_id, stream=STDOUT, stdout_offset=gap.offset + 10)
    assert (inside[0].offset, inside[0].dropped_bytes) == (gap.offset + 10, gap.dropped_bytes - 10)
    assert text(inside) == whole[gap.offset + gap.dropped_bytes :]


# --- restarts -------------------------------------------------------------------------------------


def test_logs_outlive_the_service_and_a_follower_its_restart(serve: Serve, tmp_path: Path) -> None:
    """A follower through the SDK, cut off in the middle of an attempt, with two to come."""
    server = serve("--slots", "2").start()
    script = (
        f"cd {tmp_path}; for n in 1 2 3 4 5; do echo $JOBSERVICE_ATTEMPT.$n; echo e$n >&2; "
        "until test -e $JOBSERVICE_ATTEMPT.$n; do sleep 0.02; done; done; "
        "exit $((3 - JOBSERVICE_ATTEMPT))"
    )
    lines = [f"{attempt}.{n}" for attempt in (1, 2, 3) for n in (1, 2, 3, 4, 5)]
    with Client(server.unix_address) as client, ThreadPoolExecutor(1) as threads:
        job = client.create(["sh", "-c", script], retry_policy=AT_ONCE)
        seen: list[tuple[int, int, bytes]] = []

        def follow() -> None:
            chunks = client.logs(job, follow=True, stream="stdout")
            seen.extend((each.attempt, each.offset, each.data) for each in chunks)

        def has_come(line: str) -> bool:
            return line.encode() in b"".join(data for _, _, data in seen)

        reading = threads.submit(follow)
        for line in lines:
            wait_until(functools.partial(has_come, line), what=line)
            if line in {"1.3", "2.2"}:
                (server.kill if line == "2.2" else server.stop)()
                (tmp_path / line).touch()
                server.start()
            (tmp_path / line).touch()
        reading.result(60)
        assert b"".join(data for _, _, data in seen).decode().split() == lines
        ends: dict[int, int] = {}
        for attempt, offset, data in seen:
            assert offset == ends.get(attempt, 0)
            ends[attempt] = offset + len(data)
        server.stop()
        server.start()
        for attempt in (1, 2, 3):
            own = "".join(f"{each}\n" for each in lines if each.startswith(f"{attempt}."))
            assert output(client, job, attempt=attempt).decode() == own
            assert output(client, job, "stderr", attempt) == b"e1\ne2\ne3\ne4\ne5\n"
        assert client.get(job).state is State.SUCCEEDED
