"""What the demo prints: lines with the name of their job in front, and a table at the end."""

import os
import sys
import threading
from collections.abc import Sequence

COLOURS = {"archive": 36, "verify": 33, "index": 35, "words": 34, "endless": 31, "search": 32}
BOLD, DIM = 1, 2


class Screen:
    """The terminal, shared by threads. Colours only on a terminal and without NO_COLOR."""

    def __init__(self) -> None:
        self._coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._lock = threading.Lock()

    def say(self, text: str = "") -> None:
        """A line of the demo itself."""
        with self._lock:
            print(self._in(BOLD, text), flush=True)

    def about(self, name: str, text: str) -> None:
        """A line about a job: what became of it."""
        with self._lock:
            print(self._in(COLOURS.get(name, 0), f"{name:>8} ▸ {text}"), flush=True)

    def output(self, name: str, text: str) -> None:
        """A line that a job wrote."""
        with self._lock:
            prefix = self._in(COLOURS.get(name, 0), f"{name:>8} │")
            print(prefix, self._in(DIM, text), flush=True)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Rows in columns that are as wide as their widest cell."""
        widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
        for number, row in enumerate([head, *rows]):
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            line = "  ".join(cells).rstrip()
            print(self._in(BOLD, line) if number == 0 else line, flush=True)

    def _in(self, code: int, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._coloured and code else text
