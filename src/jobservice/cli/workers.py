"""`jobservice workers`: who runs jobs, and how they are."""

from collections.abc import Iterator
from itertools import islice

import click

from jobservice.cli.options import AT_MOST, client_options, connected
from jobservice.cli.output import instant, one_line, show_fields, show_json, show_table
from jobservice.model.placements import resources_words
from jobservice.model.worker import Worker

WORKER = click.argument("worker", metavar="WORKER")


@click.group("workers")
def workers_command() -> None:
    """Show who runs jobs, and keep workers from taking new ones."""


@workers_command.command("list")
@click.option(
    "--limit", type=AT_MOST, default=50, metavar="N", help="How many at most; 0: all [50]."
)
@client_options
def list_command(*, limit: int, address: str | None, as_json: bool) -> None:
    """List the workers by id.

    Each with what it runs and when it was last heard of.
    """
    with connected(address) as client:
        found = list(islice(client.workers.list(), limit or None))
    if as_json:
        for worker in found:
            show_json(worker)
        return
    show_table(
        ("WORKER", "STATE", "RUNNING", "HOST", "VERSION", "LAST HEARD OF", "LABELS"),
        [
            (
                each.info.worker_id,
                each.state.name,
                _running(each),
                one_line(each.info.host),
                each.info.version,
                instant(each.contact_at),
                _labels(each),
            )
            for each in found
        ],
    )


@workers_command.command("get")
@WORKER
@client_options
def get_command(worker: str, address: str | None, *, as_json: bool) -> None:
    """Show one worker."""
    with connected(address) as client:
        found = client.workers.get(worker)
    show_json(found) if as_json else show_fields(_fields(found))


@workers_command.command("drain")
@WORKER
@click.option("--reason", default="", metavar="TEXT", help="Why, for people.")
@client_options
def drain_command(worker: str, *, reason: str, address: str | None, as_json: bool) -> None:
    r"""Keep a worker from taking anything new.

    That is until it is resumed; what it runs goes on. Of one that is SILENT it also says that nothing
    of it runs any more: what it still holds is given to others.

    \b
    Examples:
      jobservice workers drain w0123456789abcdef --reason 'new disks'
      jobservice workers get w0123456789abcdef
    """
    with connected(address) as client:
        _show(client.workers.drain(worker, reason=reason), as_json=as_json)


@workers_command.command("resume")
@WORKER
@client_options
def resume_command(worker: str, address: str | None, *, as_json: bool) -> None:
    """Let a worker take jobs again."""
    with connected(address) as client:
        _show(client.workers.resume(worker), as_json=as_json)


def _show(worker: Worker, *, as_json: bool) -> None:
    if as_json:
        show_json(worker)
    else:
        click.echo(f"{worker.info.worker_id} {worker.state.name}, running {_running(worker)}")


def _fields(worker: Worker) -> Iterator[tuple[str, str]]:
    info = worker.info
    yield "worker", info.worker_id
    yield "state", worker.state.name
    yield "host", one_line(info.host) + (" (in a server)" if info.embedded else "")
    yield "version", info.version
    yield "running", _running(worker)
    yield "labels", _labels(worker)
    yield "resources", resources_words(info.resources)
    yield "known since", instant(worker.registered_at)
    yield "last heard of", instant(worker.contact_at)
    if worker.drain is not None:
        yield "drained since", instant(worker.drain.since)
        yield "why", one_line(worker.drain.reason)


def _running(worker: Worker) -> str:
    return f"{worker.running} of {worker.info.slots}"


def _labels(worker: Worker) -> str:
    return " ".join(f"{key}={one_line(value)}" for key, value in sorted(worker.info.labels.items()))
