"""The output of attempts, in pieces by their position in a stream."""

import dataclasses
import enum

from jobservice.model.attempt import Fence


class Stream(enum.IntEnum):
    """A stream of a process. The numbers are those of the wire and of its file descriptors."""

    STDOUT = 1
    STDERR = 2


PIECE_BYTES = 64 * 1024
"""The most that one read returns, and one append brings."""


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """Some output, or a gap in it; empty where there is nothing behind `offset` (yet)."""

    offset: int
    """The position of the first byte in the stream."""
    data: bytes = b""
    dropped_bytes: int = 0
    """So many bytes from `offset` on were over the limit; then there is no data."""

    @property
    def end(self) -> int:
        """Where the next piece begins."""
        return self.offset + len(self.data) + self.dropped_bytes

    def behind(self, offset: int) -> "Piece":
        """What of it is behind a position within it."""
        skipped = offset - self.offset
        if self.dropped_bytes:
            return Piece(offset, dropped_bytes=self.dropped_bytes - skipped)
        return Piece(offset, self.data[skipped:])


@dataclasses.dataclass(frozen=True, slots=True)
class LogAppend:
    """A piece of the output of a live attempt, to be kept where every server can read it."""

    fence: Fence
    stream: Stream
    piece: Piece
    """An empty one asks where the stream ends."""
