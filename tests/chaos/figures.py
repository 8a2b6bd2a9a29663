"""Two figures: how fast work goes on after a restart of the database, and what partitions do."""

import bisect
import dataclasses
import random
import shutil
import statistics
import threading
from collections.abc import Sequence
from pathlib import Path

from jobservice.testing.history.check import Outcome, Verdict, check
from jobservice.testing.history.history import History
from jobservice.testing.history.record import Recorder, boot_time_ns
from jobservice.testing.proxy import BLACK_HOLE, CALM
from tests.chaos.cluster import Cluster
from tests.chaos.rounds import observe
from tests.postgres import Postgres

UP_S, DOWN_S = (5.0, 40.0), (0.0, 2.0)
"""How long the database is up, and then down."""
CUT_S, WHOLE_S = (0.0, 120.0), (1.0, 10.0)
"""How long a worker is cut off from all servers, and then not."""
WARM_S = 10.0
SPAN_S = 2.0
"""Over how long a throughput is taken."""
ENOUGH = 0.9
"""The part of the usual throughput that counts as recovered."""
_NS = 1_000_000_000


@dataclasses.dataclass(frozen=True)
class Restarts:
    """A database that is killed and started again under load."""

    seed: int
    verdict: Verdict
    usual: float
    """Jobs that ended per second while nothing was wrong, the median."""
    recovered_s: Sequence[float]
    """After each start: how long until the throughput was nearly the usual one again."""
    cut_short_s: Sequence[float]
    """How long the database was up where it was killed again before that."""


@dataclasses.dataclass(frozen=True)
class Partitions:
    """Workers on other hosts that are cut off now and then."""

    seed: int
    verdict: Verdict
    cut_s: Sequence[float]
    """How long each lasted."""
    lost: int
    """How many attempts were lost by them."""


def measure_restarts(seed: int, restarts: int) -> Restarts:
    """Kill PostgreSQL with all its sessions again and again, while two servers run jobs."""
    chance, back_at = random.Random(seed), list[int]()
    calm: list[tuple[int, int]] = []
    postgres, never = Postgres(), threading.Event()

    def burn(cluster: Cluster, folder: Path) -> None:
        del cluster
        nemesis = Recorder(folder, "nemesis")
        never.wait(WARM_S)
        for _ in range(restarts):
            begun = boot_time_ns()
            never.wait(chance.uniform(*UP_S))
            calm.append((begun, boot_time_ns()))
            postgres.kill()
            nemesis.note("fault", kind="kill database")
            never.wait(chance.uniform(*DOWN_S))
            postgres.start_again()
            back_at.append(boot_time_ns())
        never.wait(UP_S[1] / 2)
        back_at.append(boot_time_ns())

    try:
        seen = observe(seed, postgres, burn, hosts=2, mode="steady")
    finally:
        postgres.close()
    verdict = check(seen.history, least_kills=restarts, least_jobs=1_000)
    _tidy(verdict, seen.folder)
    ends = _ends(seen.history)
    usual = statistics.median(
        rate(ends, begun, end) for begun, end in [(begun + 5 * _NS, end) for begun, end in calm]
        if end > begun
    )  # fmt: skip
    *starts, over = back_at
    recovered, cut_short = [], []
    for at, until in zip(starts, [*starts[1:], over], strict=True):
        found = recovery(ends, at, until, usual)
        if found is None:
            cut_short.append((until - at) / _NS)
        else:
            recovered.append(found)
    return Restarts(seed, verdict, usual, recovered, cut_short)


def _ends(history: History) -> list[int]:
    """When each run came to its end, by the witness."""
    return sorted(run.last_at for run in history.all_runs() if run.code is not None)


def rate(ends: Sequence[int], begun: int, end: int) -> float:
    count = bisect.bisect(ends, end) - bisect.bisect(ends, begun)
    return count / ((end - begun) / _NS)


def recovery(ends: Sequence[int], back_at: int, until: int, usual: float) -> float | None:
    """How long after the return of the database the throughput was that of before, in seconds.

    None where it was not before `until`.
    """
    span, step = int(SPAN_S * _NS), _NS // 10
    for at in range(back_at, until - span, step):
        if rate(ends, at, at + span) >= ENOUGH * usual:
            return (at - back_at) / _NS
    return None


def measure_partitions(seed: int, partitions: int) -> Partitions:
    """Cut workers off, one or two of three at a time, while they run jobs of up to a minute."""
    chance, never = random.Random(seed), threading.Event()
    lasted: list[float] = []
    postgres = Postgres()

    def burn(cluster: Cluster, folder: Path) -> None:
        nemesis = Recorder(folder, "nemesis")
        never.wait(WARM_S)
        for _ in range(partitions):
            cut = chance.sample(cluster.workers, chance.choice([1, 1, 2]))
            seconds = chance.uniform(*CUT_S)
            for each in cut:
                each.set(BLACK_HOLE)
            nemesis.note("fault", kind="partition", hosts=len(cut), seconds=seconds)
            never.wait(seconds)
            for each in cut:
                each.set(CALM)
            lasted.append(seconds)
            never.wait(chance.uniform(*WHOLE_S))

    try:
        seen = observe(seed, postgres, burn, hosts=2, workers=3, servers_run=False, mode="long")
    finally:
        postgres.close()
    verdict = check(seen.history, least_kills=0, least_jobs=50)
    _tidy(verdict, seen.folder)
    lost = sum(
        attempt["state"] == "LOST"
        for job in seen.history.jobs.values()
        for attempt in job["attempts"]
    )
    return Partitions(seed, verdict, lasted, lost)


def _tidy(verdict: Verdict, folder: Path) -> None:
    if verdict.outcome is Outcome.PASSED:
        shutil.rmtree(folder)
    else:
        print(f"{verdict}\nits records are in {folder}", flush=True)  # noqa: T201
