"""Output: the pipes of an attempt, spliced to files, with a limit and an index.

THE FILES, all in the attempt's directory, all made by the runner (mode 0600), none before the first
byte that needs it:

`stdout`, `stderr`
    The bytes as they came. **The file offset is the logical offset**: byte 7 of the stream is byte 7
    of the file, always. Where bytes were dropped the file has a hole, which reads as zeros; the
    index says where. After the end of the attempt the size of the file is the number of bytes that
    the attempt wrote (`stdout_bytes`, `stderr_bytes` of its end). A stream with no byte has no file.

`index`
    Records of 32 bytes, little-endian, `struct "<qBB6xQQ"`:

        time_ns  int64    nanoseconds since 1970 (the runner's clock)
        stream   uint8    1 = stdout, 2 = stderr
        kind     uint8    0 = unused, 1 = GAP, 2 = TIME
        (6 bytes of padding, zero)
        offset   uint64   in the stream
        length   uint64   bytes

    Records 0..3 are slots for gaps, rewritten in place as the gap grows; unused ones are zero:
    slot 0: dropped for the limit, stdout · slot 1: the same, stderr · slot 2: not kept because the
    disk refused it (full, quota, error), stdout · slot 3: the same, stderr.
    A GAP says that the bytes `offset .. offset+length` of the stream are not kept; `time_ns` is when
    it last grew. A length of OPEN (2**64-1) means: nothing from `offset` on is kept, and the attempt
    still runs (or its runner died).
    Records from 4 on are appended and never rewritten. A TIME says that the byte at `offset` came at
    `time_ns`, in a piece of `length` bytes. There is at most one per stream and 100 ms (the interval
    doubles after each 65,536 records), and none for what comes in the first 100 ms: bytes before the
    first TIME record of their stream came at the start of the attempt, and other bytes at the time
    of the last record at or before them. An attempt whose output all came in its first 100 ms, and
    lost nothing, has no index. If the disk is so full that even the index cannot be written, a file
    ends with what is kept, and is shorter than the number of bytes written.
    A reader ignores a trailing piece of less than 32 bytes and kinds that it does not know.

READING WHILE IT IS WRITTEN: a gap is written to the index *before* its bytes are dropped. A reader
reads data first, then the gap slots, and discards what of its data lies in a gap: then it never takes
the zeros of a hole for bytes of the job.

THE LIMIT `output_limit_bytes` is of the attempt, both streams together. When more is held, the oldest
part of the longer tail is dropped, or of both when they are equally long. The head of a stream is
fixed when it first loses bytes, at half of what it may then keep: so a lone stream keeps half of the
limit from its beginning and half from its end, of two equally busy ones each keeps a quarter and a
quarter, and a quiet stderr beside a flooding stdout keeps all. While the attempt runs
it may hold more by one step (a sixteenth of the limit, within 64 KiB and 16 MiB) and one splice per
stream; at its end the limit holds exactly.

A job is never blocked or ended by its output: what cannot be written is read and dropped, and counted.

Sources: splice(2), fallocate(2) FALLOC_FL_PUNCH_HOLE, pipe(7).
"""

import contextlib
import errno
import os
import struct
import time
from typing import Any, NamedTuple

from . import limits
from .system import punch_hole

RECORD = struct.Struct("<qBB6xQQ")
UNUSED, GAP, TIME = 0, 1, 2
STDOUT, STDERR = 1, 2
OPEN = 2**64 - 1
GAP_SLOTS = 4

_NAMES = {STDOUT: "stdout", STDERR: "stderr"}
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_STREAM_STATE = (
    "pipe",
    "file",
    "total",
    "gap_start",
    "gap_end",
    "failed_at",
    "failure",
    "last_ns",
    "recorded",
)
_SPLICE_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class Record(NamedTuple):
    """One record of an index."""

    time_ns: int
    stream: int
    kind: int
    offset: int
    length: int


def parse_index(data: bytes) -> list[Record]:
    """The used records of an index, in the order of the file; a trailing piece is ignored."""
    whole = len(data) - len(data) % RECORD.size
    records = [Record(*fields) for fields in RECORD.iter_unpack(data[:whole])]
    return [record for record in records if record.kind != UNUSED]


def create_file(name: str, directory_fd: int) -> int:
    """A new empty file of ours in the attempt's directory.

    Whatever a job planted under the name (a link, say) is unlinked, never followed or opened.
    """
    try:
        return os.open(name, _CREATE, 0o600, dir_fd=directory_fd)
    except FileExistsError:
        os.unlink(name, dir_fd=directory_fd)
        return os.open(name, _CREATE, 0o600, dir_fd=directory_fd)


class Index:
    """The writer of one `index` file. Its failures lose timestamps, never output."""

    __slots__ = ("_count", "_directory_fd", "_fd", "_interval_ns")

    def __init__(self, directory_fd: int) -> None:
        self._directory_fd = directory_fd
        self._fd = -1
        self._count = GAP_SLOTS
        self._interval_ns = limits.TIME_RECORD_NS

    def is_due(self, now_ns: int, last_ns: int) -> bool:
        """Whether a time record should be written; a clock that was set back makes one due."""
        return not 0 <= now_ns - last_ns < self._interval_ns

    def add_time(self, stream: int, now_ns: int, offset: int, length: int) -> None:
        """Append a TIME record."""
        if self._write(self._count, Record(now_ns, stream, TIME, offset, length)):
            self._count += 1
            if self._count % limits.TIME_RECORDS_PER_DOUBLING == 0:
                self._interval_ns *= 2

    def set_gap(self, slot: int, stream: int, offset: int, length: int) -> bool:
        """Write a GAP into its slot; False if that cannot be done."""
        return self._write(slot, Record(time.time_ns(), stream, GAP, offset, length))

    def _write(self, position: int, record: Record) -> bool:
        try:
            if self._fd < 0:
                self._fd = create_file("index", self._directory_fd)
            os.pwrite(self._fd, RECORD.pack(*record), position * RECORD.size)
        except OSError:
            return False
        return True

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def handover(self) -> dict[str, int]:
        """What a re-executed runner needs to go on; `resume` takes it."""
        return {"fd": self._fd, "count": self._count, "interval_ns": self._interval_ns}

    def resume(self, state: dict[str, int]) -> None:
        self._fd, self._count = state["fd"], state["count"]
        self._interval_ns = state["interval_ns"]


class Stream:
    """One of stdout and stderr: the read end of its pipe and its file."""

    __slots__ = (
        "_copy",
        "_directory_fd",
        "_index",
        "failed_at",
        "failure",
        "file",
        "gap_end",
        "gap_start",
        "last_ns",
        "number",
        "pipe",
        "recorded",
        "total",
    )

    def __init__(self, number: int, pipe: int, directory_fd: int, index: Index) -> None:
        self.number = number
        self.pipe = pipe
        self.file = -1
        self.total = 0
        """Bytes that came out of the pipe."""
        self.gap_start = self.gap_end = 0
        """What was dropped for the limit."""
        self.failed_at = -1
        """From this offset on nothing is kept, because the disk refused it; -1 while it did not."""
        self.failure = ""
        self.recorded = False
        """Whether the index says so; where it cannot, the file ends at `failed_at`."""
        self.last_ns = 0
        self._copy = False
        self._directory_fd = directory_fd
        self._index = index

    @property
    def held(self) -> int:
        """Bytes that are on disk."""
        end = self.total if self.failed_at < 0 else self.failed_at
        return end - (self.gap_end - self.gap_start)

    @property
    def dropped(self) -> int:
        """Bytes that came and are not on disk."""
        return self.total - self.held

    def pump(self) -> bool:
        """Move one piece from the pipe to the file; False when the pipe has ended."""
        before = self.total
        try:
            moved = self._move()
        except BlockingIOError:
            return True
        if moved == 0:
            return False
        self.total = before + moved
        now_ns = time.time_ns()
        if self._index.is_due(now_ns, self.last_ns):
            self.last_ns = now_ns
            self._index.add_time(self.number, now_ns, before, moved)
        if moved >= limits.FIRST_READ_BYTES:
            grow_pipe(self.pipe)
        return True

    def _move(self) -> int:
        if self.failed_at >= 0:
            return len(os.read(self.pipe, limits.SPLICE_BYTES))
        if self.file < 0 or self._copy:
            return self._copy_piece()
        try:
            return os.splice(
                self.pipe,
                self.file,
                limits.SPLICE_BYTES,
                offset_dst=self.total,
                flags=_SPLICE_FLAGS,
            )
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno == errno.EINVAL:  # a file system without splice
                self._copy = True
            else:
                self._fail(self.total, error)
            return self._move()

    def _copy_piece(self) -> int:
        data = os.read(self.pipe, limits.FIRST_READ_BYTES)
        if not data:
            return 0
        written = 0
        try:
            if self.file < 0:
                self.file = create_file(_NAMES[self.number], self._directory_fd)
            while written < len(data):
                written += os.pwrite(self.file, data[written:], self.total + written)
        except OSError as error:
            self._fail(self.total + written, error)
        return len(data)

    def _fail(self, offset: int, error: OSError) -> None:
        self.failed_at = offset
        self.failure = error.strerror or str(error)
        if not self._record_failure(OPEN) and self.file >= 0:
            # No room for the index: give back the end of what is held. A reader sees a shorter file.
            self.failed_at = max(self.gap_end, offset - limits.GIVEN_BACK_BYTES)
            with contextlib.suppress(OSError):
                os.ftruncate(self.file, self.failed_at)
            self._record_failure(OPEN)

    def _record_failure(self, length: int) -> bool:
        self.recorded = self._index.set_gap(self.number + 1, self.number, self.failed_at, length)
        return self.recorded

    def kept_at(self, level: int) -> int:
        """Bytes that it keeps where no tail may be longer than `level`."""
        if self.gap_end:
            return self.gap_start + min(self.held - self.gap_start, level)
        return min(self.held, 2 * level)

    def keep(self, amount: int) -> None:
        """Drop the oldest of the tail until `amount` bytes are held: say so first, then punch."""
        excess = self.held - amount
        if excess <= 0:
            return
        if not self.gap_end:
            self.gap_start = self.gap_end = amount // 2
        begin, self.gap_end = self.gap_end, self.gap_end + excess
        length = self.gap_end - self.gap_start
        self._index.set_gap(self.number - 1, self.number, self.gap_start, length)
        try:
            punch_hole(self.file, begin, excess)
        except OSError as error:
            self._keep_head_only(begin, error)

    def _keep_head_only(self, end: int, error: OSError) -> None:
        """Where files cannot have holes, only the head is kept."""
        self.gap_end = end
        self._index.set_gap(self.number - 1, self.number, self.gap_start, end - self.gap_start)
        with contextlib.suppress(OSError):
            os.ftruncate(self.file, end)
        self._fail(end, error)

    def close_pipe(self) -> None:
        if self.pipe >= 0:
            os.close(self.pipe)
            self.pipe = -1

    def handover(self) -> dict[str, Any]:
        """What a re-executed runner needs to go on."""
        return {name: getattr(self, name) for name in _STREAM_STATE}

    def resume(self, state: dict[str, Any]) -> None:
        for name in _STREAM_STATE:
            setattr(self, name, state[name])

    def finish(self) -> None:
        """Close all; make the size of the file what was written, and close an open gap."""
        self.close_pipe()
        if self.failed_at >= 0 and self.recorded:
            self._record_failure(self.total - self.failed_at)
            with contextlib.suppress(OSError):
                if self.file < 0:
                    self.file = create_file(_NAMES[self.number], self._directory_fd)
                os.ftruncate(self.file, self.total)
        if self.file >= 0:
            os.close(self.file)
            self.file = -1


class Output:
    """Both streams of an attempt and the limit that they share."""

    __slots__ = ("_step", "index", "limit", "stderr", "stdout")

    def __init__(self, directory_fd: int, pipes: tuple[int, int], limit: int) -> None:
        self.index = Index(directory_fd)
        self.stdout = Stream(STDOUT, pipes[0], directory_fd, self.index)
        self.stderr = Stream(STDERR, pipes[1], directory_fd, self.index)
        self.limit = limit
        step = max(limits.DROP_STEP_LEAST_BYTES, limit // 16)
        self._step = min(limits.DROP_STEP_MOST_BYTES, step)

    def begin(self, now_ns: int) -> None:
        """The process was started at `now_ns`: what comes at once needs no time record."""
        self.stdout.last_ns = self.stderr.last_ns = now_ns

    def pump(self, stream: Stream) -> bool:
        """Move one piece of a stream and keep the limit; False when the stream has ended."""
        goes_on = stream.pump()
        if self.stdout.total + self.stderr.total > self.limit + self._step:
            self._trim(self._step)
        return goes_on

    def is_open(self) -> bool:
        """Whether a pipe may still give bytes."""
        return self.stdout.pipe >= 0 or self.stderr.pipe >= 0

    def _trim(self, slack: int) -> None:
        if self.stdout.held + self.stderr.held - self.limit > slack:
            level = self._tail_level()
            kept = [self.stdout.kept_at(level), self.stderr.kept_at(level)]
            rest = self.limit - sum(kept)  # a byte or two: tails are of equal length
            for number, stream in enumerate((self.stdout, self.stderr)):
                more = min(rest, stream.held - kept[number])
                stream.keep(kept[number] + more)
                rest -= more

    def _tail_level(self) -> int:
        """The longest tail that both streams may have within the limit, by bisection."""
        low, high = 0, self.limit
        while low < high:
            level = (low + high + 1) // 2
            if self.stdout.kept_at(level) + self.stderr.kept_at(level) <= self.limit:
                low = level
            else:
                high = level - 1
        return low

    def finish(self) -> None:
        """Close all; from here on the limit holds exactly."""
        self._trim(0)
        self.stdout.finish()
        self.stderr.finish()
        self.index.close()

    def dropped(self) -> int:
        """Bytes of both streams that are not kept."""
        return self.stdout.dropped + self.stderr.dropped

    def handover(self) -> dict[str, Any]:
        """What a re-executed runner needs; `resume` takes it."""
        return {
            "limit": self.limit,
            "index": self.index.handover(),
            "streams": [self.stdout.handover(), self.stderr.handover()],
        }

    @classmethod
    def resume(cls, directory_fd: int, state: dict[str, Any]) -> "Output":
        """The output that `handover` described."""
        output = cls(directory_fd, (-1, -1), state["limit"])
        output.index.resume(state["index"])
        output.stdout.resume(state["streams"][0])
        output.stderr.resume(state["streams"][1])
        return output

    def complaint(self) -> str:
        """What a person should know about bytes that the disk refused; mostly empty."""
        return " ".join(
            f"{stream.total - stream.failed_at} bytes of {_NAMES[stream.number]} were not kept:"
            f" {stream.failure}."
            for stream in (self.stdout, self.stderr)
            if stream.failed_at >= 0 and stream.total > stream.failed_at
        )


def grow_pipe(pipe: int) -> None:
    """Ask for a larger pipe; the system refuses it to a user who has many (pipe(7))."""
    import fcntl  # noqa: PLC0415  # only for busy streams

    with contextlib.suppress(OSError):
        if fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) < limits.PIPE_BYTES:
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, limits.PIPE_BYTES)


def lost_sizes(directory: str) -> tuple[int, int, int]:
    """stdout_bytes, stderr_bytes and dropped_bytes of an attempt whose runner died."""
    sizes = []
    for name in ("stdout", "stderr"):
        try:
            sizes.append(os.lstat(f"{directory}/{name}").st_size)
        except OSError:
            sizes.append(0)
    dropped = 0
    with contextlib.suppress(OSError):
        fd = os.open(f"{directory}/index", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            records = parse_index(os.read(fd, GAP_SLOTS * RECORD.size))
        finally:
            os.close(fd)
        dropped = sum(r.length for r in records if r.kind == GAP and r.length != OPEN)
    return sizes[0], sizes[1], dropped
