"""Records: what each observer saw, one JSON object a line, in a file of its own.

Every line has `by` (who saw it), `what`, `at` (nanoseconds of the clock since the boot, which no step
of the wall clock moves) and `boot`. A file is only ever appended to, a line is one write: whoever is
killed leaves at most one torn line, the last.
"""

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Entry = Mapping[str, Any]

_BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC


def boot_time_ns() -> int:
    """Nanoseconds since the boot of the host, suspended time included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Recorder:
    """One observer's file; any number of threads may use it."""

    def __init__(self, folder: Path, by: str) -> None:
        self.by = by
        self._fd = os.open(folder / f"{by}.jsonl", _FLAGS, 0o600)

    def note(self, what: str, **seen: object) -> None:
        """Append one thing that was seen."""
        entry = {"by": self.by, "what": what, "at": boot_time_ns(), "boot": _BOOT, **seen}
        os.write(self._fd, json.dumps(entry, separators=(",", ":")).encode() + b"\n")

    def close(self) -> None:
        """Nothing more is seen."""
        os.close(self._fd)


def read_records(folder: Path) -> Sequence[Entry]:
    """Everything that was seen by everybody, in the order of time.

    Raises:
        ValueError: a line that is not the last of its file makes no sense.
    """
    entries: list[Entry] = []
    for path in sorted(folder.glob("*.jsonl")):
        lines = path.read_bytes().split(b"\n")
        for number, line in enumerate(lines, 1):
            if line:
                try:
                    entries.append(json.loads(line))
                except ValueError:
                    if number < len(lines):
                        raise ValueError(f"{path.name}:{number} is damaged") from None
    return sorted(entries, key=lambda entry: entry["at"])
