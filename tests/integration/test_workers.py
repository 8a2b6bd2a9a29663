"""Workers on other hosts: real processes, killed, cut off, drained."""

import contextlib
import datetime as dt
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from jobservice import Client, State
from jobservice.errors import WorkerNotFound
from jobservice.model.event import Event
from jobservice.model.job import AttemptState
from jobservice.model.worker import WorkerState
from jobservice.testing.proxy import BLACK_HOLE, CALM, Proxy
from jobservice.testing.server import RemoteWorker, Server
from jobservice.testing.wait import wait_until
from jobservice.wire import messages as pb
from jobservice.wire.stubs import WorkerServiceStub
from tests.integration.bare import SLEEP, refused, running
from tests.integration.conftest import Serve, short_directory
from tests.integration.remote import (
    ENV,
    LEASE_S,
    at_work,
    holder_of,
    is_gone,
    logged,
    tidy_worker,
    until,
    witness,
)


@pytest.fixture
def server(serve: Serve) -> Server:
    """A server that runs nothing itself."""
    return serve("--slots", "0", tcp=True, env=ENV).start()


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.unix_address) as made:
        yield made


def test_a_worker_runs_jobs_and_tells_all_of_them(server: Server, client: Client) -> None:
    with at_work(server.tcp_address) as worker:
        [known] = client.workers.list()
        assert (known.info.worker_id, known.info.slots) == (worker.worker_id, 2)
        assert (known.state, known.info.embedded) == (WorkerState.ACTIVE, False)
        script = 'echo "40 half" >>$JOBSERVICE_PROGRESS; sleep 2; exit 7'
        job = client.create(["sh", "-c", script], env={"A": "b"})
        told = [each.progress for each in client.watch([job]) if isinstance(each, Event)]
        done = client.wait(job, timeout=30)
        assert (done.state, done.exit_code) == (State.FAILED, 7)
        assert [each.percent for each in told if each is not None] == [40]
        [attempt] = done.attempts
        assert attempt.worker_id == worker.worker_id
        array = client.create(["true"], array=5)
        assert client.wait(array, timeout=30).state is State.SUCCEEDED
        assert client.wait(client.create(["/no/such"]), timeout=30).state is State.FAILED


def test_a_cancel_reaches_a_worker_at_once(server: Server, client: Client) -> None:
    with at_work(server.tcp_address):
        job = running(client, client.create(SLEEP))
        events = client.watch([job])
        next(events)
        assert client.cancel(job, wait=True, timeout=LEASE_S / 2).state is State.CANCELLED


def test_a_drained_worker_takes_nothing_and_ends_what_it_has(
    server: Server, client: Client
) -> None:
    with at_work(server.tcp_address) as worker:
        first = running(client, client.create(["sh", "-c", "while ! test -e $0; do sleep 0.1; done",
                                               f"{worker.data_dir}/go"]))  # fmt: skip
        drained = client.workers.drain(worker.worker_id, reason="disks")
        assert (drained.state, drained.running) == (WorkerState.DRAINING, 1)
        second = client.create(["true"])
        (worker.data_dir / "go").touch()
        assert client.wait(first, timeout=30).state is State.SUCCEEDED
        worker.stop()
        worker.start()
        found = client.workers.get(worker.worker_id)
        assert (found.state, found.running) == (WorkerState.DRAINING, 0)
        assert client.get(second).state is State.QUEUED
        client.workers.resume(worker.worker_id)
        assert client.wait(second, timeout=30).state is State.SUCCEEDED
    with pytest.raises(WorkerNotFound):
        client.workers.drain("nobody")


def test_a_killed_worker_finds_its_jobs_again(server: Server, client: Client) -> None:
    with at_work(server.unix_address) as worker:
        job = until(client, client.create(["sh", "-c", "sleep 3; exit 3"]), 1)
        worker.kill()
        worker.start()
        done = client.wait(job, timeout=30)
        assert (done.exit_code, done.attempt_count, done.lost_count) == (3, 1, 0)


def test_a_killed_server_ends_nothing(server: Server, client: Client) -> None:
    with at_work(server.unix_address):
        job = until(client, client.create(["sh", "-c", "sleep 3; exit 3"]), 1)
        server.kill()
        server.start()
        done = client.wait(job, timeout=30)
        assert (done.exit_code, done.attempt_count, done.lost_count) == (3, 1, 0)


def test_a_worker_that_is_told_to_stops_its_jobs_and_hands_them_on(
    server: Server, client: Client
) -> None:
    with at_work(server.tcp_address, env={"JOBSERVICE_WORKER_STOP_JOBS": "true"}) as leaving:
        job = until(client, client.create(["sh", "-c", "echo begun; sleep 600"]), 1)
        process = holder_of(job)
        assert leaving.stop() == 0
        assert is_gone(process)
        found = client.get(job)
        assert (found.state, found.lost_count, found.failure_count) == (State.QUEUED, 0, 0)
        logs = client.logs(
            job, 1, stream="stdout"
        )  # some shells say on stderr what ended their child
        assert b"".join(each.data for each in logs) == b"begun\n"
    with at_work(server.tcp_address):
        until(client, job, 2)
        assert client.cancel(job, wait=True).state is State.CANCELLED


def test_a_copy_of_a_worker_waits_until_the_original_is_silent(
    server: Server, client: Client, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:
        worker = stack.enter_context(at_work(server.tcp_address))
        job, process = witness(client, tmp_path / "lock")
        copy = stack.enter_context(copy_of(worker, server.tcp_address))
        for _ in range(2):
            copy.spawn()
            logged(copy, "worker_waits")
            assert "remove worker-id" in copy.log_path.read_text()
            copy.stop()
            copy.log_path.unlink()
        known = (copy.data_dir / "worker-id").rename(copy.data_dir / "kept")
        copy.start()
        copy.stop()
        known.rename(copy.data_dir / "worker-id")
        copy.log_path.unlink()
        copy.spawn()
        logged(copy, "worker_waits")
        assert client.get(job).attempt_count == 1
        assert not is_gone(process)
        worker.kill()
        wait_until(copy.is_ready, timeout_s=4 * LEASE_S, what="the copy to be let in")
        until(client, job, 2)
        assert is_gone(process)
        assert not (tmp_path / "lock.overlap").exists()
        client.cancel(job)
        client.wait(job, timeout=30)


@contextlib.contextmanager
def copy_of(worker: RemoteWorker, address: str) -> Iterator[RemoteWorker]:
    """A worker with a copy of the data directory, not yet started."""
    for directory in short_directory():
        subprocess.run(["cp", "-a", f"{worker.data_dir}/.", directory], check=True)
        copy = RemoteWorker(directory, address)
        try:
            yield copy
        finally:
            tidy_worker(copy)


def test_who_never_registered_gets_nothing(server: Server) -> None:
    with grpc.insecure_channel(server.tcp_address) as channel:
        stub = WorkerServiceStub(channel)
        claim = pb.ClaimJobsRequest(worker_id="nobody", limit=1)
        extend = pb.ExtendLeasesRequest(worker_id="nobody")
        for call, request in ((stub.ClaimJobs, claim), (stub.ExtendLeases, extend)):
            found = refused(call, request)
            assert (found.code, found.reason) == ("NOT_FOUND", "WORKER_NOT_FOUND")
        claim = pb.ClaimJobsRequest(worker_id="No body", limit=1000)
        assert refused(stub.ClaimJobs, claim).fields == ["worker_id", "limit"]


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_where_one_server_is_gone_another_is_asked(server: Server, client: Client) -> None:
    for directory in short_directory():
        other = Server(directory, "--slots", "0", env=ENV, database=server.database)
        with other, at_work(server.unix_address, other.unix_address) as worker:
            job = until(client, client.create(SLEEP), 1)
            server.kill()
            logged(worker, "server_left")
            with Client(other.unix_address) as elsewhere:
                assert elsewhere.cancel(job, wait=True).state is State.CANCELLED
                ended = elsewhere.wait(elsewhere.create(["true"]), timeout=30)
                assert ended.state is State.SUCCEEDED
        server.start()


# --- cut off ----------------------------------------------------------------------------------


def test_a_short_cut_changes_nothing(server: Server, client: Client, tmp_path: Path) -> None:
    with Proxy(server.tcp_address) as proxy, at_work(proxy.address) as worker:
        job, process = witness(client, tmp_path / "lock")
        proxy.set(BLACK_HOLE)
        logged(worker, "extend_failed")
        proxy.set(CALM)
        before = client.workers.get(worker.worker_id).contact_at
        wait_until(lambda: client.workers.get(worker.worker_id).contact_at > before)
        assert not is_gone(process)
        assert client.get(job).attempt_count == 1
        assert client.cancel(job, wait=True).state is State.CANCELLED


@pytest.mark.slow
def test_after_a_long_cut_another_has_the_job_and_never_two_at_once(
    server: Server, client: Client, tmp_path: Path
) -> None:
    with Proxy(server.tcp_address) as proxy, at_work(proxy.address) as cut_off:
        job, process = witness(client, tmp_path / "lock")
        proxy.set(BLACK_HOLE)
        with at_work(server.tcp_address) as another:
            wait_until(lambda: is_gone(process), what="the end of what is cut off")
            gone_at = dt.datetime.now(dt.UTC)
            assert client.get(job).attempt_count == 1
            logged(cut_off, "attempts_ended_in_silence")
            again = until(client, job, 2)
            first, second = again.attempts
            assert second.worker_id == another.worker_id
            assert second.claimed_at > gone_at
            assert (first.state, again.lost_count) == (AttemptState.LOST, 1)
            silence = dt.timedelta(seconds=LEASE_S / 6)
            assert first.ended_at is not None
            assert first.ended_at - gone_at > silence
            proxy.set(CALM)
            before = client.workers.get(cut_off.worker_id).contact_at
            wait_until(lambda: client.workers.get(cut_off.worker_id).contact_at > before)
            assert not is_gone(holder_of(again))
            assert client.cancel(job, wait=True).attempt_count == 2
    assert not (tmp_path / "lock.overlap").exists()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_the_runner_ends_what_a_dead_or_frozen_worker_left(
    server: Server, client: Client, tmp_path: Path, how: signal.Signals
) -> None:
    with at_work(server.tcp_address) as worker:
        job, process = witness(client, tmp_path / "lock")
        os.kill(worker.pid, how)
        wait_until(lambda: is_gone(process), what="the end of what nobody renews")
        assert client.get(job).attempt_count == 1
        if how is signal.SIGSTOP:
            os.kill(worker.pid, signal.SIGCONT)
        else:
            worker.wait()
            worker.start()
        again = until(client, job, 2)
        assert [each.state for each in again.attempts] == [AttemptState.LOST, AttemptState.RUNNING]
        assert client.cancel(job, wait=True).state is State.CANCELLED
    assert not (tmp_path / "lock.overlap").exists()
