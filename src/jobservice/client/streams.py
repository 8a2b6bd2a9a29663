"""Where a reader of a stream is, so that a broken one goes on without a gap or a repeat.

A cursor gives the request for the stream as it should go on now, and hears of every response. It
knows no channel: the transport loop opens streams, waits, and asks it again.
"""

from collections.abc import Sequence

from jobservice.client.values import LogChunk, Stream
from jobservice.model.event import UNNUMBERED, Event, EventKind
from jobservice.model.job import Job
from jobservice.model.lifecycle import FINAL
from jobservice.wire import convert
from jobservice.wire import messages as pb

_STREAMS = {1: Stream.STDOUT, 2: Stream.STDERR}
_FINAL = frozenset(map(int, FINAL))


class WatchCursor:
    """A place in the changes of jobs.

    A snapshot shows the jobs that are not final. So where a watch begins again with another one,
    because the one before broke off or the service does not remember the place any more, the jobs that
    it has told of and that ended meanwhile are in none: `left_out` names them.
    """

    def __init__(self, job_ids: Sequence[str], resume_token: str = "") -> None:
        self._job_ids = list(job_ids)
        self.resume_token = resume_token
        """Of the last response behind the snapshot; empty before."""
        self._shown: dict[str, int] = {}
        """The revisions that jobs had in the snapshot, until a later one is told."""
        self._alive: set[str] = set()
        """The jobs that were last told as not final."""
        self._unseen: set[str] = set()
        """Those of them, when the snapshot began, that it has not shown."""

    def request(self) -> pb.WatchJobsRequest:
        """The watch from here on; within the snapshot, from its beginning."""
        if not self.resume_token:
            self._unseen = set(self._alive)
            self._shown.clear()
        return pb.WatchJobsRequest(job_ids=self._job_ids, resume_token=self.resume_token)

    def is_news(self, response: pb.WatchJobsResponse) -> bool:
        """Whether the snapshot did not say it.

        A watch that is resumed right behind it tells again what happened while it was made.
        """
        if response.HasField("snapshot"):
            job = response.snapshot
            self._shown[job.job_id] = job.revision
            self._unseen.discard(job.job_id)
            self._note(job.job_id, is_alive=job.state not in _FINAL)
        if not response.HasField("event"):
            return True
        event, shown = response.event, self._shown.get(response.event.job_id, -1)
        kind, is_later = EventKind(event.kind), event.revision > shown
        if is_later:
            self._shown.pop(event.job_id, None)
        if is_later or kind is EventKind.DELETED:
            is_alive = event.state not in _FINAL and kind is not EventKind.DELETED
            self._note(event.job_id, is_alive=is_alive)
        return is_later or kind in UNNUMBERED

    def _note(self, job_id: str, *, is_alive: bool) -> None:
        (self._alive.add if is_alive else self._alive.discard)(job_id)

    def left_out(self, response: pb.WatchJobsResponse) -> Sequence[str]:
        """At the end of a snapshot: the jobs that were told of before, and that ended meanwhile."""
        return sorted(self._unseen) if response.HasField("snapshot_complete") else ()

    def took(self, response: pb.WatchJobsResponse) -> None:
        """The response was handed on."""
        self.resume_token = response.resume_token or self.resume_token

    def begin_again(self) -> None:
        """The service does not remember this place any more: a new snapshot covers what is lost."""
        self.resume_token = ""


def watch_update(response: pb.WatchJobsResponse) -> Job | Event | None:
    """What a response says; None is the end of the snapshot."""
    match response.WhichOneof("update"):
        case "snapshot":
            return convert.to_job(response.snapshot)
        case "event":
            return convert.to_event(response.event)
        case _:
            return None


class LogCursor:
    """A place in the output of a job.

    With `follow` and without an attempt, the service goes from attempt to attempt by itself. Once
    such a stream broke, "the newest attempt" may be another one than before, so from then on the
    cursor names each attempt, and `next_attempt` says which one to wait for.
    """

    def __init__(
        self, job_id: str, *, attempt: int, stream: int, follow: bool, offsets: tuple[int, int]
    ) -> None:
        self.job_id = job_id
        self._asked = attempt
        self._stream = stream
        self._follow = follow
        self._reading = attempt
        """The attempt that the offsets are of; 0 while that is not known."""
        self.names_attempts = False
        """Whether the end of a stream is that of one attempt only, so that the next may follow."""
        self._offsets = {Stream.STDOUT: offsets[0], Stream.STDERR: offsets[1]}

    def request(self) -> pb.ReadLogsRequest:
        """The output from here on."""
        return pb.ReadLogsRequest(
            job_id=self.job_id,
            attempt=self._asked,
            stream=pb.LogStream.ValueType(self._stream),
            stdout_offset=self._offsets[Stream.STDOUT],
            stderr_offset=self._offsets[Stream.STDERR],
            follow=self._follow,
        )

    def take(self, response: pb.ReadLogsResponse) -> LogChunk:
        """The piece of a response, behind which the reader now is."""
        stream = _STREAMS[response.stream]
        if response.attempt != self._reading:
            if self._reading:
                self._offsets = dict.fromkeys(Stream, 0)
            self._reading = response.attempt
        self._offsets[stream] = response.offset + len(response.data) + response.dropped_bytes
        return LogChunk(
            response.attempt, stream, response.offset, response.data, response.dropped_bytes
        )

    def broke(self) -> None:
        """The stream ended too early."""
        if not self._asked and self._reading:
            self._asked = self._reading
            self.names_attempts = self._follow

    @property
    def next_attempt(self) -> int:
        """The attempt to read once this one is over."""
        return self._asked + 1

    def advance(self) -> None:
        """The next attempt exists: read it from its beginning."""
        self._asked = self._reading = self._asked + 1
        self._offsets = dict.fromkeys(Stream, 0)


def has_attempt(update: Job | Event | None, attempt: int) -> bool | None:
    """Whether a job has come to an attempt; None while that is open, False when it never will."""
    if update is None:
        return None
    number = update.attempt_count if isinstance(update, Job) else update.attempt
    if number >= attempt:
        return True
    return False if update.state in FINAL else None
