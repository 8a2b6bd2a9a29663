"""Reads the `console` blocks of a document and runs them as a reader would.

A line that begins with `$ ` is a command, up to `END` if it feeds itself until there; the lines
below it, up to the next one, are what it prints. In them `…` stands for anything, and ids, times and
the size of blanks are not compared. All commands of a document run in one shell, one after the
other. A command that begins with `jobservice serve` is the reader's other terminal: it goes on until
the document is over.
"""

import dataclasses
import re
from pathlib import Path

BLOCK = re.compile(
    r"^(?P<skip><!-- not run: [^\n]+ -->\n)?```console\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL
)
MARK = "\x1e"
"""Separates what the commands print."""


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One command and what it should print."""

    command: str
    expected: str

    @property
    def is_server(self) -> bool:
        """Whether this is the other terminal."""
        return self.command.startswith("jobservice serve")


def steps_of(document: Path) -> list[Step]:
    """The commands of a document that can be run, in order."""
    steps = []
    for block in BLOCK.finditer(document.read_text()):
        if block["skip"]:
            continue
        for part in re.split(r"^\$ ", block["body"], flags=re.MULTILINE)[1:]:
            lines = part.splitlines()
            end = lines.index("END") + 1 if "<<'END'" in lines[0] else 1
            steps.append(Step("\n".join(lines[:end]), "\n".join(lines[end:])))
    return steps


def script_of(steps: list[Step]) -> str:
    """A shell script that runs the steps, marks where each ends, and leaves `$?` to the next."""
    lines = []
    for step in steps:
        lines += [step.command, f"code=$?; printf '{MARK}'; (exit $code)"]
    return "\n".join(lines)


def pattern_of(expected: str) -> re.Pattern[str]:
    """What the printed text must match: `…` is anything, blanks, ids and numbers of time vary."""
    text = re.escape(" ".join(expected.split()))
    text = re.sub(r"\b([jo])[0-9a-v]{26}\b", r"\1[0-9a-v]{26}", text)
    text = re.sub(r"\d{4}\\-\d\d\\-\d\dT[\d:.]+Z", r"\\S+Z", text)
    text = re.sub(r"(\\ )?…(\\ )?", lambda _: ".*?", text).replace("\\ ", r"\s+")
    return re.compile(rf"\s*{text}\s*", re.DOTALL)
