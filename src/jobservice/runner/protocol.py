"""What the worker and the runner say to each other, and how it is framed.

A frame is a length (4 bytes, big-endian, at most FRAME_LIMIT_BYTES) and so many bytes of JSON: one
object, whose `type` says what it is. Instants are nanoseconds since 1970, durations seconds, sizes
bytes. The key of an attempt is opaque: the runner only compares it.

worker to runner
    hello     protocol                      first; answered by a hello; nothing is told before it
    start     attempts: [Order, …]          a key that is known is not started again
    stop      keys                          a key that is not known is reported as LOST
    ack       keys                          these ends are on disk elsewhere: forget them
    leash     until: seconds or null        end everything at this instant of CLOCK_BOOTTIME, unless told
                                            another; from then on nothing is started before that;
                                            null: there is none
    upgrade   command: [str, …]             execute this in our place, with `--resume FD` added
    shutdown  stop_jobs: bool               leave when nothing runs; stop what runs, or wait for it

runner to worker
    hello     protocol, software, pid, incarnation, boot_id, containment,
              attempts: [{key, phase, started_at_ns, pid}, …]      all that it knows, ended ones too
    reports   started:  [[key, at_ns, pid], …]
              progress: [[key, at_ns, percent, step], …]
              ended:    [End, …]            repeated on each new connection until acknowledged

Of an attempt `started` comes before `progress` and that before `ended`; the lists of one frame are
meant in this order.

The newest connection is the one that counts; an older one is closed. A frame that makes no sense is
logged and ignored; a length beyond the limit closes the connection, since nothing after it can be
trusted. PROTOCOL grows by one when a message changes its meaning; unknown fields are ignored.
"""

import base64
import json
from typing import Any, NamedTuple

from . import limits

PROTOCOL = 1

_LENGTH_BYTES = 4

Message = dict[str, Any]


class FrameError(Exception):
    """The connection cannot be understood any more."""


def encode(message: Message) -> bytes:
    """One frame."""
    body = json.dumps(message, separators=(",", ":")).encode()
    if len(body) > limits.FRAME_LIMIT_BYTES:
        raise FrameError(f"a frame of {len(body)} bytes is over the limit")
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


class FrameReader:
    """Cuts a byte stream into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message | None]:
        """The messages that are complete now; None for a frame that is no JSON object.

        Raises:
            FrameError: a length is over the limit.
        """
        self._buffer += data
        messages: list[Message | None] = []
        start = 0
        while len(self._buffer) - start >= _LENGTH_BYTES:
            body = start + _LENGTH_BYTES
            length = int.from_bytes(self._buffer[start:body], "big")
            if length > limits.FRAME_LIMIT_BYTES:
                raise FrameError(f"a frame of {length} bytes is over the limit")
            if len(self._buffer) - body < length:
                break
            messages.append(_decode(self._buffer[body : body + length]))
            start = body + length
        del self._buffer[:start]
        return messages


def _decode(body: bytearray) -> Message | None:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


class Order(NamedTuple):
    """What is needed to run one attempt."""

    key: str
    directory: str
    """Absolute, beneath the root of attempts; made by the runner."""
    argv: list[str]
    env: dict[str, str]
    """The job's own variables."""
    fixed_env: dict[str, str]
    """Variables that a job cannot override."""
    stdin: str
    """Base64."""
    work_dir: str | None
    run_timeout_s: float | None
    stop_grace_s: float
    output_limit_bytes: int
    idle_timeout_s: float | None
    """How long it may be silent. None is without a limit, and what an older worker means, or the
    state of an older runner."""


def parse_order(entry: object) -> Order:
    """An order of a start message; ValueError says what is wrong with it."""
    if not isinstance(entry, dict):
        raise ValueError("an order must be an object")  # noqa: TRY004  # one kind for the caller
    order = Order(
        key=_text(entry, "key"),
        directory=_text(entry, "directory"),
        argv=_texts(entry.get("argv")),
        env=_variables(entry.get("env", {})),
        fixed_env=_variables(entry.get("fixed_env", {})),
        stdin=_base64(entry.get("stdin", "")),
        work_dir=None if entry.get("work_dir") is None else _text(entry, "work_dir"),
        run_timeout_s=_seconds(entry.get("run_timeout_s")),
        stop_grace_s=min(_seconds(entry.get("stop_grace_s")) or 0.0, limits.GRACE_LIMIT_S),
        output_limit_bytes=_size(entry.get("output_limit_bytes")),
        idle_timeout_s=_seconds(entry.get("idle_timeout_s")),
    )
    if not order.argv or not order.argv[0]:
        raise ValueError("argv must name a program")
    return order


def parse_keys(message: Message) -> list[str]:
    """The keys of a stop or an ack; what is no key is left out."""
    keys = message.get("keys")
    return [key for key in keys if isinstance(key, str)] if isinstance(keys, list) else []


def _text(entry: Message, name: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"{name} must be a text that is not empty and holds no NUL")
    return value


def _texts(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError("argv must be a list of texts")
    if any("\0" in text for text in value):
        raise ValueError("an argument holds a NUL")
    return value


def _variables(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise ValueError("env must map names to texts")
    for name, text in value.items():
        if not name or "=" in name or "\0" in name or "\0" in text:
            raise ValueError(f"the variable {name!r} has no possible name, or holds a NUL")
    return value


def _base64(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("stdin must be base64")  # noqa: TRY004  # one kind of error for the caller
    base64.b64decode(value, validate=True)
    return value


def _seconds(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e10:
        raise ValueError("a duration must be a number of seconds, not negative")
    return float(value)


def _size(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("output_limit_bytes must be a number of bytes, not negative")
    return value


class End(NamedTuple):
    """How an attempt ended. On the wire and in the journal it is the object of these fields."""

    key: str
    cause: str
    """exit, stop, run_timeout, idle_timeout, launch_failed, lost or silenced."""
    started_at_ns: int | None
    ended_at_ns: int
    exit_code: int | None = None
    signal: int | None = None
    message: str = ""
    cpu_s: float = 0.0
    max_rss_bytes: int = 0
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    dropped_bytes: int = 0
