"""Commands that change jobs: their end, their fields, their removal."""

from typing import Any

import click

from jobservice.cli.options import (
    INSTANT,
    JOB,
    JOBS,
    LENGTH,
    NAME,
    PAIR,
    PRIORITY,
    RETRIES,
    client_options,
    connected,
    for_each,
)
from jobservice.cli.output import coloured, say, show_json
from jobservice.model.job import Job


@click.command("cancel")
@JOBS
@click.option("--wait", is_flag=True, help="Return only when no process of the jobs lives.")
@client_options
def cancel_command(
    jobs: tuple[str, ...], address: str | None, *, wait: bool, as_json: bool
) -> None:
    """End jobs: their whole process tree is stopped, and they are CANCELLED."""
    with connected(address) as client:
        for_each(jobs, lambda job: _show_job(client.cancel(job, wait=wait), as_json=as_json))


@click.command("retry")
@JOBS
@client_options
def retry_command(jobs: tuple[str, ...], address: str | None, *, as_json: bool) -> None:
    """Queue jobs that have ended once more."""
    with connected(address) as client:
        for_each(jobs, lambda job: _show_job(client.retry(job), as_json=as_json))


@click.command("hold")
@JOBS
@client_options
def hold_command(jobs: tuple[str, ...], address: str | None, *, as_json: bool) -> None:
    """Keep jobs that wait from starting, until they are released."""
    with connected(address) as client:
        for_each(jobs, lambda job: _show_job(client.hold(job), as_json=as_json))


@click.command("release")
@JOBS
@client_options
def release_command(jobs: tuple[str, ...], address: str | None, *, as_json: bool) -> None:
    """Let jobs go on that are on hold: they wait by priority and age, also those that were moved."""
    with connected(address) as client:
        for_each(jobs, lambda job: _show_job(client.release(job), as_json=as_json))


@click.command("move")
@JOB
@click.option("--top", is_flag=True, help="Before all others of its queue.")
@click.option("--bottom", is_flag=True, help="Behind all others of its queue.")
@click.option("--before", metavar="JOB", help="Right before this job of its queue.")
@click.option("--after", metavar="JOB", help="Right after this job of its queue.")
@client_options
def move_command(*, job: str, address: str | None, as_json: bool, **place: Any) -> None:
    """Give a job that is queued another place in its queue."""
    if sum(map(bool, place.values())) != 1:
        raise click.UsageError("Give one of --top, --bottom, --before JOB and --after JOB.")
    with connected(address) as client:
        _show_job(client.move(job, **place), as_json=as_json)


@click.command("delete")
@JOBS
@click.option("--missing-ok", is_flag=True, help="A job that does not exist is no error.")
@client_options
def delete_command(
    jobs: tuple[str, ...], address: str | None, *, missing_ok: bool, as_json: bool
) -> None:
    """Delete jobs with their output and history; those that live are cancelled first."""
    with connected(address) as client:

        def remove(job: str) -> None:
            client.delete(job, allow_missing=missing_ok)
            gone = f"{job} is gone." if missing_ok else f"Deleted {job}."
            click.echo(f'{{"job_id": "{job}"}}') if as_json else say(gone)

        for_each(jobs, remove)


@click.command("update")
@JOB
@click.option("--name", metavar="NAME", help="The new name.")
@click.option("--queue", type=NAME, metavar="QUEUE", help="The new queue.")
@click.option("--priority", type=PRIORITY, metavar="N", help="high, medium, low, or -100 to 100.")
@click.option(
    "--label",
    "labels",
    type=PAIR,
    multiple=True,
    metavar="K=V",
    help="A label; may be given several times. Labels that are not given are removed.",
)
@click.option("--no-labels", is_flag=True, help="Remove all labels.")
@click.option(
    "--timeout", type=LENGTH, metavar="TIME", help="How long an attempt may run; 0: no limit."
)
@click.option(
    "--idle-timeout",
    type=LENGTH,
    metavar="TIME",
    help="How long an attempt may be silent; 0: no limit.",
)
@click.option(
    "--retries", type=RETRIES, metavar="N", help="How often a failed attempt is tried again."
)
@click.option("--stop-grace", type=LENGTH, metavar="TIME", help="Between SIGTERM and SIGKILL.")
@click.option(
    "--at",
    "start_after",
    type=INSTANT,
    metavar="INSTANT",
    help="The earliest start of a job that never started.",
)
@click.option(
    "--queue-timeout",
    type=LENGTH,
    metavar="TIME",
    help="How long it may wait for a worker; 0: no limit.",
)
@click.option(
    "--total-timeout",
    type=LENGTH,
    metavar="TIME",
    help="How long it may take all in all; 0: no limit.",
)
@click.option("--deadline", type=INSTANT, metavar="INSTANT", help="When it has to be final.")
@click.option("--etag", default="", metavar="ETAG", help="Only if the job was not edited since.")
@client_options
def update_command(
    *, job: str, address: str | None, etag: str, no_labels: bool, as_json: bool, **given: Any
) -> None:
    r"""Change fields of a job that may still be changed; the others stay.

    \b
    Examples:
      jobservice update "$id" --priority high
      jobservice update "$id" --label team=core --label tier=2
    """
    edits = {name: value for name, value in given.items() if value not in {None, ()}}
    if "labels" in edits and no_labels:
        raise click.UsageError("--label and --no-labels exclude each other.")
    if "labels" in edits or no_labels:
        edits["labels"] = dict(edits.get("labels", ()))
    for name in ("timeout", "idle_timeout", "queue_timeout", "total_timeout"):
        if edits.get(name) == 0:
            edits[name] = None
    if not edits:
        raise click.UsageError("Nothing to change; see jobservice update --help.")
    with connected(address) as client:
        _show_job(client.update(job, etag=etag, **edits), as_json=as_json)


def _show_job(job: Job, *, as_json: bool) -> None:
    show_json(job) if as_json else click.echo(f"{job.job_id} {coloured(job.state)}")
