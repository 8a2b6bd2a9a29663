"""Output of jobs on other hosts, read through any server: byte-exact, live, and ever after."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobservice import Client, State
from jobservice.model.job import Job
from jobservice.testing.server import Server
from jobservice.testing.wait import wait_until
from tests.integration.conftest import Serve, fresh_database, short_directory, tidy
from tests.integration.remote import ENV, at_work, until

LINES = 20_000
WRITES = f"""
import sys, time
for n in range({LINES}):
    sys.stdout.write(f"out {{n}}\\n")
    if n % 100 == 0:
        sys.stderr.write(f"err {{n}}\\n")
        sys.stdout.flush()
        sys.stderr.flush()
        time.sleep(0.015)
"""
"""A few seconds of output, on both streams."""
OUT = b"".join(b"out %d\n" % n for n in range(LINES))
ERR = b"".join(b"err %d\n" % n for n in range(0, LINES, 100))


@pytest.fixture
def server(serve: Serve) -> Server:
    """A server that runs nothing itself."""
    return serve("--slots", "0", tcp=True, env=ENV).start()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.unix_address) as made:
        yield made


def written(client: Client, job: Job, stream: str, *, follow: bool = False) -> bytes:
    chunks = list(client.logs(job, stream=stream, follow=follow))
    assert all(not each.dropped_bytes for each in chunks)
    return b"".join(each.data for each in chunks)


def has_begun(client: Client, job: Job) -> None:
    """Wait until some of the output of a job can be read."""
    wait_until(lambda: any(client.logs(job)), what="output")


def test_output_is_whole_once_the_job_has_ended_and_stays_when_its_host_is_gone(
    server: Server, client: Client
) -> None:
    with at_work(server.tcp_address) as worker:
        job = client.create(["sh", "-c", "head -c 300000 /dev/zero; printf '\\377\\0x' >&2"])
        quiet = client.create(["true"])
        assert client.wait(job, timeout=30).state is State.SUCCEEDED
        assert written(client, job, "stdout") == bytes(300_000)
        assert written(client, job, "stderr") == b"\xff\0x"
        assert client.wait(quiet, timeout=30).state is State.SUCCEEDED
        assert list(client.logs(quiet)) == []
        kept = worker.data_dir / "attempts"
        wait_until(lambda: not list(kept.iterdir()), what="the end of the directories")
    chunk, *_ = client.logs(job, stream="stdout", stdout_offset=299_990)
    assert (chunk.offset, chunk.data) == (299_990, bytes(10))
    client.delete(job)


@pytest.mark.parametrize("pause_s", [0, 0.05])
def test_a_gap_over_the_limit_is_where_it_was(
    server: Server, client: Client, pause_s: float
) -> None:
    """Also where what is dropped in the end was brought to the store before."""
    script = f"for n in $(seq 40); do seq 20000; sleep {pause_s}; done"
    with at_work(server.tcp_address):
        job = client.create(["sh", "-c", script], output_limit_bytes=200_000)
        done = client.wait(job, timeout=30)
        chunks = list(client.logs(job))
    whole = b"".join(b"%d\n" % n for n in range(1, 20_001)) * 40
    [attempt] = done.attempts
    assert attempt.stdout_bytes == len(whole)
    assert sum(len(each.data) for each in chunks) == 200_000
    assert [each.dropped_bytes for each in chunks if each.dropped_bytes] == [attempt.dropped_bytes]
    for before, behind in itertools.pairwise(chunks):
        assert behind.offset == before.offset + len(before.data) + before.dropped_bytes
    assert chunks[-1].offset + len(chunks[-1].data) == len(whole)
    assert all(each.data == whole[each.offset : each.offset + len(each.data)] for each in chunks)


@pytest.mark.slow
def test_no_byte_is_lost_or_doubled_by_kills_of_worker_and_server(
    server: Server, client: Client
) -> None:
    with at_work(server.unix_address) as worker:
        job = client.create(["python3", "-c", WRITES])
        for victim in (worker, server, worker):
            until(client, job, 1)
            has_begun(client, job)
            victim.kill()
            victim.start()
        assert written(client, job, "stdout", follow=True) == OUT
        done = client.wait(job, timeout=60)
        assert (done.state, done.attempt_count) == (State.SUCCEEDED, 1)
        assert written(client, job, "stdout") == OUT
        assert written(client, job, "stderr") == ERR


@pytest.mark.slow
def test_a_second_server_reads_live_what_a_job_of_the_first_writes(tmp_path: Path) -> None:
    go = tmp_path / "go"
    script = f"echo first; while ! test -e {go}; do sleep 0.05; done; echo last"
    for first, second, url in zip(
        short_directory(), short_directory(), fresh_database("postgres"), strict=True
    ):
        front = Server(first, "--slots", "0", database=url).start()
        back = Server(second, "--slots", "2", database=url).start()
        with Client(front.unix_address) as client, Client(back.unix_address) as there:
            job = client.create(["sh", "-c", script])
            following = client.logs(job, follow=True)
            assert next(following).data == b"first\n"
            go.touch()
            assert b"".join(each.data for each in following) == b"last\n"
            assert client.wait(job, timeout=30).state is State.SUCCEEDED
            assert written(there, job, "stdout") == b"first\nlast\n"
        back.stop()
        with Client(front.unix_address) as client:
            assert written(client, job, "stdout") == b"first\nlast\n"
        front.stop()
        tidy(back.start())
