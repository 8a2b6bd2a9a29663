"""Arrays on the command line."""

import re
from pathlib import Path

from tests.cli.conftest import Shell

NOBODY = "j" + "0" * 26


def test_a_number_of_indices(shell: Shell) -> None:
    script = 'echo "this is $JOBSERVICE_ARRAY_INDEX"; test "$JOBSERVICE_ARRAY_INDEX" != 2'
    options = "--array", "4", "--max-parallel", "2", "--max-failures", "3", "--name", "n"
    [array] = shell.ok("submit", "--json", *options, "--", "sh", "-c", script).objects
    assert array["array"] == {"size": 4, "items": [], "max_parallel": 2, "max_failures": 3}
    job_id = array["job_id"]
    assert shell("wait", job_id).code == 1
    assert shell.ok("logs", "--index", "2", job_id).out == "this is 2\n"
    missing = shell("logs", "--index", "4", job_id)
    assert (missing.code, "no job for index 4" in missing.err) == (66, True)
    whole = shell("logs", job_id)
    assert (whole.code, whole.out, "--index N" in whole.err) == (65, "", True)
    table = [line.split() for line in shell.ok("list", "--array", job_id).lines]
    assert [line[0] for line in table] == ["INDEX", "3", "2", "1", "0"]
    shown = shell.ok("get", job_id).out
    assert re.search(r"^array: +4 indices: 3 succeeded, 1 failed$", shown, re.MULTILINE)
    assert "attempts:" not in shown
    [failed] = shell.ok("list", "--array", job_id, "--state", "failed", "--json").objects
    assert (failed["array_job_id"], failed["array_index"], failed["name"]) == (job_id, 2, "n[2]")
    one = shell.ok("get", failed["job_id"]).out
    assert re.search(rf"^array: +index 2 of {job_id}$", one, re.MULTILINE)
    narrowed = ("--array", job_id, "--filter", "array_index < 2")
    assert len(shell.ok("list", *narrowed, "--json").objects) == 2
    assert len(shell.ok("history", *narrowed, "--json").objects) == 2
    for command in ("list", "history"):
        unknown = shell(command, "--array", NOBODY)
        assert (unknown.code, unknown.out, "NOT_FOUND" in unknown.err) == (66, "", True)


def test_one_index_for_each_line(shell: Shell, tmp_path: Path) -> None:
    items = tmp_path / "items"
    items.write_text("a b\n\nc\n")
    script = 'echo "<$JOBSERVICE_ARRAY_ITEM>"'
    [job_id] = shell.ok("submit", "--array-items", str(items), "--", "sh", "-c", script).lines
    shell.ok("wait", job_id)
    said = [shell.ok("logs", "--index", str(n), job_id).out for n in range(3)]
    assert said == ["<a b>\n", "<>\n", "<c>\n"]


def test_what_is_refused(shell: Shell, tmp_path: Path) -> None:
    items = tmp_path / "items"
    items.write_bytes(b"\xff\n")
    both = shell("submit", "--array", "2", "--array-items", str(items), "--", "true")
    assert (both.code, "exclude each other" in both.err) == (2, True)
    broken = shell("submit", "--array-items", str(items), "--", "true")
    assert (broken.code, "is no UTF-8" in broken.err) == (2, True)
    alone = shell("submit", "--max-parallel", "2", "--", "true")
    assert "give --array or --array-items too" in alone.err
    none = shell("submit", "--array", "0", "--", "true")
    assert "'--array': 0 is below 1; leave it out for a job that is no array" in none.err
