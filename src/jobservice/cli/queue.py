"""`jobservice queue`: the rules of queues, their pauses, and how they move."""

import datetime as dt
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, TypeVar

import click

from jobservice.cli.options import AT_MOST, INSTANT, LENGTH, UNLIMITED, client_options, connected
from jobservice.cli.output import instant, length, one_line, say, show_fields, show_json, show_table
from jobservice.model.queue import OnFull, PauseMode, Queue, QueueStats

Command = TypeVar("Command", bound=Callable[..., Any])
NAME = click.argument("queue", metavar="NAME")
POLICIES = [each.name.lower().replace("_", "-") for each in OnFull]
MODES = [each.name.lower() for each in PauseMode]


@click.group("queue")
def queue_command() -> None:
    """Give queues rules, pause them, and see how they move."""


def rule_options(command: Command) -> Command:
    """The rules of a queue."""
    for option in (
        click.option(
            "--on-full", type=click.Choice(POLICIES), metavar="POLICY",
            help=f"What becomes of a job for a full queue: {', '.join(POLICIES)} [reject].",
        ),
        click.option(
            "--max-age", type=LENGTH, metavar="TIME",
            help="It is full while its oldest job has been queued for longer; 0: no bound.",
        ),
        click.option(
            "--max-depth", type=UNLIMITED, metavar="N",
            help="How many jobs may be queued when another comes; 0: no bound.",
        ),
        click.option(
            "--max-running", type=UNLIMITED, metavar="N", help="How many may run at once; 0: no limit."
        ),
        click.option("--description", metavar="TEXT", help="What it is for."),
    ):  # fmt: skip
        command = option(command)
    return command


def _rules(given: dict[str, Any]) -> Any:
    """The options of the SDK that were given."""
    rules = {name: value for name, value in given.items() if value is not None}
    if rules.get("max_age") == 0:
        rules["max_age"] = None
    return rules


@queue_command.command("create")
@NAME
@rule_options
@client_options
def create_command(*, queue: str, address: str | None, as_json: bool, **given: Any) -> None:
    r"""Make a queue with rules. Jobs may name a queue that nobody made: it has no limits.

    \b
    Examples:
      jobservice queue create gpu --max-running 2 --description 'the two cards'
      jobservice queue create mail --max-depth 10000 --on-full replace-oldest
    """
    with connected(address) as client:
        _show(client.queues.create(queue, **_rules(given)), as_json=as_json)


@queue_command.command("get")
@NAME
@client_options
def get_command(queue: str, address: str | None, *, as_json: bool) -> None:
    """Show the rules of a queue."""
    with connected(address) as client:
        found = client.queues.get(queue)
    show_json(found) if as_json else show_fields(_fields(found))


def _fields(queue: Queue) -> Iterator[tuple[str, str]]:
    yield "queue", queue.name
    yield "for", one_line(queue.description)
    yield "max running", _most(queue.max_running)
    yield "max depth", _most(queue.max_depth)
    yield "max age", length(queue.max_age)
    yield "on full", queue.on_full.name
    yield "paused", _paused(queue)
    if queue.edit_version:
        yield "created", instant(queue.created_at)
        yield "changed", instant(queue.updated_at)


def _most(limit: int | None) -> str:
    return "" if limit is None else str(limit)


def _paused(queue: Queue) -> str:
    pause = queue.pause
    if pause is None:
        return ""
    until = f" until {instant(pause.until)}" if pause.until else ""
    reason = f": {one_line(pause.reason)}" if pause.reason else ""
    return f"{pause.mode.name} since {instant(pause.since)}{until}{reason}"


@queue_command.command("list")
@click.option(
    "--limit", type=AT_MOST, default=50, metavar="N", help="How many at most; 0: all [50]."
)
@client_options
def list_command(*, limit: int, address: str | None, as_json: bool) -> None:
    """List the queues that were made, and `default`, by name."""
    with connected(address) as client:
        found = list(islice(client.queues.list(), limit or None))
    if as_json:
        for queue in found:
            show_json(queue)
        return
    show_table(
        ("QUEUE", "MAX RUNNING", "MAX DEPTH", "ON FULL", "PAUSED"),
        [
            (
                each.name,
                _most(each.max_running),
                _most(each.max_depth),
                each.on_full.name,
                _paused(each),
            )
            for each in found
        ],
    )


@queue_command.command("update")
@NAME
@rule_options
@click.option("--etag", default="", metavar="ETAG", help="Only if it was not changed since.")
@client_options
def update_command(
    *, queue: str, etag: str, address: str | None, as_json: bool, **given: Any
) -> None:
    r"""Change rules of a queue; those not given stay. What runs goes on.

    \b
    Examples:
      jobservice queue update gpu --max-running 1
    """
    rules = _rules(given)
    if not rules:
        raise click.UsageError("Nothing to change; see jobservice queue update --help.")
    with connected(address) as client:
        _show(client.queues.update(queue, etag=etag, **rules), as_json=as_json)


@queue_command.command("delete")
@NAME
@click.option("--missing-ok", is_flag=True, help="A queue that nobody made is no error.")
@client_options
def delete_command(queue: str, address: str | None, *, missing_ok: bool, as_json: bool) -> None:
    """Forget the rules of a queue in which no job waits or runs."""
    with connected(address) as client:
        client.queues.delete(queue, allow_missing=missing_ok)
    click.echo(f'{{"name": "{queue}"}}') if as_json else say(f"{queue} is gone.")


@queue_command.command("pause")
@NAME
@click.option(
    "--mode", type=click.Choice(MODES), default="hold", metavar="MODE",
    help="hold: start nothing new; drain: accept nothing new [hold].",
)  # fmt: skip
@click.option("--reason", default="", metavar="TEXT", help="Why, for people.")
@click.option("--until", type=INSTANT, metavar="INSTANT", help="Resume by itself at INSTANT.")
@client_options
def pause_command(
    *, queue: str, mode: str, reason: str, until: dt.datetime | None, address: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    r"""Stop a queue; what runs goes on.

    \b
    Examples:
      jobservice queue pause default --reason 'database upgrade' --until 2026-11-26T06:00Z
    """
    with connected(address) as client:
        paused = client.queues.pause(queue, mode=mode, reason=reason, until=until)
    _show(paused, as_json=as_json)


@queue_command.command("resume")
@NAME
@client_options
def resume_command(queue: str, address: str | None, *, as_json: bool) -> None:
    """End the pause of a queue."""
    with connected(address) as client:
        _show(client.queues.resume(queue), as_json=as_json)


@queue_command.command("stats")
@NAME
@client_options
def stats_command(queue: str, address: str | None, *, as_json: bool) -> None:
    """Show how full a queue is, how it moves, and what holds it up."""
    with connected(address) as client:
        found = client.queues.stats(queue)
    show_json(found) if as_json else show_fields(_stats(found))


def _stats(stats: QueueStats) -> Iterator[tuple[str, str]]:
    yield "queue", stats.name
    yield "queued", str(stats.depth)
    yield "oldest", length(stats.oldest_age)
    yield "running", str(stats.running)
    yield "created", f"{stats.created_per_second:.2f} a second"
    yield "started", f"{stats.started_per_second:.2f} a second"
    yield "waits", one_line(stats.obstacle_message)


def _show(queue: Queue, *, as_json: bool) -> None:
    if as_json:
        show_json(queue)
        return
    paused = _paused(queue)
    click.echo(f"{queue.name} {paused}".rstrip())
