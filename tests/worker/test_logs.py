"""Output on its way to where every server reads it: the end of an attempt comes behind all of it."""

import asyncio
import contextlib
import dataclasses
import datetime as dt
from collections.abc import Callable, Sequence

from jobservice.executors.port import Ended
from jobservice.model.attempt import Cause, Fence, Outcome
from jobservice.model.output import LogAppend, Piece, Stream
from jobservice.testing.clock import START, JumpClock
from jobservice.worker.logs import LogShipper

FIRST, OTHER = (Fence("default", f"j{n}", 1, 1) for n in (1, 2))


class Files:
    """What attempts have written to stdout."""

    def __init__(self) -> None:
        self.written: dict[str, bytes] = {}

    async def read(self, job_id: str, attempt: int, stream: Stream, offset: int) -> Piece:
        del attempt
        data = self.written.get(job_id, b"") if stream is Stream.STDOUT else b""
        return Piece(offset, data[offset:])

    async def gap(self, job_id: str, attempt: int, stream: Stream) -> Piece | None:
        del job_id, attempt, stream
        return None


class Service:
    """What the service has of it; `meanwhile` happens during the next append."""

    def __init__(self) -> None:
        self.has: dict[str, bytes] = {}
        self.meanwhile: Callable[[], None] = lambda: None

    async def append_logs(self, appends: Sequence[LogAppend]) -> Sequence[int | None]:
        happens, self.meanwhile = self.meanwhile, lambda: None
        happens()
        for each in appends:
            if each.stream is Stream.STDOUT:
                known = self.has.get(each.fence.job_id, b"")
                self.has[each.fence.job_id] = known[: each.piece.offset] + each.piece.data
        return [
            len(self.has.get(each.fence.job_id, b"")) if each.stream is Stream.STDOUT else 0
            for each in appends
        ]


def ended(fence: Fence, stdout_bytes: int) -> Ended:
    outcome = Outcome(Cause.EXIT, START + dt.timedelta(seconds=1), START, exit_code=0)
    return Ended(fence, dataclasses.replace(outcome, stdout_bytes=stdout_bytes))


async def test_an_end_that_comes_after_a_look_waits_for_another_look() -> None:
    files, service, passed = Files(), Service(), list[tuple[str, bytes]]()

    def pass_on(ends: Sequence[Ended]) -> None:
        passed.extend((end.fence.job_id, service.has.get(end.fence.job_id, b"")) for end in ends)

    clock = JumpClock()
    shipper = LogShipper(files, service, clock, pass_on)  # type: ignore[arg-type]

    def write_and_end() -> None:
        files.written["j2"] = b"late"
        shipper.end([ended(OTHER, 4)])

    files.written["j1"] = b"early"
    service.meanwhile = write_and_end
    shipper.watch(FIRST, is_new=True)
    shipper.watch(OTHER, is_new=True)
    running = asyncio.create_task(shipper.run())
    while not passed:
        await asyncio.sleep(0)
        clock.advance(1)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert passed == [("j2", b"late")]
