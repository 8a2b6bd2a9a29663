"""From the submit to the start of the process on an idle server, by the process's own clock."""

import time
from pathlib import Path

from bench.bare_server import bare_server
from bench.report import Ratio, Row, Samples, per_round, quantile
from bench.service import Call, connected, create_request, raw, wait_for
from bench.workplace import Workplace

PERIOD_S = 0.02
BLOCK = 100
WARM_UP = 50
STARTED_S = 10.0


def measure(place: Workplace) -> list[Row]:
    """Milliseconds at the middle and at the 99th percentile, of all blocks together."""
    blocks = place.amount(6, 3)
    ours: list[list[float]] = []
    bare: list[list[float]] = []
    with (
        place.service() as service,
        bare_server("spawn", f"unix:{place.path('bare.sock')}") as address,
        connected(service.unix_address) as channel,
        connected(address) as bare_channel,
    ):
        service_call, bare_call = raw(channel, "CreateJob"), raw(bare_channel, "CreateJob")
        for call in (service_call, bare_call):
            _block(place, call, WARM_UP)
        for _ in range(blocks):
            ours.append(_block(place, service_call, BLOCK))
            bare.append(_block(place, bare_call, BLOCK))
    what = f"submit to process start, {blocks * BLOCK} samples"
    return [
        _row("latency", f"{what}, p50 / bare handler", 0.50, 2.5, ours, bare),
        _row("", "… p99 / bare handler", 0.99, 3.5, ours, bare),
    ]


def _row(
    name: str,
    what: str,
    share: float,
    most: float,
    ours: list[list[float]],
    bare: list[list[float]],
) -> Row:
    """The quantile of all samples, between the lowest and highest of a block."""

    def blocks(side: list[list[float]]) -> list[float]:
        return [quantile(block, share) for block in side]

    def together(side: list[list[float]]) -> float:
        return quantile([value for block in side for value in block], share)

    ratio = together(ours) / together(bare)
    ratios = per_round(blocks(ours), blocks(bare))
    return Row(
        name,
        what,
        Samples(blocks(ours), "ms", middle=together(ours)),
        Samples(blocks(bare), "ms", middle=together(bare)),
        Ratio(ratios, required=most, middle=ratio, at_most=True),
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


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
