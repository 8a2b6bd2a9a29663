"""The plans of queries as they are kept in files, so that an index that is lost or no longer used shows.

A file has one section for each query by name: what the query reads, over which index, by which
conditions, and what is sorted. Costs, numbers of rows and what differs between versions are left out.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path

import pytest

from jobservice.clock import EPOCH
from jobservice.model.filter import parse
from jobservice.model.lifecycle import FINAL, State
from jobservice.model.operation import Place
from jobservice.store.lists import Dialect, _digest, list_of, targets_of
from jobservice.store.port import JobQuery, Order
from jobservice.store.rows import cursor_token

TABLES = {
    "arrays",
    "array_items",
    "jobs", "job_specs", "attempts", "events", "progress", "tombstones", "requests", "queues",
    "job_keys", "limits", "shares", "schedules", "schedule_runs",
    "dependents", "dependencies", "unsettled", "operations", "feed",
    "workers", "logs", "lead", "left_files",
}  # fmt: skip
FOLDER = Path(__file__).parent / "plans"
RENEW = "--renew-plans"
NOTHING = "reads no table"
TENANT = "t"
PARTS = {
    "list_basic", "list_full", "list_ids", "walk_active", "walk_closed", "walk_live", "walk_ended",
}  # fmt: skip
"""What `lists.py` puts together: the plans of lists are those of what comes of it."""

_LISTS = {
    "created, oldest first": (Order.CREATED_ASC, frozenset(State)),
    "created, newest first": (Order.CREATED_DESC, frozenset(State)),
    "created, final": (Order.CREATED_DESC, FINAL),
    "created, active": (Order.CREATED_ASC, frozenset(State) - FINAL),
    "created, queued": (Order.CREATED_DESC, frozenset({State.QUEUED})),
    "created, running": (Order.CREATED_DESC, frozenset({State.RUNNING})),
    "history": (Order.ENDED_DESC, FINAL),
    "history, failed": (Order.ENDED_DESC, frozenset({State.FAILED})),
}
_TARGETS = {
    "all": "*",
    "queued": "state = QUEUED",
    "failed": "state = FAILED",
    "of an array": "array_job_id = j1 AND state = FAILED",
}


def lists(dialect: Dialect) -> dict[str, str]:
    """The statements of pages, which `lists.py` puts together, by the names of their sections."""
    found = {}
    filter_ = parse("(name = n* OR labels.a < b) AND NOT (end_time:* AND exit_code > 1)")
    for name, (order, states) in _LISTS.items():
        plain = JobQuery(TENANT, order, states)
        filtered = JobQuery(
            TENANT, order, states, queue="q", name="n", labels={"a": "b"}, filter=filter_, full=True
        )
        for what, query in (("", plain), (", filtered", filtered)):
            for place, token in (("", None), (", behind", cursor_token(_digest(query), 1, "j"))):
                page = list_of(dialect, query, 20, token)
                assert page is not None
                found[f"list: {name}{what}{place}"] = page.page
                found[f"end of list: {name}{place}"] = page.end
    for name, text in _TARGETS.items():
        query = JobQuery(
            TENANT, Order.CREATED_ASC, frozenset(State), filter=parse(text), created_before=EPOCH
        )
        for place, behind in (("", None), (", behind", Place(EPOCH, "j"))):
            targets = targets_of(dialect, query, behind, 20)
            assert targets is not None
            found[f"targets: {name}{place}"] = targets.page
            found[f"end of targets: {name}{place}"] = targets.end
    return found


def written(plans: Mapping[str, list[str]]) -> str:
    """The text of a file."""
    sections = [
        "\n".join([f"-- {name}", *(lines or [NOTHING])]) + "\n"
        for name, lines in sorted(plans.items())
    ]
    return "\n".join(sections)


def sections(name: str) -> dict[str, list[str]]:
    """The plans that are kept of a store."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in (FOLDER / f"{name}.txt").read_text("utf-8").splitlines():
        if line.startswith("-- "):
            lines = found[line.removeprefix("-- ")] = []
        elif line and line != NOTHING:
            lines.append(line)
    return found


def difference(name: str, plans: Mapping[str, list[str]]) -> str:
    """How plans differ from those in the file of a store, for people; empty where they do not."""
    path = FOLDER / f"{name}.txt"
    kept = path.read_text("utf-8").splitlines() if path.exists() else []
    lines = difflib.unified_diff(
        kept,
        written(plans).splitlines(),
        f"{path.name}, as kept",
        "as planned now",
        n=6,
        lineterm="",
    )
    return "\n".join(lines)


def compare(name: str, plans: Mapping[str, list[str]], config: pytest.Config) -> None:
    """Hold plans to the file of a store, or, if the run of the tests is told so, write it anew."""
    if config.getoption(RENEW):
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / f"{name}.txt").write_text(written(plans), "utf-8")
    if changed := difference(name, plans):
        pytest.fail(
            f"Queries are planned in another way:\n{changed}\n"
            f"If that is what you want, `pytest tests/store -k kept {RENEW}` writes the file anew;"
            " look at what it changes before you commit it.",
            pytrace=False,
        )
