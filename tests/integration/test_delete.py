"""Deletes: a job goes with all that is its, once, and nothing shows it again."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from jobservice import Client, State
from jobservice.errors import EtagMismatch, InvalidTransition, NotFound
from jobservice.testing.wait import wait_until
from jobservice.wire import messages as pb
from jobservice.wire.stubs import JobServiceStub
from tests.integration.bare import SLEEP, gone, running, scheduled, stubborn


def test_jobs_in_every_state_can_be_deleted(client: Client) -> None:
    jobs = [
        client.wait(client.create(["sh", "-c", "echo x; exit 1"]), timeout=20),
        running(client, client.create(["sh", "-c", "echo x; sleep 600"])),
        scheduled(client),
        client.cancel(client.create(SLEEP)),
    ]
    for job in jobs:
        client.delete(job)
        assert gone(client, job)
        for call in (client.status, client.cancel, client.retry, client.delete):
            with pytest.raises(NotFound):
                call(job)
        with pytest.raises(NotFound):
            list(client.logs(job))
    assert [*client.list(), *client.history(), *client.active()] == []
    client.delete(jobs[0], allow_missing=True)


def test_a_delete_minds_the_etag(client: Client) -> None:
    job = client.create(SLEEP)
    edited = client.update(job, name="mine")
    with pytest.raises(EtagMismatch):
        client.delete(job, etag=job.etag)
    assert client.get(job).state in {State.QUEUED, State.RUNNING}, "a refused delete stops nothing"
    client.delete(job, etag=edited.etag)
    assert gone(client, job)


def test_a_delete_whose_caller_gave_up_still_completes(stub: JobServiceStub, local: Client) -> None:
    job = stubborn(local, stop_grace=1)
    with pytest.raises(grpc.RpcError) as caught:
        stub.DeleteJob(pb.DeleteJobRequest(job_id=job.job_id), timeout=0.2)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    found = local.get(job)
    assert found.state is State.STOPPING
    with pytest.raises(InvalidTransition, match="is being deleted"):
        local.update(job, priority=1)
    wait_until(lambda: gone(local, job))


def test_deletes_at_once_all_return_when_it_is_gone(client: Client) -> None:
    job = stubborn(client, stop_grace=0.4)
    begin = time.monotonic()
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: client.delete(job, allow_missing=True), range(8)))
    assert answers == [None] * 8
    assert time.monotonic() - begin > 0.3
    assert gone(client, job)


def test_a_cancel_that_waits_hears_of_a_delete(client: Client) -> None:
    job = stubborn(client, stop_grace=0.4)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.cancel, job, wait=True)
        wait_until(lambda: client.get(job).state is State.STOPPING)
        client.delete(job)
        try:
            assert waiting.result(20).state is State.CANCELLED
        except NotFound:
            assert gone(client, job)


def test_no_list_shows_a_job_after_its_delete_returned(client: Client) -> None:
    """Readers list all the time; what is shown was not deleted before the list was asked for."""
    deleted: set[str] = set()
    over = threading.Event()

    def read(_: int) -> int:
        looks = 0
        while not over.is_set():
            before = set(deleted)
            for listed in (client.list(), client.active(), client.history()):
                assert before.isdisjoint(each.job_id for each in listed)
            looks += 1
        return looks

    with ThreadPoolExecutor(3) as threads:
        looks = threads.map(read, range(3))
        try:
            for argv in (["true"], SLEEP, ["false"]) * 10:
                job = client.create(argv)
                client.delete(job)
                deleted.add(job.job_id)
        finally:
            over.set()
        assert min(looks) > 0
