"""Arrays through the service: real processes, every index once, whatever is killed."""

import os
import random
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from jobservice import Client
from jobservice.errors import InvalidRequest, InvalidTransition, NotFound
from jobservice.model.array import ArrayCounts
from jobservice.model.event import Event, EventKind
from jobservice.model.job import Job
from jobservice.model.lifecycle import FINAL, Reason, State
from jobservice.model.limit import ConcurrencyKey, OnConflict
from jobservice.testing.server import Server
from jobservice.testing.wait import wait_until
from jobservice.wire import convert
from jobservice.wire import messages as pb
from jobservice.wire.stubs import JobServiceStub
from tests.integration.bare import refused
from tests.integration.conftest import Serve
from tests.integration.crash import Witness, check_file

ECHO = ["sh", "-c", 'echo "$JOBSERVICE_ARRAY_INDEX/$JOBSERVICE_ARRAY_SIZE $JOBSERVICE_ARRAY_ITEM"']
KILLS = 8


def indices(client: Client, array: Job) -> list[Job]:
    """The indices that are jobs, in order."""
    found = client.list(filter=f'array_job_id = "{array.job_id}"')
    return sorted(found, key=lambda each: each.index.index if each.index else -1)


def said(client: Client, array: Job, index: int) -> bytes:
    job = client.index(array, index)
    return b"".join(chunk.data for chunk in client.logs(job))


def test_each_index_runs_with_its_number_and_item(local: Client) -> None:
    items = ["a b", "", "ü\t"]
    array = local.create(ECHO, array=items, name="n", labels={"k": "v"}, env={"OWN": "x"})
    assert local.wait(array).state is State.SUCCEEDED
    found = indices(local, array)
    assert [each.spec.name for each in found] == ["n[0]", "n[1]", "n[2]"]
    assert {each.spec.labels["k"] for each in found} == {"v"}
    assert [each.index.item for each in found if each.index] == items
    assert [said(local, array, n) for n in range(3)] == [
        f"{n}/3 {item}\n".encode() for n, item in enumerate(items)
    ]
    with pytest.raises(InvalidTransition, match="--index N"):
        list(local.logs(array))
    done = local.get(array)
    assert (done.array_counts, done.attempts) == (ArrayCounts(3, 3, 0, 0), ())
    assert done.spec.array is not None
    assert (done.spec.array.size, done.spec.array.items) == (3, ())


def test_no_more_indices_run_at_once_than_may(local: Client, tmp_path: Path) -> None:
    script = f"""
    exec 9>{tmp_path}/lock.$$
    mkdir {tmp_path}/one 2>/dev/null || mkdir {tmp_path}/two || exit 3
    sleep 0.01
    rmdir {tmp_path}/two 2>/dev/null || rmdir {tmp_path}/one
    """
    array = local.create(["sh", "-c", script], array=20, max_parallel=2)
    assert local.wait(array).state is State.SUCCEEDED


def test_its_progress_is_told_and_its_list_shows_it(local: Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    wait = f'test "$JOBSERVICE_ARRAY_INDEX" = 0 || until test -e {gate}; do sleep 0.02; done'
    array = local.create(["sh", "-c", wait], array=4)

    def quarter() -> bool:
        found = local.get(array)
        return found.progress is not None and found.progress.percent == 25

    wait_until(quarter, what="the first index")
    assert [each.job_id for each in local.list(states=[State.RUNNING]) if each.spec.array] == [
        array.job_id
    ]
    assert array.job_id in {each.job_id for each in local.active()}
    assert local.status(array).current_step == "1 of 4 indices are done"
    gate.touch()
    told = (each for each in local.watch(jobs=[array]) if isinstance(each, Event))
    kinds = [EventKind.PROGRESS]
    while kinds[-1] is EventKind.PROGRESS:
        kinds.append(next(told).kind)
    assert kinds[-1] is EventKind.SUCCEEDED


def test_a_retry_runs_again_only_what_failed(local: Client, tmp_path: Path) -> None:
    flag, witness = tmp_path / "flag", tmp_path / "witness"
    script = (
        f'echo "$JOBSERVICE_ARRAY_INDEX" >>{witness}; '
        f"test -e {flag} || test $((JOBSERVICE_ARRAY_INDEX % 3)) != 1"
    )
    array = local.create(["sh", "-c", script], array=8)
    failed = local.wait(array)
    assert (failed.state, failed.reason) == (State.FAILED, Reason.EXIT_CODE)
    assert failed.message == "3 of 8 indices did not succeed: 1, 4, 7"
    with pytest.raises(InvalidTransition, match="retry the array"):
        local.retry(local.index(array, 1))
    flag.touch()
    local.retry(array)
    assert local.wait(array).state is State.SUCCEEDED
    runs = sorted(map(int, witness.read_text().split()))
    assert runs == sorted([*range(8), 1, 4, 7])
    with pytest.raises(InvalidTransition, match="succeeded"):
        local.retry(array)


def test_too_many_failures_end_what_runs(local: Client, tmp_path: Path) -> None:
    script = (
        f'test "$JOBSERVICE_ARRAY_INDEX" != 2 || exit 1; echo $$ >>{tmp_path}/pids; exec sleep 600'
    )
    array = local.create(["sh", "-c", script], array=1_000_000, max_failures=0)
    done = local.wait(array)
    assert (done.state, done.reason) == (State.FAILED, Reason.POLICY)
    pids = map(int, (tmp_path / "pids").read_text().split())
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_cancel_that_is_done_leaves_no_process(local: Client, tmp_path: Path) -> None:
    script = f"echo $$ >>{tmp_path}/pids; setsid sleep 600 & echo $! >>{tmp_path}/pids; wait"
    array = local.create(["sh", "-c", script], array=1_000_000)
    pids = tmp_path / "pids"
    wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 8, what="four indices")
    assert local.cancel(array, wait=True).state is State.CANCELLED
    assert not any(psutil.pid_exists(int(pid)) for pid in pids.read_text().split())
    assert not [each for each in indices(local, array) if each.state not in FINAL]


def test_a_delete_takes_every_index_along(local: Client) -> None:
    array = local.create(["sh", "-c", "sleep 600"], array=500)
    wait_until(lambda: indices(local, array), what="its indices")
    local.delete(array)
    assert indices(local, array) == []
    with pytest.raises(NotFound):
        local.get(array)


def test_other_jobs_wait_for_all_of_it(local: Client) -> None:
    array = local.create(["true"], array=5)
    child = local.create(["true"], after=[array])
    assert local.wait(child).state is State.SUCCEEDED
    assert local.get(array).state is State.SUCCEEDED


def test_a_schedule_makes_arrays(local: Client) -> None:
    rules: Any = {"array": ["a", "b"], "max_parallel": 1}
    local.schedules.create("s", ["true"], job=rules, every=86_400)
    array = local.schedules.trigger("s").job_id
    done = local.wait(array)
    assert (done.state, done.schedule) == (State.SUCCEEDED, "s")
    assert [each.index.item for each in indices(local, done) if each.index] == ["a", "b"]
    local.schedules.delete("s")


def test_a_request_that_is_repeated_makes_one_array(local: Client) -> None:
    array = local.create(["true"], array=["a", "b"], request_id="r")
    again = local.create(["true"], array=["a", "b"], request_id="r")
    assert again.job_id == array.job_id
    local.wait(array)


def test_what_is_wrong_with_an_array_is_told_at_once(idle: Server) -> None:
    job = pb.Job(
        command=pb.Command(argv=["true"]),
        array=pb.Array(size=3, items=["a", "b\0", "x" * 4_097], max_parallel=-1, max_failures=-1),
        concurrency_keys=[convert.key_message(ConcurrencyKey("k", on_conflict=OnConflict.REJECT))],
    )
    with grpc.insecure_channel(idle.unix_address) as channel:
        found = refused(JobServiceStub(channel).CreateJob, pb.CreateJobRequest(job=job))
        nothing = pb.Job(command=pb.Command(argv=["true"]), array=pb.Array())
        empty = refused(JobServiceStub(channel).CreateJob, pb.CreateJobRequest(job=nothing))
    assert (found.code, found.violations) == (
        "INVALID_ARGUMENT",
        [
            ("job.array.max_parallel", "INT32_GTE_LTE"),
            ("job.array.max_failures", "INT32_GTE_LTE"),
            ("job.array.items[1]", "ITEM"),
            ("job.array.items[2]", "ITEM"),
            ("job.concurrency_keys[0].on_conflict", "NOT_FOR_AN_ARRAY"),
        ],
    )
    assert empty.violations == [("job.array.size", "REQUIRED")]


def test_what_the_sdk_cannot_send(local: Client) -> None:
    with pytest.raises(InvalidRequest, match="list of items"):
        local.create(["true"], array="abc")
    with pytest.raises(InvalidRequest, match="give `array` too"):
        local.create(["true"], max_parallel=2)
    array = local.create(["true"], array=1)
    local.wait(array)
    with pytest.raises(NotFound, match="no job for index 1"):
        local.index(array, 1)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_every_index_runs_once_though_the_server_is_killed(serve: Serve, tmp_path: Path) -> None:
    witness = Witness(tmp_path / "witness")
    seed = int.from_bytes(os.urandom(4))
    print("seed", seed)  # noqa: T201
    chance = random.Random(seed)
    server = serve("--slots", "4").start()
    with Client(server.unix_address) as client:
        array = client.create(witness.job("sleep 0.05"), array=300, max_parallel=3)
    for number in range(KILLS):
        enough = (number + 1) * 15 + chance.randrange(10)
        wait_until(lambda n=enough: len(witness.runs()) >= n)  # type: ignore[misc]
        server.kill()
        if number % 4 == 3:
            check_file(server)
        server.start()
    with Client(server.unix_address) as client:
        done = client.wait(array, timeout=120)
        assert (done.state, done.array_counts) == (State.SUCCEEDED, ArrayCounts(300, 300, 0, 0))
        jobs = [client.get(job) for job in indices(client, array)]
    assert [each.index.index for each in jobs if each.index] == list(range(300))
    assert {(each.attempt_count, each.lost_count) for each in jobs} == {(1, 0)}
    witness.check(jobs)
    assert len(witness.runs()) == 300
    server.kill()
    check_file(server)
