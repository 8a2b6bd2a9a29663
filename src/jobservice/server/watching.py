"""WatchJobs: a snapshot of jobs, then every change of them, on one stream that can be resumed."""

from collections.abc import AsyncIterator, Iterable

from google.protobuf.message import Message

from jobservice.engine.parts import Parts
from jobservice.engine.watch import ChangeFeed, Subscription
from jobservice.model.event import UNNUMBERED, Change, Event, EventKind
from jobservice.model.job import Job
from jobservice.model.lifecycle import ACTIVE, FINAL
from jobservice.store.port import JobKey, JobQuery, Order
from jobservice.wire import convert
from jobservice.wire import messages as pb

SNAPSHOT_PAGE = 500


async def watch_jobs(
    parts: Parts, feed: ChangeFeed, tenant: str, request: pb.WatchJobsRequest
) -> AsyncIterator[Message]:
    """The responses in order.

    The subscription begins before the snapshot is read, so nothing falls between them; a change
    that the snapshot shows already is known by its revision and left out.
    """
    watch = _Watch(tenant, request.job_ids)
    async with feed.subscribe(request.resume_token or None) as subscription:
        begin = _begin_again if request.resume_token else _begin
        async for response in begin(parts, watch, subscription):
            yield response
        while not watch.is_over():
            for change in await subscription.next():
                if watch.is_news(change.event):
                    yield _told(change)


async def _begin(
    parts: Parts, watch: "_Watch", subscription: Subscription
) -> AsyncIterator[Message]:
    """The snapshot."""
    async for job in _snapshot(parts, watch):
        watch.seen(job)
        yield pb.WatchJobsResponse(snapshot=convert.job_message(job, convert.View.FULL))
    watch.missing()
    yield pb.WatchJobsResponse(
        snapshot_complete=pb.SnapshotComplete(), resume_token=subscription.position
    )


async def _begin_again(
    parts: Parts, watch: "_Watch", subscription: Subscription
) -> AsyncIterator[Message]:
    """What was missed, and only then whether all has ended.

    The end of a job that is final in the snapshot lies before the head that is read after it, so it
    is told before the watch is over.
    """
    known = [job async for job in _snapshot(parts, watch)] if watch.job_ids else []
    head = await parts.store.head_position()
    while subscription.position != head:
        for change in await subscription.next(until=head):
            if watch.is_news(change.event):
                yield _told(change)
    for job in known:
        watch.note_end(job)
    watch.missing()


def _told(change: Change) -> Message:
    return pb.WatchJobsResponse(
        event=convert.event_message(change.event), resume_token=change.position
    )


async def _snapshot(parts: Parts, watch: "_Watch") -> AsyncIterator[Job]:
    if watch.job_ids:
        for job in await parts.store.find_jobs([JobKey(watch.tenant, i) for i in watch.job_ids]):
            if job is not None:
                yield job
        return
    query = JobQuery(tenant=watch.tenant, order=Order.CREATED_ASC, states=ACTIVE, full=True)
    cursor: str | None = None
    while True:
        page = await parts.store.list_jobs(query, limit=SNAPSHOT_PAGE, cursor=cursor)
        for job in page.jobs:
            yield job
        cursor = page.cursor
        if cursor is None:
            return


class _Watch:
    """Which changes one watcher is told, and when it has seen the end of all it asked for."""

    def __init__(self, tenant: str, job_ids: Iterable[str]) -> None:
        self.tenant = tenant
        self.job_ids = frozenset(job_ids)
        self._open = set(self.job_ids)
        self._revisions: dict[str, int] = {}
        self._known: set[str] = set()

    def seen(self, job: Job) -> None:
        """The watcher was told of the job as it is."""
        self._revisions[job.job_id] = job.revision
        self.note_end(job)

    def note_end(self, job: Job) -> None:
        """Nothing more is awaited of a final job."""
        self._known.add(job.job_id)
        if job.state in FINAL:
            self._open.discard(job.job_id)

    def missing(self) -> None:
        """The snapshot is over: what it lacks does not exist (any more)."""
        self._open &= self._known

    def is_over(self) -> bool:
        """Whether all the jobs asked for have ended."""
        return bool(self.job_ids) and not self._open

    def is_news(self, event: Event) -> bool:
        """Whether the watcher is to be told, and was not told by the snapshot."""
        if event.tenant != self.tenant:
            return False
        if self.job_ids and event.job_id not in self.job_ids:
            return False
        told = self._revisions.get(event.job_id, 0)
        if event.revision <= told and event.kind not in UNNUMBERED:
            return False
        if event.revision > told:
            self._revisions.pop(event.job_id, None)
        if event.state in FINAL or event.kind is EventKind.DELETED:
            self._open.discard(event.job_id)
        return True
