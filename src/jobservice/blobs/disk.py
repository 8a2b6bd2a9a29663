"""The files of attempts on this host: where they lie, how they are read, how they go.

`ROOT/<shard>/<job>-<attempt>/` holds `stdout`, `stderr`, `index` and `work/`, all made by the
runner; the head of `runner/output.py` describes the formats, and a test holds this reader to that
writer. Shards are the time in an id, about four minutes wide, so that no directory grows without
end. A job may have put anything into its directory: nothing here follows a link.
"""

import asyncio
import contextlib
import errno
import itertools
import os
import shutil
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from jobservice.blobs.port import PIECE_BYTES, Piece, Stream
from jobservice.mutants import mutant

GAP_RECORD = struct.Struct("<qBB6xQQ")
"""One slot of the index: instant, stream, kind, offset, length."""
GAP_SLOTS = 4
GAP = 1
OPEN_END = 2**64 - 1
"""The length of a gap that is not over."""

_PLACE = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_NAMES = {Stream.STDOUT: "stdout", Stream.STDERR: "stderr"}


class AttemptFiles:
    """The directories of attempts below one root."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def directory(self, job_id: str, attempt: int) -> Path:
        """Where the files of an attempt lie; it need not exist."""
        return self._root / job_id[1:7] / f"{job_id}-{attempt}"

    async def read(self, job_id: str, attempt: int, stream: Stream, offset: int) -> Piece:
        """The next piece of output; see `Outputs`."""
        return await asyncio.to_thread(_read, self.directory(job_id, attempt), stream, offset)

    async def gap(self, job_id: str, attempt: int, stream: Stream) -> Piece | None:
        """What of a stream was dropped for the limit until now; None where nothing was."""
        return await asyncio.to_thread(_gap, self.directory(job_id, attempt), stream)

    async def remove(self, jobs: Sequence[tuple[str, int]]) -> list[bool]:
        """Remove every directory of jobs, given with the number of their attempts.

        False for a job of which something is left.
        """
        return await asyncio.to_thread(self._remove, jobs)

    async def discard(self, attempts: Sequence[tuple[str, int]]) -> None:
        """Remove the directories of single attempts."""
        await asyncio.to_thread(self._discard, attempts)

    async def keep_only(self, attempts: Sequence[tuple[str, int]]) -> None:
        """Remove every directory but those of these attempts."""
        await asyncio.to_thread(self._keep_only, frozenset(attempts))

    def _discard(self, attempts: Sequence[tuple[str, int]]) -> None:
        for job_id, attempt in attempts:
            _remove_tree(self.directory(job_id, attempt))
            with contextlib.suppress(OSError):
                self.directory(job_id, attempt).parent.rmdir()

    def _keep_only(self, attempts: frozenset[tuple[str, int]]) -> None:
        kept = {self.directory(*each).name for each in attempts}
        for shard in _within(self._root):
            for directory in _within(shard):
                if directory.name not in kept:
                    _remove_tree(directory)
                    with contextlib.suppress(OSError):
                        shard.rmdir()

    def _remove(self, jobs: Sequence[tuple[str, int]]) -> list[bool]:
        return [self._remove_job(job_id, attempts) for job_id, attempts in jobs]

    def _remove_job(self, job_id: str, attempts: int) -> bool:
        gone = True
        if mutant("delete.leaves_files"):
            return gone
        for attempt in range(1, attempts + 1):
            gone = _remove_tree(self.directory(job_id, attempt)) and gone
        with contextlib.suppress(OSError):
            (self._root / job_id[1:7]).rmdir()
        return gone


def _within(directory: Path) -> list[Path]:
    """What is in a directory; nothing where it is none, or has gone just now."""
    try:
        return list(directory.iterdir())
    except OSError:
        return []


def _remove_tree(top: Path) -> bool:
    """Remove a directory and all in it; False where something is left.

    A job may have taken away rights (the modules that Go keeps are 0555) or nested without end.
    """
    with contextlib.suppress(RecursionError):
        shutil.rmtree(top, ignore_errors=True)
    if _is_gone(top):
        return True
    with contextlib.suppress(OSError), _enter(top.parent) as parent_fd:
        with _enter(top.name, parent_fd) as top_fd:
            _flatten(top_fd)
        os.rmdir(top.name, dir_fd=parent_fd)
    return _is_gone(top)


def _is_gone(path: Path) -> bool:
    try:
        path.lstat()
    except OSError as error:
        return error.errno in {errno.ENOENT, errno.ENOTDIR}
    return False


def _flatten(top_fd: int) -> None:
    """Empty a directory: bring up the directories of those in it, until there is none.

    Only what is directly in it is ever opened, however deep it was; and a crash leaves less than before.
    """
    numbers = itertools.count()
    while entries := _entries(top_fd):
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=top_fd)
                continue
            with _enter(entry.name, top_fd) as below_fd:
                for each in _entries(below_fd):
                    if each.is_dir(follow_symlinks=False):
                        with _enter(each.name, below_fd):  # to be moved, it must be ours
                            free = _free_name(top_fd, numbers)
                            os.rename(each.name, free, src_dir_fd=below_fd, dst_dir_fd=top_fd)
                    else:
                        os.unlink(each.name, dir_fd=below_fd)
            os.rmdir(entry.name, dir_fd=top_fd)


def _entries(directory_fd: int) -> list[os.DirEntry[str]]:
    with os.scandir(directory_fd) as found:
        return list(found)


def _free_name(directory_fd: int, numbers: Iterator[int]) -> str:
    for name in map(str, numbers):
        try:
            os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
        except FileNotFoundError:
            return name
    raise AssertionError("numbers end never")


@contextlib.contextmanager
def _enter(path: Path | str, directory_fd: int | None = None) -> Iterator[int]:
    """A directory, made ours to read and to change; no link to one."""
    with _open(path, _PLACE, directory_fd) as place_fd:
        Path(f"/proc/self/fd/{place_fd}").chmod(0o700)
        with _open(".", _DIRECTORY, place_fd) as descriptor:
            yield descriptor


def _read(directory: Path, stream: Stream, offset: int) -> Piece:
    """Data first, then the gaps: a gap is recorded before its bytes are dropped."""
    with contextlib.ExitStack() as opened:
        try:
            directory_fd = opened.enter_context(_open(directory, _DIRECTORY))
            file_fd = opened.enter_context(_open(_NAMES[stream], _FILE, directory_fd))
        except FileNotFoundError:
            return Piece(offset)
        except OSError as error:
            if error.errno in {errno.ELOOP, errno.ENOTDIR}:
                return Piece(offset)
            raise
        data = _piece(file_fd, offset)
        gaps = _gaps(directory_fd, stream)
    return _outside(gaps, offset, data)


def _gap(directory: Path, stream: Stream) -> Piece | None:
    """The gap of the limit, which has the first slots; what could not be written is behind these."""
    try:
        with _open(directory, _DIRECTORY) as directory_fd:
            gaps = _gaps(directory_fd, stream)
    except OSError:
        return None
    closed = [Piece(offset, dropped_bytes=length) for offset, length in gaps if length != OPEN_END]
    return closed[0] if closed and closed[0].dropped_bytes else None


def _piece(file_fd: int, offset: int) -> bytes:
    """What is there; nothing behind the end, also where no file can reach (EINVAL)."""
    try:
        return os.pread(file_fd, PIECE_BYTES, offset)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return b""
        raise


def _outside(gaps: list[tuple[int, int]], offset: int, data: bytes) -> Piece:
    """The part of the data before the next gap, or the gap that begins here."""
    for begin, length in gaps:
        if begin <= offset < begin + length:
            if length == OPEN_END:
                return Piece(offset)
            return Piece(offset, dropped_bytes=begin + length - offset)
        if offset < begin < offset + len(data):
            data = data[: begin - offset]
    return Piece(offset, data)


def _gaps(directory_fd: int, stream: Stream) -> list[tuple[int, int]]:
    """Offset and length of what the stream lacks."""
    try:
        with _open("index", _FILE, directory_fd) as index_fd:
            slots = os.pread(index_fd, GAP_SLOTS * GAP_RECORD.size, 0)
    except OSError:
        return []
    whole = len(slots) - len(slots) % GAP_RECORD.size
    return [
        (offset, length)
        for _, of_stream, kind, offset, length in GAP_RECORD.iter_unpack(slots[:whole])
        if kind == GAP and of_stream == stream.value
    ]


@contextlib.contextmanager
def _open(path: Path | str, flags: int, directory_fd: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, flags, dir_fd=directory_fd)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
