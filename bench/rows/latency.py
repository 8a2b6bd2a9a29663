"""From the submit to the start of the process on an idle server, by the process's own clock."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

from bench.bare_server import bare_server
from bench.report import Ratio, Row, Samples, per_round, quantile
from bench.service import Call, connected, create_request, raw, wait_for
from bench.workplace import Workplace

PERIOD_S = 0.02
BLOCK = 100
WARM_UP = 50
STARTED_S = 10.0
SYNCS = 50
_Blocks = list[list[float]]
_Sides = tuple[_Blocks, _Blocks]
"""Ours and the bare handler's, in milliseconds."""


def measure(place: Workplace) -> list[Row]:
    """Milliseconds at the middle and at the 99th percentile, of all blocks together."""
    syncs: list[float] = []
    ours: _Blocks = []
    bare: _Blocks = []
    with (
        place.service() as service,
        bare_server("spawn", f"unix:{place.path('bare.sock')}") as address,
        connected(service.unix_address) as channel,
        connected(address) as bare_channel,
    ):
        service_call, bare_call = raw(channel, "CreateJob"), raw(bare_channel, "CreateJob")
        for call in (service_call, bare_call):
            _block(place, call, WARM_UP)
        for _ in place.rounds(6, 3):
            ours.append(_block(place, service_call, BLOCK))
            bare.append(_block(place, bare_call, BLOCK))
            syncs += _syncs_ms(place.path("syncs"))
    what = f"submit to process start, {len(ours) * BLOCK} samples"
    note = (
        f"a bare write and fdatasync took {quantile(syncs, 0.5):.2f} ms in the middle and "
        f"{quantile(syncs, 0.99):.2f} ms at p99 between the blocks; ours waits for two commits, the "
        "bare handler for none"
    )
    return [
        _row("latency", f"{what}, p50 / bare handler", 0.50, 2.5, (ours, bare), [note]),
        _row("", "… p99 / bare handler", 0.99, 3.5, (ours, bare)),
    ]


def _row(
    name: str, what: str, share: float, most: float, sides: _Sides, notes: Sequence[str] = ()
) -> Row:
    """The quantile of all samples, between the lowest and highest of a block."""
    ours, bare = sides

    def blocks(side: _Blocks) -> list[float]:
        return [quantile(block, share) for block in side]

    def together(side: _Blocks) -> float:
        return quantile([value for block in side for value in block], share)

    ratio = together(ours) / together(bare)
    ratios = per_round(blocks(ours), blocks(bare))
    return Row(
        name,
        what,
        Samples(blocks(ours), "ms", middle=together(ours)),
        Samples(blocks(bare), "ms", middle=together(bare)),
        Ratio(ratios, required=most, middle=ratio, at_most=True),
        notes,
    )


def _block(place: Workplace, call: Call, count: int) -> list[float]:
    """Milliseconds from right before the call to the first instruction of the program."""
    starts = place.path("starts")
    due = time.monotonic()
    for _ in range(count):
        due += PERIOD_S
        time.sleep(max(0.0, due - time.monotonic()))
        sent = time.time_ns()
        call(create_request(place.stamp, str(starts), str(sent)).SerializeToString())
    wait_for(lambda: len(_lines(starts)) == count, STARTED_S, "the processes to start")
    return [(int(started) - int(sent)) / 1e6 for sent, started in map(str.split, _lines(starts))]


def _syncs_ms(path: Path) -> list[float]:
    """How long the disk takes to make a page durable just now."""
    took = []
    with path.open("wb", buffering=0) as file:
        for _ in range(SYNCS):
            begin = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            took.append(1000 * (time.perf_counter() - begin))
    return took


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
