"""The witness: what it notes, that its lock is that of its whole tree, and that both programs agree."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from jobservice.testing.history.history import History
from jobservice.testing.history.record import read_records
from jobservice.testing.history.witness import PROGRAMS, Witness, output_of
from jobservice.testing.wait import wait_until

JOB = "j01"
IN_PYTHON = [sys.executable, "-IS", str(PROGRAMS / "witness.py")]


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    return Witness(tmp_path / "w")


@pytest.fixture(params=["c", "python"])
def program(request: pytest.FixtureRequest, witness: Witness) -> list[str]:
    """The program with its folder."""
    [compiled, folder] = witness.argv()
    return [compiled, folder] if request.param == "c" else [*IN_PYTHON, folder]


def start(program: Sequence[str], *words: str, attempt: int = 1) -> "subprocess.Popen[bytes]":
    environment = {"JOBSERVICE_ATTEMPT_KEY": f"default/{JOB}/{attempt}/{attempt}"}
    out = (Path(program[-1]) / "out").open("wb")
    with out:
        return subprocess.Popen([*program, *words], env=environment, stdout=out)


def seen(witness: Witness) -> History:
    return History.of(read_records(witness.folder))


def test_it_notes_its_start_and_its_end(witness: Witness, program: list[str]) -> None:
    ran = start(program, "lines=2", "exit=4", "keys=a,b", "sleep_ms=120")
    assert ran.wait(30) == 4
    assert (witness.folder / "out").read_text() == output_of(f"default/{JOB}/1/1", 2)
    [run] = seen(witness).runs[JOB]
    assert (run.attempt, run.epoch, run.pid) == (1, 1, ran.pid)
    assert (run.alone, run.code, run.lines, list(run.keys)) == (True, 4, 2, ["a", "b"])
    assert run.last_at - run.start_at >= 120 * 10**6
    beats = [each for each in read_records(witness.folder) if each["what"] == "beat"]
    assert len(beats) == 2


def test_it_fails_as_often_as_it_is_told(witness: Witness, program: list[str]) -> None:
    codes = [start(program, "fail_until=2", attempt=n).wait(30) for n in (1, 2, 3)]
    assert codes == [3, 3, 0]
    assert [run.attempt for run in seen(witness).runs[JOB]] == [1, 2, 3]


def test_a_second_attempt_finds_the_first_alive(witness: Witness, program: list[str]) -> None:
    first = start(program, "sleep_ms=60000")
    wait_until(lambda: witness.is_alive(JOB), what="the lock")
    assert start(program, attempt=2).wait(30) == 0
    first.kill()
    first.wait(30)
    assert not witness.is_alive(JOB)
    assert [run.alone for run in seen(witness).runs[JOB]] == [True, False]


def test_a_child_that_is_left_keeps_the_lock(witness: Witness, program: list[str]) -> None:
    parent = start(program, "child=1", "sleep_ms=1")
    assert parent.wait(30) == 0
    assert witness.is_alive(JOB)
    [child] = wait_until(
        lambda: {each["pid"] for each in read_records(witness.folder)} - {parent.pid},
        what="a beat of the child",
    )
    os.kill(child, signal.SIGTERM)
    before = len(read_records(witness.folder))
    wait_until(lambda: len(read_records(witness.folder)) > before, what="another beat")
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: not witness.is_alive(JOB), what="the end of the child")


def test_what_is_no_job_is_told_how_to_use_it(program: list[str]) -> None:
    ran = subprocess.run(program, env={}, capture_output=True, check=False)
    assert ran.returncode != 0
    assert b"JOBSERVICE_ATTEMPT_KEY" in ran.stderr or b"usage" in ran.stderr
