"""The blob port: the output of attempts, read while it grows and ever after."""

import dataclasses
import enum
from typing import Protocol


class Stream(enum.IntEnum):
    """A stream of a process. The numbers are those of the wire and of its file descriptors."""

    STDOUT = 1
    STDERR = 2


PIECE_BYTES = 64 * 1024
"""The most that one read returns."""


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


class Outputs(Protocol):
    """Reads what attempts wrote."""

    async def read(self, job_id: str, attempt: int, stream: Stream, offset: int) -> Piece:
        """The next piece from `offset` on, at most `PIECE_BYTES`.

        It does not wait for the process. An attempt that wrote nothing reads as empty.
        """
