"""The runner's own account: its journal, read while it is written.

The journal forgets what is over when it is compacted. A reader that keeps the old file open until it
has read the whole of it misses nothing.
"""

import json
from pathlib import Path
from typing import BinaryIO

from jobservice.testing.history.record import Recorder


class JournalFollower:
    """Notes what the runner of a data directory writes into its journal."""

    def __init__(self, data_dir: Path, recorder: Recorder) -> None:
        self._path = data_dir / "runner" / "journal"
        self._recorder = recorder
        self._file: BinaryIO | None = None
        self._inode = 0
        self._rest = b""
        self._told: set[tuple[str, str, str]] = set()
        """What was noted: a compacted journal repeats what is alive."""

    def read(self) -> None:
        """Note what was written since the last time."""
        try:
            newest = self._path.stat().st_ino
        except FileNotFoundError:
            return
        self._read_on()
        if newest != self._inode:
            if self._file is not None:
                self._file.close()
            self._file, self._rest = self._path.open("rb"), b""
            self._inode = newest
            self._read_on()

    def close(self) -> None:
        """Read the rest, and let go of the file."""
        self.read()
        if self._file is not None:
            self._file.close()
            self._file = None
        self._recorder.close()

    def _read_on(self) -> None:
        if self._file is None:
            return
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        for line in lines:
            _, _, body = line.partition(b" ")
            try:
                self._note(json.loads(body))
            except ValueError:
                continue  # damaged: the runner skips it too

    def _note(self, batch: dict[str, list[list[object]]]) -> None:
        for key, *_ in batch.get("intents", ()):
            self._once("intent", str(key), "")
        for key, pid, *_ in batch.get("spawned", ()):
            self._once("spawned", str(key), str(pid), pid=pid)
        for key, cause, _, _, code, signal, *_ in batch.get("ended", ()):
            self._once("ended", str(key), f"{code} {signal}", cause=cause, code=code, signal=signal)

    def _once(self, what: str, key: str, rest: str, **seen: object) -> None:
        if (what, key, rest) not in self._told:
            self._told.add((what, key, rest))
            self._recorder.note(what, key=key, **seen)
