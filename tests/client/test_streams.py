"""Streams that break go on: no event is missed or told twice, no byte is lost or repeated."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobservice import Client, Job, State
from jobservice.blobs.port import Stream as Written
from jobservice.client import streams
from jobservice.client.values import LogChunk, Stream
from jobservice.errors import InvalidRequest, NotFound, ResumeTokenExpired, Unavailable
from jobservice.model.event import Event, EventKind
from jobservice.testing.wait import wait_until
from jobservice.wire import messages as pb
from tests.client.service import Service

ARGV = ["/bin/echo", "hello"]


class Reader:
    """Reads an iterator in a thread of its own."""

    def __init__(self, read: Callable[[], object]) -> None:
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(read,), daemon=True)
        self._thread.start()

    def _run(self, read: Callable[[], object]) -> None:
        try:
            read()
        except Exception as error:  # noqa: BLE001 - handed to the test
            self.error = error

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive(), "still reading"
        if self.error is not None:
            raise self.error


# --- watch ------------------------------------------------------------------------------------


def test_a_watch_of_jobs_tells_everything_and_ends(client: Client, service: Service) -> None:
    job = client.create(ARGV)
    seen: list[Job | Event] = []
    reader = Reader(lambda: seen.extend(client.watch([job])))
    wait_until(lambda: seen)
    service.end(job.job_id)
    reader.join()
    assert isinstance(seen[0], Job)
    events = [each for each in seen if isinstance(each, Event)]
    assert events[-1].kind is EventKind.SUCCEEDED
    revisions = [each.revision for each in seen]
    assert revisions == list(range(seen[0].revision, len(seen) + seen[0].revision))


def test_a_watch_of_all_hears_of_new_jobs(client: Client) -> None:
    seen: list[Job | Event] = []

    def read() -> None:
        for update in client.watch():
            seen.append(update)
            if update.state is State.CANCELLED:
                return

    reader = Reader(read)
    job = client.create(ARGV)
    wait_until(lambda: any(each.job_id == job.job_id for each in seen))
    client.cancel(job)
    reader.join()


def test_a_job_that_ends_while_a_snapshot_begins_again_is_told(
    client: Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = client.create(ARGV)
    service.running(job.job_id)
    whole = client._stream

    def broken(*asked: Any) -> Iterator[pb.WatchJobsResponse]:
        monkeypatch.setattr(client, "_stream", whole)
        yield next(iter(whole(*asked)))
        service.end(job.job_id)
        client.wait(job)
        raise Unavailable("It broke within the snapshot.")

    monkeypatch.setattr(client, "_stream", broken)
    updates = client.watch()
    assert [next(updates).state for _ in range(2)] == [State.RUNNING, State.SUCCEEDED]


def test_a_job_that_ends_before_a_watch_begins_again_that_was_forgotten_is_told(
    client: Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = client._stream

    def forgotten(*asked: Any) -> Iterator[pb.WatchJobsResponse]:
        monkeypatch.setattr(client, "_stream", whole)
        told = iter(whole(*asked))
        yield next(told)  # an empty snapshot
        job = client.create(ARGV)
        yield next(told)
        service.end(job.job_id)
        client.wait(job)
        raise ResumeTokenExpired

    monkeypatch.setattr(client, "_stream", forgotten)
    updates = client.watch()
    assert [next(updates).state for _ in range(2)] == [State.QUEUED, State.SUCCEEDED]


# --- logs -------------------------------------------------------------------------------------


def text(chunks: list[LogChunk], stream: Stream = Stream.STDOUT) -> bytes:
    """The bytes of a stream, which must be without gap or repeat in each attempt."""
    places: dict[int, int] = {}
    found = b""
    for chunk in chunks:
        if chunk.stream is stream:
            assert chunk.offset == places.get(chunk.attempt, 0)
            places[chunk.attempt] = chunk.offset + len(chunk.data)
            found += chunk.data
    return found


def until_read(chunks: list[LogChunk], expected: bytes) -> None:
    wait_until(lambda: text(chunks) == expected, what=f"{expected!r}")


def test_output_comes_as_it_was_written(client: Client, service: Service) -> None:
    job = client.create(ARGV)
    service.running(job.job_id)
    data = bytes(range(256))
    service.call(lambda: service.outputs.write(job.job_id, 1, Written.STDOUT, data))
    service.call(lambda: service.outputs.write(job.job_id, 1, Written.STDERR, b"err"))
    chunks = list(client.logs(job))
    assert text(chunks) == data
    assert text(chunks, Stream.STDERR) == b"err"
    assert {each.stream for each in client.logs(job, stream="stderr")} == {Stream.STDERR}
    rest = list(client.logs(job, stream=Stream.STDOUT, stdout_offset=250))
    assert b"".join(each.data for each in rest) == data[250:]


def test_output_of_what_is_not_there(client: Client) -> None:
    with pytest.raises(NotFound):
        list(client.logs("j" + "0" * 26))
    with pytest.raises(InvalidRequest):
        list(client.logs(client.create(ARGV), 7))
    with pytest.raises(InvalidRequest):
        list(client.logs(client.create(ARGV), stream="stdin"))


def test_following_reads_attempt_after_attempt_through_restarts(service: Service) -> None:
    with Client(service.address) as client:
        job = client.create(ARGV, retries=2)
        seen: list[LogChunk] = []
        reader = Reader(lambda: seen.extend(client.logs(job, follow=True)))
        expected = b""
        for attempt in (1, 2, 3):
            service.running(job.job_id, attempt)
            for part in range(3):
                data = f"attempt {attempt} part {part}\n".encode()
                expected += data
                service.outputs.write(job.job_id, attempt, Written.STDOUT, data)
                until_read(seen, expected)
                if part == 1 and attempt < 3:
                    service.stop()
                    service.start()
            service.end(job.job_id, attempt, exit_code=0 if attempt == 3 else 1)
        reader.join()
    assert text(seen) == expected
    assert [each.attempt for each in seen] == sorted(each.attempt for each in seen)


# --- places in streams, without a service -----------------------------------------------------


def cursor(attempt: int = 0, *, follow: bool = True) -> streams.LogCursor:
    return streams.LogCursor("j", attempt=attempt, stream=0, follow=follow, offsets=(0, 0))


def piece(attempt: int, offset: int, data: bytes = b"", dropped: int = 0) -> pb.ReadLogsResponse:
    return pb.ReadLogsResponse(
        attempt=attempt, stream=pb.LogStream.LOG_STREAM_STDOUT, offset=offset, data=data,
        dropped_bytes=dropped,
    )  # fmt: skip


def test_a_break_before_the_first_byte_asks_for_the_same_again() -> None:
    reader = cursor()
    reader.broke()
    assert reader.request() == cursor().request()
    assert not reader.names_attempts


def test_after_a_break_the_attempt_is_named() -> None:
    reader = cursor()
    reader.take(piece(2, 0, b"abc"))
    reader.broke()
    assert (reader.request().attempt, reader.request().stdout_offset) == (2, 3)
    assert reader.names_attempts
    assert reader.next_attempt == 3
    reader.advance()
    assert (reader.request().attempt, reader.request().stdout_offset) == (3, 0)


def test_a_gap_counts_as_read() -> None:
    reader = cursor(1)
    chunk = reader.take(piece(1, 0, dropped=500))
    assert (chunk.data, chunk.dropped_bytes) == (b"", 500)
    assert reader.request().stdout_offset == 500


def test_without_follow_nothing_comes_after_the_attempt() -> None:
    reader = cursor(follow=False)
    reader.take(piece(2, 0, b"abc"))
    reader.broke()
    assert (reader.request().attempt, reader.names_attempts) == (2, False)


def test_the_next_attempt_begins_at_its_beginning() -> None:
    reader = cursor()
    reader.take(piece(1, 0, b"abc"))
    reader.take(piece(2, 0, b"x"))
    assert reader.request().stdout_offset == 1


# --- a service that is not there --------------------------------------------------------------


def test_a_create_outlives_a_restart_and_happens_once(service: Service) -> None:
    with Client(service.address) as client:
        client.create(ARGV)
        service.stop()
        made: list[Job] = []
        reader = Reader(lambda: made.append(client.create(ARGV, name="during")))
        service.start()
        reader.join()
        assert [job.job_id for job in client.list(name="during")] == [made[0].job_id]


def test_without_patience_an_absent_service_is_told_at_once(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/nothing.sock"
    with (
        Client(address, first_patience=0) as client,
        pytest.raises(Unavailable, match=r"nothing\.sock cannot be reached: No such file"),
    ):
        client.create(ARGV)


def test_patience_has_an_end(tmp_path: Path) -> None:
    with (
        Client(f"unix:{tmp_path}/nothing.sock", patience=0.5) as client,
        pytest.raises(Unavailable),
    ):
        list(client.watch())


def test_a_watch_that_is_resumed_behind_its_snapshot_repeats_nothing() -> None:
    cursor = streams.WatchCursor([])

    def event(revision: int, kind: EventKind = EventKind.STARTED) -> pb.WatchJobsResponse:
        told = pb.JobEvent(job_id="j", revision=revision, kind=int(kind))  # type: ignore[arg-type]
        return pb.WatchJobsResponse(event=told)

    assert cursor.is_news(pb.WatchJobsResponse(snapshot=pb.Job(job_id="j", revision=2)))
    assert [cursor.is_news(event(n)) for n in (1, 2, 3, 4)] == [False, False, True, True]
    assert cursor.is_news(event(4, EventKind.PROGRESS))


def test_a_watch_that_begins_again_asks_for_what_the_new_snapshot_leaves_out() -> None:
    cursor = streams.WatchCursor([])
    done = pb.WatchJobsResponse(snapshot_complete=pb.SnapshotComplete(), resume_token="1")

    def shown(job_id: str, state: State = State.QUEUED) -> pb.WatchJobsResponse:
        return pb.WatchJobsResponse(snapshot=pb.Job(job_id=job_id, revision=1, state=int(state)))  # type: ignore[arg-type]

    def event(job_id: str, kind: EventKind, state: State) -> pb.WatchJobsResponse:
        told = pb.JobEvent(job_id=job_id, revision=2, kind=int(kind), state=int(state))  # type: ignore[arg-type]
        return pb.WatchJobsResponse(event=told, resume_token="2")

    def heard(*responses: pb.WatchJobsResponse) -> list[str]:
        left_out: list[str] = []
        for response in responses:
            left_out += cursor.left_out(response)
            cursor.is_news(response)
            cursor.took(response)
        return left_out

    assert cursor.request().resume_token == ""
    events = (
        event("came", EventKind.CREATED, State.QUEUED),
        event("ended", EventKind.SUCCEEDED, State.SUCCEEDED),
        event("deleted", EventKind.DELETED, State.QUEUED),
    )
    assert heard(*map(shown, ("ended", "deleted", "waits", "lost")), done, *events) == []
    assert cursor.request().resume_token == "2"
    cursor.begin_again()
    assert cursor.request().resume_token == ""
    assert heard(shown("waits"), done) == ["came", "lost"]
    heard(shown("came", State.SUCCEEDED), shown("lost", State.FAILED))
    cursor.begin_again()
    cursor.request()
    assert heard(done) == ["waits"]
