"""Between the messages of workers and the values of the model; what `convert.py` says holds here too.

| of the wire | of the model |
|---|---|
| `Worker` of a request | `WorkerInfo` (`to_info`, `info_message`) |
| `Worker` of a response | `Worker` (`worker_message`, `to_worker`) |
| `Resources` | `Resources` (`resources_message`, `to_resources`) |
| `Fence` | `Fence` (`fence_message`, `to_fence`) |
| `Lease` | `Claim` (`lease_message`, `to_claim`) |
| `AttemptStart`, `AttemptProgress` | `AttemptStart`, `ProgressReport` (likewise) |
| `LogAppend` | `LogAppend` (`append_message`, `to_append`) |
| `AttemptEnd` | `AttemptEnd` (`end_message`, `to_end`) |
| `LiveAttempt` | `LiveAttempt` (`live_message`, `to_live`) |
"""

import datetime as dt
from typing import Any

from jobservice.model.attempt import Cause, Fence, Outcome
from jobservice.model.job import AttemptState, Progress
from jobservice.model.lease import (
    AttemptEnd,
    AttemptStart,
    Claim,
    LeaseAnswer,
    LiveAttempt,
    ProgressReport,
)
from jobservice.model.lifecycle import State
from jobservice.model.output import LogAppend, Piece, Stream
from jobservice.model.spec import Command
from jobservice.model.worker import (
    ANYWHERE,
    Drain,
    Placement,
    Resources,
    Worker,
    WorkerInfo,
    WorkerState,
)
from jobservice.wire import times
from jobservice.wire._gen.v1 import job_pb2, worker_pb2
from jobservice.wire._gen.v1 import worker_service_pb2 as pb

_CAUSES = {cause: number for number, cause in enumerate(Cause, 1)}
_OF_NUMBERS = {number: cause for cause, number in _CAUSES.items()}
_ANSWERS = {answer: number for number, answer in enumerate(LeaseAnswer, 1)}
_ANSWERS_OF = {number: answer for answer, number in _ANSWERS.items()}


# --- workers ----------------------------------------------------------------------------------


def to_resources(message: worker_pb2.Resources) -> Resources:
    """Amounts; what is not given is 0, and a count of 0 is none."""
    counts = {name: count for name, count in sorted(message.counts.items()) if count}
    return Resources(message.cpu_millis, message.memory_bytes, counts)


def resources_message(resources: Resources) -> worker_pb2.Resources:
    """Amounts as the wire has them."""
    return worker_pb2.Resources(
        cpu_millis=resources.cpu_millis,
        memory_bytes=resources.memory_bytes,
        counts=resources.counts,
    )


def to_placement(job: job_pb2.Job) -> Placement:
    """What a job asks of its worker."""
    if not job.required_labels and not job.HasField("resources"):
        return ANYWHERE
    return Placement(dict(sorted(job.required_labels.items())), to_resources(job.resources))


def placement_fields(placement: Placement) -> dict[str, Any]:
    """The fields of a job that say what it asks of its worker."""
    fields: dict[str, Any] = {}
    if placement.labels:
        fields["required_labels"] = placement.labels
    if placement.resources != ANYWHERE.resources:
        fields["resources"] = resources_message(placement.resources)
    return fields


def to_info(message: worker_pb2.Worker, origin: str = "") -> WorkerInfo:
    """What a worker says of itself."""
    return WorkerInfo(
        worker_id=message.worker_id,
        host=message.host,
        version=message.version,
        slots=message.slots,
        labels=dict(message.labels),
        resources=to_resources(message.resources),
        embedded=message.embedded,
        origin=origin,
    )


def info_message(info: WorkerInfo) -> worker_pb2.Worker:
    """The same as the wire has it."""
    return worker_pb2.Worker(
        worker_id=info.worker_id,
        host=info.host,
        version=info.version,
        slots=info.slots,
        labels=info.labels,
        resources=resources_message(info.resources),
        embedded=info.embedded,
    )


def worker_message(worker: Worker) -> worker_pb2.Worker:
    """A worker with how it is."""
    message = info_message(worker.info)
    message.register_time.CopyFrom(times.timestamp(worker.registered_at))
    message.contact_time.CopyFrom(times.timestamp(worker.contact_at))
    message.state = int(worker.state)  # type: ignore[assignment]  # the numbers are the same
    message.running = worker.running
    if worker.drain is not None:
        message.drain_time.CopyFrom(times.timestamp(worker.drain.since))
        message.drain_reason = worker.drain.reason
    return message


def to_worker(message: worker_pb2.Worker) -> Worker:
    """A worker with how it is."""
    since = times.maybe_instant(message, "drain_time")
    return Worker(
        info=to_info(message),
        registered_at=times.to_instant(message.register_time),
        contact_at=times.to_instant(message.contact_time),
        drain=None if since is None else Drain(since, message.drain_reason),
        running=message.running,
        state=WorkerState(message.state),
    )


# --- leases -----------------------------------------------------------------------------------


def to_fence(message: pb.Fence) -> Fence:
    """A fence."""
    return Fence(message.tenant, message.job_id, message.attempt, message.epoch)


def fence_message(fence: Fence) -> pb.Fence:
    """A fence as the wire has it."""
    return pb.Fence(
        tenant=fence.tenant, job_id=fence.job_id, attempt=fence.attempt, epoch=fence.epoch
    )


def lease_message(claim: Claim) -> pb.Lease:
    """A lease with what is needed to run its attempt."""
    command = claim.command
    return pb.Lease(
        fence=fence_message(claim.fence),
        command=job_pb2.Command(
            argv=command.argv, env=command.env, stdin=command.stdin, work_dir=command.work_dir
        ),
        timeout=_maybe_duration(claim.timeout),
        stop_grace=times.duration(claim.stop_grace),
        output_limit_bytes=claim.output_limit_bytes,
        idle_timeout=_maybe_duration(claim.idle_timeout),
    )


def to_claim(message: pb.Lease) -> Claim:
    """The same."""
    command = message.command
    return Claim(
        fence=to_fence(message.fence),
        command=Command(tuple(command.argv), dict(command.env), command.stdin, command.work_dir),
        timeout=times.maybe_length(message, "timeout"),
        stop_grace=times.to_timedelta(message.stop_grace),
        output_limit_bytes=message.output_limit_bytes,
        idle_timeout=times.maybe_length(message, "idle_timeout"),
    )


def _maybe_duration(length: dt.timedelta | None) -> Any:
    return None if length is None else times.duration(length)


def answer_number(answer: LeaseAnswer) -> Any:
    """What a holder is to do, as the wire has it."""
    return _ANSWERS[answer]


def to_answer(number: int) -> LeaseAnswer:
    """What a holder is to do; a word that is newer than this version is one to stop."""
    return _ANSWERS_OF.get(number, LeaseAnswer.STOP)


def live_message(live: LiveAttempt) -> pb.LiveAttempt:
    """A lease as it is remembered."""
    return pb.LiveAttempt(
        fence=fence_message(live.fence),
        state=int(live.attempt_state),  # type: ignore[arg-type]  # the numbers are the same
        job_state=int(live.job_state),  # type: ignore[arg-type]
        start_time=times.maybe_timestamp(live.started_at),
        restored=live.is_restored,
    )


def to_live(message: pb.LiveAttempt, worker_id: str) -> LiveAttempt:
    """The same."""
    return LiveAttempt(
        to_fence(message.fence),
        worker_id,
        AttemptState(message.state),
        State(message.job_state),
        times.maybe_instant(message, "start_time"),
        message.restored,
    )


# --- what is told of attempts -----------------------------------------------------------------


def start_message(start: AttemptStart) -> pb.AttemptStart:
    """A process exists."""
    return pb.AttemptStart(
        fence=fence_message(start.fence), start_time=times.timestamp(start.started_at)
    )


def to_start(message: pb.AttemptStart) -> AttemptStart:
    """The same."""
    return AttemptStart(to_fence(message.fence), times.to_instant(message.start_time))


def progress_message(report: ProgressReport) -> pb.AttemptProgress:
    """What an attempt says of itself."""
    progress = report.progress
    return pb.AttemptProgress(
        fence=fence_message(report.fence),
        percent=progress.percent,
        step=progress.step,
        estimated_completion=times.maybe_timestamp(progress.estimated_completion),
        report_time=times.timestamp(progress.reported_at),
    )


def to_progress(message: pb.AttemptProgress) -> ProgressReport:
    """The same."""
    return ProgressReport(
        to_fence(message.fence),
        Progress(
            message.percent,
            message.step,
            times.maybe_instant(message, "estimated_completion"),
            times.to_instant(message.report_time),
        ),
    )


def append_message(append: LogAppend) -> pb.LogAppend:
    """A piece of output."""
    piece = append.piece
    return pb.LogAppend(
        fence=fence_message(append.fence),
        stream=int(append.stream),  # type: ignore[arg-type]  # the numbers are the same
        offset=piece.offset,
        data=piece.data,
        dropped_bytes=piece.dropped_bytes,
    )


def to_append(message: pb.LogAppend) -> LogAppend:
    """The same."""
    piece = Piece(message.offset, message.data, message.dropped_bytes)
    return LogAppend(to_fence(message.fence), Stream(message.stream), piece)


def end_message(end: AttemptEnd) -> pb.AttemptEnd:
    """How an attempt ended."""
    outcome = end.outcome
    return pb.AttemptEnd(
        fence=fence_message(end.fence),
        cause=_CAUSES[outcome.cause],  # type: ignore[arg-type]  # a number of the enumeration
        end_time=times.timestamp(outcome.ended_at),
        start_time=times.maybe_timestamp(outcome.started_at),
        exit_code=outcome.exit_code,
        signal=outcome.signal,
        message=outcome.message,
        cpu_time=times.duration(dt.timedelta(seconds=outcome.cpu_s)),
        max_rss_bytes=outcome.max_rss_bytes,
        stdout_bytes=outcome.stdout_bytes,
        stderr_bytes=outcome.stderr_bytes,
        dropped_bytes=outcome.dropped_bytes,
    )


def to_end(message: pb.AttemptEnd) -> AttemptEnd:
    """The same."""
    return AttemptEnd(
        to_fence(message.fence),
        Outcome(
            cause=_OF_NUMBERS[message.cause],
            ended_at=times.to_instant(message.end_time),
            started_at=times.maybe_instant(message, "start_time"),
            exit_code=times.maybe_value(message, "exit_code"),
            signal=times.maybe_value(message, "signal"),
            message=message.message,
            cpu_s=times.to_timedelta(message.cpu_time).total_seconds(),
            max_rss_bytes=message.max_rss_bytes,
            stdout_bytes=message.stdout_bytes,
            stderr_bytes=message.stderr_bytes,
            dropped_bytes=message.dropped_bytes,
        ),
    )
