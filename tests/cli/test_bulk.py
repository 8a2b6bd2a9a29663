"""`jobservice bulk` with a real service: what it asks, what it prints, how it exits."""

import os
import pty
import subprocess

import pytest

from jobservice import Client
from jobservice.testing.server import Server
from tests.cli.conftest import Shell


def held(shell: Shell, label: str, count: int = 3) -> list[str]:
    """Jobs that wait for nobody."""
    gates = [shell.submit("--priority", "100", "--", "sleep", "600") for _ in range(4)]
    ids = [shell.submit("--label", f"bulk={label}", "--", "true") for _ in range(count)]
    shell.ok("bulk", "hold", "--filter", f"labels.bulk = {label}", "--yes", "--wait")
    shell.ok("cancel", "--wait", *gates)
    return ids


def answered(shell: Shell, answer: bytes, *arguments: str) -> tuple[int, str]:
    """What the command says to somebody at a terminal who gives this answer."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        shell.command(*arguments),
        stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=shell.environment,
    ) as process:  # fmt: skip
        os.close(theirs)
        os.write(ours, answer)
        said, _ = process.communicate(timeout=40)
    os.close(ours)
    return process.returncode, said.decode()


def test_a_dry_run_counts_and_changes_nothing(shell: Shell) -> None:
    ids = held(shell, "dry")
    ran = shell.ok("bulk", "cancel", "--filter", "labels.bulk = dry", "--dry-run")
    assert ran.out == "3 jobs\n"
    [counted] = shell.ok(
        "bulk", "cancel", "--filter", f"job_id = {ids[0]}", "--dry-run", "--json"
    ).objects
    assert counted == {"matched_count": "1", "is_at_least": False}
    assert shell.state(ids[0]) == "JOB_STATE_HELD"
    done = shell.ok("bulk", "cancel", "--filter", "labels.bulk = dry", "--yes", "--wait")
    assert done.out.split()[1:] == ["DONE", "3", "done,", "0", "skipped"]


def test_every_change_has_its_command(shell: Shell) -> None:
    ids = held(shell, "all")
    chosen = ["--filter", "labels.bulk = all", "--yes", "--wait", "--json"]

    def change(*words: str) -> tuple[str, str, str]:
        [done] = shell.ok("bulk", *words, *chosen).objects
        return done["action"], done["done_count"], done["skipped_count"]

    assert change("priority", "low") == ("OPERATION_ACTION_SET_PRIORITY", "3", "0")
    assert change("hold") == ("OPERATION_ACTION_HOLD", "0", "3")
    assert change("release") == ("OPERATION_ACTION_RELEASE", "3", "0")
    shell.ok("wait", *ids)
    assert change("cancel") == ("OPERATION_ACTION_CANCEL", "0", "3")
    assert change("retry") == ("OPERATION_ACTION_RETRY", "3", "0")
    shell.ok("wait", *ids)
    assert change("delete") == ("OPERATION_ACTION_DELETE", "3", "0")


def test_nothing_is_changed_without_a_word_of_somebody(shell: Shell) -> None:
    ids = held(shell, "asked")
    arguments = ("bulk", "cancel", "--filter", "labels.bulk = asked", "--wait")
    ran = shell(*arguments)
    assert (ran.code, ran.raw) == (2, b"")
    assert "Give --yes where nobody can be asked" in ran.err
    code, said = answered(shell, b"n\n", *arguments)
    assert code == 130
    assert "3 jobs. Cancel them? [y/N]" in said
    assert shell.state(ids[0]) == "JOB_STATE_HELD"
    code, said = answered(shell, b"y\n", *arguments)
    assert code == 0
    assert "DONE 3 done, 0 skipped" in said
    assert answered(shell, b"", "bulk", "cancel", "--filter", "name = nobody")[1] == "No jobs.\n"


def test_changes_are_listed_shown_and_stopped(shell: Shell, server: Server) -> None:
    with Client(server.unix_address) as client:  # a minute's work, at one a second
        client.create_many([["sleep", "600"]] * 60, labels={"bulk": "slow"})
    begun = shell.ok(
        "bulk", "priority", "low", "--filter", "labels.bulk = slow", "--yes", "--reason", "later",
        "--max-per-second", "1", "--json",
    ).objects[0]["operation_id"]  # fmt: skip
    shown = shell.ok("bulk", "status", begun).out
    assert 'filter:      labels.bulk = "slow"' in shown
    assert "at most:     1 jobs a second" in shown
    stopped = shell.ok("bulk", "stop", begun).out
    assert stopped.startswith(f"{begun} CANCELLED")
    lines = shell.ok("bulk", "list").lines
    assert lines[0].split()[:3] == ["OPERATION", "STATE", "ACTION"]
    assert begun in lines[1]
    assert len(shell.ok("bulk", "list", "--limit", "1", "--json").objects) == 1
    shell.ok("bulk", "cancel", "--filter", "labels.bulk = slow", "--yes", "--wait")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["cancel", "--filter", "state = x", "--yes"], 2, "filter: at character 9: `x`"),
        (["cancel", "--yes"], 2, "Missing option '--filter'"),
        (["priority", "--filter", "*", "--yes"], 2, "Missing argument 'PRIORITY'"),
        (["priority", "500", "--filter", "*", "--yes"], 2, "must be from -100 to 100"),
        (["status", "o" + "0" * 26], 66, "(OPERATION_NOT_FOUND)"),
        (["stop", "x"], 2, "must be the id of an operation"),
    ],
)
def test_what_is_wrong_is_said(shell: Shell, words: list[str], code: int, said: str) -> None:
    ran = shell("bulk", *words)
    assert ran.code == code, ran.err
    assert said in ran.err
