"""`jobservice schedule` with a real service."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given

from jobservice.cli import kept
from jobservice.client.calls import job_message
from jobservice.model.spec import DependencyPolicy, JobSpec
from jobservice.testing.wait import wait_until
from jobservice.wire.convert import to_spec
from tests.cli.conftest import Shell
from tests.wire import values


@pytest.fixture
def tidy(shell: Shell) -> Iterator[Shell]:
    """The command; no schedule is left."""
    yield shell
    for each in shell.ok("schedule", "list", "--json").objects:
        shell.ok("schedule", "delete", each["schedule_id"])


def test_a_schedule_from_its_beginning_to_its_end(tidy: Shell) -> None:
    made = tidy.ok(
        "schedule", "create", "nightly", "--cron", "30 2 * * *", "--time-zone", "Europe/Berlin",
        "--overlap", "buffer-one", "--misfire", "all", "--misfire-count", "3",
        "--misfire-window", "2h", "--jitter", "5m", "--pause-after-failures", "2",
        "--description", "every night", "--job-name", "backup", "--retries", "1",
        "--", "./backup.sh", "--all",
    )  # fmt: skip
    assert made.out.startswith("nightly fires next at 2")
    [found] = tidy.ok("schedule", "get", "nightly", "--json").objects
    assert found["job"]["command"]["argv"] == ["./backup.sh", "--all"]
    assert (found["job"]["name"], found["job"]["retry_policy"]["max_attempts"]) == ("backup", 2)
    assert found["timing"]["cron"] == "30 2 * * *"
    assert found["misfire"] == {
        "policy": "MISFIRE_POLICY_ALL", "max_count": 3, "window": "7200s"
    }  # fmt: skip
    assert found["overlap"] == "OVERLAP_POLICY_BUFFER_ONE"
    shown = tidy.ok("schedule", "get", "nightly").out
    assert "when:        30 2 * * * Europe/Berlin" in shown
    assert "failures:    paused after 2 in a row" in shown
    assert tidy.ok("schedule", "list").lines[1].startswith("nightly  ")
    changed = tidy.ok("schedule", "update", "nightly", "--every", "90m", "--json").objects[0]
    assert (changed["timing"]["every"], changed["timing"]["cron"]) == ("5400s", "")
    assert changed["description"] == "every night"
    paused = tidy.ok("schedule", "pause", "nightly", "--reason", "a flood")
    assert paused.out == "nightly is paused: a flood\n"
    tidy.ok("schedule", "resume", "nightly")
    gone = tidy.ok("schedule", "delete", "nightly")
    assert (gone.out, gone.err) == ("", "nightly is gone.\n")
    assert tidy("schedule", "get", "nightly").code == 66
    assert tidy("schedule", "delete", "nightly", "--missing-ok").code == 0


def test_runs_are_shown_and_a_trigger_prints_the_id(tidy: Shell) -> None:
    tidy.ok("schedule", "create", "tick", "--every", "1s", "--", "true")
    job_id = tidy.ok("schedule", "trigger", "tick").out.strip()
    wait_until(lambda: "TIMER" in tidy.ok("schedule", "runs", "tick").out)
    lines = tidy.ok("schedule", "runs", "tick", "--limit", "0").lines
    assert lines[0].split() == ["NOMINAL", "TIME", "OUTCOME", "CAUSE", "JOB", "MESSAGE"]
    assert any(job_id in line and "TRIGGER" in line for line in lines)
    assert tidy.ok("list", "--filter", "schedule = tick").lines


def test_a_preview_in_words_and_as_json(tidy: Shell) -> None:
    shown = tidy.ok(
        "schedule", "preview", "--cron", "30 2 * * *", "--time-zone", "Europe/Berlin",
        "--from", "2027-03-27T12:00Z", "-n", "1",
    )  # fmt: skip
    assert shown.lines[0] == "at 02:30 every day, Europe/Berlin"
    assert "02:30 is skipped by a change of the clocks" in shown.lines[2]
    [found] = tidy.ok("schedule", "preview", "--every", "1h", "-n", "3", "--json").objects
    assert len(found["fires"]) == 3
    once = tidy.ok(
        "schedule", "preview", "--at", "2026-01-01T00:00Z", "--from", "2027-01-01T00:00Z"
    )
    assert once.err == "It does not fire any more.\n"


def test_a_backfill_is_counted_begun_and_cancelled(tidy: Shell) -> None:
    tidy.ok("schedule", "create", "nightly", "--cron", "@daily", "--", "true")
    between = "--from", "2026-01-01T00:00Z", "--until", "2026-01-08T00:00Z"
    counted = tidy.ok("schedule", "backfill", "nightly", *between, "--dry-run")
    assert counted.out == "7 times from 2026-01-01T00:00:00Z to 2026-01-08T00:00:00Z\n"
    assert tidy.ok("schedule", "backfill", "nightly", "--cancel").out == "There is no backfill.\n"
    tidy.ok("schedule", "backfill", "nightly", *between, "--rate", "1")
    assert tidy("schedule", "backfill", "nightly", *between).code == 65
    cancelled = tidy.ok("schedule", "backfill", "nightly", "--cancel", "--json").objects[0]
    assert cancelled["backfill"]["state"] == "BACKFILL_STATE_CANCELLED"
    again = tidy.ok("schedule", "backfill", "nightly", "--cancel")
    assert again.out.startswith("CANCELLED: ")


def test_lengths_of_time_and_a_last_fire_are_said_in_words(tidy: Shell) -> None:
    tidy.ok("schedule", "create", "tick", "--every", "90m", "--", "true")
    shown = tidy.ok("schedule", "get", "tick").out
    assert "when:        every 1h30m\n" in shown
    assert "misfire:     LAST, within 1h00m\n" in shown
    tidy.ok("schedule", "update", "tick", "--every", "2s")
    assert "every 2s " in tidy.ok("schedule", "list").out
    once = tidy.ok("schedule", "update", "tick", "--at", "2020-01-01T00:00Z")
    assert once.out == "tick fires no more\n"


def test_an_update_keeps_what_is_not_given(tidy: Shell) -> None:
    def update(*options: str) -> Any:
        return tidy.ok("schedule", "update", "cc", "--json", *options).objects[0]

    made = tidy.ok(
        "schedule", "create", "cc", "--json", "--cron", "30 2 * * *", "--time-zone", "Asia/Tokyo",
        "--jitter", "5m", "--misfire", "all", "--misfire-window", "2h", "--queue", "nights",
        "--priority", "high", "--label", "a=b", "--env", "A=b", "--retries", "2", "--timeout", "1h",
        "--key", "db:3", "--cpu", "0.5", "--resource", "gpu=1", "--", "./old", "--all",
    ).objects[0]  # fmt: skip
    job = update("--", "./new")["job"]
    assert job.pop("command") == made["job"]["command"] | {"argv": ["./new"]}
    assert job == {name: part for name, part in made["job"].items() if name != "command"}
    job = update("--priority", "0", "--retries", "4", "--cpu", "2")["job"]
    assert (job["priority"], job["queue"], job["command"]["argv"]) == (0, "nights", ["./new"])
    assert job["retry_policy"] == made["job"]["retry_policy"] | {"max_attempts": 5}
    assert job["resources"] == made["job"]["resources"] | {"cpu_millis": "2000"}
    ending = update("--end", "2099-01-01T00:00Z")
    assert ending["timing"] == made["timing"] | {"end_time": "2099-01-01T00:00:00Z"}
    assert update("--misfire-count", "3")["misfire"] == made["misfire"] | {"max_count": 3}
    hourly = update("--every", "1h")["timing"]
    assert (hourly["every"], hourly["cron"], hourly["time_zone"]) == ("3600s", "", "UTC")
    refused = tidy("schedule", "update", "cc", "--time-zone", "Asia/Tokyo")
    assert (refused.code, "--time-zone is about --cron" in refused.err) == (2, True)
    refused = tidy("schedule", "update", "cc", "--fairness-weight", "2")
    assert (refused.code, "give --fairness-key too" in refused.err) == (2, True)
    assert (hourly["jitter"], hourly["end_time"]) == ("300s", "2099-01-01T00:00:00Z")
    bare = update("--replace", "--every", "2h", "--", "true")
    assert (bare["job"]["queue"], "jitter" in bare["timing"]) == ("default", False)


def test_an_update_does_not_guess_the_items_of_an_array(tidy: Shell) -> None:
    tidy.ok("schedule", "create", "wide", "--cron", "@daily", "--array", "3", "--max-parallel", "2",
            "--", "true")  # fmt: skip
    refused = tidy("schedule", "update", "wide", "--priority", "high")
    assert (refused.code, "the items of an array cannot be read back" in refused.err) == (2, True)
    wide = tidy.ok("schedule", "update", "wide", "--array", "4", "--json").objects[0]
    assert (wide["job"]["array"]["size"], wide["job"]["array"]["max_parallel"]) == (4, 2)


@given(values.specs.filter(lambda spec: not spec.dependencies))
def test_the_options_that_are_kept_make_the_same_job(spec: JobSpec) -> None:
    spec = dataclasses.replace(spec, start_after=None, dependency_policy=DependencyPolicy())
    array = {} if spec.array is None else {"array": list(spec.array.items) or spec.array.size}
    options = kept.job_options(spec, array)
    assert to_spec(job_message(spec.command.argv, options)) == spec


def test_the_jobs_of_a_schedule_may_be_arrays_and_have_timeouts(tidy: Shell) -> None:
    options = "--array", "3", "--queue-timeout", "1h", "--total-timeout", "2h"
    tidy.ok("schedule", "create", "wide", "--cron", "@daily", *options, "--", "true")
    [found] = tidy.ok("schedule", "get", "wide", "--json").objects
    job = found["job"]
    assert (job["array"]["size"], job["queue_timeout"], job["total_timeout"]) == (
        3, "3600s", "7200s",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "x", "--cron", "x", "--", "true"], "--cron: must be five fields"),
        (["create", "x", "--every", "soon", "--", "true"], "is no length of time"),
        (["create", "x", "--at", "soon", "--", "true"], "is no instant"),
        (["create", "x", "--cron", "@daily"], "Missing argument"),
        (["update", "x"], "Nothing to change"),
        (["update", "x", "--replace"], "Nothing to change"),
        (["update", "x", "--queue", "q", "--replace"], "Give the program too"),
        (["backfill", "x"], "Give --from and --until"),
        (["preview"], "must be given, or a timing instead"),
        (["create", "x", "--", "true"], "must be given, with one of cron, every and at"),
        (["create", "x", "--every", "9999d", "--", "true"], "got 863,913,600 s"),
    ],
)
def test_what_cannot_be_is_said(shell: Shell, arguments: list[str], said: str) -> None:
    ran = shell("schedule", *arguments)
    assert ran.code == 2
    assert said in ran.err


def test_the_examples_of_a_command_of_a_group_are_laid_out(shell: Shell) -> None:
    text = shell.ok("schedule", "create", "--help").out
    assert "\\b" not in text
    assert "\n    jobservice schedule create nightly --cron" in text
