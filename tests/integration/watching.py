"""A watch over the bare API, read message by message."""

from collections.abc import Iterator

from jobservice.model.event import EventKind
from jobservice.wire import messages as pb
from jobservice.wire.stubs import JobServiceStub

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
