"""Read logs: the output of an attempt, byte-exact, while it runs and ever after.

The bytes lie in files that the runner writes; the server is not in their way. Those of an attempt on
another host are in the store, where its worker brings them. To follow means to look again: at once while
they grow, and at most ten times a second while they do not.
That an attempt is over is learnt before its files are read for the last time, and its end is only
told when its output is whole, so nothing is missed.
"""

import dataclasses
from collections.abc import AsyncIterator

from jobservice.blobs.port import Outputs, Piece, Stream
from jobservice.engine.cancel import get_job
from jobservice.engine.parts import Parts
from jobservice.engine.watch import ChangeFeed
from jobservice.errors import InvalidRequest, InvalidTransition, Violation
from jobservice.model.event import Change
from jobservice.model.job import Job
from jobservice.model.lifecycle import FINAL
from jobservice.mutants import mutant
from jobservice.store.port import JobKey

LOOK_AGAIN_S = (0.1, 0.1, 0.2, 0.2, 0.5)
"""Waits between looks while nothing comes; the last one repeats."""


@dataclasses.dataclass(frozen=True, slots=True)
class LogRequest:
    """What is asked for."""

    key: JobKey
    attempt: int = 0
    """0 is the newest; with `follow`, also those after it."""
    offsets: dict[Stream, int] = dataclasses.field(default_factory=dict)
    """The wanted streams, and where to begin in each (of the first attempt that is read)."""
    follow: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class LogPiece:
    """A piece of the output of an attempt."""

    attempt: int
    stream: Stream
    piece: Piece


async def read_logs(
    parts: Parts, feed: ChangeFeed, outputs: Outputs, request: LogRequest
) -> AsyncIterator[LogPiece]:
    """The pieces in order per attempt and stream.

    Raises:
        NotFound: there is no such job, or it was deleted meanwhile.
        InvalidRequest: it has no such attempt.
        InvalidTransition: it is an array, whose indices have the output.
    """
    job = await get_job(parts, request.key)
    if job.spec.array is not None:
        message = (
            f"Job {job.job_id} is an array, and each of its indices has output of its own: name the job "
            "of one (`jobservice logs --index N`, or a list with the filter array_job_id)."
        )
        raise InvalidTransition(
            message, state=job.state.name, trigger="read_logs", job_id=job.job_id
        )
    if request.attempt > job.attempt_count:
        raise InvalidRequest([_no_such_attempt(job, request.attempt)])
    attempt = request.attempt or max(job.attempt_count, 1)
    offsets = (
        dict.fromkeys(request.offsets, 0)
        if mutant("output.begins_again")
        else dict(request.offsets)
    )
    while True:
        async for piece in _read_attempt(parts, feed, outputs, request, attempt, offsets):
            yield piece
        if not request.follow or request.attempt:
            return
        job = await _until_attempt_or_final(parts, feed, request.key, attempt + 1)
        if job.attempt_count <= attempt:
            return
        attempt += 1
        offsets = dict.fromkeys(offsets, 0)


async def _read_attempt(
    parts: Parts,
    feed: ChangeFeed,
    outputs: Outputs,
    request: LogRequest,
    attempt: int,
    offsets: dict[Stream, int],
) -> AsyncIterator[LogPiece]:
    quiet = 0
    async with feed.subscribe() as subscription:
        over = not request.follow or _is_over(await get_job(parts, request.key), attempt)
        while True:
            came = False
            for stream in offsets:
                async for piece in _read_stream(
                    parts, outputs, request.key, attempt, stream, offsets
                ):
                    came = True
                    yield piece
            if over and not came:
                return
            if not over:
                quiet = 0 if came else quiet + 1
                await parts.clock.sleep(LOOK_AGAIN_S[min(quiet, len(LOOK_AGAIN_S) - 1)])
                if _concerns(subscription.look(), request.key):
                    over = _is_over(await get_job(parts, request.key), attempt)


async def _read_stream(
    parts: Parts,
    outputs: Outputs,
    key: JobKey,
    attempt: int,
    stream: Stream,
    offsets: dict[Stream, int],
) -> AsyncIterator[LogPiece]:
    """What there is now, in a bounded number of pieces, so that the other stream has its turn."""
    for _ in range(64):
        offset = offsets[stream]
        piece = await outputs.read(key.job_id, attempt, stream, offset)
        if piece.end == offset:
            piece = await parts.store.read_log(key.tenant, key.job_id, attempt, stream, offset)
        if piece.end == piece.offset:
            return
        offsets[stream] = piece.end
        yield LogPiece(attempt, stream, piece)


async def _until_attempt_or_final(parts: Parts, feed: ChangeFeed, key: JobKey, attempt: int) -> Job:
    async with feed.subscribe() as subscription:
        job = await get_job(parts, key)
        while job.attempt_count < attempt and job.state not in FINAL:
            if any(change.event.job_id == key.job_id for change in await subscription.next()):
                job = await get_job(parts, key)
        return job


def _concerns(changes: list[Change] | None, key: JobKey) -> bool:
    """Whether something may have happened to the job."""
    return changes is None or any(change.event.job_id == key.job_id for change in changes)


def _is_over(job: Job, attempt: int) -> bool:
    if attempt < job.attempt_count:
        return True
    if attempt > job.attempt_count:
        return job.state in FINAL
    return job.attempts[-1].ended_at is not None if job.attempts else job.state in FINAL


def _no_such_attempt(job: Job, attempt: int) -> Violation:
    return Violation(
        "attempt",
        f"{attempt} is not there: the job has had {job.attempt_count} attempts; "
        "0 stands for the newest",
        "ATTEMPT_NOT_FOUND",
    )
