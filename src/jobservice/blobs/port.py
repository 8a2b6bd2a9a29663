"""The blob port: the output of attempts, read while it grows and ever after."""

from typing import Protocol

from jobservice.model.output import PIECE_BYTES as PIECE_BYTES
from jobservice.model.output import Piece as Piece
from jobservice.model.output import Stream as Stream


class Outputs(Protocol):
    """Reads what attempts wrote."""

    async def read(self, job_id: str, attempt: int, stream: Stream, offset: int) -> Piece:
        """The next piece from `offset` on, at most `PIECE_BYTES`.

        It does not wait for the process. An attempt that wrote nothing reads as empty.
        """
