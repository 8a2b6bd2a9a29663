"""Commands that stay: the output of jobs, their ends, and everything that happens to them."""

import sys

import click

from jobservice.cli.exit_codes import exit_code_of
from jobservice.cli.options import JOB, JOBS, LENGTH, Whole, client_options, connected
from jobservice.cli.output import coloured, instant, one_line, percent, say, show_json
from jobservice.cli.progress import cause
from jobservice.client.values import LogChunk
from jobservice.errors import NotFound
from jobservice.model.event import Event, EventKind
from jobservice.model.job import Job


@click.command("logs")
@JOB
@click.option("-f", "--follow", is_flag=True, help="Go on as the output grows, until the job ends.")
@click.option(
    "--attempt",
    type=Whole("give 0 for the newest"),
    default=0,
    metavar="N",
    help="Of this attempt; 0 is the newest [0].",
)
@click.option(
    "--index",
    type=Whole("the first index is 0"),
    metavar="N",
    help="Of this index of the array JOB.",
)
@click.option("--stdout", "stream", flag_value="stdout", help="Only standard output.")
@click.option("--stderr", "stream", flag_value="stderr", help="Only standard error.")
@client_options
def logs_command(
    *, job: str, follow: bool, attempt: int, index: int | None, stream: str | None,
    address: str | None, as_json: bool,
) -> None:  # fmt: skip
    r"""Print the output of a job, byte for byte.

    Its standard output goes to ours, its standard error to ours. Where output over the limit of the
    job was dropped, a line on stderr says so.

    \b
    Examples:
      jobservice logs "$id" > output.txt
      jobservice logs -f --stderr "$id"
      jobservice logs --index 17 "$array"
    """
    with connected(address) as client:
        if index is not None:
            job = client.index(job, index).job_id
        for chunk in client.logs(job, attempt, stream=stream, follow=follow):
            show_json(chunk) if as_json else _write(chunk)
            sys.stdout.flush()


def _write(chunk: LogChunk) -> None:
    if chunk.dropped_bytes:
        say(f"[{chunk.dropped_bytes:,} bytes of {chunk.stream} over the output limit were dropped]")
        return
    target = sys.stdout if chunk.stream == "stdout" else sys.stderr
    target.buffer.write(chunk.data)
    target.buffer.flush()


@click.command("wait")
@JOBS
@click.option("--timeout", type=LENGTH, metavar="TIME", help="Give up after this time; jobs go on.")
@client_options
def wait_command(
    jobs: tuple[str, ...], timeout: float | None, address: str | None, *, as_json: bool
) -> None:
    r"""Wait for the end of jobs; print each as it ends.

    Exits with 0 when all of them succeeded, else with the code of the first one, in the order
    given, that did not; with 124 when the time is over.

    \b
    Examples:
      jobservice wait "$id" && echo done
      jobservice wait --timeout 1h $(jobservice list --active --json | jq -r .job_id)
    """
    ends: dict[str, Job] = {}
    with connected(address) as client:
        for job in client.as_completed(jobs, timeout):
            ends[job.job_id] = job
            show_json(job) if as_json else click.echo(f"{job.job_id} {coloured(job.state)}")
            sys.stdout.flush()
    codes = [exit_code_of(ends[job_id]) for job_id in jobs if job_id in ends]
    sys.exit(next((code for code in codes if code), 0))


@click.command("watch")
@click.argument("jobs", metavar="[JOB…]", nargs=-1)
@client_options
def watch_command(jobs: tuple[str, ...], address: str | None, *, as_json: bool) -> None:
    """Print everything that happens to jobs, or to all of them.

    First each job as it is, then every event. With jobs, ends when all of them have ended.
    """
    missing = dict.fromkeys(jobs)
    with connected(address) as client:
        for update in client.watch(jobs):
            missing.pop(update.job_id, None)
            if as_json:
                show_json(update)
            else:
                click.echo(_job_line(update) if isinstance(update, Job) else _event_line(update))
            sys.stdout.flush()
    for job in missing:
        raise NotFound(f"There is no job {job}.", job_id=job)


def _job_line(job: Job) -> str:
    return _line(instant(job.updated_at), job.job_id, coloured(job.state), one_line(job.spec.name))


def _event_line(event: Event) -> str:

    if event.kind is EventKind.PROGRESS and event.progress is not None:
        step = one_line(event.progress.step)
        return _line(instant(event.at), event.job_id, percent(event.progress.percent), step)
    kind = event.kind.name.lower()
    return _line(instant(event.at), event.job_id, coloured(event.state), kind, cause(event))


def _line(*words: str) -> str:
    return " ".join(word for word in words if word)
