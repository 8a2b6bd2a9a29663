"""The journal: what a new runner must know when this one dies.

One append-only file of lines, `CRC32 JSON`; each line is one batch and one write(2). There is no
fsync: the journal must survive the death of the runner, not of the host, after which no process of a
job lives anyway and the attempts are lost by their boot id. A line that is damaged is skipped; its
attempts are found by the others, or by their environment. The file is compacted when it is large and
mostly history.

    {"runner": {incarnation, boot_id, directory, data_id, pid, start}}
                                                            first, and after each compaction
    {"intents": [[key, directory], …]}                      BEFORE their processes are started
    {"spawned": [[key, pid, start_ticks, started_at_ns], …]}
    {"ended":   [End, …]}                                   kept until acknowledged
    {"acked":   [key, …]}
"""

import contextlib
import json
import os
import zlib
from typing import Any

from . import limits, log
from .protocol import End

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW


class Entry:
    """What a journal knows of one attempt."""

    __slots__ = ("directory", "end", "pid", "start", "started_at_ns")

    def __init__(self, directory: str = "") -> None:
        self.directory = directory
        self.pid = 0
        self.start = 0
        """Field 22 of /proc/PID/stat; 0 where the cgroup finds the process."""
        self.started_at_ns: int | None = None
        self.end: End | None = None


class Contents:
    """A journal that was read."""

    def __init__(self) -> None:
        self.runner: dict[str, Any] = {}
        self.entries: dict[str, Entry] = {}
        self.damaged = 0
        """Lines that were skipped."""

    def take(self, record: dict[str, Any]) -> None:
        """Apply one line; raises ValueError, TypeError or KeyError where it makes no sense."""
        self.runner.update(record.get("runner", {}))
        for key, directory in record.get("intents", ()):
            self.entries[key] = Entry(directory)
        for key, pid, start, started_at_ns in record.get("spawned", ()):
            entry = self.entries.setdefault(key, Entry())
            entry.pid, entry.start, entry.started_at_ns = pid, start, started_at_ns
        for fields in record.get("ended", ()):
            end = End(*fields)
            self.entries.setdefault(end.key, Entry()).end = end
        for key in record.get("acked", ()):
            self.entries.pop(key, None)


def read(path: str) -> Contents:
    """What is in a journal, as far as it can be read; an absent one is empty."""
    contents = Contents()
    try:
        with open(path, "rb") as file:
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return contents
    for line in lines:
        if not line:
            continue
        try:
            contents.take(_parse(line))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            contents.damaged += 1
    return contents


def _parse(line: bytes) -> dict[str, Any]:
    checksum, _, body = line.partition(b" ")
    if int(checksum, 16) != zlib.crc32(body):
        raise ValueError("the checksum does not match")
    record: dict[str, Any] = json.loads(body)
    return record


def _line(record: dict[str, Any]) -> bytes:
    body = json.dumps(record, separators=(",", ":")).encode()
    return b"%08x %b\n" % (zlib.crc32(body), body)


class Journal:
    """The journal that this runner writes. Buffered by turn: call `flush` before telling anybody."""

    def __init__(
        self, path: str, runner: dict[str, Any], entries: dict[str, Entry], fd: int = -1
    ) -> None:
        self._path = path
        self._runner = runner
        self._entries = entries
        self._pending: dict[str, list[Any]] = {}
        self._size = 0
        self._alive = 0
        """The size after the last compaction: what it cannot become smaller than, then."""
        self._fd = fd
        if fd < 0:
            self._rewrite()
        else:
            self._size = os.fstat(fd).st_size

    def add_intents(self, intents: list[tuple[str, str]]) -> None:
        """Write at once that these attempts are about to be started."""
        for key, directory in intents:
            self._entries[key] = Entry(directory)
        self.flush()
        self._write(_line({"intents": intents}))

    def add_spawned(self, key: str, pid: int, start: int, started_at_ns: int) -> None:
        """An attempt has a process."""
        entry = self._entries[key]
        entry.pid, entry.start, entry.started_at_ns = pid, start, started_at_ns
        self._pending.setdefault("spawned", []).append((key, pid, start, started_at_ns))

    def add_end(self, end: End) -> None:
        """An attempt has ended."""
        self._entries.setdefault(end.key, Entry()).end = end
        self._pending.setdefault("ended", []).append(end)

    def add_acknowledged(self, keys: list[str]) -> None:
        """These attempts need not be known any more."""
        for key in keys:
            self._entries.pop(key, None)
        self._pending.setdefault("acked", []).extend(keys)

    def flush(self) -> bool:
        """Write what was added in this turn; True if there was anything."""
        if not self._pending:
            return False
        pending, self._pending = self._pending, {}
        self._write(_line(pending))
        if self._size > limits.JOURNAL_COMPACT_BYTES + 2 * self._alive:
            self._rewrite()
        return True

    def _write(self, line: bytes) -> None:
        try:
            written = os.write(self._fd, line)
            if written < len(line):  # a full disk: close the torn line, so that only it is lost
                os.write(self._fd, b"\n")
        except OSError as error:
            log.say(f"the journal cannot be written: {error}")
        self._size += len(line)

    def _rewrite(self) -> None:
        """Replace the file by one that holds what is alive; on a full disk keep the long one."""
        data = b"".join(self._snapshot())
        try:
            fd = self._write_draft(data)
        except OSError as error:
            log.say(f"the journal cannot be compacted: {error}")
            self._alive = self._size
            if self._fd < 0:
                self._fd = os.open(self._path, _FLAGS, 0o600)
            return
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._size, self._alive = fd, len(data), len(data)

    def _write_draft(self, data: bytes) -> int:
        draft = f"{self._path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)
        fd = os.open(draft, _FLAGS | os.O_EXCL, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]  # a full disk writes a part and then refuses
            os.rename(draft, self._path)
        except OSError:
            os.close(fd)
            raise
        return fd

    def _snapshot(self) -> list[bytes]:
        entries = self._entries.items()
        batches: dict[str, list[Any]] = {
            "intents": [(key, entry.directory) for key, entry in entries],
            "spawned": [
                (key, entry.pid, entry.start, entry.started_at_ns)
                for key, entry in entries
                if entry.pid
            ],
            "ended": [entry.end for _, entry in entries if entry.end],
        }
        return [_line({"runner": self._runner})] + [
            _line({name: batch[first : first + 100]})
            for name, batch in batches.items()
            for first in range(0, len(batch), 100)
        ]

    def handover(self) -> int:
        """The descriptor, for a re-executed runner; all that was added is written."""
        self.flush()
        return self._fd
