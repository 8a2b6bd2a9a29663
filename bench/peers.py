"""What the service is compared with: other queues on PostgreSQL, in an environment of the bench's own.

It is made at the first use in `build/peers`, out of `requirements/peers.txt`, so that nothing of it is
ever among what the service itself is installed with.
"""

import dataclasses
import hashlib
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.tools import PROGRAMS

ROOT = Path(__file__).parents[1]
REQUIREMENTS = ROOT / "requirements/peers.txt"
ENVIRONMENT = ROOT / "build/peers"
DEADLINE_S = 300.0


@dataclasses.dataclass(frozen=True)
class Peer:
    """One of them, with a database of its own; its program says what it can be told."""

    program: str
    url: str

    def tell(self, *words: str | int) -> str:
        """Have its program do something; returns what it printed."""
        command = self._command(*words)
        ran = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=DEADLINE_S
        )
        assert ran.returncode == 0, f"{command} failed:\n{ran.stderr}"
        return ran.stdout

    def drain(self, at_once: int, log: Path, *, processes: int, least: int) -> float:
        """Jobs a second of so many workers; see `drain`."""
        count, took_s = drain([self._command("drain", at_once)] * processes, log)
        assert count >= least, f"{self.program} ran {count} jobs of {least}"
        return count / took_s

    def _command(self, *words: str | int) -> Sequence[str]:
        program = str(PROGRAMS / f"{self.program}.py")
        return [str(_python()), program, self.url, *map(str, words)]


def drain(workers: Sequence[Sequence[str]], log: Path) -> tuple[int, float]:
    """Have workers do all that there is to do.

    Args:
        workers: Commands. Each says "ready" when it is up, begins after a line on its input, and ends
            with how many jobs it ran and when the last one was over, by the clock that all processes
            share.
        log: Where what they write to stderr goes.

    Returns:
        How many jobs there were, and how long they took from the word to begin, in seconds.
    """
    with log.open("wb") as stderr:
        running = [
            subprocess.Popen(
                each, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True
            )
            for each in workers
        ]
        for each in running:
            assert each.stdout is not None
            assert each.stdout.readline() == "ready\n", log.read_text()
        begin = time.perf_counter()
        for each in running:
            assert each.stdin is not None
            each.stdin.write("\n")
            each.stdin.flush()
        done = [each.communicate(timeout=DEADLINE_S)[0].split() for each in running]
    return sum(int(count) for count, _ in done), max(float(last) for _, last in done) - begin


def _python() -> Path:
    """The interpreter of the environment, which is made where it is not there as it should be."""
    python, mark = ENVIRONMENT / "bin/python", ENVIRONMENT / "made-of"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if not mark.exists() or mark.read_text() != wanted:
        make = [sys.executable, "-m", "venv", "--clear", "--without-pip", str(ENVIRONMENT)]
        subprocess.run(make, check=True)
        pip = [sys.executable, "-m", "pip", "--python", str(python), "--quiet"]
        pip += ["--disable-pip-version-check", "--no-input", "install", "--require-hashes"]
        subprocess.run([*pip, "--no-deps", "--requirement", str(REQUIREMENTS)], check=True)
        mark.write_text(wanted)
    return python
