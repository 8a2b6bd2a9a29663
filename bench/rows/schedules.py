"""What schedules that are due at once cost a submit that comes meanwhile, beside an idle service."""

import contextlib
import functools
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import grpc

from bench.report import Ratio, Row, Samples, per_round, quantile
from bench.service import Call, connected, create_request, raw
from bench.workplace import Workplace
from jobservice.wire import messages as pb
from jobservice.wire.stubs import ScheduleServiceStub

SCHEDULES = 10_000
PERIOD_S = 0.02
"""Between two submits."""
EVERY_S = 60
"""Between two times at which all schedules are due."""
AHEAD = 100
"""How many creates are in flight."""
BURST_S = 50.0
SETTLE_S = 2.0


def measure(place: Workplace) -> list[Row]:
    """Milliseconds of `CreateJob`, in the seconds in which all schedules fire, and in quiet ones."""
    count = place.amount(SCHEDULES, 2_000)
    busy: list[list[float]] = []
    quiet: list[list[float]] = []
    took: list[float] = []
    with place.service(slots=0) as service, connected(service.unix_address) as channel:
        _create(channel, count)
        call = raw(channel, "CreateJob")
        with _looking(service.data_dir / "jobservice.db") as looks:
            for _ in place.rounds(3, 1):
                quiet.append(_submit(place, call, lambda: _to_the_burst_s() > SETTLE_S))
                time.sleep(_to_the_burst_s())
                begin = time.monotonic()
                busy.append(_submit(place, call, functools.partial(_is_due, looks, begin)))
                took.append(time.monotonic() - begin)
                time.sleep(SETTLE_S)
    rate = count / statistics.median(took)
    what = f"submit while {count:,} schedules fire / idle"
    note = (
        f"{count:,} schedules were fired in {statistics.median(took):.1f} s, {rate:,.0f} a second"
    )
    return [
        _row("schedules", f"{what}, p50", 0.5, busy, quiet, [note]),
        _row("", "… p99", 0.99, busy, quiet, []),
    ]


def _row(
    name: str,
    what: str,
    share: float,
    busy: list[list[float]],
    quiet: list[list[float]],
    notes: list[str],
) -> Row:
    ours = [quantile(each, share) for each in busy]
    reference = [quantile(each, share) for each in quiet]
    ratio = Ratio(per_round(ours, reference), required=2.0, at_most=True)
    return Row(name, what, Samples(ours, "ms"), Samples(reference, "ms"), ratio, notes)


def _create(channel: grpc.Channel, count: int) -> None:
    """Schedules that are all due at the same instants."""
    stub = ScheduleServiceStub(channel)
    timing = pb.ScheduleTiming()
    timing.every.seconds = EVERY_S
    flying = []
    for number in range(count):
        schedule = pb.Schedule(
            schedule_id=f"s{number}",
            job=pb.Job(command=pb.Command(argv=["/bin/true"])),
            timing=timing,
            overlap=pb.OverlapPolicy.OVERLAP_POLICY_ALLOW,
        )
        flying.append(stub.CreateSchedule.future(pb.CreateScheduleRequest(schedule=schedule)))
        if len(flying) == AHEAD:
            for each in flying:
                each.result()
            flying = []
    for each in flying:
        each.result()


def _to_the_burst_s() -> float:
    return EVERY_S - time.time() % EVERY_S


def _submit(place: Workplace, call: Call, go_on: Callable[[], bool]) -> list[float]:
    """Milliseconds of submits, one each PERIOD_S while `go_on`."""
    took = []
    due = time.monotonic()
    while go_on():
        due = max(due + PERIOD_S, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
        begin = time.perf_counter()
        call(create_request(place.stamp, "x", "y").SerializeToString())
        took.append(1000 * (time.perf_counter() - begin))
    return took


@contextlib.contextmanager
def _looking(path: Path) -> Iterator[apsw.Connection]:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    yield connection
    connection.close()


def _is_due(connection: apsw.Connection, begin: float) -> bool:
    """Whether a schedule of this burst waits to be fired."""
    if time.monotonic() - begin > BURST_S:
        raise TimeoutError("the schedules were not fired in time")
    now_us = int(time.time() * 1_000_000)
    found = connection.execute("SELECT 1 FROM schedules WHERE look_us <= ? LIMIT 1", (now_us,)).get
    return found is not None or time.monotonic() - begin < 0.5
