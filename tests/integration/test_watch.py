"""Watches: a snapshot, then every change once and in order, also across breaks and restarts."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from jobservice import Client, Job, State
from jobservice.errors import DeadlineExceeded, NotFound
from jobservice.model.event import Event, EventKind
from jobservice.testing.wait import wait_until
from jobservice.wire import messages as pb
from jobservice.wire.stubs import JobServiceStub
from tests.integration.bare import SLEEP, UNKNOWN_ID, create, refused, running
from tests.integration.conftest import Serve

_K = EventKind


class Watch:
    """A bare watch, read message by message."""

    def __init__(self, stub: JobServiceStub, *job_ids: str, token: str = "") -> None:
        request = pb.WatchJobsRequest(job_ids=job_ids, resume_token=token)
        self.call = stub.WatchJobs(request, timeout=40)
        self.token = token
        self.seen: list[tuple[str, int, str]] = []
        """Of the events: job, revision, kind."""

    def snapshot(self) -> list[pb.Job]:
        """The jobs before the end of the snapshot."""
        found: list[pb.Job] = []
        for response in self.call:
            self.token = response.resume_token
            if response.WhichOneof("update") == "snapshot_complete":
                return found
            assert not response.resume_token, "no resuming within the snapshot"
            found.append(response.snapshot)
        raise AssertionError("the snapshot did not end")

    def events(self, until: str | None = None) -> Iterator[pb.JobEvent]:
        """The next events, to the end of the watch or the kind `until`."""
        for response in self.call:
            assert response.WhichOneof("update") == "event"
            assert response.resume_token
            assert response.resume_token != self.token
            self.token = response.resume_token
            event = response.event
            self.seen.append((event.job_id, event.revision, _K(event.kind).name))
            yield event
            if until is not None and self.seen[-1][2] == until:
                return

    def leave(self) -> None:
        """As when the connection breaks."""
        self.call.cancel()


def story(events: list[tuple[str, int, str]], job_id: str) -> list[tuple[int, str]]:
    return [(revision, kind) for each, revision, kind in events if each == job_id]


def gap_free(events: list[tuple[str, int, str]]) -> bool:
    """Whether the revisions of each job count up by one, apart from what has none of its own."""
    last: dict[str, int] = {}
    for job_id, revision, kind in events:
        expected = last.get(job_id, revision - 1) + (kind not in {"PROGRESS", "DELETED"})
        if job_id in last and revision != expected:
            return False
        last[job_id] = revision
    return True


# --- snapshot and changes -------------------------------------------------------------------------


def test_a_watch_tells_the_whole_life_of_a_job(stub: JobServiceStub, tmp_path: Path) -> None:
    wait = "until test -e $JOBSERVICE_ATTEMPT; do sleep 0.02; done"
    script = f"cd {tmp_path}; {wait}; exit $((3 * (2 - JOBSERVICE_ATTEMPT)))"
    watch = Watch(stub)
    assert watch.snapshot() == []
    policy = pb.RetryPolicy(max_attempts=2)
    policy.initial_backoff.nanos = 1_000_000
    made = stub.CreateJob(create("sh", "-c", script, retry_policy=policy)).job
    events = list(watch.events(until="STARTED"))
    (tmp_path / "1").touch()
    events += watch.events(until="STARTED")
    (tmp_path / "2").touch()
    events += watch.events(until="SUCCEEDED")
    assert story(watch.seen, made.job_id) == list(
        enumerate(
            ["CREATED", "CLAIMED", "STARTED", "RETRYING", "DUE", "CLAIMED", "STARTED", "SUCCEEDED"],
            start=1,
        )
    )
    assert [each.attempt for each in events] == [0, 1, 1, 1, 1, 2, 2, 2]
    states = [State(each.state).name for each in events]
    assert states == [
        "QUEUED", "RUNNING", "RUNNING", "SCHEDULED", "QUEUED", "RUNNING", "RUNNING", "SUCCEEDED",
    ]  # fmt: skip
    previous = [each.previous_state for each in events]
    assert previous == [0, *(each.state for each in events[:-1])]
    retrying = events[3]
    assert (retrying.exit_code, retrying.reason_message) == (3, "exited with 3")
    assert retrying.next_attempt_time.ToNanoseconds() >= retrying.event_time.ToNanoseconds()
    times = [each.event_time.ToNanoseconds() for each in events]
    assert times == sorted(times)
    stub.DeleteJob(pb.DeleteJobRequest(job_id=made.job_id))
    [deleted] = watch.events(until="DELETED")
    assert (deleted.job_id, deleted.revision) == (made.job_id, 8)
    watch.leave()


def test_a_snapshot_holds_the_jobs_that_are_not_final(stub: JobServiceStub, local: Client) -> None:
    done = local.wait(local.create(["true"]), timeout=20)
    alive = running(local, local.create(SLEEP))
    watch = Watch(stub)
    [found] = watch.snapshot()
    assert (found.job_id, found.revision, found.state) == (
        alive.job_id, alive.revision, int(alive.state),
    )  # fmt: skip
    by_id = Watch(stub, done.job_id, alive.job_id, UNKNOWN_ID)
    assert {each.job_id for each in by_id.snapshot()} == {done.job_id, alive.job_id}
    local.cancel(alive)
    kinds = [_K(each.kind).name for each in by_id.events()]
    assert kinds == ["STOPPING", "CANCELLED"], "it ends by itself when all are final"
    assert [_K(each.kind).name for each in watch.events(until="CANCELLED")] == kinds
    watch.leave()


def test_a_watch_of_ids_tells_of_no_other(stub: JobServiceStub, local: Client) -> None:
    mine, other = local.create(SLEEP), local.create(SLEEP)
    watch = Watch(stub, mine.job_id)
    watch.snapshot()
    local.update(other, name="x")
    local.cancel(other, wait=True)
    local.update(mine, name="y")
    local.cancel(mine, wait=True)
    list(watch.events())
    assert {job_id for job_id, _, _ in watch.seen} == {mine.job_id}
    assert [kind for _, _, kind in watch.seen][-3:] == ["UPDATED", "STOPPING", "CANCELLED"]


@pytest.mark.parametrize("kind", ["final", "missing", "deleted"])
def test_a_watch_of_what_has_ended_ends(client: Client, stub: JobServiceStub, kind: str) -> None:
    done = client.wait(client.create(["true"]), timeout=20)
    ids = {"final": done.job_id, "missing": UNKNOWN_ID, "deleted": done.job_id}
    if kind == "deleted":
        client.delete(done)
    watch = Watch(stub, ids[kind])
    assert len(watch.snapshot()) == (kind == "final")
    assert list(watch.events()) == []


def test_a_watch_tells_of_deletes_and_ends_with_the_last(client: Client) -> None:
    one, other = (running(client, client.create(SLEEP)) for _ in range(2))
    begun = client.watch([one, other], timeout=30)
    assert isinstance(next(begun), Job)
    assert isinstance(next(begun), Job)
    for job in one, other:
        client.delete(job)
    told = [(each.job_id, each.kind) for each in begun if isinstance(each, Event)]
    assert told == [
        (one.job_id, _K.STOPPING),
        (one.job_id, _K.CANCELLED),
        (one.job_id, _K.DELETED),
        (other.job_id, _K.STOPPING),
        (other.job_id, _K.CANCELLED),
    ]
    with pytest.raises(NotFound):
        client.wait(one)


def test_progress_is_told_with_the_newest_last(client: Client, tmp_path: Path) -> None:
    script = (
        'for n in 10 40 90; do echo "$n% step $n" >>"$JOBSERVICE_PROGRESS";'
        f" until test -e {tmp_path}/$n; do sleep 0.02; done; done"
    )
    job = client.create(["sh", "-c", script])
    told = []
    for update in client.watch([job], timeout=40):
        if isinstance(update, Event) and update.kind is _K.PROGRESS:
            assert update.progress is not None
            told.append((update.progress.percent, update.progress.step, update.revision))
            (tmp_path / f"{update.progress.percent:.0f}").touch()
    assert told == [(10.0, "step 10", 3), (40.0, "step 40", 3), (90.0, "step 90", 3)]


def test_a_watch_that_waits_obeys_its_deadline(client: Client) -> None:
    client.create(SLEEP)
    with pytest.raises(DeadlineExceeded):
        list(client.watch(timeout=0.3))


# --- resuming -------------------------------------------------------------------------------------


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
