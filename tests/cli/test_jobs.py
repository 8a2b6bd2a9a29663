"""Commands with a real service and real jobs."""

import base64
import os
import pty
import re
import signal
import subprocess
from pathlib import Path

import pytest

from jobservice import __version__
from jobservice.testing.server import Server
from jobservice.testing.wait import wait_until
from tests.cli.conftest import Shell

NOBODY = "j" + "0" * 26


# --- submit -----------------------------------------------------------------------------------


def test_submit_prints_the_id_alone(shell: Shell) -> None:
    ran = shell.ok("submit", "--", "true")
    assert len(ran.lines) == 1
    assert len(ran.lines[0]) == 27
    assert ran.err == ""


def test_everything_that_is_said_of_a_job_arrives(shell: Shell, tmp_path: Path) -> None:
    [job] = shell.ok(
        "submit", "--json", "--name", "a name", "--queue", "builds", "--priority", "high",
        "--label", "team=core", "--label", "tier=2", "--env", "A=b=c", "--work-dir", str(tmp_path),
        "--timeout", "5m", "--idle-timeout", "90s", "--retries", "2", "--stop-grace", "3s",
        "--output-limit", "5000",
        "--", "sh", "-c", "exit 0", "--name",
    ).objects  # fmt: skip
    assert job["name"] == "a name"
    assert (job["queue"], job["priority"]) == ("builds", 50)
    assert job["labels"] == {"team": "core", "tier": "2"}
    assert job["command"]["argv"] == ["sh", "-c", "exit 0", "--name"]
    assert job["command"]["env"] == {"A": "b=c"}
    assert job["command"]["work_dir"] == str(tmp_path)
    assert (job["timeout"], job["idle_timeout"], job["stop_grace"]) == ("300s", "90s", "3s")
    assert job["retry_policy"]["max_attempts"] == 3
    assert job["output_limit_bytes"] == "5000"


def test_keys_and_shares_arrive(shell: Shell) -> None:
    [job] = shell.ok(
        "submit", "--json", "--key", "db", "--key", "gpu:4:2", "--on-conflict", "cancel-queued",
        "--fairness-key", "team a", "--fairness-weight", "2.5", "--", "true",
    ).objects  # fmt: skip
    policy = "ON_CONFLICT_CANCEL_QUEUED"
    assert job["concurrency_keys"] == [
        {"key": "db", "limit": 0, "weight": 1, "on_conflict": policy},
        {"key": "gpu", "limit": 4, "weight": 2, "on_conflict": policy},
    ]
    assert (job["fairness_key"], job["fairness_weight"]) == ("team a", 2.5)
    shown = shell.ok("get", job["job_id"]).out
    assert re.search(r"^keys: +db, gpu \(limit 4, weight 2\)$", shown, re.MULTILINE)


def test_a_job_that_is_there_stands_for_one_with_its_unique_key(shell: Shell) -> None:
    rules = (
        "--unique", "one", "--unique-window", "1h", "--unique-scope", "queue",
        "--unique-states", "scheduled,queued",
    )  # fmt: skip
    [job] = shell.ok("submit", "--json", *rules, "--delay", "1h", "--", "true").objects
    assert job["unique_key"] == {
        "key": "one",
        "scope": "UNIQUE_SCOPE_QUEUE",
        "window": "3600s",
        "states": ["JOB_STATE_SCHEDULED", "JOB_STATE_QUEUED"],
        "on_duplicate": "ON_DUPLICATE_RETURN_EXISTING",
    }
    shown = shell.ok("get", job["job_id"]).out
    expected = r"^unique: +one \(in the queue, for 1h00m, while scheduled or queued\)$"
    assert re.search(expected, shown, re.MULTILINE)

    again = shell.ok("submit", *rules, "--", "false")
    assert again.lines == [job["job_id"]]
    assert again.err == (
        f"Nothing was created: job {job['job_id']}, SCHEDULED, stands for the new one.\n"
    )
    refused = shell("submit", "--unique", "one", "--on-duplicate", "reject", "--", "true")
    assert refused.code == 73
    assert job["job_id"] in refused.err
    assert "(DUPLICATE_JOB)" in refused.err
    replacing = ("submit", "--unique", "one", "--on-duplicate", "replace", "--delay", "1h")
    [newer] = shell.ok(*replacing, "--", "true").lines
    assert "SKIPPED" in shell.ok("status", job["job_id"]).out
    shell.ok("cancel", newer)


def test_an_instant_without_a_zone_is_local_and_that_is_said(shell: Shell) -> None:
    given = ("submit", "--json", "--at", "2034-05-01T03:00", "--", "true")
    ran = shell(*given, TZ="Asia/Kolkata")
    assert ran.objects[0]["start_after"] == "2034-04-30T21:30:00Z"
    assert ran.err == (
        "2034-05-01T03:00 is taken as 2034-05-01T03:00:00+05:30, the local time here.\n"
    )
    job = ran.objects[0]["job_id"]
    ran = shell.ok("update", "--json", job, "--at", "2034-05-01T03:00-02:00")
    assert (ran.objects[0]["start_after"], ran.err) == ("2034-05-01T05:00:00Z", "")
    shell.ok("delete", job)


def test_what_is_no_instant(alone: Shell) -> None:
    ran = alone("submit", "--at", "tomorrow", "--", "true")
    assert (ran.code, ran.raw) == (2, b"")
    assert "'tomorrow' is no instant; write 2026-11-25T09:30Z" in ran.err


def test_input_from_a_file_and_from_our_own(shell: Shell, tmp_path: Path) -> None:
    data = bytes(range(256))
    (tmp_path / "input").write_bytes(data)
    for source, given in ((str(tmp_path / "input"), None), ("-", data)):
        ran = shell.ok("submit", "--wait", "--stdin", source, "--", "cat", given=given)
        assert shell.ok("logs", ran.out.strip()).raw == data


def test_a_request_id_submits_once(shell: Shell) -> None:
    first = shell.submit("--request-id", "once", "--", "true")
    assert shell.submit("--request-id", "once", "--", "true") == first
    ran = shell("submit", "--request-id", "once", "--", "false")
    assert ran.code == 73
    assert first in ran.err


def test_all_that_is_wrong_is_told_in_one_error(shell: Shell) -> None:
    ran = shell("submit", "--work-dir", "here", "--queue", "Q", "--priority", "500", "--", "true")
    assert (ran.code, ran.raw) == (2, b"")
    first, *lines, last = ran.err.splitlines()
    assert first == "Error: The request is not valid. (INVALID_REQUEST)"
    assert sorted(line.partition(": ")[0].strip() for line in lines) == [
        "--priority",
        "--queue",
        "--work-dir",
    ]
    assert last.startswith("request id: ")


def test_arguments_that_are_no_text_are_refused(shell: Shell) -> None:
    ran = shell("submit", "--", "echo", os.fsdecode(b"\xff\xfe"))
    assert ran.code == 2
    assert "cannot be sent" in ran.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--cpu", "99999999999999999999"], "--cpu: is more than any may be"),
        (["--memory", "99999999TiB"], "--memory: is more than any may be"),
        (["--resource", "gpu=99999999999999999999"], "--resource: is more than any may be"),
        (["--priority", "999999999999999"], "--priority: must be from -100 to 100"),
        (["--key", "a:9999999999999999999999"], "--key: Value out of range"),
    ],
)
def test_a_number_that_no_message_holds_is_refused_by_its_option(
    shell: Shell, options: list[str], said: str
) -> None:
    ran = shell("submit", *options, "--", "true")
    assert ran.code == 2
    assert said in ran.err


# --- the end ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "script", "code"),
    [
        ([], "exit 0", 0),
        ([], "exit 3", 3),
        ([], "exit 255", 255),
        ([], "kill -9 $$", 137),
        ([], "kill -TERM $$", 143),
        (["--timeout", "200ms"], "sleep 60", 124),
        (["--idle-timeout", "200ms"], "sleep 60", 124),
        (["--work-dir", "/nowhere"], "true", 126),
    ],
)
def test_submit_that_waits_exits_as_the_job_did(
    shell: Shell, options: list[str], script: str, code: int
) -> None:
    ran = shell("submit", "--wait", *options, "--", "sh", "-c", script)
    job_id = ran.out.strip()
    assert (ran.code, len(ran.lines)) == (code, 1)
    ended = "SUCCEEDED" if code == 0 else "FAILED"
    assert f"Job {job_id} is {ended}" in ran.err
    assert shell("wait", job_id).code == code


def test_a_cancelled_job_is_130(shell: Shell) -> None:
    job_id = shell.submit("--", "sleep", "600")
    assert shell.ok("cancel", "--wait", job_id).out == f"{job_id} CANCELLED\n"
    assert shell("wait", job_id).code == 130


def test_waiting_shows_states_and_progress_in_plain_lines(shell: Shell) -> None:
    script = 'for n in 1 2 3; do echo "$((n * 30)) step $n" >>$JOBSERVICE_PROGRESS; sleep 0.4; done'
    ran = shell("submit", "--wait", "--", "sh", "-c", script)
    assert ran.code == 0
    assert "90% step 3" in ran.err.splitlines()
    assert "\x1b" not in ran.err
    assert ran.err.splitlines()[-1].startswith("Job ")


def test_waiting_with_json_prints_the_job_as_it_ended(shell: Shell) -> None:
    ran = shell("submit", "--wait", "--json", "--", "sh", "-c", "exit 4")
    [job] = ran.objects
    assert (ran.code, job["state"], job["exit_code"]) == (4, "JOB_STATE_FAILED", 4)
    assert [each["attempt"] for each in job["attempts"]] == [1]


def test_ctrl_c_lets_go_of_the_job(shell: Shell) -> None:
    listening = ["env", "--default-signal=INT"]  # a shell's background job ignores it
    process = subprocess.Popen(
        [*listening, *shell.command("submit", "--wait", "--", "sleep", "600")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=shell.environment,
        text=True,
    )
    assert process.stdout
    job_id = process.stdout.readline().strip()
    wait_until(lambda: shell.state(job_id) == "JOB_STATE_RUNNING")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert f"Job {job_id} goes on; `jobservice cancel {job_id}` ends it." in err
    assert "Traceback" not in err
    assert shell.state(job_id) == "JOB_STATE_RUNNING"
    shell.ok("cancel", job_id)


def test_several_jobs_are_waited_for_together(shell: Shell) -> None:
    one, two = shell.submit("--", "sh", "-c", "sleep 1; exit 7"), shell.submit("--", "true")
    ran = shell("wait", one, two)
    assert ran.code == 7
    assert set(ran.lines) == {f"{one} FAILED", f"{two} SUCCEEDED"}
    assert shell("wait", two, two).code == 0


def test_a_wait_gives_up_after_its_timeout(shell: Shell) -> None:
    job_id = shell.submit("--", "sleep", "600")
    ran = shell("wait", "--timeout", "500ms", job_id)
    assert ran.code == 124
    assert job_id in ran.err
    shell.ok("cancel", job_id)


# --- output -----------------------------------------------------------------------------------


def test_output_goes_byte_for_byte_to_where_it_came_from(shell: Shell) -> None:
    script = r"head -c 300000 /dev/zero | tr '\0' '\377'; printf 'err\n' >&2"
    job_id = shell.submit("--", "sh", "-c", script)
    shell("wait", job_id)
    ran = shell.ok("logs", job_id)
    assert (ran.raw, ran.err) == (b"\xff" * 300_000, "err\n")
    assert shell.ok("logs", "--stdout", job_id).err == ""
    assert shell.ok("logs", "--stderr", job_id).raw == b""


def test_output_in_json_is_base64(shell: Shell) -> None:
    job_id = shell.submit("--", "printf", r"\377")
    shell("wait", job_id)
    [chunk] = shell.ok("logs", "--json", job_id).objects
    assert base64.b64decode(chunk["data"]) == b"\xff"
    assert (chunk["stream"], chunk["attempt"]) == ("LOG_STREAM_STDOUT", 1)


def test_following_ends_with_the_job(shell: Shell) -> None:
    job_id = shell.submit("--", "sh", "-c", "echo one; sleep 1; echo two")
    assert shell.ok("logs", "-f", job_id).out == "one\ntwo\n"


def test_a_gap_in_the_output_is_told(shell: Shell) -> None:
    job_id = shell.submit("--output-limit", "20000", "--", "seq", "100000")
    shell("wait", job_id)
    ran = shell.ok("logs", job_id)
    assert ran.raw.startswith(b"1\n2\n")
    assert ran.raw.endswith(b"\n100000\n")
    assert "bytes of stdout over the output limit were dropped" in ran.err


def test_a_reader_that_goes_away_is_no_error(shell: Shell) -> None:
    job_id = shell.submit("--", "seq", "1000000")
    shell("wait", job_id)
    ran = subprocess.run(
        ["bash", "-c", f"{shell.command()[0]} logs {job_id} | head -n 1"],
        env=shell.environment, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert (ran.stdout, ran.stderr) == ("1\n", "")


# --- where jobs are ---------------------------------------------------------------------------


def test_status_and_get_show_a_job(shell: Shell) -> None:
    job_id = shell.submit("--name", "shown", "--", "sh", "-c", "exit 3")
    shell("wait", job_id)
    status = shell.ok("status", job_id).out
    assert "state:       FAILED" in status
    assert "EXIT_CODE" in status
    shown = shell.ok("get", job_id).out
    assert "name:        shown" in shown
    assert "sh -c 'exit 3'" in shown
    assert shown.splitlines()[-2].split() == [
        "ATTEMPT",
        "STATE",
        "STARTED",
        "TOOK",
        "EXIT",
        "REASON",
    ]


def test_what_a_job_says_cannot_move_the_cursor(shell: Shell) -> None:
    job_id = shell.submit("--", "echo", "a\x1b[2Jb\nc")
    assert "\x1b" not in shell.ok("list").out
    assert "\x1b" not in shell.ok("get", job_id).out


def test_lists_are_tables_or_lines_of_json(shell: Shell) -> None:
    ids = [shell.submit("--name", "listed", "--", "true") for _ in range(3)]
    shell("wait", *ids)
    table = shell.ok("list", "--name", "listed").lines
    assert table[0].split() == ["JOB", "STATE", "NAME", "DONE", "CREATED", "COMMAND"]
    assert [line.split()[0] for line in table[1:]] == ids[::-1]
    objects = shell.ok("history", "--name", "lis*", "--state", "succeeded", "--json").objects
    assert {each["job_id"] for each in objects} == set(ids)
    assert len(shell.ok("list", "--name", "listed", "--limit", "2").lines) == 3
    assert shell.ok("history", "--name", "listed", "--since", "1h").lines
    filtered = shell.ok("history", "--filter", "name = liste* AND exit_code = 0").lines
    assert len(filtered) > 1
    ran = shell("list", "--filter", "state = nothing")
    assert ran.code == 2
    assert "filter: at character 9: `nothing`, where one of BLOCKED" in ran.err
    assert shell.ok("list", "--active", "--name", "listed").err == "No jobs.\n"


def test_watch_tells_what_happens(shell: Shell, tmp_path: Path) -> None:
    go = tmp_path / "go"
    job_id = shell.submit("--", "sh", "-c", f"until test -e {go}; do sleep 0.05; done; exit 3")
    with subprocess.Popen(
        shell.command("watch", job_id), stdout=subprocess.PIPE, env=shell.environment, text=True
    ) as process:
        assert process.stdout
        first = process.stdout.readline()
        go.touch()
        lines = [first, *process.stdout]
    assert all(job_id in line for line in lines)
    assert lines[-1].endswith("FAILED failed exited with 3\n")


# --- what may be asked ------------------------------------------------------------------------


def test_a_job_is_changed_run_again_and_deleted(shell: Shell) -> None:
    job_id = shell.submit("--label", "a=1", "--", "true")
    shell("wait", job_id)
    [job] = shell.ok("update", job_id, "--name", "new", "--no-labels", "--json").objects
    assert (job["name"], job["labels"]) == ("new", {})
    assert shell("update", job_id, "--priority", "high").code == 65
    assert shell("update", job_id, "--name", "x", "--etag", "e99").code == 75
    shell.ok("retry", job_id)
    assert shell("wait", job_id).code == 0
    assert shell.ok("delete", job_id).err == f"Deleted {job_id}.\n"
    assert shell("delete", job_id).code == 66
    shell.ok("delete", "--missing-ok", job_id)


def test_one_job_that_is_refused_does_not_keep_the_others(shell: Shell) -> None:
    job_id = shell.submit("--", "sleep", "600")
    ran = shell("cancel", NOBODY, job_id)
    assert ran.code == 66
    assert f"There is no job {NOBODY}" in ran.err
    assert ran.lines[0].startswith(job_id)


@pytest.mark.parametrize(
    "command", ["status", "get", "logs", "wait", "watch", "cancel", "retry", "hold", "release"]
)
def test_a_job_that_is_not_there(shell: Shell, command: str) -> None:
    ran = shell(command, NOBODY)
    assert (ran.code, ran.raw) == (66, b"")
    assert f"Error: There is no job {NOBODY}." in ran.err


def test_an_id_that_is_none(shell: Shell) -> None:
    ran = shell("status", "nope")
    assert ran.code == 2
    assert "must be a job id" in ran.err


def test_the_service_is_reached_over_tcp_too(shell: Shell, server: Server) -> None:
    assert shell("list", "--address", server.tcp_address).code == 0


def test_versions(shell: Shell, alone: Shell) -> None:
    assert shell.ok("version").lines[0].startswith("client ")
    [versions] = shell.ok("version", "--json").objects
    assert versions == {"client": __version__, "server": __version__}
    ran = alone("version")
    assert ran.lines[1] == "server unknown"
    assert "cannot be reached" in ran.err


# --- on a terminal ----------------------------------------------------------------------------


def on_a_terminal(shell: Shell, *arguments: str, **environment: str) -> str:
    """What a command draws on a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        shell.command(*arguments),
        stdin=theirs, stdout=theirs, stderr=theirs,
        env=shell.environment | {"TERM": "xterm", "COLUMNS": "100"} | environment,
    ):  # fmt: skip
        os.close(theirs)
        drawn = b""
        while True:
            try:
                piece = os.read(ours, 65_536)
            except OSError:  # the other side is closed (Linux says so with EIO)
                break
            if not piece:
                break
            drawn += piece
    os.close(ours)
    return drawn.decode()


def test_a_terminal_gets_a_bar_and_colours(shell: Shell) -> None:
    script = "echo 50 half >>$JOBSERVICE_PROGRESS; sleep 1"
    drawn = on_a_terminal(shell, "submit", "--wait", "--", "sh", "-c", script)
    assert "━" in drawn
    assert "50%" in drawn
    assert "half" in drawn
    assert "\x1b[32m" in on_a_terminal(shell, "list", "--state", "succeeded")


def test_no_color_and_a_dumb_terminal_are_obeyed(shell: Shell) -> None:
    for wish in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "\x1b" not in on_a_terminal(shell, "list", **wish)
        assert "\x1b" not in on_a_terminal(shell, "submit", "--wait", "--", "true", **wish)


def test_a_table_stays_within_the_terminal(shell: Shell) -> None:
    shell.submit("--", "echo", "x" * 300)
    lines = on_a_terminal(shell, "list", NO_COLOR="1").splitlines()
    assert max(map(len, lines)) <= 100
    assert any(line.endswith("…") for line in lines)


def test_the_notes_of_a_preview_are_never_cut(shell: Shell) -> None:
    timing = "--cron", "30 2 * * *", "--time-zone", "Europe/Berlin", "--from", "2027-03-28T00:00Z"
    drawn = on_a_terminal(shell, "schedule", "preview", *timing, "-n", "1", NO_COLOR="1")
    assert "it fires at 03:00 instead." in drawn


def test_a_watch_goes_on_beside_a_job_that_is_not_there(shell: Shell) -> None:
    known = shell.submit("--", "true")
    ran = shell("watch", known, NOBODY)
    assert known in ran.out
    assert (ran.code, f"Error: There is no job {NOBODY}." in ran.err) == (66, True)


def test_a_delete_of_a_job_that_may_be_missing_does_not_claim_it(shell: Shell) -> None:
    assert shell("delete", "--missing-ok", NOBODY).err == f"{NOBODY} is gone.\n"


def test_a_job_is_held_and_released(shell: Shell) -> None:
    gates = [shell.submit("--", "sleep", "600") for _ in range(4)]
    job_id = shell.submit("--priority", "low", "--", "true")
    [line] = shell.ok("hold", job_id).lines
    assert line.startswith(f"{job_id} HELD")
    assert shell("status", job_id).code == 0
    for gate in gates:
        shell.ok("cancel", "--wait", gate)
    assert shell.state(job_id) == "JOB_STATE_HELD"
    shell.ok("release", job_id)
    assert shell.ok("wait", job_id).lines == [f"{job_id} SUCCEEDED"]
    assert "retry it" in shell("release", job_id).err


# --- queues and limits ----------------------------------------------------------------------------


def test_a_queue_is_made_paused_looked_at_and_deleted(shell: Shell) -> None:
    [made] = shell.ok(
        "queue", "create", "cli", "--json", "--max-running", "2", "--max-depth", "9", "--max-age", "1h",
        "--on-full", "replace-oldest", "--description", "for a test",
    ).objects  # fmt: skip
    assert (made["max_running"], made["max_depth"], made["max_age"]) == (2, 9, "3600s")
    assert (made["on_full"], made["description"]) == ("ON_FULL_REPLACE_OLDEST", "for a test")
    assert shell.ok("queue", "update", "cli", "--max-age", "0").out == "cli\n"
    assert "max_age" not in shell.ok("queue", "get", "cli", "--json").objects[0]
    assert "cli HOLD since 2" in shell.ok("queue", "pause", "cli", "--reason", "why").out
    waits = shell.submit("--queue", "cli", "--", "true")
    assert "waits because queue cli is paused: why" in shell.ok("status", waits).out
    assert "queued:      1" in shell.ok("queue", "stats", "cli").out
    assert "for a test" in shell.ok("queue", "get", "cli").out
    ran = shell("queue", "delete", "cli")
    assert (ran.code, "QUEUE_IN_USE" in ran.err) == (65, True)
    shell.ok("queue", "resume", "cli")
    shell.ok("wait", waits)
    assert {"cli", "default"} <= {line.split()[0] for line in shell.ok("queue", "list").lines}
    assert shell.ok("queue", "list", "--json").objects[0]["name"] == "cli"
    shell.ok("queue", "delete", "cli")
    assert shell("queue", "get", "cli").code == 66


def test_a_limit_is_set_listed_and_deleted(shell: Shell) -> None:
    [limit] = shell.ok(
        "limit",
        "set",
        "key",
        "cli",
        "--json",
        "--max-running",
        "5",
        "--rate",
        "10/1m",
        "--burst",
        "2",
    ).objects
    assert limit["rate"] == {"starts": 10, "period": "60s", "burst": 2}
    assert "rate:        10 in 1m00s, 2 at once" in shell.ok("limit", "get", "key", "cli").out
    shown = [line.split()[:3] for line in shell.ok("limit", "list").lines]
    assert shown[0] == ["KIND", "NAME", "RUNNING"]
    assert ["KEY", "cli", "0"] in shown
    assert {"LIMIT_KIND_SLOTS", "LIMIT_KIND_KEY"} <= {
        each["kind"] for each in shell.ok("limit", "list", "--json").objects
    }
    assert "The limit on key cli is gone." in shell.ok("limit", "delete", "key", "cli").err
    assert shell("limit", "delete", "key", "cli").code == 66
    shell.ok("limit", "delete", "key", "cli", "--missing-ok")
