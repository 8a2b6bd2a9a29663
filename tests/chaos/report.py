"""The report of `make chaos`: docs/reliability.md, written anew by each run."""

import collections
import datetime as dt
import importlib.metadata
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path

import apsw

from jobservice.testing.history.check import INVARIANTS
from tests.chaos.rounds import Result

REPORT = Path(__file__).parents[2] / "docs" / "reliability.md"
_PACKAGES = ("jobservice", "grpcio", "protobuf", "apsw", "asyncpg", "uvloop")
_HEAD = """\
# What held under fire

`make chaos` wrote this page. It runs real services over both stores while a seeded nemesis kills
servers, runners, the database and its sessions with SIGKILL, at random and at failpoints, freezes
processes, spoils the network between clients, servers and database, and steps the wall clock of
servers. Two client processes use everything at once meanwhile. Clients, runners, the store and a
witness inside each job record what they see, and [a
checker](reference/testing.md#jobservicetestinghistory) says whether all of it can be true. What
is promised: [durability](explanation/durability.md).

What it does not show: the loss of power, since a killed process leaves its writes in the page
cache (the tests of the stores lose unsynced writes on purpose); and hosts that are apart: all of
it is one host, and its network a proxy.
"""


def write_report(results: Sequence[Result]) -> None:
    """Write the page."""
    REPORT.write_text("\n".join([_HEAD, *_sections(results)]))


def _sections(results: Sequence[Result]) -> Iterable[str]:
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
    yield "## Invariants\n"
    yield _table(("invariant", "what it says", "findings"), list(_invariants(results)))
    yield "## Rounds\n"
    yield "A round is run again with `make chaos SEED=… STORE=… KILLS=50 JOBS=5000`.\n"
    yield _table(
        ("store", "servers", "seed", "kills", "jobs", "duration", "verdict"),
        [
            (
                each.plan.store,
                str(each.plan.hosts),
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
