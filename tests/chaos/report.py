"""The report of `make chaos`: docs/reliability.md, written anew by each run."""

import collections
import datetime as dt
import importlib.metadata
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path

import apsw

from jobservice.testing.history.check import INVARIANTS, Verdict
from tests.chaos.figures import Partitions, Restarts
from tests.chaos.rounds import Result

REPORT = Path(__file__).parents[2] / "docs" / "reliability.md"
_PACKAGES = ("jobservice", "grpcio", "protobuf", "apsw", "asyncpg", "uvloop")
_HEAD = """\
# What held under fire

`make chaos` wrote this page. It runs real services over both stores while a seeded nemesis kills
servers, runners, the database and its sessions with SIGKILL, at random and at failpoints, freezes
processes, some of them for longer than a lease, spoils the network between clients, servers,
workers and database, and steps the wall clock of servers. Over PostgreSQL three servers and one or
two workers on other hosts run the jobs. Two client processes use everything at once meanwhile.
Clients, runners, the store and a witness inside each job record what they see, and [a
checker](reference/testing.md#jobservicetestinghistory) says whether all of it can be true. What
is promised: [durability](explanation/durability.md).

What it does not show: the loss of power, since a killed process leaves its writes in the page
cache (the tests of the stores lose unsynced writes on purpose); and hosts that are apart: all of
it is one host, and its network a proxy.
"""


def write_report(
    results: Sequence[Result], restarts: Restarts | None, partitions: Partitions | None
) -> None:
    """Write the page."""
    sections = [*_totals(results), *_figures(restarts, partitions), *_rounds(results)]
    REPORT.write_text("\n".join([_HEAD, *sections]))


def _totals(results: Sequence[Result]) -> Iterable[str]:
    verdicts = [each.verdict for each in results]
    findings = sum(len(found) for each in verdicts for found in each.findings.values())
    yield "## The last run\n"
    yield _table(
        ("figure", "value"),
        [
            ("kills", f"{sum(each.kills for each in verdicts):,}"),
            ("jobs", f"{sum(each.jobs for each in verdicts):,}"),
            ("attempts that the witness saw", f"{sum(each.runs for each in verdicts):,}"),
            ("calls of clients", f"{sum(each.calls for each in verdicts):,}"),
            ("findings", f"{findings:,}"),
            ("duration", f"{sum(each.seconds for each in results) / 60:.0f} min"),
            ("on", dt.datetime.now(dt.UTC).strftime("%Y-%m-%d")),
            ("host", f"{os.cpu_count()} cores, {platform.system()} {platform.release()}"),
            ("versions", _versions()),
        ],
    )
    yield "## Faults by kind\n"
    faults: collections.Counter[str] = collections.Counter()
    for each in verdicts:
        faults.update(each.faults)
    yield _table(("fault", "times"), [(kind, f"{n:,}") for kind, n in sorted(faults.items())])


def _figures(restarts: Restarts | None, partitions: Partitions | None) -> Iterable[str]:
    if restarts is not None:
        verdict, again, short = restarts.verdict, restarts.recovered_s, restarts.cut_short_s
        yield "## PostgreSQL killed and started under load\n"
        yield "Up for 5 to 40 s, down for up to 2 s; two servers with jobs that end at once.\n"
        yield _table(
            ("figure", "value"),
            [
                ("restarts", str(len(again) + len(short))),
                ("jobs", f"{verdict.jobs:,}"),
                ("findings", _findings(verdict)),
                ("usual throughput", f"{restarts.usual:.0f} jobs/s"),
                ("90 % of it again after", f"{max(again, default=0):.1f} s at the longest"),
                ("killed again before that", _cut_short(short)),
                ("seed", str(restarts.seed)),
            ],
        )
    if partitions is not None:
        verdict = partitions.verdict
        yield "## Three workers cut off\n"
        yield (
            "Two servers on one PostgreSQL, three remote workers, each behind a network of its own; one "
            "or two of them\nare cut off from all servers for up to 120 s while they run jobs of up to "
            "a minute. That two attempts of a job\nlive at once would be seen by the lock of the "
            "witness.\n"
        )
        yield _table(
            ("figure", "value"),
            [
                ("partitions", str(len(partitions.cut_s))),
                ("the longest", f"{max(partitions.cut_s):.0f} s"),
                ("jobs", f"{verdict.jobs:,}"),
                ("attempts lost, and run again", f"{partitions.lost:,}"),
                ("findings", _findings(verdict)),
                ("seed", str(partitions.seed)),
            ],
        )


def _cut_short(up_s: Sequence[float]) -> str:
    if not up_s:
        return "never"
    return f"{len(up_s)} times, up for {max(up_s):.1f} s at the longest"


def _findings(verdict: Verdict) -> str:
    return str(sum(len(found) for found in verdict.findings.values()))


def _rounds(results: Sequence[Result]) -> Iterable[str]:
    yield "## Invariants\n"
    yield _table(("invariant", "what it says", "findings"), list(_invariants(results)))
    yield "## Rounds\n"
    yield "A round is run again with `make chaos SEED=… STORE=… KILLS=50 JOBS=5000`.\n"
    yield _table(
        ("store", "servers", "workers", "seed", "kills", "jobs", "duration", "verdict"),
        [
            (
                each.plan.store,
                str(each.plan.hosts),
                str(each.plan.workers),
                str(each.plan.seed),
                f"{each.verdict.kills:,}",
                f"{each.verdict.jobs:,}",
                f"{each.seconds:.0f} s",
                each.verdict.outcome.value,
            )
            for each in results
        ],
    )
    told = [
        (str(each.plan.seed), name, text.replace("|", "\\|"))
        for each in results
        for name, found in each.verdict.findings.items()
        for text in found[:3]
    ]
    if told:
        yield "## Findings\n"
        yield _table(("seed", "invariant", "what was found"), told)


def _invariants(results: Sequence[Result]) -> Iterable[tuple[str, str, str]]:
    for each in INVARIANTS:
        found = sum(len(result.verdict.findings.get(each.__name__, ())) for result in results)
        text = (each.__doc__ or "").splitlines()[0]
        yield each.__name__.replace("_", " "), text, str(found)


def _versions() -> str:
    named = [f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES]
    named.append(f"SQLite {apsw.sqlite_lib_version()}")
    named.append(f"CPython {platform.python_version()}")
    return ", ".join(named)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, ""])
