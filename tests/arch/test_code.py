"""Rules about the code that no linter knows."""

import ast
import re
from pathlib import Path

import pytest

from tests.arch import tree

LONGEST_FILE = 600
LONGER_FILES: dict[str, int] = {}
"""Files that are longer, each with the number of lines that it must not exceed."""

MAY_SLEEP = {"src/jobservice/testing/wait.py"}
"""Where a wait for a time, not for a fact, is right."""

NOT_OUR_WORDS = {
    "task": "job", "tasks": "jobs",
    "canceled": "cancelled", "cancelation": "cancellation",
    "aborted": "cancelled",
    "broker": "store", "repository": "store",
    "backend": "executor or store", "driver": "executor",
    "consumer": "worker", "topic": "queue",
    "execution": "attempt", "visibility": "lease", "reservation": "lease",
    "dequeue": "claim", "pick": "claim", "requeue": "retry",
    "workflow": "graph", "recurring": "schedule", "periodic": "schedule",
}  # fmt: skip
"""One word for one thing: the word that is ours beside each that is not. See docs/glossary.md."""

OTHERS_WORDS = {"TaskGroup", "create_task"}
"""Names that are not ours to choose."""


@pytest.mark.parametrize(
    "path", tree.python_files("src", "tests", "bench", "demo", "tools"), ids=str
)
def test_a_file_can_be_read_in_one_sitting(path: Path) -> None:
    name = str(path.relative_to(tree.ROOT))
    lines = len(path.read_text().splitlines())
    assert lines <= LONGER_FILES.get(name, LONGEST_FILE), f"{name} has {lines} lines: split it"


def sleeps(path: Path) -> list[int]:
    """The lines that sleep for more than no time at all."""
    found = []
    for node in ast.walk(tree.parse(path)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        zero = bool(node.args) and ast.unparse(node.args[0]) == "0"
        if name in {"time.sleep", "asyncio.sleep", "sleep"} and not zero:
            found.append(node.lineno)
    return found


def test_tests_wait_for_facts_and_not_for_seconds() -> None:
    offenders = [
        f"{path.relative_to(tree.ROOT)}:{line}"
        for path in tree.python_files("tests", "src/jobservice/testing")
        if str(path.relative_to(tree.ROOT)) not in MAY_SLEEP
        for line in sleeps(path)
    ]
    assert not offenders, "wait for a condition (jobservice.testing), not for a time"


def public_names(path: Path) -> set[str]:
    """What a module defines for others: classes, functions, attributes, constants, parameters."""
    names = {path.stem}
    for node in ast.walk(tree.parse(path)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return {name for name in names if not name.startswith("_")} - OTHERS_WORDS


def proto_names(text: str) -> set[str]:
    """What a proto file defines: messages, enums, services, RPCs, fields and values."""
    code = re.sub(r"//.*|\"(\\.|[^\"\\])*\"", "", text)
    defined = re.findall(r"\b(?:message|enum|service|rpc) (\w+)", code)
    fields = re.findall(r"(\w+) = \d+", code)
    return {*defined, *fields}


def test_one_word_for_one_thing() -> None:
    named = {
        str(path.relative_to(tree.ROOT)): public_names(path) for path in tree.python_files("src")
    }
    for path in sorted((tree.ROOT / "proto" / "jobservice").rglob("*.proto")):
        named[str(path.relative_to(tree.ROOT))] = proto_names(path.read_text())
    offenders = [
        f"{where}: {name}: say {NOT_OUR_WORDS[word]}"
        for where, names in named.items()
        for name in sorted(names)
        for word in tree.words(name)
        if word in NOT_OUR_WORDS
    ]
    assert not offenders


# Written so that this file does not hold what it looks for.
NOWHERE = {
    "a registry's address": (
        r"pypi[.]org|pythonhosted[.]|registry[.]npmjs|proxy[.]golang|--(?:extra-)?index-url"
    ),
    "a path of one machine": r"(?<![\w./-])/(?:root|home/\w+|Users/\w+|work)/",
    "a word with one l": r"\b[Cc]anceled\b|\bCANCELED\b",
    "a mark of an unfinished merge": r"^(?:<{7}|>{7}) ",
    "a nameless reminder": r"\b(?:TODO|FIXME|XXX)\b(?!\(#\d+\):)",
}


@pytest.mark.parametrize("what", NOWHERE)
def test_no_file_holds(what: str) -> None:
    pattern = re.compile(NOWHERE[what], re.MULTILINE)
    this = Path(__file__).resolve()
    offenders = [
        f"{path.relative_to(tree.ROOT)}: {found.group()!r}"
        for path, text in tree.texts()
        if path != this
        for found in pattern.finditer(text)
    ]
    assert not offenders
