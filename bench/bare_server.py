"""Starting and ending the server of `bare.py`."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.service import end

PROGRAM = Path(__file__).with_name("bare.py")


@contextlib.contextmanager
def bare_server(what: str, address: str) -> Iterator[str]:
    """The bare server doing `echo` or `spawn`; gives its address."""
    command = [sys.executable, str(PROGRAM), what, address]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        served = process.stdout.readline().decode().strip()
        if not served:
            raise RuntimeError("the bare server did not start")
        yield served
    finally:
        end(process)
