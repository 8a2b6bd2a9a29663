"""What was refused, in the words of whoever typed the command: options instead of fields.

The service names the fields of its messages, as `job.retry_policy.max_attempts`. Where a command has one
option or argument for a field, that is named in its place; other fields stay as they are.
"""

import dataclasses
import json
import re

import click

from jobservice.errors import InvalidRequest, JobServiceError, Violation

_MOST_LINES = 20
_BEGINNINGS = (
    "schedule.job.",
    "schedule.timing.",
    "schedule.",
    "timing.",
    "job.",
    "limit.",
    "queue.",
)
_SUBSCRIPT = re.compile(r'\[(\d+|"(?:[^"\\]|\\.)*")\]')
_NUMBERED = {"command.argv", "array.items"}
"""Here the place in a list says something to people."""
_NAMES = {
    "address": ("--address",),
    "after": ("--after", "--from"),
    "array": ("--array",),
    "array.items": ("--array-items",),
    "array.max_failures": ("--max-failures",),
    "array.max_parallel": ("--max-parallel",),
    "command.argv": ("PROGRAM",),
    "command.env": ("--env",),
    "command.stdin": ("--stdin",),
    "command.work_dir": ("--work-dir",),
    "concurrency_keys": ("--key",),
    "concurrency_keys.on_conflict": ("--on-conflict",),
    "count": ("-n",),
    "dependencies": ("--after",),
    "dependency_policy": ("--after-rule",),
    "dependency_policy.on_unmet": ("--after-unmet",),
    "end_time": ("--end", "--until"),
    "ended_after": ("--since",),
    "job_id": ("JOB",),
    "job_ids": ("JOB",),
    "job_type": ("--type",),
    "jobs_per_minute": ("--rate",),
    "kind": ("KIND",),
    "labels": ("--label",),
    "misfire.max_count": ("--misfire-count",),
    "misfire.window": ("--misfire-window",),
    "name": ("--job-name", "--name", "NAME"),
    "operation_id": ("OPERATION",),
    "output_limit_bytes": ("--output-limit",),
    "rate.burst": ("--burst",),
    "required_labels": ("--require-label",),
    "resources": ("--resource",),
    "resources.cpu": ("--cpu",),
    "resources.cpu_millis": ("--cpu",),
    "resources.memory": ("--memory",),
    "resources.memory_bytes": ("--memory",),
    "resume_time": ("--until",),
    "retry_policy": ("--retries",),
    "schedule_id": ("NAME",),
    "start_after": ("--at",),
    "start_delay": ("--delay",),
    "start_time": ("--start", "--from"),
    "states": ("--state",),
    "unique_key": ("--unique",),
    "unique_key.on_duplicate": ("--on-duplicate",),
    "unique_key.scope": ("--unique-scope",),
    "unique_key.states": ("--unique-states",),
    "unique_key.window": ("--unique-window",),
    "worker_id": ("WORKER",),
}
"""What a field is called on the command line; a command has the first of these that it has. Others are
called as their field, and a field within one as the one around it."""


def told(error: JobServiceError) -> str:
    """What could not be done, for stderr: one line, and one below it for each violation."""
    first, *lines = error.message.split("\n")
    if isinstance(error, InvalidRequest) and error.violations:
        first = error.default_message()
        lines = [f"  {_line(each)}" for each in error.violations[:_MOST_LINES]]
        omitted = int(error.metadata.get("violations_omitted", 0))
        more = len(error.violations) - len(lines) + omitted
        lines += [f"  and {more} more"] if more else []
    return "\n".join([f"Error: {first} ({error.reason})", *lines])


def _line(violation: Violation) -> str:
    return f"{violation.field}: {violation.message}" if violation.field else violation.message


def name_options(error: InvalidRequest, command: click.Command) -> None:
    """Have the violations name the options and arguments of a command."""
    known = _known(command)
    error.violations = tuple(_renamed(each, known) for each in error.violations)


def name_address(error: InvalidRequest) -> None:
    """Have a violation name the variable that the address comes from where no option gave it."""
    error.violations = tuple(
        dataclasses.replace(each, field="JOBSERVICE_ADDRESS") if each.field == "address" else each
        for each in error.violations
    )


def _known(command: click.Command) -> set[str]:
    """The options of a command, and its arguments by what the help calls them."""
    found: set[str] = set()
    for each in command.params:
        if isinstance(each, click.Argument):
            found |= set(re.findall(r"[A-Z]+", each.metavar or ""))
        else:
            found |= set(each.opts)
    return found


def _renamed(violation: Violation, known: set[str]) -> Violation:
    option = option_of(violation.field, known)
    text = violation.message
    if "timing." in violation.field:  # elsewhere words in backticks are not always fields

        def rename(match: re.Match[str]) -> str:
            found = option_of(match[1], known)
            return found if found.startswith("--") else match[0]

        text = re.sub(r"`(\w+)`", rename, text)
    return dataclasses.replace(violation, field=option, message=text)


def option_of(field: str, known: set[str]) -> str:
    """What a command with these options and arguments calls a field; the field itself if nothing."""
    path = _SUBSCRIPT.sub("", field)
    for beginning in _BEGINNINGS:
        if path.startswith(beginning):
            path = path.removeprefix(beginning)
            break
    key = ""
    for subscript in _SUBSCRIPT.findall(field):
        read = json.loads(subscript)
        if isinstance(read, str) or path in _NUMBERED:
            key = f" {read}" if isinstance(read, str) else f"[{read}]"
    while path:
        for name in _NAMES.get(path, (f"--{path.replace('_', '-')}",)):
            if name in known:
                return f"{name}{key}"
        path = path.rpartition(".")[0]
    return field
