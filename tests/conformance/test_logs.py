"""Output that is kept in the store: appended by position, read back, gone with its job."""

import random

from hypothesis import given
from hypothesis import strategies as st

from jobservice.model.attempt import Fence
from jobservice.model.output import PIECE_BYTES, LogAppend, Piece, Stream
from jobservice.store.port import StopRequest, Store
from tests.conformance.values import at, end, finish, key_of, run

OUT, ERR = Stream.STDOUT, Stream.STDERR


def out(fence: Fence, offset: int, data: bytes = b"", dropped: int = 0) -> LogAppend:
    return LogAppend(fence, OUT, Piece(offset, data, dropped))


async def whole(store: Store, fence: Fence, stream: Stream = OUT) -> list[bytes | int]:
    """All that is kept of a stream: bytes joined, and the sizes of gaps between them."""
    found: list[bytes | int] = []
    offset = 0
    while True:
        piece = await store.read_log(fence.tenant, fence.job_id, fence.attempt, stream, offset)
        assert piece.offset == offset
        if piece.end == offset:
            return found
        if piece.dropped_bytes:
            found.append(piece.dropped_bytes)
        elif found and isinstance(found[-1], bytes):
            found[-1] += piece.data
        else:
            found.append(piece.data)
        offset = piece.end


async def test_pieces_are_kept_in_order_and_read_from_any_position(store: Store) -> None:
    [fence] = await run(store)
    assert await whole(store, fence) == []
    assert await store.append_logs([out(fence, 0, b"abc"), out(fence, 3, b"def")]) == [3, 6]
    error = LogAppend(fence, ERR, Piece(0, b"\0\xff"))
    assert await store.append_logs([out(fence, 6, b"g"), error]) == [7, 2]
    assert await whole(store, fence) == [b"abcdefg"]
    assert await whole(store, fence, ERR) == [b"\0\xff"]
    middle = await store.read_log(fence.tenant, fence.job_id, fence.attempt, OUT, 4)
    assert middle == Piece(4, b"ef")


async def test_what_is_sent_again_is_kept_once(store: Store) -> None:
    [fence] = await run(store)
    assert await store.append_logs([out(fence, 0, b"abc")]) == [3]
    assert await store.append_logs([out(fence, 0, b"abc"), out(fence, 0, b"abcde")]) == [3, 5]
    assert await store.append_logs([out(fence, 2, b"c")]) == [5]
    assert await store.append_logs([out(fence, 9, b"too far")]) == [5]
    assert await store.append_logs([out(fence, 0)]) == [5]
    assert await whole(store, fence) == [b"abcde"]


async def test_a_gap_is_kept_as_one(store: Store) -> None:
    [fence] = await run(store)
    sent = [out(fence, 0, b"head"), out(fence, 4, dropped=1 << 40), out(fence, 4 + (1 << 40), b"t")]
    assert await store.append_logs(sent) == [4, 4 + (1 << 40), 5 + (1 << 40)]
    assert await store.append_logs(sent) == [5 + (1 << 40)] * 3
    assert await whole(store, fence) == [b"head", 1 << 40, b"t"]
    inside = await store.read_log(fence.tenant, fence.job_id, fence.attempt, OUT, 10)
    assert inside == Piece(10, dropped_bytes=(1 << 40) - 6)


async def test_a_stale_fence_appends_nothing(store: Store) -> None:
    first, second = await run(store, 2)
    await store.append_logs([out(first, 0, b"abc")])
    await finish(store, end(first))
    stale = Fence(second.tenant, second.job_id, second.attempt, second.epoch + 1)
    answers = await store.append_logs(
        [out(first, 3, b"d"), out(second, 0, b"x"), out(stale, 1, b"y")]
    )
    assert answers == [None, 1, None]
    assert await whole(store, first) == [b"abc"]
    assert await whole(store, second) == [b"x"]


async def test_output_goes_with_its_job(store: Store) -> None:
    first, second = await run(store, 2)
    await store.append_logs([out(first, 0, b"abc"), out(second, 0, b"def")])
    await store.request_stop([StopRequest(first.tenant, first.job_id, delete=True)], now=at(1))
    await finish(store, end(first))
    assert await store.delete_jobs([key_of(first)], now=at(2)) == [True]
    assert await whole(store, first) == []
    assert await whole(store, second) == [b"def"]


async def test_whatever_is_sent_in_whatever_pieces_comes_out_once(store: Store) -> None:
    [fence] = await run(store)
    chance = random.Random(1)
    data, sure = chance.randbytes(3 * PIECE_BYTES), 0
    while sure < len(data):
        begin = chance.randint(0, sure)
        size = chance.randint(0, PIECE_BYTES)
        [sure_now] = await store.append_logs([out(fence, begin, data[begin : begin + size])])
        assert sure_now is not None
        assert sure_now >= sure
        sure = sure_now
    assert await whole(store, fence) == [data]


@given(st.binary(min_size=1), st.data())
def test_what_is_behind_a_position_is_the_rest(data: bytes, chosen: st.DataObject) -> None:
    piece = Piece(chosen.draw(st.integers(0, 100)), data)
    offset = chosen.draw(st.integers(piece.offset, piece.end - 1))
    assert piece.behind(offset) == Piece(offset, data[offset - piece.offset :])
    assert piece.behind(offset).end == piece.end


async def test_what_is_dropped_later_is_taken_out(store: Store) -> None:
    [fence] = await run(store)
    await store.append_logs([out(fence, 0, b"abcdef"), out(fence, 6, b"ghijkl")])
    assert await store.append_logs([out(fence, 4, dropped=4)]) == [12]
    assert await whole(store, fence) == [b"abcd", 4, b"ijkl"]
    assert await store.append_logs([out(fence, 4, dropped=6), out(fence, 12, b"m")]) == [12, 13]
    assert await whole(store, fence) == [b"abcd", 6, b"klm"]
    assert await store.append_logs([out(fence, 4, dropped=6)]) == [13]
    assert await whole(store, fence) == [b"abcd", 6, b"klm"]
    assert await store.append_logs([out(fence, 4, dropped=20), out(fence, 24, b"z")]) == [24, 25]
    assert await whole(store, fence) == [b"abcd", 20, b"z"]


async def test_a_gap_may_lie_within_one_piece(store: Store) -> None:
    [fence] = await run(store)
    await store.append_logs([out(fence, 0, b"abcdefgh"), LogAppend(fence, ERR, Piece(0, b"err"))])
    await store.append_logs([out(fence, 2, dropped=3)])
    assert await whole(store, fence) == [b"ab", 3, b"fgh"]
    assert await whole(store, fence, ERR) == [b"err"]


async def test_growing_gaps_leave_head_and_tail_whatever_the_pieces(store: Store) -> None:
    [fence] = await run(store)
    chance = random.Random(2)
    data, sure, gap_end = chance.randbytes(4_000), 0, 100
    while sure < len(data):
        size = chance.randint(1, 300)
        await store.append_logs([out(fence, sure, data[sure : sure + size])])
        sure = min(sure + size, len(data))
        if sure > 200:
            gap_end = chance.randint(gap_end, sure)
            await store.append_logs([out(fence, 100, dropped=gap_end - 100)])
    assert await whole(store, fence) == [data[:100], gap_end - 100, data[gap_end:]]
