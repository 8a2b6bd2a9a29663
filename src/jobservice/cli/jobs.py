"""Commands about jobs that exist: where they are, and lists of them."""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import click

from jobservice.cli.options import (
    FINAL_STATES,
    JOB,
    JOBS,
    LENGTH,
    STATES,
    client_options,
    connected,
    filter_options,
    filters,
    for_each,
    states,
)
from jobservice.cli.output import (
    coloured,
    command_line,
    instant,
    length,
    one_line,
    percent,
    say,
    show_fields,
    show_json,
    show_table,
)
from jobservice.client.sync import Client
from jobservice.client.values import JobStatus
from jobservice.clock import SystemClock
from jobservice.model.job import Attempt, Job
from jobservice.model.limit import ConcurrencyKey
from jobservice.model.placements import resources_words
from jobservice.model.unique import OnDuplicate, UniqueKey, UniqueScope
from jobservice.model.worker import Placement


@click.command("status")
@JOB
@client_options
def status_command(job: str, address: str | None, *, as_json: bool) -> None:
    r"""Show where a job is right now, and what it waits for.

    \b
    Examples:
      jobservice status j06b1v0q2c7k8n3r5t9w1x4z6a0
      jobservice status --json "$id" | jq -r .state
    """
    with connected(address) as client:
        found = client.status(job)
    show_json(found) if as_json else show_fields(_status_fields(found))


def _status_fields(status: JobStatus) -> Iterator[tuple[str, str]]:
    attempt = status.attempt
    yield "job", status.job_id
    yield "state", coloured(status.state)
    yield "reason", _reason(status)
    yield "waiting", status.waiting_reason
    yield "place", _place(status.queue_position)
    yield "progress", f"{percent(status.progress_percent)} {one_line(status.current_step)}".strip()
    yield "done at", instant(status.estimated_completion)
    yield "attempt", str(attempt.attempt) if attempt else ""
    yield "next start", instant(status.start_at)
    yield "created", instant(status.created_at)
    yield "started", instant(status.started_at)
    yield "ended", instant(status.ended_at)


def _place(before: int | None) -> str:
    if before is None:
        return ""
    return f"{before:,} job{'s' * (before != 1)} before it" if before else "the next one"


def _reason(value: Job | JobStatus | Attempt) -> str:
    if not value.reason:
        return ""
    return f"{value.reason.name}: {one_line(value.message)}" if value.message else value.reason.name


@click.command("get")
@JOBS
@client_options
def get_command(jobs: tuple[str, ...], address: str | None, *, as_json: bool) -> None:
    """Show all of a job: what was asked for, and every attempt."""
    with connected(address) as client:

        def show(job: str) -> None:
            found = client.get(job)
            if as_json:
                show_json(found)
            else:
                show_fields(_job_fields(found))
                _show_attempts(found.attempts)

        for_each(jobs, show)


def _job_fields(job: Job) -> Iterator[tuple[str, str]]:
    spec = job.spec
    yield "job", job.job_id
    yield "name", one_line(spec.name)
    yield "type", spec.job_type
    yield "command", command_line(spec.command.argv)
    yield "work dir", one_line(spec.command.work_dir)
    yield "env", " ".join(sorted(spec.command.env))
    yield "labels", " ".join(f"{key}={one_line(value)}" for key, value in spec.labels.items())
    yield "queue", f"{spec.queue}, priority {spec.priority}, cluster {spec.cluster}"
    yield "keys", ", ".join(map(_key, spec.concurrency_keys))
    yield "unique", "" if spec.unique_key is None else _unique(spec.unique_key)
    yield "worker", _placement(spec.placement)
    yield "turns of", one_line(spec.fairness_key)
    yield "timeout", length(spec.timeout)
    yield "idle time", length(spec.idle_timeout)
    yield "queue time", length(spec.queue_timeout)
    yield "total time", length(spec.total_timeout)
    yield "deadline", instant(spec.deadline)
    yield "array", _array(job)
    if spec.array is None:
        yield "attempts", f"{job.attempt_count} (at most {spec.retry.max_attempts} may fail)"
    yield "state", coloured(job.state)
    yield "reason", _reason(job)
    yield "created", instant(job.created_at)
    yield "next start", instant(job.start_at)
    yield "started", instant(job.started_at)
    yield "ended", instant(job.ended_at)


def _placement(placement: Placement) -> str:
    """What a job asks of its worker."""
    labels = [f"{key}={one_line(value)}" for key, value in placement.labels.items()]
    return ", ".join(filter(None, [*labels, resources_words(placement.resources)]))


def _array(job: Job) -> str:
    """How far an array is, or which index of one a job is."""
    if job.index is not None:
        item = "" if job.index.item is None else f": {one_line(job.index.item)}"
        return f"index {job.index.index} of {job.index.array_job_id}{item}"
    if job.spec.array is None or job.array_counts is None:
        return ""
    counts, array = job.array_counts, job.spec.array
    parts = {"active": counts.active, "succeeded": counts.succeeded, "failed": counts.failed}
    parts |= {"cancelled or skipped": counts.dropped, "not begun": array.size - counts.made}
    told = ", ".join(f"{count:,} {name}" for name, count in parts.items() if count)
    return f"{array.size:,} indices: {told}"


def _key(key: ConcurrencyKey) -> str:
    """Such as `gpu (limit 4, weight 2)`."""
    parts = [f"limit {key.limit}"] if key.limit else []
    parts += [f"weight {key.weight}"] if key.weight != 1 else []
    return f"{one_line(key.key)} ({', '.join(parts)})" if parts else one_line(key.key)


def _unique(key: UniqueKey) -> str:
    """Such as `report (in the queue, for 1h00m, while succeeded, reject)`."""
    parts = ["in the queue"] if key.scope is UniqueScope.QUEUE else []
    parts += [f"for {length(key.window)}"] if key.window is not None else []
    parts += (
        ["while " + " or ".join(each.name.lower() for each in key.states)] if key.states else []
    )
    if key.on_duplicate is not OnDuplicate.RETURN_EXISTING:
        parts.append(key.on_duplicate.name.lower())
    return f"{one_line(key.key)} ({', '.join(parts)})" if parts else one_line(key.key)


def _show_attempts(attempts: Iterable[Attempt]) -> None:
    rows = [
        (
            str(each.attempt),
            each.state.name,
            instant(each.started_at),
            _took(each),
            _exit(each),
            _reason(each),
        )
        for each in attempts
    ]
    if rows:
        click.echo()
        show_table(("ATTEMPT", "STATE", "STARTED", "TOOK", "EXIT", "REASON"), rows)


def _took(value: Job | Attempt) -> str:
    if value.started_at is None or value.ended_at is None:
        return ""
    return length(value.ended_at - value.started_at)


def _exit(value: Job | Attempt) -> str:
    if value.exit_code is not None:
        return str(value.exit_code)
    return f"signal {value.signal}" if value.signal is not None else ""


# --- lists ------------------------------------------------------------------------------------


@click.command("list")
@click.option("--active", is_flag=True, help="Only jobs that are not final, oldest first.")
@click.option(
    "--state",
    "wanted",
    type=click.Choice(STATES, case_sensitive=False),
    metavar="STATE",
    multiple=True,
    help="Only jobs in this state; may be given several times.",
)
@filter_options
@client_options
def list_command(
    *, active: bool, wanted: tuple[str, ...], limit: int, address: str | None, as_json: bool,
    **given: Any,
) -> None:  # fmt: skip
    r"""List jobs, newest first.

    \b
    Examples:
      jobservice list --active
      jobservice list --state failed --name 'nightly-*' --limit 10
      jobservice list --filter 'state = FAILED AND NOT exit_code = 1'
      jobservice list --array "$id" --state failed
      jobservice list --json --limit 0 | jq -r .job_id
    """
    if active and wanted:
        raise click.UsageError("--active and --state exclude each other.")
    with connected(address) as client:
        columns = _INDEX_COLUMNS if given["array"] else _LIST_COLUMNS
        narrowed = _narrowed(client, given)
        found = (
            client.active(**narrowed) if active else client.list(states=states(wanted), **narrowed)
        )
        _show_jobs(_first(found, limit), columns, as_json=as_json)


@click.command("history")
@click.option(
    "--state",
    "wanted",
    type=click.Choice(FINAL_STATES, case_sensitive=False),
    metavar="STATE",
    multiple=True,
    help="Only jobs that ended so; may be given several times.",
)
@click.option("--since", type=LENGTH, metavar="TIME", help="Only jobs that ended in the last TIME.")
@filter_options
@client_options
def history_command(
    *, wanted: tuple[str, ...], since: float | None, limit: int, address: str | None,
    as_json: bool, **given: Any,
) -> None:  # fmt: skip
    r"""List the jobs that have ended, the newest end first.

    \b
    Examples:
      jobservice history --since 24h --state failed
      jobservice history --label team=core --json
    """
    after = SystemClock().now() - dt.timedelta(seconds=since) if since is not None else None
    with connected(address) as client:
        narrowed = _narrowed(client, given)
        found = client.history(states=states(wanted), ended_after=after, **narrowed)
        _show_jobs(_first(found, limit), _HISTORY_COLUMNS, as_json=as_json)


def _narrowed(client: Client, given: dict[str, Any]) -> dict[str, Any]:
    """The filters that were given; an array that does not exist is said, and not an empty list."""
    if given["array"]:
        client.get(given["array"])
    return filters(**given)


Columns = dict[str, Callable[[Job], str]]
_LIST_COLUMNS: Columns = {
    "JOB": lambda job: job.job_id,
    "STATE": lambda job: coloured(job.state),
    "NAME": lambda job: one_line(job.spec.name),
    "DONE": lambda job: percent(job.progress.percent) if job.progress else "",
    "CREATED": lambda job: instant(job.created_at),
    "COMMAND": lambda job: command_line(job.spec.command.argv),
}
_INDEX_COLUMNS: Columns = {
    "INDEX": lambda job: "" if job.index is None else str(job.index.index),
    **_LIST_COLUMNS,
}
_HISTORY_COLUMNS: Columns = {
    "JOB": lambda job: job.job_id,
    "STATE": lambda job: coloured(job.state),
    "NAME": lambda job: one_line(job.spec.name),
    "EXIT": _exit,
    "TOOK": _took,
    "ENDED": lambda job: instant(job.ended_at),
    "COMMAND": lambda job: command_line(job.spec.command.argv),
}


def _first(found: Iterator[Job], limit: int) -> Iterator[Job]:
    return islice(found, limit) if limit > 0 else found


def _show_jobs(found: Iterator[Job], columns: Columns, *, as_json: bool) -> None:
    if as_json:
        for job in found:
            show_json(job)
        return
    rows = [[value(job) for value in columns.values()] for job in found]
    if rows:
        show_table(list(columns), rows)
    else:
        say("No jobs.")
