"""Runs the rows that are asked for, prints the table, and keeps the last full one."""

import argparse
import contextlib
import datetime as dt
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench import machine
from bench.report import Row, notes, table
from bench.rows import (
    arrays,
    claim,
    history,
    idle,
    latency,
    limits,
    postgres_claim,
    postgres_drain,
    postgres_submit,
    schedules,
    spawn,
    submit_batch,
    submit_unary,
)
from bench.workplace import Workplace

RESULTS = Path(__file__).with_name("RESULTS.md")
ROWS: Mapping[str, Callable[[Workplace], list[Row]]] = {
    "submit_batch": submit_batch.measure,
    "submit_unary": submit_unary.measure,
    "spawn_32": spawn.measure_32,
    "spawn_2": spawn.measure_2,
    "latency": latency.measure,
    "idle": idle.measure,
    "claim": claim.measure,
    "history": history.measure,
    "limits": limits.measure,
    "schedules": schedules.measure,
    "arrays": arrays.measure,
    "postgres_submit": postgres_submit.measure,
    "postgres_drain": postgres_drain.measure,
    "postgres_claim": postgres_claim.measure_claim,
    "postgres_held": postgres_claim.measure_held,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 when everything was measured, whatever came out."""
    options = _parse(arguments)
    chosen = _chosen(options.rows)
    begin = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=options.dir))
    try:
        about = machine.describe(directory)
        print("\n".join(about), flush=True)
        if machine.file_system(directory) in machine.IN_MEMORY:
            print("This file system is in memory: commits cost nothing here. Choose with --dir.")
        with contextlib.closing(Workplace(directory, options.quick, options.profile)) as place:
            rows = _measure(chosen, place)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    text = f"{table(rows)}\n\n{notes(rows)}"
    print(f"\n{text}\n\ntook {time.monotonic() - begin:.0f} s")
    if len(chosen) == len(ROWS) and not options.quick and not options.profile:
        _keep(about, text)
    return 0


def _measure(chosen: Sequence[str], place: Workplace) -> list[Row]:
    rows = []
    for name in chosen:
        print(f"{name} …", file=sys.stderr, flush=True)
        rows += ROWS[name](place)
    return rows


def _keep(about: Sequence[str], text: str) -> None:
    """Write the table down for the next one to be compared with."""
    day = dt.datetime.now(dt.UTC).date()
    lines = "\n".join(f"- {line}" for line in about)
    RESULTS.write_text(
        f"# The last full run of `make bench`\n\nOn {day}, on a shared machine: read the ratios "
        f"and the load, and see [README.md](README.md).\n\n{lines}\n\n{text}\n"
    )


def _chosen(prefixes: Sequence[str]) -> list[str]:
    """The rows whose names begin with one of these; all when there are none."""
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in ROWS):
            raise SystemExit(f"There is no row {prefix!r}; the rows are {', '.join(ROWS)}.")
    return [name for name in ROWS if not prefixes or name.startswith(tuple(prefixes))]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench/run.py", description="Measure the service beside what this machine can do."
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}, or a prefix")
    parser.add_argument("--quick", action="store_true", help="less of everything, about a minute")
    parser.add_argument("--dir", type=Path, help="where data goes, a real disk [the system's]")
    parser.add_argument(
        "--profile",
        action="store_true",
        help="also sample where server and runner spend their time",
    )
    return parser.parse_args(arguments)
