"""What the service costs while it has nothing to do."""

import os
import re
import time
from pathlib import Path

from bench.report import Ratio, Row, Samples
from bench.service import batch, connected, is_quiet, raw, wait_for
from bench.workplace import Workplace

SETTLE_S = 3.0
WARM_UP_JOBS = 100
_TICKS = os.sysconf("SC_CLK_TCK")


def measure(place: Workplace) -> list[Row]:
    """The share of a core of server and runner, after some jobs and a pause."""
    watched_s = place.amount(25, 10)
    with place.service() as service, connected(service.unix_address) as channel:
        raw(channel, "BatchCreateJobs")(batch(WARM_UP_JOBS, place.stamp))
        wait_for(lambda: is_quiet(channel), 60, "the jobs to end")
        pids = {"server": service.pid, "runner": service.runner_pid()}
        time.sleep(SETTLE_S)
        begin = time.monotonic()
        before = {name: (_cpu_s(pid), _wake_ups(pid)) for name, pid in pids.items()}
        time.sleep(watched_s)
        elapsed = time.monotonic() - begin
        shares, notes = [], []
        for name, pid in pids.items():
            cpu_s, wake_ups = before[name]
            shares.append((_cpu_s(pid) - cpu_s) / elapsed)
            notes.append(
                f"{name}: {100 * shares[-1]:.2f} % of a core, "
                f"{(_wake_ups(pid) - wake_ups) / elapsed:.1f} wake-ups a second, {_memory(pid)}"
            )
    return [
        Row(
            "idle",
            f"CPU of server and runner together, over {watched_s} s",
            Samples([100 * sum(shares)], "% of a core"),
            None,
            Ratio([sum(shares)], required=0.005, percent=True, at_most=True),
            notes,
        )
    ]


def _cpu_s(pid: int) -> float:
    """User and system time of a process, in steps of a tick (10 ms)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _wake_ups(pid: int) -> int:
    """How often its threads have gone to sleep."""
    return sum(
        int(re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", status.read_text(), re.MULTILINE)[0])
        for status in Path(f"/proc/{pid}/task").glob("*/status")
    )


def _memory(pid: int) -> str:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    rss, pss = (
        int(re.findall(rf"^{name}:\s+(\d+)", text, re.MULTILINE)[0]) for name in ("Rss", "Pss")
    )
    return f"{rss / 1024:.0f} MiB resident, of which its share is {pss / 1024:.0f} MiB"
