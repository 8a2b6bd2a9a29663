"""SIGTERM: calls in flight end, watchers come back, running jobs go on or are queued again."""

import contextlib
import signal
import threading
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from jobservice import Client
from jobservice.errors import Unavailable
from jobservice.model.event import Event
from jobservice.model.job import AttemptState, Job
from jobservice.model.lifecycle import Reason, State
from jobservice.testing.server import Server
from jobservice.testing.wait import wait_until
from tests.integration.bare import running
from tests.integration.conftest import Serve
from tests.integration.crash import Crowd, Witness, all_final, check_file, processes

QUICK_S = 8.0
"""No shutdown waits for streams, which may be open for ever."""
DEAF = "trap '' TERM; sleep 600 & trap 'touch {told}' TERM; touch {ready}; while :; do wait; done"
"""Takes note of SIGTERM, and goes on."""


def test_sigterm_lets_calls_end_and_jobs_go_on(serve: Serve) -> None:
    server = serve("--slots", "3").start()
    with Client(server.unix_address, patience=0) as hasty, Client(server.unix_address) as client:
        job = running(client, client.create(["sleep", "600"]))
        acknowledged: list[str] = []
        crowd = Crowd(lambda *_: acknowledged.append(hasty.create(["true"]).job_id), 4)
        health = HealthWatcher(server)
        with crowd:
            wait_until(lambda: len(acknowledged) > 20)
            assert server.process is not None
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(QUICK_S) == 0
        with contextlib.suppress(Unavailable):
            crowd.join()
        assert all(isinstance(fault, Unavailable) for fault in crowd.faults)
        assert health.seen[-2:] == ["SERVING", "NOT_SERVING"]
        with pytest.raises(Unavailable):
            hasty.get(job)
        check_file(server)
        server.start()
        assert set(acknowledged) <= {each.job_id for each in client.list()}
        found = client.get(job)
        assert (found.state, found.attempt_count, found.attempts[0].started_at) == (
            State.RUNNING,
            1,
            job.attempts[0].started_at,
        )


class HealthWatcher:
    """All that the health service says, as a load balancer hears it."""

    def __init__(self, server: Server) -> None:
        self.seen: list[str] = []
        self._channel = grpc.insecure_channel(server.unix_address)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        wait_until(lambda: self.seen)

    def _watch(self) -> None:
        stub = health_pb2_grpc.HealthStub(self._channel)
        names = health_pb2.HealthCheckResponse.ServingStatus
        try:
            for answer in stub.Watch(health_pb2.HealthCheckRequest(), timeout=60):
                self.seen.append(names.Name(answer.status))
        except grpc.RpcError:
            self._channel.close()


def test_watchers_follow_through_a_restart(serve: Serve) -> None:
    server = serve("--slots", "2").start()
    with Client(server.unix_address) as client, Client(server.unix_address) as other:
        gate = client.create(["sleep", "600"])
        running(client, gate)
        seen: list[Job | Event] = []
        watcher = threading.Thread(target=follow, args=(other, seen, gate), daemon=True)
        watcher.start()
        first = client.create(["true"])
        wait_until(lambda: first.job_id in {each.job_id for each in seen})
        assert server.stop() == 0
        server.start()
        second = client.create(["true"])
        all_final(client, [first, second])
        client.cancel(gate)
        watcher.join(30)
        assert not watcher.is_alive()
    for job in (first, second):
        told = [each.revision for each in seen if each.job_id == job.job_id]
        assert told == list(range(told[0], told[0] + len(told))), "a gap, or something twice"
        assert [each.state for each in seen if each.job_id == job.job_id][-1] is State.SUCCEEDED


def follow(client: Client, seen: list[Job | Event], until: Job) -> None:
    """Note everything that happens, until a job has ended."""
    for each in client.watch():
        seen.append(each)
        if each.job_id == until.job_id and each.state is State.CANCELLED:
            return


def test_stop_jobs_queues_them_again(serve: Serve, tmp_path: Path) -> None:
    witness = Witness(tmp_path / "witness")
    script = f"[ -e {tmp_path}/go ] || sleep 600; echo done"
    server = serve("--slots", "3", "--stop-jobs").start()
    with Client(server.unix_address) as client:
        jobs = client.create_many([witness.job(script)] * 4)
        for job in jobs[:3]:
            running(client, job)
        assert server.stop() == 0
        assert not processes(server.data_dir), "the runner and the jobs end too"
        check_file(server)
        (tmp_path / "go").touch()
        server.start()
        done = all_final(client, jobs)
    witness.check(done)
    by_id = {job.job_id: job for job in done}
    assert [by_id[job.job_id].attempt_count for job in jobs] == [2, 2, 2, 1]
    for job in done:
        assert (job.state, job.lost_count, job.failure_count) == (State.SUCCEEDED, 0, 0)
        for attempt in job.attempts[:-1]:
            assert (attempt.state, attempt.reason) == (AttemptState.LOST, Reason.POLICY)


def test_a_second_sigterm_leaves_at_once_and_loses_nothing(serve: Serve, tmp_path: Path) -> None:
    server = serve("--slots", "4", "--stop-jobs").start()
    told, ready = tmp_path / "told", tmp_path / "ready"
    with Client(server.unix_address, patience=0) as hasty, Client(server.unix_address) as client:
        script = DEAF.format(told=told, ready=ready)
        deaf = client.create(["sh", "-c", script], stop_grace=60)
        queued = client.create_many([["sleep", "600"]] * 2)
        wait_until(ready.exists)
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: is_refused(hasty, deaf), what="a service that drains")
        wait_until(told.exists, what="the order to stop")  # without it the attempt just goes on
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(QUICK_S) == 128 + signal.SIGTERM
        pids = processes(deaf.job_id)
        assert pids
        check_file(server)
        server.start()
        assert {each.job_id for each in client.active()} == {
            each.job_id for each in (deaf, *queued)
        }
        for pid in pids:  # spare the test the grace
            psutil.Process(pid).kill()
        wait_until(lambda: client.get(deaf).attempt_count == 2, what="its next attempt")
        wait_until(lambda: processes(deaf.job_id))
        for pid in processes(deaf.job_id):
            psutil.Process(pid).kill()


def is_refused(client: Client, job: Job) -> bool:
    try:
        client.get(job)
    except Unavailable:
        return True
    return False
