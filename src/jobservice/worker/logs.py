"""Output of attempts, brought to where every server can read it.

The files that the runner writes are the truth. What is new in them is read and appended by position,
again and again until the attempt has ended and all of it is there; only then its end is passed on. The
service answers where each stream ends now, so a repeat does no harm, and after a restart it is asked
first. Nothing is kept in memory but positions.

What is over the limit of a job is dropped from the files when it was appended long ago. So gaps are told
apart from what is new, and the service drops the same.
"""

import asyncio
import dataclasses
from collections.abc import Callable, Iterable, Sequence

from jobservice.clock import Clock
from jobservice.errors import JobServiceError
from jobservice.executors.port import Ended
from jobservice.model.attempt import Fence
from jobservice.model.output import LogAppend, Piece, Stream
from jobservice.telemetry import logger
from jobservice.worker.port import Dispatcher, Output

BATCH_BYTES = 1 << 20
"""How much of all attempts is appended in one call, or a piece more."""
BATCH_PIECES = 100
PIECES_A_TURN = 8
"""Of one stream, so that the others have their turn."""
LOOK_AGAIN_S = (0.1, 0.1, 0.2, 0.3, 0.5, 1.0)
"""Waits between looks at an attempt that says nothing; the last one repeats."""
AFTER_ERROR_S = 1.0

LOOK_FOR_GAPS_BYTES = 1 << 20
"""After so much more of a stream it is looked for what was dropped of it since: so much above the limit
of its job may be kept for a while."""


@dataclasses.dataclass(slots=True)
class _Watched:
    """An attempt, and how far its output is where it belongs."""

    positions: dict[Stream, int | None]
    """None: to be asked for."""
    end: Ended | None = None
    quiet: int = 0
    look_at_s: float = 0.0
    gaps_sought: dict[Stream, int] = dataclasses.field(default_factory=dict)
    """Where each stream ended when it was last looked for its gap."""
    gaps_told: dict[Stream, int] = dataclasses.field(default_factory=dict)
    """Where the gap ended that the service knows."""
    is_whole: bool = False
    """Whether gaps were told after the end."""

    def is_done(self) -> bool:
        """Whether it has ended and all that it wrote is there."""
        if self.end is None or (self.end.outcome.dropped_bytes and not self.is_whole):
            return False
        outcome = self.end.outcome
        written = {Stream.STDOUT: outcome.stdout_bytes, Stream.STDERR: outcome.stderr_bytes}
        return all(
            not written[stream] or (position is not None and position >= written[stream])
            for stream, position in self.positions.items()
        )


class LogShipper:
    """Appends what attempts write, and passes their ends on behind it."""

    def __init__(
        self,
        output: Output,
        dispatcher: Dispatcher,
        clock: Clock,
        pass_on: Callable[[Sequence[Ended]], None],
    ) -> None:
        self._output = output
        self._dispatcher = dispatcher
        self._clock = clock
        self._pass_on = pass_on
        self._watched: dict[Fence, _Watched] = {}
        self._news = asyncio.Event()
        self._log = logger("logs")

    def watch(self, fence: Fence, *, is_new: bool) -> None:
        """An attempt runs; one that is not new may have been watched by another worker before."""
        begin = 0 if is_new else None
        self._watched.setdefault(fence, _Watched(dict.fromkeys(Stream, begin)))
        self._news.set()

    def end(self, ends: Iterable[Ended]) -> None:
        """Attempts have ended; each end is passed on once its output is whole."""
        for end in ends:
            self.watch(end.fence, is_new=False)
            watched = self._watched[end.fence]
            watched.end, watched.look_at_s = end, 0.0
            if watched.is_done():
                self._finish([end.fence])

    def forget(self, fences: Iterable[Fence]) -> None:
        """Nothing is to be told of these attempts any more."""
        for fence in fences:
            self._watched.pop(fence, None)

    async def run(self) -> None:
        """A loop: look at all attempts, each as often as it has something to say."""
        while True:
            self._news.clear()
            now = self._clock.monotonic_s()
            due = [fence for fence, each in self._watched.items() if each.look_at_s <= now]
            try:
                await self._ship(due)
            except JobServiceError as error:
                self._log.warning("logs_not_appended", error=str(error))
                await self._clock.sleep(AFTER_ERROR_S)
                continue
            await self._until_due()

    async def _until_due(self) -> None:
        next_s = min((each.look_at_s for each in self._watched.values()), default=None)
        if next_s is None:
            await self._news.wait()
            return
        wait_s = next_s - self._clock.monotonic_s()
        if wait_s > 0:
            try:
                async with self._clock.timeout(wait_s):
                    await self._news.wait()
            except TimeoutError:
                pass

    async def _ship(self, due: Sequence[Fence]) -> None:
        """Read what is new of some attempts, ended ones first, and append it."""
        order = sorted(due, key=lambda fence: self._watched[fence].end is None)
        ended = {fence for fence in due if self._watched[fence].end is not None}
        batch: list[LogAppend] = []
        looked: list[Fence] = []
        for fence in order:
            if len(batch) >= BATCH_PIECES or sum(map(_size, batch)) >= BATCH_BYTES:
                break
            batch += await self._new_of(fence)
            batch += await self._gaps_of(fence)
            looked.append(fence)
        answers = await self._dispatcher.append_logs(batch) if batch else ()
        moved = self._take(batch, answers)
        for fence in ended.intersection(looked) & self._watched.keys():
            self._watched[fence].is_whole = True
        self._plan(looked, moved, ended)
        self._finish(looked)

    async def _new_of(self, fence: Fence) -> list[LogAppend]:
        """What is behind the positions of an attempt; an empty piece asks for the position."""
        watched = self._watched.get(fence)
        found: list[LogAppend] = []
        for stream, position in watched.positions.items() if watched is not None else ():
            if position is None:
                found.append(LogAppend(fence, stream, Piece(0)))
            else:
                found += await self._new_in(fence, stream, position)
        return found

    async def _new_in(self, fence: Fence, stream: Stream, position: int) -> list[LogAppend]:
        """What is behind a position of a stream."""
        found: list[LogAppend] = []
        for _ in range(PIECES_A_TURN):
            try:
                piece = await self._output.read(fence.job_id, fence.attempt, stream, position)
            except OSError as error:
                self._log.warning("output_unreadable", attempt=str(fence), error=str(error))
                break
            if piece.end == piece.offset:
                break
            found.append(LogAppend(fence, stream, piece))
            position = piece.end
        return found

    async def _gaps_of(self, fence: Fence) -> list[LogAppend]:
        """What was dropped of an attempt and not told, where it is time to look for that."""
        watched = self._watched.get(fence)
        found: list[LogAppend] = []
        for stream, position in watched.positions.items() if watched is not None else ():
            assert watched is not None
            is_over = watched.end is not None and watched.end.outcome.dropped_bytes > 0
            new = (position or 0) - watched.gaps_sought.get(stream, 0)
            if not is_over and new < LOOK_FOR_GAPS_BYTES:
                continue
            gap = await self._output.gap(fence.job_id, fence.attempt, stream)
            if gap is not None and gap.end > watched.gaps_told.get(stream, 0):
                found.append(LogAppend(fence, stream, gap))
            watched.gaps_sought[stream] = position or 0
        return found

    def _take(self, batch: Sequence[LogAppend], answers: Sequence[int | None]) -> set[Fence]:
        """Go on where the service says that a stream ends; returns of which attempts there was news.

        What the service ignored is none: a gap that nothing leads to, as the job has removed its output.
        """
        moved: set[Fence] = set()
        for append, position in zip(batch, answers, strict=True):
            watched = self._watched.get(append.fence)
            if watched is None:
                continue
            if position is None:  # its lease has gone to another, and its end will be refused too
                if watched.end is not None:
                    self._pass_on([watched.end])
                del self._watched[append.fence]
                continue
            known = watched.positions[append.stream]
            watched.positions[append.stream] = position
            if position != known:
                moved.add(append.fence)
            if append.piece.dropped_bytes and append.piece.offset < (known or 0):
                watched.gaps_told[append.stream] = append.piece.end
                moved.add(append.fence)
        return moved

    def _plan(self, looked: Sequence[Fence], moved: set[Fence], ended: set[Fence]) -> None:
        """When to look again; of `ended` the end was known before they were looked at."""
        now = self._clock.monotonic_s()
        for fence in looked:
            watched = self._watched.get(fence)
            if watched is None:
                continue
            if watched.end is not None and fence not in ended:
                continue  # it ended meanwhile, and may have written after we looked: look at once
            watched.quiet = 0 if fence in moved else watched.quiet + 1
            if watched.quiet:
                wait_s = LOOK_AGAIN_S[min(watched.quiet, len(LOOK_AGAIN_S)) - 1]
                watched.look_at_s = now + wait_s
                if watched.end is not None:
                    self._give_up(fence, watched)

    def _give_up(self, fence: Fence, watched: _Watched) -> None:
        """Nothing more is in the files of an attempt that has ended, whatever it may have written."""
        assert watched.end is not None
        del self._watched[fence]
        self._pass_on([watched.end])

    def _finish(self, fences: Sequence[Fence]) -> None:
        for fence in fences:
            watched = self._watched.get(fence)
            if watched is not None and watched.end is not None and watched.is_done():
                del self._watched[fence]
                self._pass_on([watched.end])


def _size(append: LogAppend) -> int:
    return len(append.piece.data)
