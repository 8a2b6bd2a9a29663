"""What a job finds around it, and what is told of its end."""

import datetime as dt
import os
import pwd
import signal
import stat
from pathlib import Path
from typing import Any

import pytest

from jobservice import Client, Job, RetryPolicy, State
from jobservice.model.event import Event, EventKind
from jobservice.model.job import AttemptState
from jobservice.model.lifecycle import Reason
from jobservice.testing.server import Server
from jobservice.testing.wait import wait_until
from tests.integration.bare import output

SIGNALS_OF_GLIBC = 0b11 << 31
"""32 and 33, which its posix_spawn(3) leaves ignored and its programs set for themselves."""
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def run(client: Client, *argv: str, **options: Any) -> Job:
    return client.wait(client.create(argv, **options), timeout=40)


def variables(client: Client, job: Job) -> dict[str, str]:
    found = output(client, job).decode().rstrip("\0").split("\0")
    return dict(each.split("=", 1) for each in found)


# --- what it finds --------------------------------------------------------------------------------


def test_the_environment_is_exactly_what_is_declared(client: Client, service: Server) -> None:
    own = {"GREETING": "grüß dich", "EMPTY": "", "LINES": "a\nb", "_x1": "=$HOME=", "LANG": "C"}
    job = run(client, "env", "-0", env=own)
    directory = service.data_dir / "attempts" / job.job_id[1:7] / f"{job.job_id}-1"
    assert variables(client, job) == {
        "PATH": DEFAULT_PATH,
        "HOME": pwd.getpwuid(os.getuid()).pw_dir,
        "JOBSERVICE_JOB_ID": job.job_id,
        "JOBSERVICE_ATTEMPT": "1",
        "JOBSERVICE_ATTEMPT_KEY": f"default/{job.job_id}/1/1",
        "JOBSERVICE_PROGRESS": f"{directory}/progress",
        **own,
    }
    plain = variables(client, run(client, "env", "-0"))
    assert plain["LANG"] == "C.UTF-8"
    assert "GREETING" not in plain


def test_the_program_is_looked_up_in_the_path_of_the_job(client: Client, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("#!/bin/sh\necho found $0\n")
    (tmp_path / "mine").chmod(0o755)
    found = run(client, "mine", env={"PATH": f"/nowhere:{tmp_path}:/bin"})
    assert output(client, found) == f"found {tmp_path}/mine\n".encode()
    assert run(client, "mine").reason is Reason.LAUNCH_FAILED
    relative = run(client, "./mine", work_dir=tmp_path)
    assert relative.state is State.SUCCEEDED


def test_there_is_no_shell(client: Client) -> None:
    job = run(client, "printf", "%s|", "$HOME", "*", "a b", "", ";", "'", "ü", "-n")
    assert output(client, job) == "$HOME|*|a b||;|'|ü|-n|".encode()


@pytest.mark.parametrize("size", [0, 1, 65_537, 1 << 20])
def test_input_of_up_to_a_mebibyte_is_read_to_its_end(local: Client, size: int) -> None:
    data = os.urandom(size)
    job = run(local, "cat", stdin=data)
    assert (job.state, output(local, job)) == (State.SUCCEEDED, data)


def test_input_that_is_not_read_harms_nothing(local: Client) -> None:
    assert run(local, "true", stdin=bytes(1 << 20)).state is State.SUCCEEDED


def test_a_job_has_a_fresh_directory_for_each_attempt(local: Client, service: Server) -> None:
    policy = RetryPolicy(max_attempts=2, initial_backoff=dt.timedelta(0))
    job = run(local, "sh", "-c", "pwd; ls -A; touch left; exit 1", retry_policy=policy)
    shard = service.data_dir / "attempts" / job.job_id[1:7]
    for number in (1, 2):
        directory = shard / f"{job.job_id}-{number}"
        assert output(local, job, attempt=number).decode() == f"{directory}/work\n"
        assert (directory / "work" / "left").exists(), "what it leaves stays until the delete"
        assert (directory / "stdout").read_bytes() == f"{directory}/work\n".encode()
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    local.delete(job)
    assert list(shard.parent.rglob(f"{job.job_id}*")) == []


def test_a_job_starts_in_the_directory_it_names(client: Client, tmp_path: Path) -> None:
    job = run(client, "sh", "-c", "pwd; echo made > file", work_dir=tmp_path)
    assert output(client, job).decode() == f"{tmp_path}\n"
    assert (tmp_path / "file").read_text() == "made\n"
    client.delete(job)
    assert (tmp_path / "file").exists(), "a directory that is not ours is not ours to remove"


def test_nothing_is_inherited(local: Client) -> None:
    script = (
        "echo $(ls /proc/self/fd); read -r _ _ _ _ _ session terminal _ </proc/$$/stat;"
        " echo $session = $$; echo $terminal; umask; sed -n 's/Sig[BI].*:\\t//p' /proc/self/status"
    )
    job = run(local, "sh", "-c", script)
    open_files, session, terminal, umask, blocked, ignored = (
        output(local, job).decode().split("\n")[:6]
    )
    assert open_files == "0 1 2 3", "the last is that of ls, to read the directory"
    assert session.partition(" = ")[0] == session.partition(" = ")[2]
    assert (terminal, umask, int(blocked, 16)) == ("0", "0022", 0)
    assert int(ignored, 16) & ~SIGNALS_OF_GLIBC == 0


# --- how it ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 2, 42, 126, 127, 128, 137, 255])
def test_exit_codes_are_told_as_they_are(local: Client, code: int) -> None:
    job = run(local, "sh", "-c", f"exit {code}")
    assert (job.exit_code, job.signal, job.attempts[0].exit_code) == (code, None, code)
    if code:
        assert (job.state, job.reason) == (State.FAILED, Reason.EXIT_CODE)
        assert job.message == f"exited with {code}"
    else:
        assert (job.state, job.reason, job.message) == (State.SUCCEEDED, Reason.NONE, "")


SIGNALS = ["HUP", "INT", "QUIT", "ABRT", "KILL", "USR1", "SEGV", "PIPE", "ALRM", "TERM", "XCPU"]


@pytest.mark.parametrize("name", [*SIGNALS, "40"])
def test_signals_are_told_as_they_are(local: Client, name: str) -> None:
    number = int(name) if name.isdigit() else signal.Signals[f"SIG{name}"].value
    job = run(local, "sh", "-c", f"ulimit -c 0; kill -{number} $$; sleep 5")
    assert (job.state, job.reason, job.exit_code) == (State.FAILED, Reason.SIGNAL, None)
    assert (job.signal, job.attempts[0].signal) == (number, number)
    assert job.message == ("ended by signal 40" if name == "40" else f"ended by SIG{name}")


def test_launches_that_fail_say_why(local: Client, tmp_path: Path) -> None:
    plain, script, file = (tmp_path / each for each in ("plain", "script", "file"))
    plain.write_text("no program")
    script.write_text("#!/no/interpreter\n")
    file.write_bytes(b"\0\0\0")
    script.chmod(0o755)
    file.chmod(0o755)
    cases: dict[str, tuple[list[str], dict[str, Any]]] = {
        "The program '/no/program' does not exist. (program: ENOENT)": (["/no/program"], {}),
        f"The program 'nope' was not found in PATH ({DEFAULT_PATH}). (program: ENOENT)": (
            ["nope"], {},
        ),
        f"The program '{plain}' is not executable. (program: EACCES)": ([str(plain)], {}),
        f"The program '{tmp_path}' is a directory. (program: EACCES)": ([str(tmp_path)], {}),
        f"The interpreter '/no/interpreter' of the script '{script}' does not exist."
        " (program: ENOENT)": ([str(script)], {}),
        f"The program '{file}' is neither an executable of this machine nor a script that begins"
        " with '#!'. (program: ENOEXEC)": ([str(file)], {}),
        "The working directory '/no/dir' does not exist. (working directory: ENOENT)": (
            ["true"], {"work_dir": "/no/dir"},
        ),
        f"The working directory '{plain}' is not a directory. (working directory: ENOTDIR)": (
            ["true"], {"work_dir": plain},
        ),
    }  # fmt: skip
    jobs = [local.create(argv, **options) for argv, options in cases.values()]
    if os.getuid() != 0:  # root may enter everything
        closed = tmp_path / "closed"
        closed.mkdir(0)
        message = (
            f"The working directory '{closed}' may not be entered. (working directory: EACCES)"
        )
        cases[message] = ([], {})
        jobs.append(local.create(["true"], work_dir=closed))
    for job, message in zip(jobs, cases, strict=True):
        done = local.wait(job, timeout=20)
        assert (done.state, done.reason) == (State.FAILED, Reason.LAUNCH_FAILED)
        assert done.message == done.attempts[0].message == message
        assert (done.exit_code, done.signal, done.started_at) == (None, None, None)
        assert list(local.logs(done)) == []


# --- time -----------------------------------------------------------------------------------------


def test_a_timeout_stops_the_whole_tree(local: Client, service: Server) -> None:
    script = (
        "trap 'echo stopped' TERM; (trap '' TERM; sleep 600) & (sleep 600; echo no) & wait; wait"
    )
    job = run(local, "sh", "-c", script, timeout=0.5, stop_grace=0.5)
    assert (job.state, job.reason) == (State.FAILED, Reason.RUN_TIMEOUT)
    assert (job.failure_count, job.attempts[0].state) == (1, AttemptState.FAILED)
    assert job.message == "ran longer than its timeout"
    assert output(local, job) == b"stopped\n"
    assert service.job_processes() == []
    assert job.started_at is not None
    assert job.ended_at is not None
    assert 0.5 <= (job.ended_at - job.started_at).total_seconds() < 5


def test_a_timeout_is_a_failure_that_is_retried(local: Client) -> None:
    policy = RetryPolicy(max_attempts=3, initial_backoff=dt.timedelta(0))
    script = "test $JOBSERVICE_ATTEMPT = 3 || exec sleep 600"
    job = run(local, "sh", "-c", script, timeout=0.3, retry_policy=policy)
    assert (job.state, job.attempt_count, job.failure_count) == (State.SUCCEEDED, 3, 2)
    reasons = [each.reason for each in job.attempts]
    assert reasons == [Reason.RUN_TIMEOUT, Reason.RUN_TIMEOUT, Reason.NONE]


@pytest.mark.parametrize(("grace", "ends"), [(0, 9), (1.0, 9), (20, None)])
def test_the_grace_is_kept(local: Client, grace: float, ends: int | None) -> None:
    tidy = "trap 'sleep 0.3; echo tidy; exit 7' TERM" if ends is None else "trap '' TERM"
    script = f"{tidy}; echo ready; while :; do sleep 0.05; done"
    job = local.create(["sh", "-c", script], stop_grace=grace)
    wait_until(lambda: output(local, job))
    asked = dt.datetime.now(dt.UTC)
    done = local.cancel(job, wait=True)
    assert done.ended_at is not None
    took = (done.ended_at - asked).total_seconds()
    assert (done.state, done.signal) == (State.CANCELLED, ends)
    if ends is None:
        assert (output(local, job), done.exit_code) == (b"ready\ntidy\n", 7)
        assert took < 10
    else:
        assert grace - 0.1 <= took < grace + 3


# --- retries --------------------------------------------------------------------------------------


def test_retries_wait_longer_and_longer_within_their_bounds(local: Client) -> None:
    policy = RetryPolicy(
        max_attempts=4,
        initial_backoff=dt.timedelta(milliseconds=200),
        multiplier=3,
        max_backoff=dt.timedelta(milliseconds=500),
    )
    job = local.create(["false"], retry_policy=policy)
    events = [each for each in local.watch([job], timeout=30) if isinstance(each, Event)]
    retrying = [each for each in events if each.kind is EventKind.RETRYING]
    done = local.get(job)
    assert (done.state, done.attempt_count, done.failure_count) == (State.FAILED, 4, 4)
    assert [each.state for each in retrying] == [State.SCHEDULED] * 3
    for number, (event, longest) in enumerate(zip(retrying, (0.2, 0.5, 0.5), strict=True)):
        assert event.start_at is not None
        assert 0 <= (event.start_at - event.at).total_seconds() <= longest
        assert done.attempts[number + 1].claimed_at >= event.start_at


def test_waits_are_spread(local: Client) -> None:
    policy = RetryPolicy(max_attempts=2, initial_backoff=dt.timedelta(hours=1))
    jobs = local.create_many([["false"]] * 24, retry_policy=policy)
    wait_until(lambda: all(local.get(job).failure_count for job in jobs))
    waits = []
    for job in jobs:
        found = local.get(job)
        assert found.attempts[0].ended_at is not None
        if found.start_at is not None:  # else its wait was over at once
            waits.append((found.start_at - found.attempts[0].ended_at).total_seconds())
    assert len(waits) > len(jobs) // 2
    assert 0 <= min(waits) < 250, waits
    assert 350 < max(waits) <= 600.1, "10 minutes are the longest wait where nothing else is said"
    assert len(set(waits)) == len(waits)
