"""`jobservice limit`: what may run at once, how often something may start, and who has it."""

import datetime as dt
from collections.abc import Iterator
from itertools import islice
from typing import Any, ClassVar

import click

from jobservice.cli.options import AT_MOST, LENGTH, UNLIMITED, Whole, client_options, connected
from jobservice.cli.output import instant, length, one_line, say, show_fields, show_json, show_table
from jobservice.model.limit import NORMAL_WEIGHT, LimitUse, Rate


class Kind(click.Choice[str]):
    """A kind of limit, also as `limit list` writes it; for the others it says who sets them."""

    _elsewhere: ClassVar = {
        "queue": "the limit of a queue is one of its rules: `jobservice queue get NAME` shows it, and "
        "`jobservice queue update NAME --max-running N` sets it.",
        "slots": "the slots of a worker are set where it is started: `jobservice serve --slots N`.",
    }

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        name = str(value).lower().replace("_", "-")
        if name in self._elsewhere:
            self.fail(self._elsewhere[name], param, ctx)
        return super().convert(name if name in self.choices else value, param, ctx)


KIND = click.argument("kind", type=Kind(["service", "tenant", "key", "job-type"]), metavar="KIND")
NAME = click.argument("name", default="", metavar="[NAME]")


@click.group("limit")
def limit_command() -> None:
    """Limit what runs at once and how often something starts."""


@limit_command.command("set")
@KIND
@NAME
@click.option(
    "--max-running", type=UNLIMITED, metavar="N", help="How much may run at once; 0: no limit [0]."
)
@click.option("--rate", metavar="N/TIME", help="How many may start in each TIME: 10/1m [any].")
@click.option(
    "--burst",
    type=Whole("leave it out for one at a time"),
    metavar="N",
    help="How many of them at once [1].",
)
@click.option("--weight", type=float, metavar="N", help="The tenant's share [1].")
@client_options
def set_command(
    *, kind: str, name: str, max_running: int | None, rate: str | None, burst: int | None,
    weight: float | None, address: str | None, as_json: bool,
) -> None:  # fmt: skip
    r"""Set a limit: `service`, `tenant`, `key NAME` or `job-type NAME`.

    It takes the place of the one before as a whole. That of a queue is set by `jobservice queue update`,
    the slots of a worker by `jobservice serve --slots`.

    A key that has a limit without --max-running, such as a rate alone, runs any number at once; only a
    key that nobody set a limit on is for one job at a time.

    \b
    Examples:
      jobservice limit set key gpu --max-running 4
      jobservice limit set key api --rate 100/1m --burst 10 --max-running 20
      jobservice limit set job-type render --max-running 2
      jobservice limit set service --max-running 50
    """
    _check_name(kind, name)
    if burst is not None and rate is None:
        raise click.UsageError("--burst is about a rate: give --rate too.")
    if max_running is None and rate is None and weight is None:
        raise click.UsageError(
            "Give --max-running, --rate or --weight; jobservice limit delete takes a limit away."
        )
    asked = None if rate is None else _rate(rate, burst or 1)
    with connected(address) as client:
        share = 1.0 if weight is None else weight
        use = client.limits.set(kind, name, max_running=max_running, rate=asked, weight=share)
    show_json(use) if as_json else show_fields(_fields(use))


def _check_name(kind: str, name: str) -> None:
    if kind in {"key", "job-type"} and not name:
        usage = f"{click.get_current_context().command_path} {kind} NAME"
        raise click.UsageError(f"Give the NAME of the {kind} that the limit is about: {usage}.")


def _rate(text: str, burst: int) -> Rate:
    starts, slash, period = text.partition("/")
    if not slash or not starts.isdecimal():
        raise click.BadParameter(f"{text!r} is not N/TIME; write 10/1m.", param_hint="'--rate'")
    seconds = LENGTH.convert(period, None, None)
    return Rate(int(starts), dt.timedelta(seconds=seconds), burst)


@limit_command.command("get")
@KIND
@NAME
@client_options
def get_command(*, kind: str, name: str, address: str | None, as_json: bool) -> None:
    """Show a limit that was set, with its use."""
    _check_name(kind, name)
    with connected(address) as client:
        use = client.limits.get(kind, name)
    show_json(use) if as_json else show_fields(_fields(use))


def _fields(use: LimitUse) -> Iterator[tuple[str, str]]:
    limit = use.limit
    yield "limit", f"{limit.kind.name} {one_line(limit.name)}".rstrip()
    yield "running", _running(use)
    yield "rate", _per(limit.rate)
    yield "share", "" if limit.weight == NORMAL_WEIGHT else f"{limit.weight / NORMAL_WEIGHT:g}"
    yield "waiting", "" if use.waiting is None else str(use.waiting)
    yield "next start", instant(use.next_start_at)
    yield "held by", " ".join(use.holders)
    yield "set", instant(limit.updated_at)


def _running(use: LimitUse) -> str:
    most = use.limit.max_running
    return str(use.running) if most is None else f"{use.running} of {most}"


def _per(rate: Rate | None) -> str:
    if rate is None:
        return ""
    burst = f", {rate.burst} at once" if rate.burst > 1 else ""
    return f"{rate.starts} in {length(rate.period)}{burst}"


@limit_command.command("list")
@click.option(
    "--limit", type=AT_MOST, default=50, metavar="N", help="How many at most; 0: all [50]."
)
@client_options
def list_command(*, limit: int, address: str | None, as_json: bool) -> None:
    """List every limit there is, with its use and holders.

    That is of the service, the tenant, the slots of the worker, queues, types and keys.
    """
    with connected(address) as client:
        found = list(islice(client.limits.list(), limit or None))
    if as_json:
        for use in found:
            show_json(use)
        return
    show_table(
        ("KIND", "NAME", "RUNNING", "RATE", "WAITING", "HELD BY"),
        [
            (
                each.limit.kind.name,
                one_line(each.limit.name),
                _running(each),
                _per(each.limit.rate),
                "" if each.waiting is None else str(each.waiting),
                " ".join(each.holders),
            )
            for each in found
        ],
    )


@limit_command.command("delete")
@KIND
@NAME
@click.option("--missing-ok", is_flag=True, help="A limit that nobody set is no error.")
@client_options
def delete_command(
    *, kind: str, name: str, missing_ok: bool, address: str | None, as_json: bool
) -> None:
    """Forget a limit that was set.

    A key without one is for one job at a time, a type without one for any number.
    """
    _check_name(kind, name)
    with connected(address) as client:
        client.limits.delete(kind, name, allow_missing=missing_ok)
    gone = f"{kind} {name}".rstrip()
    click.echo(f'{{"kind": "{kind}"}}') if as_json else say(f"The limit on {gone} is gone.")
