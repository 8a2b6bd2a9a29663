"""Watches that broke go on behind the last message: after a break, a delete and a restart."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from jobservice import Client, Job, State
from jobservice.testing.wait import wait_until
from jobservice.wire import messages as pb
from jobservice.wire.stubs import JobServiceStub
from tests.integration.bare import SLEEP, refused
from tests.integration.conftest import Serve
from tests.integration.watching import Watch, gap_free, story


def test_a_watch_goes_on_at_every_token(stub: JobServiceStub, local: Client) -> None:
    """From behind each message, what follows is exactly what followed it the first time."""
    whole = Watch(stub)
    whole.snapshot()
    tokens = [whole.token]
    jobs = local.create_many([["true"], ["false"], ["true"]])
    for job in jobs:
        local.wait(job, timeout=20)
        local.update(job, name="x")
    local.cancel(local.create(SLEEP), wait=True)
    tokens += [whole.token for _ in whole.events(until="CANCELLED")]
    assert len(whole.seen) > 3 * 4 + 2
    assert gap_free(whole.seen)
    for skipped, token in enumerate(tokens[:-1]):
        again = Watch(stub, token=token)
        list(again.events(until="CANCELLED"))
        again.leave()
        assert again.seen == whole.seen[skipped:]
    local.delete(jobs[0])
    list(whole.events(until="DELETED"))
    whole.leave()
    again = Watch(stub, token=tokens[0])
    list(again.events(until="DELETED"))
    again.leave()
    rest = [each for each in whole.seen if each[0] != jobs[0].job_id]
    assert again.seen == [*rest, whole.seen[-1]], "its history goes with a job, its end is told"
    ended = Watch(stub, jobs[1].job_id, token=tokens[0])
    list(ended.events())
    assert story(ended.seen, jobs[1].job_id) == story(whole.seen, jobs[1].job_id)


BAD_TOKENS = ["x", "p", "p-1", "p99999999", "0", "é", "p1 ", "' OR 1=1 --", "A" * 5000]


@pytest.mark.parametrize("token", BAD_TOKENS)
def test_a_token_that_is_none_is_out_of_range(idle_stub: JobServiceStub, token: str) -> None:
    found = refused(idle_stub.WatchJobs, pb.WatchJobsRequest(resume_token=token))
    assert (found.code, found.reason) == ("OUT_OF_RANGE", "RESUME_TOKEN_EXPIRED")


def test_many_watchers_of_many_changes_see_the_same(stub: JobServiceStub, local: Client) -> None:
    watches = [Watch(stub) for _ in range(8)]
    for watch in watches:
        watch.snapshot()
    with ThreadPoolExecutor(9) as threads:
        jobs = threads.submit(lambda: [local.create(["true"]) for _ in range(40)])
        last = threads.submit(lambda: [local.wait(each, timeout=40) for each in jobs.result()])
        last.result(50)
        local.create(["true"], name="end")
        done = local.cancel(local.create(SLEEP), wait=True)
        assert done.state is State.CANCELLED
        list(threads.map(lambda watch: list(watch.events(until="CANCELLED")), watches))
    told = [watch.seen for watch in watches]
    assert all(gap_free(each) for each in told)
    common = min(len(each) for each in told)
    assert common >= 40 * 3
    assert all(each[:common] == told[0][:common] for each in told)


def test_a_watch_survives_a_restart(serve: Serve) -> None:
    """Over the bare API by its token, and in the SDK by itself: no gap, no repeat."""
    server = serve("--slots", "2").start()
    sdk: list[Any] = []
    with Client(server.unix_address) as client, ThreadPoolExecutor(1) as threads:
        with grpc.insecure_channel(server.unix_address) as channel:
            before = Watch(JobServiceStub(channel))
            before.snapshot()
            job = client.create(["sh", "-c", "echo x; sleep 600"])
            reading = threads.submit(lambda: sdk.extend(client.watch([job], timeout=60)))
            list(before.events(until="STARTED"))
            before.leave()
        wait_until(lambda: sdk)
        server.stop()
        server.start()
        client.update(job, name="after")
        client.cancel(job, wait=True)
        reading.result(60)
        with grpc.insecure_channel(server.unix_address) as channel:
            after = Watch(JobServiceStub(channel), job.job_id, token=before.token)
            list(after.events())
    whole = story(before.seen + after.seen, job.job_id)
    assert whole == list(
        enumerate(["CREATED", "CLAIMED", "STARTED", "UPDATED", "STOPPING", "CANCELLED"], start=1)
    )
    assert isinstance(sdk[0], Job)
    assert [each.revision for each in sdk] == list(range(sdk[0].revision, 7))
