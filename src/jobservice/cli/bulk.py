"""`jobservice bulk`: changes of many jobs at once, by a filter."""

import sys
from itertools import islice
from typing import Any

import click

from jobservice.cli.options import AT_MOST, PRIORITY, UNLIMITED, Command, client_options, connected
from jobservice.cli.output import instant, one_line, say, show_fields, show_json, show_table
from jobservice.client.sync import Client
from jobservice.client.values import MatchCount
from jobservice.model.operation import Action, Operation

OPERATION = click.argument("operation", metavar="OPERATION")
_FAILED = 1


@click.group("bulk")
def bulk_command() -> None:
    r"""Change many jobs at once, by a filter.

    A change goes on in the service by itself, in small batches, over the jobs that are there when it
    begins; a restart of the service does not stop it. docs/reference/filters.md says what a filter is;
    '*' is all jobs.

    \b
    Examples:
      jobservice bulk cancel --filter 'state = QUEUED AND labels.team = core' --dry-run
      jobservice bulk retry --filter 'state = FAILED AND end_time > 2026-11-25T08:00:00Z' --yes
      jobservice bulk priority high --filter 'name = nightly*' --wait
      jobservice bulk delete --filter 'end_time < 2026-01-01T00:00:00Z' --max-per-second 50
    """


def _change_options(command: Command) -> Command:
    """What every change takes."""
    command = client_options(command)
    for option in (
        click.option("--yes", is_flag=True, help="Do not ask; needed where nobody can be asked."),
        click.option("--wait", is_flag=True, help="Return when all of it is done."),
        click.option("--dry-run", is_flag=True, help="Count the jobs, and change nothing."),
        click.option(
            "--request-id", default="", metavar="ID",
            help="Begin the change once, however often this is called with ID.",
        ),
        click.option(
            "--max-per-second", type=UNLIMITED, default=0, metavar="N",
            help="Change so many jobs in a second at most; 0: no limit [0].",
        ),
        click.option(
            "--reason", default="", metavar="TEXT",
            help="Why, for people; jobs that are cancelled or held say it.",
        ),
        click.option(
            "--filter", "expression", required=True, metavar="FILTER",
            help="Which jobs: an AIP-160 filter; * is all of them.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


@bulk_command.command("cancel")
@_change_options
def cancel_command(**given: Any) -> None:
    """End jobs.

    Those that wait end at once, those that run with their whole process tree.
    """
    _change(Action.CANCEL, "Cancel", **given)


@bulk_command.command("hold")
@_change_options
def hold_command(**given: Any) -> None:
    """Keep jobs that wait from starting, until they are released."""
    _change(Action.HOLD, "Hold", **given)


@bulk_command.command("release")
@_change_options
def release_command(**given: Any) -> None:
    """Let jobs go on that are on hold."""
    _change(Action.RELEASE, "Release", **given)


@bulk_command.command("retry")
@_change_options
def retry_command(**given: Any) -> None:
    """Queue jobs that have ended once more."""
    _change(Action.RETRY, "Retry", **given)


@bulk_command.command("delete")
@_change_options
def delete_command(**given: Any) -> None:
    """Delete jobs with their output and history.

    Those that live are cancelled first.
    """
    _change(Action.DELETE, "Delete", **given)


@bulk_command.command("priority")
@click.argument("priority", type=PRIORITY, metavar="PRIORITY")
@_change_options
def priority_command(priority: int | str, **given: Any) -> None:
    """Give jobs that are not final another priority.

    It is high, medium, low, or a number from -100 to 100.
    """
    _change(Action.SET_PRIORITY, "Change the priority of", priority=priority, **given)


@bulk_command.command("status")
@OPERATION
@client_options
def status_command(operation: str, address: str | None, *, as_json: bool) -> None:
    """Show how far a change is."""
    with connected(address) as client:
        found = client.operation(operation)
    show_json(found) if as_json else show_fields(_fields(found))


@bulk_command.command("list")
@click.option(
    "--limit", type=AT_MOST, default=50, metavar="N", help="How many changes at most; 0: all [50]."
)
@client_options
def list_command(limit: int, address: str | None, *, as_json: bool) -> None:
    """List changes, newest first."""
    with connected(address) as client:
        found = list(islice(client.operations(), limit or None))
    if as_json:
        for each in found:
            show_json(each)
    elif found:
        header = ("OPERATION", "STATE", "ACTION", "DONE", "SKIPPED", "FAILED", "CREATED", "FILTER")
        show_table(header, [_row(each) for each in found])
    else:
        say("No changes.")


@bulk_command.command("stop")
@OPERATION
@client_options
def stop_command(operation: str, address: str | None, *, as_json: bool) -> None:
    """End a change where it is; what it has changed stays so."""
    with connected(address) as client:
        _show(client.cancel_operation(operation), as_json=as_json)


# --- what they share --------------------------------------------------------------------------


def _change(
    action: Action,
    verb: str,
    *,
    expression: str,
    dry_run: bool,
    wait: bool,
    yes: bool,
    address: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    with connected(address) as client:
        if dry_run:
            found = client.bulk_count(action, expression)
            show_json(found) if as_json else click.echo(_jobs(found))
            return
        if not yes and not _is_confirmed(client, action, f"{verb} them?", expression):
            return
        operation = client.bulk(action, expression, **options)
        if wait:
            operation = client.wait_operation(operation)
        _show(operation, as_json=as_json)
    if operation.failed_count:
        sys.exit(_FAILED)


def _is_confirmed(client: Client, action: Action, question: str, expression: str) -> bool:
    """Whether the person at the terminal wants it, knowing how many jobs it is about."""
    if not sys.stdin.isatty():
        raise click.UsageError("Give --yes where nobody can be asked; --dry-run counts the jobs.")
    found = client.bulk_count(action, expression)
    if not found.count:
        say("No jobs.")
        return False
    click.confirm(f"{_jobs(found)}. {question}", abort=True, err=True)
    return True


def _jobs(found: MatchCount) -> str:
    jobs = "1 job" if found.count == 1 else f"{found.count:,} jobs"
    return f"at least {jobs}" if found.is_at_least else jobs


def _show(operation: Operation, *, as_json: bool) -> None:
    if as_json:
        show_json(operation)
        return
    counts = f"{operation.done_count:,} done, {operation.skipped_count:,} skipped"
    failed = f", {operation.failed_count:,} failed" if operation.failed_count else ""
    click.echo(f"{operation.operation_id} {operation.state.name} {counts}{failed}")


def _action(operation: Operation) -> str:
    change = operation.change
    to = "" if change.priority is None else f" {change.priority}"
    return f"{change.action.name}{to}"


def _row(operation: Operation) -> list[str]:
    return [
        operation.operation_id,
        operation.state.name,
        _action(operation),
        f"{operation.done_count:,}",
        f"{operation.skipped_count:,}",
        f"{operation.failed_count:,}",
        instant(operation.created_at),
        one_line(operation.change.filter),
    ]


def _fields(operation: Operation) -> list[tuple[str, str]]:
    change = operation.change
    return [
        ("operation", operation.operation_id),
        ("state", operation.state.name),
        ("action", _action(operation)),
        ("filter", one_line(change.filter)),
        ("why", one_line(change.reason)),
        ("at most", f"{change.max_per_second:,} jobs a second" if change.max_per_second else ""),
        ("matched", f"{operation.matched_count:,}"),
        ("done", f"{operation.done_count:,}"),
        ("skipped", f"{operation.skipped_count:,}"),
        ("failed", f"{operation.failed_count:,}"),
        ("created", instant(operation.created_at)),
        ("ended", instant(operation.ended_at)),
    ]
