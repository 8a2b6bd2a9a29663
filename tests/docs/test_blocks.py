"""The commands of the documents do what the documents say."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.arch import tree
from tests.docs import console

DOCUMENTS = [path for path in tree.documents() if "```console" in path.read_text()]


def documents_with_commands() -> list[Path]:
    """Documents that have something to run."""
    return [path for path in DOCUMENTS if console.steps_of(path)]


@pytest.fixture
def terminal() -> Iterator["Terminal"]:
    """A reader's terminal in an empty home; the servers that it started end with the test.

    The home's path is short, as a socket's must be.
    """
    with tempfile.TemporaryDirectory(prefix="js-") as home:
        opened = Terminal(Path(home))
        yield opened
        opened.close()


class Terminal:
    """Runs commands in a directory, with nothing of this process's environment but the path."""

    def __init__(self, directory: Path) -> None:
        scripts = Path(sys.executable).parent
        self._directory = directory
        self._env = {
            "PATH": f"{scripts}:{os.environ['PATH']}",
            "HOME": str(directory),
            "TERM": "dumb",
            "COLUMNS": "120",
            "LC_ALL": "C.UTF-8",
        }
        self._servers: list[subprocess.Popen[str]] = []

    def serve(self, command: str) -> None:
        """Start a server and return when it says that it serves."""
        server = subprocess.Popen(
            ["/bin/bash", "-c", f"exec {command} --stop-jobs"],
            cwd=self._directory, env=self._env, text=True, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        self._servers.append(server)
        assert server.stderr
        said = []
        for line in server.stderr:
            said.append(line)
            if '"serving"' in line:
                return
        pytest.fail(f"{command} ended: {''.join(said)}")

    def run(self, script: str) -> str:
        """Run a script to its end; what it printed, on either stream."""
        ran = subprocess.run(
            ["/bin/bash", "-c", script],
            cwd=self._directory, env=self._env, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return ran.stdout

    def close(self) -> None:
        """End the servers as a reader would, with a signal."""
        for server in self._servers:
            server.send_signal(signal.SIGTERM)
        for server in self._servers:
            server.communicate(timeout=30)
            assert server.returncode == 0


@pytest.mark.parametrize("document", documents_with_commands(), ids=lambda path: path.name)
@pytest.mark.timeout(120)
def test_the_commands_of_a_document_print_what_it_says(document: Path, terminal: Terminal) -> None:
    steps = console.steps_of(document)
    for step in steps:
        if step.is_server:
            terminal.serve(step.command)
    steps = [step for step in steps if not step.is_server]
    *printed, _ = terminal.run(console.script_of(steps)).split(console.MARK)
    for step, text in zip(steps, printed, strict=True):
        matched = console.pattern_of(step.expected).fullmatch(text)
        assert matched, f"$ {step.command}\nprints:\n{text}\nand not:\n{step.expected}"


@pytest.mark.parametrize("document", tree.documents(), ids=str)
def test_shell_blocks_are_run_or_say_why_not(document: Path) -> None:
    text = document.read_text()
    blocks = re.findall(r"(^[^\n]*\n)?^```(?:sh|shell|bash)\n", text, re.MULTILINE)
    assert all(before.startswith("<!-- not run: ") for before in blocks)
