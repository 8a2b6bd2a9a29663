"""The same as witness.c beside it, for hosts without a compiler; it stands alone."""

import fcntl
import json
import os
import signal
import struct
import sys
import threading
import time
from pathlib import Path

BEAT_MS = 50


def main(folder: str, *words: str) -> int:
    """Run as a job; see witness.c for the words."""
    options = {name: value for name, _, value in (word.partition("=") for word in words)}
    key = os.environ["JOBSERVICE_ATTEMPT_KEY"]
    tenant, job_id, attempt, epoch = key.split("/")
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    about: dict[str, object] = {"boot": boot, "tenant": tenant, "job_id": job_id}
    about |= {"attempt": int(attempt), "epoch": int(epoch)}
    over = threading.Event()  # which never comes
    journal = os.open(f"{folder}/witness.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(what: str, *, sync: bool = True, **rest: object) -> None:
        times = {"at": time.clock_gettime_ns(time.CLOCK_BOOTTIME), "wall": time.time_ns()}
        seen = {"by": "witness", "what": what, **times, "pid": os.getpid(), **about, **rest}
        os.write(journal, json.dumps(seen, separators=(",", ":")).encode() + b"\n")
        if sync:
            os.fdatasync(journal)

    def live(ms: int) -> None:
        while ms > BEAT_MS:
            over.wait(BEAT_MS / 1000)
            note("beat", sync=False)
            ms -= BEAT_MS
        over.wait(max(ms, 0) / 1000)

    lines, sleep_ms = int(options.get("lines", 0)), int(options.get("sleep_ms", 0))
    alone = _alone(f"{folder}/locks", f"{tenant}/{job_id}")
    note("start", alone=alone, keys=options.get("keys", ""), lines=lines)
    if options.get("child", "0") != "0" and os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        live(sleep_ms + 20_000)
        os._exit(0)
    sys.stdout.write("".join(f"{key} {n}\n" for n in range(lines)))
    sys.stdout.flush()
    live(sleep_ms)
    failing = int(attempt) <= int(options.get("fail_until", 0))
    code = 3 if failing else int(options.get("exit", 0))
    note("end", code=code)
    return code


def _alone(path: str, job: str) -> bool:
    """Take the lock of a job; it is never let go of, so the tree keeps it."""
    spot = 14695981039346656037
    for byte in job.encode():
        spot = (spot ^ byte) * 1099511628211 % 2**64
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.set_inheritable(lock, True)
    try:
        fcntl.fcntl(lock, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, spot >> 2, 1, 0))
    except OSError:  # F_OFD_SETLK, which Python names since 3.12
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
