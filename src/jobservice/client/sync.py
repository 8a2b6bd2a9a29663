"""The client that blocks. One `Client` serves any number of threads.

Every call has a deadline. A service that cannot answer (it restarts, or drains) is asked again until
the client's patience is over, which outlasts a restart; creates carry a request_id, so none happens
twice. Streams go on where they broke, without a gap or a repeat.

A client belongs to the process that made it: after a fork, make a new one.
"""

import contextlib
import dataclasses
import datetime as dt
import functools
import os
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import grpc

from jobservice.client import calls, streams
from jobservice.client.address import Tls, resolve, tls_of
from jobservice.client.calls import JobRef, job_id_of
from jobservice.client.limits import Limits
from jobservice.client.operations import OperationCalls
from jobservice.client.queues import Queues
from jobservice.client.retrying import Patience
from jobservice.client.schedules import Schedules
from jobservice.client.tls import channel
from jobservice.client.values import (
    JobEdits,
    JobFilters,
    JobOptions,
    JobStatus,
    Length,
    LogChunk,
    Stream,
)
from jobservice.client.workers import Workers
from jobservice.clock import SystemClock
from jobservice.errors import (
    DeadlineExceeded,
    JobServiceError,
    NotFound,
    ResumeTokenExpired,
    Unavailable,
)
from jobservice.model.event import Event, EventKind
from jobservice.model.job import Job
from jobservice.model.lifecycle import FINAL, State
from jobservice.wire import convert
from jobservice.wire import messages as pb
from jobservice.wire.status import from_rpc_error, is_foreign
from jobservice.wire.stubs import (
    JobServiceStub,
    LimitServiceStub,
    OperationServiceStub,
    QueueServiceStub,
    ScheduleServiceStub,
    WorkerServiceStub,
)

PAGE_SIZE = 200
REQUEST_ID_KEY = "x-request-id"
VERSION_KEY = "x-jobservice-version"
"""In the trailers of a call that names itself: the version of the service."""
STREAM_S = 3600.0
"""After so long a stream is opened anew, where it was: no call is without a deadline."""
WAIT_S = 3600.0
"""The deadline of calls that last as long as a process tree takes to end."""
CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)
"""A dead host is noticed after 80 s at the latest; a returned service is found within a second.

`min_reconnect_backoff` is also how long one attempt to connect may take: a busy service needs it.
"""

Request = TypeVar("Request")
Response = TypeVar("Response")


class Client(OperationCalls):
    """The service, as Python calls. Raises the classes of `jobservice.errors`.

    Args:
        address: `unix:/path` or `host:port`; left out, JOBSERVICE_ADDRESS, else the socket of the
            default data directory.
        timeout: The deadline of a call, in seconds, repeats included. Streams and the calls that
            wait for a process to end have their own.
        patience: For how many seconds an unavailable service is asked again.
        first_patience: The same while the service has not answered yet; left out, `patience`.
        tls: For an address over TCP; left out, what JOBSERVICE_TLS_CA, JOBSERVICE_TLS_CERT and
            JOBSERVICE_TLS_KEY name.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        timeout: float = 60.0,
        patience: float = 20.0,
        first_patience: float | None = None,
        tls: Tls | None = None,
    ) -> None:
        self.address = resolve(address)
        self._timeout_s = timeout
        self._patience_s = patience
        self._first_patience_s = first_patience
        """None once the service has answered."""
        self._clock = SystemClock()
        self._wake = threading.Event()
        self._channel = channel(self.address, tls or tls_of(), CHANNEL_OPTIONS)
        self._stub = JobServiceStub(self._channel)
        self.schedules = Schedules(self._call, ScheduleServiceStub(self._channel), PAGE_SIZE)
        """The schedules."""
        self._operations = OperationServiceStub(self._channel)
        self.queues = Queues(self._call, QueueServiceStub(self._channel), PAGE_SIZE)
        """The rules of queues."""
        self.limits = Limits(self._call, LimitServiceStub(self._channel), PAGE_SIZE)
        """Limits on what runs at once, and on how often something starts."""
        self.workers = Workers(self._call, WorkerServiceStub(self._channel), PAGE_SIZE)
        """Who runs jobs."""

    def close(self) -> None:
        """Let go of the connection; calls in flight end."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def server_version(self) -> str | None:
        """The version of the service; None where it does not say."""
        request = calls.list_request((), {}, page_size=1)
        named = functools.partial(
            self._stub.ListJobs.with_call, metadata=((REQUEST_ID_KEY, _new_request_id()),)
        )
        _, call = self._call(named, request)
        for key, value in call.trailing_metadata() or ():
            if key == VERSION_KEY:
                return str(value)
        return None

    # --- create -------------------------------------------------------------------------------

    def create(
        self, argv: Sequence[str], *, request_id: str = "", **options: Unpack[JobOptions]
    ) -> Job:
        """Submit a job; it is on disk when this returns.

        Where another job stands for it, by its unique key, a concurrency key or the rule of a full
        queue, that one is returned, and its `existing` is true.

        Args:
            argv: The program and its arguments. There is no shell.
            request_id: Calls with the same id create one job, also across programs and restarts;
                left out, a new one.
            **options: See `JobOptions`.
        """
        request = calls.create_request(argv, options, request_id or _new_request_id())
        answer = self._call(self._stub.CreateJob, request)
        return dataclasses.replace(convert.to_job(answer.job), existing=answer.existing)

    def create_many(
        self,
        argvs: Iterable[Sequence[str]],
        *,
        request_id: str = "",
        **options: Unpack[JobOptions],
    ) -> list[Job]:
        """Submit many jobs that differ in their command line, in order.

        Each 1,000 are one transaction, all of them or none. The jobs that are returned have no
        environment and no standard input in them.
        """
        jobs: list[Job] = []
        for request in calls.batch_requests(argvs, options, request_id or _new_request_id()):
            answer = self._call(self._stub.BatchCreateJobs, request)
            existing = frozenset(answer.existing)
            jobs += [
                dataclasses.replace(convert.to_job(each), existing=place in existing)
                for place, each in enumerate(answer.jobs)
            ]
        return jobs

    # --- one job ------------------------------------------------------------------------------

    def get(self, job: JobRef) -> Job:
        """A job as it is now, with its attempts."""
        request = pb.GetJobRequest(job_id=job_id_of(job))
        return convert.to_job(self._call(self._stub.GetJob, request).job)

    def index(self, array: JobRef, number: int) -> Job:
        """The job of one index of an array, without its attempts.

        Raises:
            NotFound: there is none: it has not been made yet, or was deleted; or the job is no array.
        """
        array_id = job_id_of(array)
        named = f'array_job_id = "{array_id}" AND array_index = {number}'
        found = next(self.list(filter=named), None)
        if found is None:
            if self.get(array_id).spec.array is None:
                text = (
                    f"Job {array_id} is no array, with no index {number}; ask for the job itself."
                )
                raise NotFound(text, job_id=array_id)
            raise NotFound(f"Array {array_id} has no job for index {number}.", job_id=array_id)
        return found

    def status(self, job: JobRef) -> JobStatus:
        """Where a job is now, and what it waits for."""
        request = pb.GetJobStatusRequest(job_id=job_id_of(job))
        return calls.to_status(self._call(self._stub.GetJobStatus, request).status)

    def update(self, job: JobRef, *, etag: str = "", **edits: Unpack[JobEdits]) -> Job:
        """Change fields of a job; those not given stay.

        Args:
            job: The job or its id.
            etag: That of the job as it was read, when the change must not overwrite another.
            **edits: See `JobEdits`.
        """
        request = calls.update_request(job, etag, edits)
        answer = self._call(self._stub.UpdateJob, request, repeatable=not etag)
        return convert.to_job(answer.job)

    def cancel(self, job: JobRef, *, wait: bool = False, timeout: float | None = None) -> Job:
        """Ask for the end of a job; with `wait`, return once no process of it lives."""
        request = pb.CancelJobRequest(job_id=job_id_of(job), wait=wait)
        timeout_s = timeout or (WAIT_S if wait else None)
        answer = self._call(self._stub.CancelJob, request, timeout_s=timeout_s)
        return convert.to_job(answer.job)

    def retry(self, job: JobRef) -> Job:
        """Queue a final job again."""
        request = pb.RetryJobRequest(job_id=job_id_of(job))
        return convert.to_job(self._call(self._stub.RetryJob, request, repeatable=False).job)

    def hold(self, job: JobRef) -> Job:
        """Keep a job that waits from starting, until it is released."""
        request = pb.HoldJobRequest(job_id=job_id_of(job))
        return convert.to_job(self._call(self._stub.HoldJob, request).job)

    def release(self, job: JobRef) -> Job:
        """End the hold of a job: it goes on waiting at the place of its priority and age."""
        request = pb.ReleaseJobRequest(job_id=job_id_of(job))
        return convert.to_job(self._call(self._stub.ReleaseJob, request).job)

    def move(
        self,
        job: JobRef,
        *,
        top: bool = False,
        bottom: bool = False,
        before: JobRef | None = None,
        after: JobRef | None = None,
    ) -> Job:
        """Give a queued job another place in its queue: give exactly one of the four."""
        request = calls.move_request(job, top, bottom, before, after)
        return convert.to_job(self._call(self._stub.MoveJob, request).job)

    def delete(
        self,
        job: JobRef,
        *,
        etag: str = "",
        allow_missing: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Cancel a job if need be, and remove all of it; returns when it is gone."""
        request = pb.DeleteJobRequest(job_id=job_id_of(job), etag=etag, allow_missing=allow_missing)

        def expect_it_gone() -> None:
            request.allow_missing = True  # an earlier try may have deleted it

        self._call(
            self._stub.DeleteJob, request, timeout_s=timeout or WAIT_S, on_repeat=expect_it_gone
        )

    # --- lists --------------------------------------------------------------------------------

    def list(self, *, states: Iterable[State] = (), **filters: Unpack[JobFilters]) -> Iterator[Job]:
        """Jobs, newest first, read page by page as they are asked for."""
        return self._pages(self._stub.ListJobs, calls.list_request(states, filters, PAGE_SIZE))

    def active(self, **filters: Unpack[JobFilters]) -> Iterator[Job]:
        """Jobs that are not final, oldest first."""
        return self._pages(self._stub.ListActiveJobs, calls.active_request(filters, PAGE_SIZE))

    def history(
        self,
        *,
        states: Iterable[State] = (),
        ended_after: dt.datetime | None = None,
        ended_before: dt.datetime | None = None,
        **filters: Unpack[JobFilters],
    ) -> Iterator[Job]:
        """Final jobs, the newest end first; `ended_after` is included, `ended_before` is not."""
        request = calls.history_request(states, (ended_after, ended_before), filters, PAGE_SIZE)
        return self._pages(self._stub.GetJobHistory, request)

    def _pages(self, method: Callable[..., Any], request: Any) -> Iterator[Job]:
        for page in calls.pages(self._call, method, request):
            yield from map(convert.to_job, page.jobs)

    # --- watch --------------------------------------------------------------------------------

    def watch(
        self, jobs: Iterable[JobRef] = (), *, timeout: float | None = None
    ) -> Iterator[Job | Event]:
        """The jobs as they are, then everything that happens to them.

        Without jobs: every job of the tenant that is not final, and every one that comes. With
        jobs, it ends when all of them are final or gone.

        Raises:
            DeadlineExceeded: after `timeout` seconds.
        """
        for response in self._watch(map(job_id_of, jobs), self._deadline(timeout)):
            update = streams.watch_update(response)
            if update is not None:
                yield update

    def wait(self, job: JobRef, timeout: Length | None = None) -> Job:
        """The job once it is final.

        Raises:
            NotFound: there is no such job, or it was deleted meanwhile.
            DeadlineExceeded: it is not final after `timeout`; it goes on.
        """
        return next(iter(self.as_completed([job], timeout)))

    def as_completed(self, jobs: Iterable[JobRef], timeout: Length | None = None) -> Iterator[Job]:
        """Up to 1,000 jobs, each as soon as it is final; raises as `wait`."""
        seconds = calls.seconds_of(timeout)
        deadline = self._deadline(seconds)
        waiting = dict.fromkeys(job_id_of(job) for job in jobs)
        try:
            while waiting:
                for job_id in self._ends(list(waiting), deadline):
                    job = self.get(job_id)
                    if job.state in FINAL:  # else somebody has it run again already
                        waiting.pop(job_id, None)
                        yield job
        except DeadlineExceeded:
            named = ", ".join(list(waiting)[:3])
            raise DeadlineExceeded(f"After {seconds:g} s not final: {named}. Jobs go on.") from None

    def _ends(self, job_ids: Sequence[str], deadline: float | None) -> Iterator[str]:
        """The ids of jobs that are final, as they become so."""
        missing = set(job_ids)
        for response in self._watch(job_ids, deadline):
            update = streams.watch_update(response)
            if update is None and missing:
                raise _no_such_job(min(missing))
            if update is None:
                continue
            missing.discard(update.job_id)
            if isinstance(update, Event) and update.kind is EventKind.DELETED:
                raise _no_such_job(update.job_id)
            if update.state in FINAL:
                yield update.job_id

    def _watch(
        self, job_ids: Iterable[str], deadline: float | None
    ) -> Iterator[pb.WatchJobsResponse]:
        cursor = streams.WatchCursor(list(job_ids))
        patience = self._patience()
        while True:
            try:
                for response in self._stream(self._stub.WatchJobs, cursor.request(), deadline):
                    patience.answered()
                    for told in (*self._find(cursor.left_out(response)), response):
                        if cursor.is_news(told):
                            yield told
                    cursor.took(response)
            except ResumeTokenExpired:
                cursor.begin_again()
            except JobServiceError as error:
                self._pause(patience, error, deadline)
            else:
                return

    def _find(self, job_ids: Iterable[str]) -> Iterator[pb.WatchJobsResponse]:
        """Jobs as they are now, as a snapshot tells them; those that were deleted are left out."""
        for job_id in job_ids:
            with contextlib.suppress(NotFound):
                found = self._call(self._stub.GetJob, pb.GetJobRequest(job_id=job_id))
                yield pb.WatchJobsResponse(snapshot=found.job)

    # --- logs ---------------------------------------------------------------------------------

    def logs(
        self,
        job: JobRef,
        attempt: int = 0,
        *,
        stream: Stream | str | None = None,
        follow: bool = False,
        stdout_offset: int = 0,
        stderr_offset: int = 0,
    ) -> Iterator[LogChunk]:
        """The output of an attempt, byte-exact, in order per stream.

        Args:
            job: The job or its id.
            attempt: Its number; 0 is the newest, and with `follow` the attempts after it follow on.
            stream: "stdout" or "stderr"; left out, both.
            follow: Go on as the output grows, until the attempt or job is over.
            stdout_offset: The byte to begin at, in the first attempt that is read.
            stderr_offset: The same for stderr.
        """
        cursor = streams.LogCursor(
            job_id_of(job),
            attempt=attempt,
            stream=calls.stream_number(stream),
            follow=follow,
            offsets=(stdout_offset, stderr_offset),
        )
        while True:
            yield from self._read(cursor)
            if not cursor.names_attempts or not self._comes(cursor):
                return
            cursor.advance()

    def _read(self, cursor: streams.LogCursor) -> Iterator[LogChunk]:
        """What is behind the cursor, to the end of the stream."""
        patience = self._patience()
        while True:
            try:
                for response in self._stream(self._stub.ReadLogs, cursor.request(), None):
                    patience.answered()
                    yield cursor.take(response)
            except JobServiceError as error:
                cursor.broke()
                self._pause(patience, error, None)
            else:
                return

    def _comes(self, cursor: streams.LogCursor) -> bool:
        """Whether the job has another attempt; waits until that is decided."""
        for response in self._watch([cursor.job_id], None):
            update = streams.watch_update(response)
            found = streams.has_attempt(update, cursor.next_attempt)
            if found is not None:
                return found
        return False

    # --- transport ----------------------------------------------------------------------------

    def _call(
        self,
        method: Callable[..., Response],
        request: Any,
        *,
        timeout_s: float | None = None,
        repeatable: bool = True,
        on_repeat: Callable[[], None] = lambda: None,
    ) -> Response:
        """One answer, within the deadline, however many tries that takes."""
        deadline = self._clock.monotonic_s() + (timeout_s or self._timeout_s)
        patience = self._patience()
        while True:
            try:
                left_s = max(deadline - self._clock.monotonic_s(), 0.001)
                response = method(request, timeout=left_s)
            except grpc.RpcError as error:
                self._pause(patience, self._translated(error), deadline, repeatable=repeatable)
                on_repeat()
            else:
                self._first_patience_s = None
                return response

    def _stream(
        self, method: Callable[..., Any], request: Any, deadline: float | None
    ) -> Iterator[Any]:
        """The responses of one stream, which is let go when the caller stops reading."""
        left_s = STREAM_S
        if deadline is not None:
            left_s = min(left_s, max(deadline - self._clock.monotonic_s(), 0.001))
        call = method(request, timeout=left_s)
        try:
            for response in call:
                self._first_patience_s = None
                yield response
        except grpc.RpcError as error:
            if left_s == STREAM_S and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise Unavailable("The stream was open for long enough.") from None
            raise self._translated(error) from None
        finally:
            call.cancel()

    def _pause(
        self,
        patience: Patience,
        error: JobServiceError,
        deadline: float | None,
        *,
        repeatable: bool = True,
    ) -> None:
        """Wait until the next try, or raise the error."""
        now = self._clock.monotonic_s()
        wait_s = patience.wait_s(error, now, _fraction(), repeatable=repeatable)
        if wait_s is None or (deadline is not None and now + wait_s >= deadline):
            raise error from None
        self._wake.wait(wait_s)

    def _patience(self) -> Patience:
        return Patience(self._patience_s, self._first_patience_s)

    def _deadline(self, timeout_s: float | None) -> float | None:
        return None if timeout_s is None else self._clock.monotonic_s() + timeout_s

    def _translated(self, error: grpc.RpcError) -> JobServiceError:
        found = from_rpc_error(error)
        if not is_foreign(found):
            return found
        if error.code() is grpc.StatusCode.CANCELLED:  # not by us: we do not read on then
            return Unavailable("The service broke off the call.", **found.metadata)
        if isinstance(found, Unavailable):
            why = (error.details() or "").rpartition(": ")[2]  # the rest repeats the address
            text = f"The service at {self.address} cannot be reached: {why.rstrip('.')}."
            return Unavailable(text, **found.metadata, address=self.address)
        return found


def _no_such_job(job_id: str) -> NotFound:
    return NotFound(f"There is no job {job_id}.", job_id=job_id)


def _new_request_id() -> str:
    return uuid.uuid4().hex


def _fraction() -> float:
    """A random number in [0, 1)."""
    return int.from_bytes(os.urandom(4)) / 2**32
