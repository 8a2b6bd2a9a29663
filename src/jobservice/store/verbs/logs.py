"""Output of live attempts, appended by position.

A gap that reaches back takes out what is kept there: the limit of a job drops the middle of what it
writes, when that was appended long ago.
"""

from collections.abc import Sequence

from jobservice.model.output import LogAppend, Piece
from jobservice.store.verbs.attempts import answers_by_call, find_live
from jobservice.store.verbs.transaction import Row, Transaction

_Of = tuple[str, str, int, int]
"""A stream: tenant, job, attempt, number."""


async def append_logs(
    tx: Transaction, calls: Sequence[Sequence[LogAppend]]
) -> list[list[int | None]]:
    """Keep what of pieces is new."""
    appends = [append for call in calls for append in call]
    live = {n for n, _, _ in await find_live(tx, [append.fence for append in appends])}
    streams = sorted({_stream(appends[n]) for n in live})
    found = await tx.read("find_log_ends", [(n, *stream) for n, stream in enumerate(streams)])
    ends = dict.fromkeys(streams, 0) | {streams[n]: end for n, end in found}
    answers: list[int | None] = [None] * len(appends)
    rows: list[Row] = []
    for n, append in enumerate(appends):
        if n not in live:
            continue
        stream, piece = _stream(append), append.piece
        if piece.dropped_bytes and piece.offset < ends[stream]:
            await tx.write("insert_logs", rows)
            rows = []
            await _drop(tx, stream, piece)
            ends[stream] = max(ends[stream], piece.end)
        elif piece.offset <= ends[stream] < piece.end:
            new = piece.behind(ends[stream])
            data = None if new.dropped_bytes else new.data
            rows.append((*stream, new.offset, new.end, data))
            ends[stream] = new.end
        answers[n] = ends[stream]
    await tx.write("insert_logs", rows)
    return answers_by_call(calls, answers)


async def _drop(tx: Transaction, stream: _Of, gap: Piece) -> None:
    """Take out what is kept between two positions, and keep the gap."""
    for position in (gap.offset, gap.end):
        await tx.write("split_logs", [(*stream, position)])
        await tx.write("cut_logs", [(*stream, position)])
    await tx.write("drop_logs", [(*stream, gap.offset, gap.end)])
    await tx.write("insert_logs", [(*stream, gap.offset, gap.end, None)])


def _stream(append: LogAppend) -> _Of:
    fence = append.fence
    return fence.tenant, fence.job_id, fence.attempt, int(append.stream)
