"""The data directory: one server at a time, and an identity that survives restarts."""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from jobservice import __version__
from jobservice.config import HostSettings
from jobservice.errors import SetupError
from jobservice.model.placements import amount_of, pairs_of, resources_of
from jobservice.model.worker import WorkerInfo

SOCKET_PATH_BYTES = 107
"""What fits into a Unix socket's address (unix(7))."""


def prepare(data_dir: Path, socket_path: Path) -> None:
    """Make the data directory, for its owner alone, and check that its socket can be bound.

    Raises:
        SetupError: it cannot be made or used, or its path is too long.
    """
    length = len(os.fsencode(socket_path))
    if length > SOCKET_PATH_BYTES:
        raise SetupError(
            f"The socket path {socket_path} has {length} bytes; a Unix socket takes "
            f"{SOCKET_PATH_BYTES}. Choose a shorter --data-dir."
        )
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        data_dir.chmod(0o700)
    except OSError as error:
        raise SetupError(
            f"The data directory {data_dir} cannot be used: {error.strerror}."
        ) from error


class Lock:
    """The data directory is ours. The lock file says to others who holds it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def announce(self, addresses: Sequence[str]) -> None:
        """Write down who and where this server is."""
        content = json.dumps({"pid": os.getpid(), "addresses": list(addresses)}).encode()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, content, 0)


@contextlib.contextmanager
def locked(data_dir: Path) -> Iterator[Lock]:
    """Hold the data directory alone; the kernel lets go of it when the process ends, however.

    Raises:
        SetupError: another server holds it; the message names that one.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(data_dir / "lock", flags, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SetupError(_held_by(data_dir, os.pread(descriptor, 4096, 0))) from None
        lock = Lock(descriptor)
        lock.announce(())
        yield lock
    finally:
        os.close(descriptor)


def worker_id(data_dir: Path) -> str:
    """The name of this host's worker: made once, the same after every restart."""
    path = data_dir / "worker-id"
    with contextlib.suppress(FileNotFoundError):
        return path.read_text(encoding="ascii").strip()
    name = f"w{secrets.token_hex(8)}"
    fresh = data_dir / "worker-id.new"
    fresh.write_text(name + "\n", encoding="ascii")
    fresh.replace(path)
    return name


def origin(data_dir: Path) -> str:
    """Where a data directory is: the same for as long as the host runs and it is not moved or copied."""
    at = data_dir.stat()
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return hashlib.sha256(f"{boot_id} {at.st_dev} {at.st_ino}".encode()).hexdigest()[:32]


def worker_info(
    settings: HostSettings, name: str, *, embedded: bool, origin: str = ""
) -> WorkerInfo:
    """What the worker of this host says of itself.

    Raises:
        SetupError: it says something of its resources that makes no sense.
    """
    has = {
        "cpu": float(len(os.sched_getaffinity(0))),
        "memory": float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
    }
    try:
        given = pairs_of(settings.resources).items()
        has |= {what: amount_of(what, text) for what, text in given}
    except ValueError as error:
        raise SetupError(f"--resources: {error}.") from None
    return WorkerInfo(
        worker_id=name,
        host=socket.gethostname(),
        version=__version__,
        slots=settings.slots,
        labels=pairs_of(settings.labels),
        resources=resources_of(has.items()),
        embedded=embedded,
        origin=origin,
    )


def _held_by(data_dir: Path, content: bytes) -> str:
    try:
        first = json.loads(content)
        where = " and ".join(first["addresses"])
        who = f"pid {first['pid']}, " + (f"serving {where}" if where else "just starting")
    except (ValueError, KeyError, TypeError):
        who = "which is just starting"
    return (
        f"Another server or worker ({who}) uses the data directory {data_dir}. Stop it first, or choose "
        "another --data-dir."
    )
