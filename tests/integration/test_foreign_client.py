"""A client that is not ours: `buf curl`, which knows nothing but what reflection tells it."""

import base64
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2 as details_pb2  # type: ignore[import-untyped]
from grpc_health.v1 import health_pb2, health_pb2_grpc

from jobservice.server.service import CALLS_END_S
from jobservice.testing.server import Server
from jobservice.wire import messages as pb
from tests.integration.bare import UNKNOWN_ID
from tests.integration.conftest import Serve

BUF = Path(sys.executable).with_name("buf")
SERVICE = "jobservice.v1.JobService"
SERVICES = [service.full_name for service in pb.SERVICES]


class Buf:
    """`buf curl` to one address."""

    def __init__(self, service: Server, transport: str, reflection: str = "grpc-v1") -> None:
        self.url = "http://localhost"
        self.options = ["--protocol", "grpc", "--reflect-protocol", reflection]
        if transport == "unix":
            self.options += ["--unix-socket", service.unix_address.removeprefix("unix:")]
        else:
            self.url = f"http://{service.tcp_address}"

    def __call__(self, path: str, **request: Any) -> subprocess.CompletedProcess[str]:
        url = f"{self.url}/{path}" if path else self.url
        what = ["--data", json.dumps(request)] if path else ["--list-methods"]
        return subprocess.run(
            [str(BUF), "curl", "--http2-prior-knowledge", *self.options, *what, url],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip

    def answer(self, rpc: str, **request: Any) -> Any:
        """The one response of an RPC of the service."""
        [found] = self.answers(rpc, **request)
        return found

    def answers(self, rpc: str, **request: Any) -> list[Any]:
        done = self(f"{SERVICE}/{rpc}", **request)
        assert done.returncode == 0, done.stderr
        return list(objects(done.stdout))

    def error(self, rpc: str, **request: Any) -> Any:
        done = self(f"{SERVICE}/{rpc}", **request)
        assert done.returncode != 0
        return json.loads(done.stderr)


def objects(text: str) -> Iterator[Any]:
    decoder, rest = json.JSONDecoder(), text.strip()
    while rest:
        found, end = decoder.raw_decode(rest)
        yield found
        rest = rest[end:].lstrip()


@pytest.fixture(params=["unix", "tcp"])
def buf(request: pytest.FixtureRequest, service: Server) -> Buf:
    return Buf(service, request.param)


@pytest.mark.parametrize("reflection", ["grpc-v1", "grpc-v1alpha"])
@pytest.mark.parametrize("transport", ["unix", "tcp"])
def test_reflection_tells_of_every_method(idle: Server, transport: str, reflection: str) -> None:
    done = Buf(idle, transport, reflection)("")
    assert done.returncode == 0, done.stderr
    listed = set(done.stdout.split())
    for service in pb.SERVICES:
        assert {f"{service.full_name}/{method.name}" for method in service.methods} <= listed
    assert "grpc.health.v1.Health/Check" in listed


def test_every_method_can_be_called(buf: Buf) -> None:
    called: set[str] = set()

    def call(rpc: str, **request: Any) -> Any:
        called.add(rpc)
        return buf.answer(rpc, **request)

    command = {"argv": ["sh", "-c", "echo out; echo err >&2; exit $CODE"], "env": {"CODE": "3"}}
    job = call("CreateJob", job={"name": "one", "command": command, "timeout": "60s"})["job"]
    job_id = job["jobId"]
    assert (job["state"], job["command"], job["timeout"]) == ("JOB_STATE_QUEUED", command, "60s")
    requests = [{"job": {"command": {"argv": ["sleep", "600"]}}} for _ in range(2)]
    two = call("BatchCreateJobs", requests=requests)["jobs"]
    called.add("WatchJobs")
    watched = buf.answers("WatchJobs", job_ids=[job_id])
    updates = [each.get("snapshot") or each.get("event") for each in watched]
    assert [each["state"] for each in updates if each][-1] == "JOB_STATE_FAILED"
    found = call("GetJob", job_id=job_id)["job"]
    assert (found["exitCode"], found["attempts"][0]["stdoutBytes"]) == (3, "4")
    assert call("GetJobStatus", job_id=job_id)["status"]["failureCount"] == 1
    called.add("ReadLogs")
    pieces = buf.answers("ReadLogs", job_id=job_id)
    assert {each["stream"]: base64.b64decode(each["data"]) for each in pieces} == {
        "LOG_STREAM_STDOUT": b"out\n", "LOG_STREAM_STDERR": b"err\n",
    }  # fmt: skip
    mask = {"job": {"job_id": job_id, "name": "renamed"}, "update_mask": "name"}
    assert call("UpdateJob", **mask)["job"]["name"] == "renamed"
    assert call("RetryJob", job_id=job_id)["job"]["state"] == "JOB_STATE_QUEUED"
    buf.answers("WatchJobs", job_ids=[job_id])
    assert [j["jobId"] for j in call("GetJobHistory")["jobs"]] == [job_id]
    assert len(call("ListJobs", page_size=2, view="JOB_VIEW_ID")["jobs"]) == 2
    active = [each["jobId"] for each in call("ListActiveJobs")["jobs"]]
    assert active == [each["jobId"] for each in two]
    waiting = call("BatchCreateJobs", requests=requests * 6)["jobs"][-1]["jobId"]
    assert call("MoveJob", job_id=waiting, bottom=True)["job"]["state"] == "JOB_STATE_QUEUED"
    assert call("HoldJob", job_id=waiting)["job"]["state"] == "JOB_STATE_HELD"
    assert call("ReleaseJob", job_id=waiting)["job"]["state"] == "JOB_STATE_QUEUED"
    cancelled = call("CancelJob", job_id=active[0], wait=True)["job"]
    assert cancelled["state"] == "JOB_STATE_CANCELLED"
    assert call("DeleteJob", job_id=active[1]) == {}
    assert called == {method.name for method in pb.SERVICE.methods}


def test_every_method_of_queues_and_limits_can_be_called(buf: Buf) -> None:
    called: set[str] = set()

    def call(service: str, rpc: str, **request: Any) -> Any:
        called.add(rpc)
        done = buf(f"jobservice.v1.{service}/{rpc}", **request)
        assert done.returncode == 0, done.stderr
        [found] = objects(done.stdout)
        return found

    rules = {"name": "foreign", "maxRunning": 2}
    assert call("QueueService", "CreateQueue", queue=rules)["queue"]["maxRunning"] == 2
    change = {"queue": {"name": "foreign", "maxAge": "60s"}, "updateMask": "maxAge"}
    assert call("QueueService", "UpdateQueue", **change)["queue"]["maxAge"] == "60s"
    paused = call("QueueService", "PauseQueue", name="foreign", reason="why")["queue"]
    assert paused["pause"]["mode"] == "PAUSE_MODE_HOLD"
    assert "pause" not in call("QueueService", "ResumeQueue", name="foreign")["queue"]
    assert call("QueueService", "GetQueue", name="foreign")["queue"]["name"] == "foreign"
    listed = call("QueueService", "ListQueues")["queues"]
    assert [each["name"] for each in listed] == ["default", "foreign"]
    assert call("QueueService", "GetQueueStats", name="foreign")["stats"]["name"] == "foreign"
    assert call("QueueService", "DeleteQueue", name="foreign") == {}
    key = {"kind": "LIMIT_KIND_KEY", "name": "api"}
    rate = {"starts": 5, "period": "60s"}
    limit = call("LimitService", "SetLimit", limit={**key, "rate": rate})["limit"]
    assert limit["rate"] == {**rate, "burst": 1}
    assert call("LimitService", "GetLimit", **key)["limit"]["name"] == "api"
    assert len(call("LimitService", "ListLimits")["limits"]) == 4
    assert call("LimitService", "DeleteLimit", **key) == {}
    services = pb.QUEUE_SERVICE, pb.LIMIT_SERVICE
    assert called == {method.name for service in services for method in service.methods}


def test_every_method_of_workers_can_be_called(buf: Buf) -> None:
    """By a worker that is none of ours."""
    called: set[str] = set()

    def call(rpc: str, **request: Any) -> Any:
        called.add(rpc)
        done = buf(f"jobservice.v1.WorkerService/{rpc}", **request)
        assert done.returncode == 0, done.stderr
        [found] = objects(done.stdout)
        return found

    [ours] = [each for each in call("ListWorkers")["workers"] if "embedded" in each]
    call("DrainWorker", worker_id=ours["workerId"], reason="for a foreign one")
    mine = {"worker_id": "foreign", "slots": 1}
    assert call("RegisterWorker", worker=mine)["lease"] == "30s"
    job_id = buf.answer("CreateJob", job={"command": {"argv": ["true"]}})["job"]["jobId"]
    [lease] = call("ClaimJobs", worker_id="foreign", limit=1, wait="10s")["leases"]
    fence = lease["fence"]
    assert (fence["jobId"], lease["command"]["argv"]) == (job_id, ["true"])
    assert call("UnclaimAttempts", fences=[fence]) == {"unclaimed": [True]}
    [lease] = call("ClaimJobs", worker_id="foreign", limit=1, wait="10s")["leases"]
    assert call("UnclaimAttempts", fences=[fence]) == {"unclaimed": [False]}
    fence, now = lease["fence"], "2026-11-26T05:00:00Z"
    assert call("StartAttempts", starts=[{"fence": fence, "startTime": now}])["recorded"] == [True]
    report = {"fence": fence, "percent": 50, "reportTime": now}
    assert call("ReportProgress", reports=[report])["recorded"] == [True]
    written = {"fence": fence, "stream": "LOG_STREAM_STDOUT", "data": "aGVsbG8="}
    assert call("AppendLogs", appends=[written])["ends"] == [{"endOffset": "5"}]
    [live] = call("ListLeases", worker_id="foreign")["attempts"]
    assert (live["fence"], live["state"]) == (fence, "ATTEMPT_STATE_RUNNING")
    answers = call("ExtendLeases", worker_id="foreign", fences=[fence])["answers"]
    assert answers == ["LEASE_ANSWER_KEPT"]
    buf.answer("CancelJob", job_id=job_id)
    assert call("ExtendLeases", worker_id="foreign", fences=[fence])["answers"] == [
        "LEASE_ANSWER_STOP"
    ]
    end = {"fence": fence, "cause": "END_CAUSE_STOP", "endTime": now, "signal": 15}
    assert call("FinishAttempts", ends=[end])["recorded"] == [True]
    assert call("FinishAttempts", ends=[end])["recorded"] == [False]
    assert call("GetWorker", worker_id="foreign")["worker"]["state"] == "WORKER_STATE_ACTIVE"
    assert call("ResumeWorker", worker_id=ours["workerId"])["worker"]["workerId"]
    never_ends = {"WatchStops"}
    assert called == {method.name for method in pb.WORKER_SERVICE.methods} - never_ends


def test_an_error_comes_with_its_details(buf: Buf) -> None:
    error = buf.error("CreateJob", job={"priority": 1000, "command": {"work_dir": "x"}})
    assert error["code"] == "invalid_argument"
    details = {each["type"]: base64.b64decode(each["value"] + "==") for each in error["details"]}
    info = details_pb2.ErrorInfo.FromString(details["google.rpc.ErrorInfo"])
    assert (info.domain, info.reason) == ("jobservice", "INVALID_REQUEST")
    bad = details_pb2.BadRequest.FromString(details["google.rpc.BadRequest"])
    assert sorted(each.field for each in bad.field_violations) == [
        "job.command.argv", "job.command.work_dir", "job.priority",
    ]  # fmt: skip
    missing = buf.error("GetJob", job_id=UNKNOWN_ID)
    assert missing["code"] == "not_found"
    assert {each["type"] for each in missing["details"]} >= {"google.rpc.ResourceInfo"}


# --- health ---------------------------------------------------------------------------------------


def test_health_is_served_for_the_server_and_the_service(buf: Buf, address: str) -> None:
    for name in ("", *SERVICES):
        done = buf("grpc.health.v1.Health/Check", service=name)
        assert json.loads(done.stdout) == {"status": "SERVING"}
    listed = json.loads(buf("grpc.health.v1.Health/List").stdout)["statuses"]
    assert listed == {name: {"status": "SERVING"} for name in ("", *SERVICES)}
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as caught:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="other"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_watcher_of_health_hears_of_the_shutdown(serve: Serve) -> None:
    server = serve("--slots", "0").start()
    status = health_pb2.HealthCheckResponse
    with grpc.insecure_channel(server.unix_address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watches = {
            name: stub.Watch(health_pb2.HealthCheckRequest(service=name), timeout=40)
            for name in ("", SERVICE, "other")
        }
        first = {name: next(watch).status for name, watch in watches.items()}
        assert first == {
            "": status.SERVING, SERVICE: status.SERVING, "other": status.SERVICE_UNKNOWN,
        }  # fmt: skip
        begin = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begin < CALLS_END_S, "watchers do not hold it up"
        for name, watch in watches.items():
            last = status.SERVICE_UNKNOWN if name == "other" else status.NOT_SERVING
            assert next(watch).status == last
            with pytest.raises(grpc.RpcError) as caught:
                next(watch)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
