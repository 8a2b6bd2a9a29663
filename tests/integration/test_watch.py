"""Watches: a snapshot, then every change once and in order, on from where the snapshot ends."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from jobservice import Client, Job, State
from jobservice.errors import DeadlineExceeded, NotFound
from jobservice.model.event import Event, EventKind
from jobservice.testing.server import Server
from jobservice.wire import messages as pb
from jobservice.wire.stubs import JobServiceStub
from tests.integration.bare import SLEEP, UNKNOWN_ID, create, running
from tests.integration.watching import Watch, story

_K = EventKind


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


def test_changes_go_on_where_the_snapshot_ends(idle: Server, parked: Client) -> None:
    """While four threads edit a job without a pause, each watch tells every edit exactly once."""
    job = parked.create(["true"])
    over = threading.Event()

    def edit(_: int) -> None:
        while not over.is_set():
            parked.update(job, name="x")

    with (
        ThreadPoolExecutor(4) as threads,
        grpc.insecure_channel(idle.unix_address) as channel,
    ):
        edits = threads.map(edit, range(4))
        try:
            for _ in range(40):
                watch = Watch(JobServiceStub(channel), job.job_id)
                [found] = watch.snapshot()
                told = [each.revision for each in itertools.islice(watch.events(), 3)]
                watch.leave()
                assert told == [found.revision + n for n in (1, 2, 3)]
        finally:
            over.set()
        assert len(list(edits)) == 4


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
