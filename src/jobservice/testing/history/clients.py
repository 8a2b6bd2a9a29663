"""Clients that note what they ask for and what they are told: the SDK, and the bare API."""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

import grpc

from jobservice import Client
from jobservice.client.values import JobOptions
from jobservice.errors import DeadlineExceeded, JobServiceError, Unavailable
from jobservice.model.event import Event
from jobservice.model.schedule import Misfire, MisfirePolicy
from jobservice.testing.history.history import FAIL, INFO, OK
from jobservice.testing.history.record import Recorder
from jobservice.testing.history.witness import Witness
from jobservice.wire import messages as pb
from jobservice.wire.stubs import JobServiceStub

_MAY_HAVE_HAPPENED = (Unavailable, DeadlineExceeded)
_CODES = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
}

Result = Mapping[str, Any]


class RecordedCalls:
    """Calls of one observer, each noted before it is made and when it is answered."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._numbers = itertools.count()

    def make(self, method: str, arguments: Result, act: Callable[[], Result]) -> Result | None:
        """What `act` returns; None where it was refused or where nobody knows."""
        call = next(self._numbers)
        self._recorder.note("call", call=call, method=method, arguments=arguments)
        try:
            result = act()
        except JobServiceError as error:
            outcome = INFO if isinstance(error, _MAY_HAVE_HAPPENED) else FAIL
            self._recorder.note("answer", call=call, outcome=outcome, code=type(error).__name__)
        except grpc.RpcError as error:
            outcome = INFO if error.code() in _CODES else FAIL
            self._recorder.note("answer", call=call, outcome=outcome, code=error.code().name)
        else:
            self._recorder.note("answer", call=call, outcome=OK, result=result)
            return result
        return None


class RecordedClient:
    """The SDK. Each method returns what is noted, or None where the call was not answered well."""

    def __init__(self, client: Client, recorder: Recorder, witness: Witness) -> None:
        self.client = client
        self._recorder = recorder
        self._witness = witness
        self._calls = RecordedCalls(recorder)

    def create(
        self, argvs: Sequence[Sequence[str]], request: str, **options: Unpack[JobOptions]
    ) -> Sequence[str]:
        """The ids of new jobs, which are named by their request."""

        def act() -> Result:
            options["name"] = request
            if len(argvs) > 1:
                jobs = self.client.create_many(argvs, request_id=request, **options)
            else:
                jobs = [self.client.create(argvs[0], request_id=request, **options)]
            return {"job_ids": [job.job_id for job in jobs]}

        answer = self._calls.make("create", {"request": request, "count": len(argvs)}, act)
        return answer["job_ids"] if answer else ()

    def get(self, job_id: str) -> Result | None:
        """Where a job is."""

        def act() -> Result:
            job = self.client.get(job_id)
            return {"revision": job.revision, "state": job.state.name, "attempt": job.attempt_count}

        return self._calls.make("get", {"job_id": job_id}, act)

    def change(self, method: str, job_id: str) -> Result | None:
        """Hold, release or retry a job."""

        def act() -> Result:
            job = getattr(self.client, method)(job_id)
            return {"revision": job.revision, "state": job.state.name}

        return self._calls.make(method, {"job_id": job_id}, act)

    def cancel(self, job_id: str, *, wait: bool) -> Result | None:
        """Cancel a job, and where it is CANCELLED look whether anything of it lives."""

        def act() -> Result:
            job = self.client.cancel(job_id, wait=wait)
            told = {"revision": job.revision, "state": job.state.name, "attempt": job.attempt_count}
            return self._with_life(job_id, told)

        return self._calls.make("cancel", {"job_id": job_id}, act)

    def delete(self, job_id: str) -> Result | None:
        """Delete a job, and look whether anything of it lives."""

        def act() -> Result:
            self.client.delete(job_id, allow_missing=True)
            return self._with_life(job_id, {"state": "CANCELLED"})

        return self._calls.make("delete", {"job_id": job_id}, act)

    def _with_life(self, job_id: str, result: Result) -> Result:
        return {**result, "lives": self._witness.is_alive(job_id)}

    def pause(self, queue: str) -> Result | None:
        """Stop a queue."""

        def act() -> Result:
            self.client.queues.pause(queue)
            return {"wall_us": time.time_ns() // 1000}

        return self._calls.make("pause", {"queue": queue}, act)

    def resume(self, queue: str) -> Result | None:
        """Let a queue go on."""

        def act() -> Result:
            self.client.queues.resume(queue)
            return {}

        return self._calls.make("resume", {"queue": queue}, act)

    def schedule(self, name: str, argv: Sequence[str], every_s: int) -> Result | None:
        """Make a schedule that misses nothing."""

        def act() -> Result:
            self.client.schedules.create(
                name,
                argv,
                every=every_s,
                misfire=Misfire(MisfirePolicy.ALL, max_count=100),
                overlap="allow",
                job={"name": name},
            )
            return {}

        arguments = {"schedule": name, "every_us": every_s * 1_000_000}
        return self._calls.make("create_schedule", arguments, act)

    def read_output(self, job_id: str, attempt: int) -> None:
        """Read what an attempt that is over wrote to stdout."""
        pieces, data = [], b""
        try:
            for chunk in self.client.logs(job_id, attempt, stream="stdout"):
                pieces.append((chunk.offset, len(chunk.data)))
                data += chunk.data
        except JobServiceError:
            return
        text = data.decode(errors="replace")
        self._recorder.note("output", job_id=job_id, attempt=attempt, pieces=pieces, text=text)

    def watch(self, stream: str, hear: Callable[[str, str], None]) -> None:
        """Note every change of every job, for ever; `hear` is told of a job and its state."""
        for update in self.client.watch():
            kind = update.kind.name if isinstance(update, Event) else "snapshot"
            self._recorder.note(
                "frame",
                stream=stream,
                job_id=update.job_id,
                revision=update.revision,
                kind=kind,
                state=update.state.name,
            )
            hear(update.job_id, update.state.name)


class BareClient:
    """The API as any program may call it: no retries but its own, short deadlines, repeats."""

    def __init__(self, address: str, recorder: Recorder) -> None:
        self._channel = grpc.insecure_channel(address)
        self._stub = JobServiceStub(self._channel)
        self._calls = RecordedCalls(recorder)

    def create(self, argv: Sequence[str], request: str, timeout_s: float) -> Sequence[str]:
        """One try to make a job; it may be made again with the same request."""
        job = pb.Job(name=request, command=pb.Command(argv=argv))
        message = pb.CreateJobRequest(job=job, request_id=request)

        def act() -> Result:
            answer = self._stub.CreateJob(message, timeout=timeout_s)
            return {"job_ids": [answer.job.job_id]}

        answer = self._calls.make("create", {"request": request, "count": 1}, act)
        return answer["job_ids"] if answer else ()

    def close(self) -> None:
        """Let go of the connection."""
        self._channel.close()
