"""What was refused is said in the words of the command: options and arguments, one on each line."""

import re
from pathlib import Path

import click
import pytest

from jobservice.cli.main import cli
from jobservice.cli.refusals import _NAMES, _known, name_options, option_of, told
from jobservice.errors import InvalidRequest, NotFound, SetupError, Violation
from jobservice.wire.messages import Job
from jobservice.wire.remedies import REMEDIES
from jobservice.wire.status import from_status, to_status
from tests.cli.conftest import Shell
from tests.cli.test_command import subcommands

COMMANDS = dict(subcommands())
IDEAL = "The request is not valid."


def named(command: str, field: str) -> str:
    """What a command calls a field."""
    return option_of(field, _known(COMMANDS[command]))


@pytest.mark.parametrize(
    ("command", "field", "option"),
    [
        ("submit", "job.retry_policy.max_attempts", "--retries"),
        ("submit", "job.start_delay", "--delay"),
        ("submit", "job.start_after", "--at"),
        ("submit", "job.dependencies[3].job_id", "--after"),
        ("submit", "job.dependency_policy.at_least", "--after-rule"),
        ("submit", "job.dependency_policy.on_unmet", "--after-unmet"),
        ("submit", "job.array.size", "--array"),
        ("submit", "job.array.items[7]", "--array-items[7]"),
        ("submit", "job.array.max_parallel", "--max-parallel"),
        ("submit", "job.command.argv[2]", "PROGRAM[2]"),
        ("submit", 'job.command.env["A \\"]"]', '--env A "]'),
        ("submit", 'job.labels["X"]', "--label X"),
        ("submit", "job.concurrency_keys[0].on_conflict", "--on-conflict"),
        ("submit", "job.concurrency_keys[1].weight", "--key"),
        ("submit", "job.unique_key.key", "--unique"),
        ("submit", "job.unique_key.states[0]", "--unique-states"),
        ("submit", "job.idle_timeout", "--idle-timeout"),
        ("submit", "request_id", "--request-id"),
        ("submit", "job.of_a_newer_service", "job.of_a_newer_service"),
        ("submit", "", ""),
        ("update", "job.job_id", "JOB"),
        ("get", "job_id", "JOB"),
        ("list", "filter", "--filter"),
        ("list", "name", "--name"),
        ("history", "ended_after", "--since"),
        ("limit set", "limit.name", "NAME"),
        ("limit set", "limit.rate.period", "--rate"),
        ("limit set", "limit.rate.burst", "--burst"),
        ("limit get", "kind", "KIND"),
        ("queue create", "queue.name", "NAME"),
        ("queue update", "queue.max_running", "--max-running"),
        ("queue pause", "resume_time", "--until"),
        ("schedule create", "schedule.schedule_id", "NAME"),
        ("schedule create", "schedule.job.name", "--job-name"),
        ("schedule create", "schedule.job.queue", "--queue"),
        ("schedule create", "schedule.timing.start_time", "--start"),
        ("schedule create", "schedule.timing.end_time", "--end"),
        ("schedule create", "schedule.misfire.max_count", "--misfire-count"),
        ("schedule preview", "timing.cron", "--cron"),
        ("schedule backfill", "start_time", "--from"),
        ("schedule backfill", "end_time", "--until"),
        ("schedule backfill", "jobs_per_minute", "--rate"),
        ("bulk status", "operation_id", "OPERATION"),
        ("workers get", "worker_id", "WORKER"),
    ],
)
def test_a_field_is_called_as_the_command_calls_it(command: str, field: str, option: str) -> None:
    assert named(command, field) == option


def test_every_field_of_a_job_that_may_be_wrong_has_its_option() -> None:
    ours = [each.name for each in Job.DESCRIPTOR.fields if f"Job.{each.name}" in REMEDIES]
    assert len(ours) > 15
    strange = [name for name in ours if not named("submit", f"job.{name}").startswith("--")]
    assert strange == ["command"]  # its own fields have theirs


def test_every_name_is_one_of_some_command() -> None:
    known = set().union(*map(_known, COMMANDS.values()))
    assert {name for names in _NAMES.values() for name in names} <= known


def test_violations_are_told_one_on_a_line() -> None:
    error = InvalidRequest(
        [
            Violation("schedule.timing.phase", "must be below `every`, 5 s", "X"),
            Violation("schedule.job.name", "must be `every`", "X"),
            Violation("", "of a proxy", "X"),
        ]
    )
    name_options(error, COMMANDS["schedule create"])
    assert told(error).splitlines() == [
        f"Error: {IDEAL} (INVALID_REQUEST)",
        "  --phase: must be below --every, 5 s",
        "  --job-name: must be `every`",
        "  of a proxy",
    ]


@pytest.mark.parametrize("count", [21, 500])
def test_of_many_violations_the_first_are_told(count: int) -> None:
    error = InvalidRequest([Violation(f"f{n}", "is wrong", "X") for n in range(count)])
    _, *lines = told(from_status(to_status(error)) if count > 100 else error).splitlines()
    assert lines[0] == "  f0: is wrong"
    assert lines[20:] == [f"  and {count - 20} more"]


def test_other_errors_are_told_as_they_are() -> None:
    assert told(NotFound("There is none.")) == "Error: There is none. (JOB_NOT_FOUND)"
    assert told(SetupError("No.\n  a: b")) == "Error: No. (SETUP)\n  a: b"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ["submit", "--at", "2030-01-01T00:00Z", "--delay", "5m", "--", "x"],
            "Give one of --at and --delay, not both.",
        ),
        (
            ["submit", "--after-rule", "2", "--", "x"],
            "--after-rule is about other jobs: give --aft",
        ),
        (["submit", "--after-unmet", "hold", "--", "x"], "--after-unmet is about other jobs"),
        (
            ["submit", "--max-parallel", "2", "--", "x"],
            "--max-parallel is about an array: give --arr",
        ),
        (["submit", "--max-failures", "2", "--", "x"], "--max-failures is about an array"),
        (
            ["schedule", "create", "s", "--every", "1h", "--max-parallel", "2", "--", "x"],
            "give --array or --array-items too",
        ),
        (
            ["schedule", "backfill", "s", "--from", "2026-02-01T00Z", "--until", "2026-01-01T00Z"],
            "--until must be after --from, 2026-02-01T00:00:00+00:00; got 2026-01-01T00:00:00+00:00.",
        ),
        (["limit", "set", "key"], "Give the NAME of the key"),
        (["limit", "get", "job-type"], "Give the NAME of the job-type"),
        (["limit", "delete", "KEY"], "limit delete key NAME"),
        (["limit", "set", "queue", "default"], "`jobservice queue update NAME --max-running N`"),
        (["limit", "set", "SLOTS", "w"], "`jobservice serve --slots N`"),
        (["queue", "create", "q", "--max-depth", "99999999999"], "is above 2,147,483,647"),
    ],
)
def test_what_cannot_go_together_is_refused_before_it_is_sent(
    arguments: list[str], complaint: str
) -> None:
    with pytest.raises(click.UsageError) as raised:
        cli.main(arguments, standalone_mode=False)
    assert complaint in raised.value.format_message()


def test_a_limit_is_named_as_the_list_shows_it(shell: Shell) -> None:
    shell.ok("limit", "set", "job_type", "refusals", "--max-running", "3")
    assert re.search(r"^JOB_TYPE +refusals ", shell.ok("limit", "list").out, re.MULTILINE)
    assert "0 of 3" in shell.ok("limit", "get", "JOB_TYPE", "refusals").out
    shell.ok("limit", "delete", "job-type", "refusals")


def test_the_output_of_an_index_of_what_is_no_array(shell: Shell) -> None:
    job_id = shell.submit("--", "true")
    ran = shell("logs", "--index", "0", job_id)
    assert ran.code == 66
    assert f"Job {job_id} is no array, with no index 0" in ran.err


def test_a_schedule_that_is_too_quick_says_so_in_its_unit(shell: Shell) -> None:
    ran = shell("schedule", "create", "quick", "--every", "1ms", "--jitter", "3d", "--", "true")
    assert ran.code == 2
    assert ran.err.splitlines()[:3] == [
        f"Error: {IDEAL} (INVALID_REQUEST)",
        "  --every: must be from 1 s to 366 days; got 1 ms",
        "  --jitter: must be from 0 s to 1 day; got 3 d",
    ]


def test_fields_of_a_filter_are_listed_once(shell: Shell) -> None:
    ran = shell("list", "--filter", "foo = 1 AND bar = 2")
    assert ran.code == 2
    assert ran.err.count("job_id, name, queue") == 1
    assert "  --filter: at character 13: `bar` is no field\n" in ran.err


def test_jobs_that_are_none_are_told_one_by_one(shell: Shell) -> None:
    ran = shell("get", "foo", "bar")
    assert ran.code == 2
    assert [line for line in ran.err.splitlines() if "JOB: must be a job id" in line] == [
        f'  JOB: must be a job id: `j` and 26 of `0-9 a-v`; got "{each}"' for each in ("foo", "bar")
    ]


def test_an_address_from_the_environment_is_named_so(alone: Shell) -> None:
    ran = alone("list", JOBSERVICE_ADDRESS="here")
    assert ran.code == 2
    assert "  JOBSERVICE_ADDRESS: must be unix:/ABSOLUTE/PATH or HOST:PORT" in ran.err


def test_what_is_no_store_is_named_by_its_option(alone: Shell, tmp_path: Path) -> None:
    file = f"sqlite:{tmp_path}/x.db"
    ran = alone("db", "copy", "--from", "foo", "--to", "bar")
    assert ran.code == 78
    assert "--from: 'foo' is not the address of a store; give sqlite:PATH or" in ran.err
    ran = alone("db", "copy", "--from", file, JOBSERVICE_COPY_TO="postgres:u:secret@host")
    assert ran.code == 78
    assert "JOBSERVICE_COPY_TO: what was given is not the address of a store" in ran.err
    assert "secret" not in ran.err
