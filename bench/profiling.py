"""`--profile`: where the server and the runner spend their time, by a sampling profiler.

py-spy is installed into the directory of the run, from the same place as all other packages. It
costs a few percent, so a run with it is not kept as a result.
"""

import collections
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

SAMPLES_PER_S = "250"
SHOWN = 25
STOP_S = 60.0


class Profiler:
    """Samples processes until it is told to stop."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "profiles"
        self._py_spy = self._directory / "bin" / "py-spy"
        self._running: dict[Path, subprocess.Popen[bytes]] = {}
        if not self._py_spy.exists():
            install = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
            subprocess.run(
                [*install, "install", "--target", str(self._directory), "py-spy"], check=True
            )

    def attach(self, name: str, pid: int) -> None:
        """Sample a process."""
        path = self._directory / f"{name}-{pid}.txt"
        command = [str(self._py_spy), "record", "--pid", str(pid), "--output", str(path)]
        command += ["--format", "raw", "--rate", SAMPLES_PER_S, "--threads"]
        self._running[path] = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def finish(self) -> None:
        """Stop sampling and print what was seen."""
        for path, process in self._running.items():
            process.send_signal(signal.SIGINT)
            process.wait(STOP_S)
            if path.exists():
                print(summary(path.stem, path.read_text().splitlines()), flush=True)
        self._running.clear()


def summary(name: str, stacks: Iterable[str]) -> str:
    """The functions with the most samples: in themselves, and with what they call."""
    alone: collections.Counter[str] = collections.Counter()
    within: collections.Counter[str] = collections.Counter()
    samples = 0
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        samples += int(count)
        alone[frames[-1]] += int(count)
        for frame in set(frames):
            within[frame] += int(count)
    lines = [f"\n{name}: {samples} samples that were not idle"]
    for title, counter in (("in itself", alone), ("with what it calls", within)):
        lines.append(f"  {title}:")
        lines += [
            f"  {100 * count / max(1, samples):5.1f} %  {frame}"
            for frame, count in counter.most_common(SHOWN)
        ]
    return "\n".join(lines)
