"""Queues over the wire: rules, pauses, how they move; and what is refused."""

import datetime as dt
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from jobservice import Client
from jobservice.clock import SystemClock
from jobservice.errors import (
    EtagMismatch,
    InvalidRequest,
    QueueExists,
    QueueInUse,
    QueueNotFound,
)
from jobservice.model.lifecycle import State
from jobservice.model.queue import Obstacle, OnFull, PauseMode
from jobservice.testing.server import Server
from jobservice.testing.wait import wait_until
from jobservice.wire import messages as pb
from jobservice.wire.stubs import QueueServiceStub
from tests.integration.bare import SLEEP, refused, running

HOUR = dt.timedelta(hours=1)


def clear(client: Client) -> None:
    """No queue has rules any more."""
    for job in list(client.active()):
        client.cancel(job, wait=True)
    for queue in list(client.queues.list()):
        client.queues.delete(queue, allow_missing=True)


@pytest.fixture
def here(local: Client) -> Iterator[Client]:
    """The SDK where jobs run; no queue is left."""
    yield local
    clear(local)


@pytest.fixture
def still(parked: Client) -> Iterator[Client]:
    """The SDK where no job ever starts; no queue is left."""
    yield parked
    clear(parked)


@pytest.fixture
def stub(idle: Server) -> Iterator[QueueServiceStub]:
    """The bare API; no job ever starts and no queue is left."""
    with grpc.insecure_channel(idle.unix_address) as channel:
        yield QueueServiceStub(channel)
    with Client(idle.unix_address) as client:
        clear(client)


# --- rules ----------------------------------------------------------------------------------------


def test_a_queue_is_made_changed_and_deleted(still: Client) -> None:
    made = still.queues.create("gpu", max_running=2, description="the cards")
    assert (made.max_running, made.max_depth, made.on_full) == (2, None, OnFull.REJECT)
    assert still.queues.get("gpu") == made
    with pytest.raises(QueueExists, match="There is a queue gpu already; change it instead"):
        still.queues.create("gpu")
    changed = still.queues.update(
        made, etag=made.etag, max_running=None, max_depth=7, max_age=HOUR, on_full="coalesce"
    )
    assert (changed.max_running, changed.max_depth, changed.max_age) == (None, 7, HOUR)
    assert (changed.on_full, changed.description) == (OnFull.COALESCE, "the cards")
    with pytest.raises(EtagMismatch, match="Queue gpu was changed since"):
        still.queues.update("gpu", etag=made.etag, max_running=1)
    with pytest.raises(EtagMismatch):
        still.queues.delete("gpu", etag=made.etag)
    still.queues.delete("gpu", etag=changed.etag)
    for act in (still.queues.get, still.queues.delete, still.queues.resume, still.queues.pause):
        with pytest.raises(QueueNotFound, match="Nobody made a queue gpu"):
            act("gpu")
    with pytest.raises(QueueNotFound):
        still.queues.update("gpu", max_running=1)
    still.queues.delete("gpu", allow_missing=True)


def test_the_default_queue_is_always_there(still: Client) -> None:
    assert still.queues.get("default").max_running is None
    with pytest.raises(QueueExists, match="default, which is always there"):
        still.queues.create("default")
    assert still.queues.update("default", max_running=3).max_running == 3
    still.queues.delete("default")
    assert still.queues.get("default").max_running is None
    with pytest.raises(QueueInUse, match="default is always there; it cannot be deleted"):
        still.queues.delete("default")
    still.queues.delete("default", allow_missing=True)
    with pytest.raises(QueueNotFound, match="a queue gone, so it has no rules to forget"):
        still.queues.delete("gone")


def test_queues_come_by_name_in_pages(stub: QueueServiceStub) -> None:
    names = ["a", "b", "default", "x", "y"]
    for name in ("y", "b", "x", "a"):
        stub.CreateQueue(pb.CreateQueueRequest(queue=pb.Queue(name=name)))
    for size in (1, 2, 3, 5):
        found, request = [], pb.ListQueuesRequest(page_size=size)
        while True:
            page = stub.ListQueues(request)
            found.append([each.name for each in page.queues])
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        assert [name for each in found for name in each] == names
        assert all(len(each) == size for each in found[:-1])
    foreign = pb.ListQueuesRequest(page_token="x" * 24)
    assert refused(stub.ListQueues, foreign).reason == "PAGE_TOKEN_INVALID"


def test_a_queue_with_a_job_is_not_deleted(still: Client) -> None:
    still.queues.create("busy")
    job = still.create(["true"], queue="busy")
    with pytest.raises(QueueInUse, match="waits or runs in queue busy"):
        still.queues.delete("busy")
    still.cancel(job)
    still.queues.delete("busy")


# --- pauses ---------------------------------------------------------------------------------------


def test_a_pause_holds_new_starts_while_what_runs_goes_on(here: Client) -> None:
    here.queues.create("work")
    first = running(here, here.create(SLEEP, queue="work"))
    paused = here.queues.pause("work", reason="an upgrade").pause
    assert paused is not None
    assert (paused.mode, paused.reason, paused.until) == (PauseMode.HOLD, "an upgrade", None)
    waits = here.create(["true"], queue="work")
    assert here.wait(here.create(["true"])).state is State.SUCCEEDED, "other queues go on"
    status = here.status(waits)
    assert status.state is State.QUEUED
    assert status.waiting_reason == "waits because queue work is paused: an upgrade"
    assert here.queues.stats("work").obstacle is Obstacle.PAUSED
    assert here.get(first).state is State.RUNNING
    assert here.queues.resume("work").pause is None
    assert here.wait(waits).state is State.SUCCEEDED
    assert here.queues.resume("work").pause is None, "it changes nothing"


def test_a_pause_ends_at_its_time(here: Client) -> None:
    until = SystemClock().now() + dt.timedelta(seconds=1.5)
    assert here.queues.pause("default", until=until).pause is not None
    job = here.create(["true"])
    assert "is paused until 2" in here.status(job).waiting_reason
    done = here.wait(job)
    assert done.started_at is not None
    assert done.started_at >= until
    assert here.queues.get("default").pause is None


def test_a_draining_queue_runs_what_waits(here: Client) -> None:
    here.queues.create("old", max_running=1)
    jobs = [here.create(["true"], queue="old") for _ in range(3)]
    assert here.queues.pause("old", mode="drain").pause is not None
    assert {here.wait(job).state for job in jobs} == {State.SUCCEEDED}


@pytest.mark.parametrize("ahead", [-HOUR, dt.timedelta(days=3651)])
def test_a_pause_ends_ahead_and_within_ten_years(still: Client, ahead: dt.timedelta) -> None:
    with pytest.raises(InvalidRequest, match="resume_time: must be ahead, and at most 10 years"):
        still.queues.pause("default", until=SystemClock().now() + ahead)


# --- how it moves ---------------------------------------------------------------------------------


def test_a_limit_is_lowered_below_what_runs(here: Client) -> None:
    here.queues.create("small", max_running=2)
    jobs = [here.create(SLEEP, queue="small") for _ in range(3)]
    gates = [running(here, each) for each in jobs[:2]]
    full = "queue small is at its limit, 2 of 2 running"
    assert here.status(jobs[2]).waiting_reason == f"waits because {full}"
    stats = here.queues.stats("small")
    assert (stats.depth, stats.running, stats.obstacle) == (1, 2, Obstacle.QUEUE_LIMIT)
    assert stats.obstacle_message == full
    assert stats.oldest_age is not None
    assert stats.created_per_second == pytest.approx(3 / 60)
    assert stats.started_per_second == pytest.approx(2 / 60)
    here.queues.update("small", max_running=1)
    here.cancel(gates[0], wait=True)
    assert here.wait(here.create(["true"])).state is State.SUCCEEDED, "a claim has passed"
    assert here.get(jobs[2]).state is State.QUEUED
    here.queues.update("small", max_running=2)
    running(here, jobs[2])


def test_the_stats_say_what_holds_a_queue_up(still: Client) -> None:
    empty = still.queues.stats("nobodys")
    assert (empty.depth, empty.oldest_age, empty.obstacle) == (0, None, Obstacle.NONE)
    still.create(["true"], queue="nobodys")
    found = still.queues.stats("nobodys")
    assert (found.depth, found.obstacle) == (1, Obstacle.SLOTS)


def test_the_oldest_jobs_of_a_queue_wait_for_keys(here: Client) -> None:
    running(here, here.create(SLEEP, keys=["db"]))
    waits = here.create(["true"], queue="other", keys=["db"])

    def by_keys() -> bool:
        return here.queues.stats("other").obstacle is Obstacle.KEYS

    wait_until(by_keys, what="a claim that parks the job")
    assert here.get(waits).state is State.QUEUED


# --- bad input ------------------------------------------------------------------------------------

BAD: dict[str, tuple[str, Any, list[str]]] = {
    "no queue": ("CreateQueue", pb.CreateQueueRequest(), ["queue"]),
    "everything": (
        "CreateQueue",
        pb.CreateQueueRequest(
            queue=pb.Queue(
                name="Q",
                description="\0",
                max_running=-1,
                max_depth=10_000_001,
                max_age=Duration(),
                on_full=9,  # type: ignore[arg-type]
            )
        ),
        [f"queue.{each}" for each in
         ("description", "max_age", "max_depth", "max_running", "name", "on_full")],
    ),
    "no name": ("GetQueue", pb.GetQueueRequest(), ["name"]),
    "a page": ("ListQueues", pb.ListQueuesRequest(page_size=-1), ["page_size"]),
    "an update of nothing": ("UpdateQueue", pb.UpdateQueueRequest(), ["queue", "update_mask"]),
    "an update without fields": (
        "UpdateQueue",
        pb.UpdateQueueRequest(queue=pb.Queue(name="q"), update_mask=FieldMask()),
        ["update_mask"],
    ),
    "an update of what cannot be": (
        "UpdateQueue",
        pb.UpdateQueueRequest(
            queue=pb.Queue(name="Q", max_running=-5, max_depth=-1),
            update_mask=FieldMask(paths=["pause", "colour", "max_running"]),
        ),
        ["queue.max_running", "queue.name", "update_mask", "update_mask"],
    ),
    "a delete": ("DeleteQueue", pb.DeleteQueueRequest(name="-"), ["name"]),
    "a pause": (
        "PauseQueue",
        pb.PauseQueueRequest(
            name="_",
            mode=3,  # type: ignore[arg-type]
            reason="a\nb",
            resume_time=Timestamp(seconds=-1),
        ),
        ["mode", "name", "reason", "resume_time"],
    ),
    "a resume": ("ResumeQueue", pb.ResumeQueueRequest(name=""), ["name"]),
    "stats": ("GetQueueStats", pb.GetQueueStatsRequest(name="x" * 64), ["name"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_all_that_is_wrong(stub: QueueServiceStub, case: str) -> None:
    rpc, request, fields = BAD[case]
    found = refused(getattr(stub, rpc), request)
    assert (found.code, found.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert sorted(found.fields) == fields
    assert [each.name for each in stub.ListQueues(pb.ListQueuesRequest()).queues] == ["default"]


def test_an_error_names_the_queue(stub: QueueServiceStub) -> None:
    found = refused(stub.GetQueue, pb.GetQueueRequest(name="none"))
    assert (found.code, found.reason) == ("NOT_FOUND", "QUEUE_NOT_FOUND")
    assert found.details["ResourceInfo"].resource_type == "jobservice.v1.Queue"
    assert found.details["ResourceInfo"].resource_name == "none"
