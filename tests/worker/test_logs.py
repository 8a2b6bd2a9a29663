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
        self.gaps: dict[str, Piece] = {}

    async def read(self, job_id: str, attempt: int, stream: Stream, offset: int) -> Piece:
        del attempt
        data = self.written.get(job_id, b"") if stream is Stream.STDOUT else b""
        return Piece(offset, data[offset:])

    async def gap(self, job_id: str, attempt: int, stream: Stream) -> Piece | None:
        del attempt
        return self.gaps.get(job_id) if stream is Stream.STDOUT else None


class Service:
    """What the service has of it; `meanwhile` happens during the next append."""

    def __init__(self) -> None:
        self.has: dict[str, bytes] = {}
        self.calls = 0
        self.meanwhile: Callable[[], None] = lambda: None

    async def append_logs(self, appends: Sequence[LogAppend]) -> Sequence[int | None]:
        happens, self.meanwhile = self.meanwhile, lambda: None
        happens()
        self.calls += 1
        for each in appends:
            known = self.has.get(each.fence.job_id, b"")
            if each.stream is Stream.STDOUT and each.piece.offset <= len(known):
                dropped = b"-" * each.piece.dropped_bytes
                behind = known[each.piece.end :]
                self.has[each.fence.job_id] = (
                    known[: each.piece.offset] + each.piece.data + dropped + behind
                )
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


async def test_an_end_whose_output_was_removed_is_passed_on() -> None:
    files, service, passed = Files(), Service(), list[Ended]()
    clock = JumpClock()
    shipper = LogShipper(files, service, clock, passed.extend)  # type: ignore[arg-type]
    service.has["j1"] = b"head"
    files.gaps["j1"] = Piece(10, dropped_bytes=90)  # and nothing leads there any more
    end = ended(FIRST, 120)
    end = dataclasses.replace(end, outcome=dataclasses.replace(end.outcome, dropped_bytes=90))
    shipper.end([end])
    running = asyncio.create_task(shipper.run())
    for _ in range(200):
        await asyncio.sleep(0)
        clock.advance(0.01)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert passed == [end]
    assert service.calls < 5
    assert service.has["j1"] == b"head"


async def test_the_gap_of_an_end_is_told_before_it_is_passed_on() -> None:
    files, service, passed = Files(), Service(), list[bytes]()

    def pass_on(ends: Sequence[Ended]) -> None:
        passed.extend(service.has[each.fence.job_id] for each in ends)

    shipper = LogShipper(files, service, JumpClock(), pass_on)  # type: ignore[arg-type]
    service.has["j1"] = files.written["j1"] = b"0123456789"
    files.gaps["j1"] = Piece(4, dropped_bytes=3)
    end = ended(FIRST, 10)
    end = dataclasses.replace(end, outcome=dataclasses.replace(end.outcome, dropped_bytes=3))
    shipper.end([end])
    running = asyncio.create_task(shipper.run())
    for _ in range(200):
        await asyncio.sleep(0)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert passed == [b"0123---789"]
