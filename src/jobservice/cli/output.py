"""What the commands print: results on stdout, everything else on stderr (clig.dev, "Output")."""

import datetime as dt
import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

from jobservice.client.as_json import as_json
from jobservice.clock import rfc3339
from jobservice.model.lifecycle import State

_COLOURS = {
    "SUCCEEDED": "green",
    "FAILED": "red",
    "CANCELLED": "yellow",
    "RUNNING": "blue",
    "STOPPING": "yellow",
}
NARROWEST = 60


def say(text: str) -> None:
    """A line for the person, on stderr."""
    click.echo(text, err=True)


def show_json(value: Any) -> None:
    """One value of the API on a line of stdout, under the names of the proto files."""
    click.echo(json.dumps(as_json(value), ensure_ascii=False))


def fancy(stream: Any) -> bool:
    """Whether a stream is a terminal that takes more than plain lines (no-color.org, TERM)."""
    environment = os.environ  # noqa: TID251 - the terminal's own settings
    plain = environment.get("NO_COLOR") or environment.get("TERM") == "dumb"
    return bool(stream.isatty()) and not plain


def coloured(state: State) -> str:
    """The name of a state, in its colour where stdout takes colours."""
    if not fancy(sys.stdout):
        return state.name
    return click.style(state.name, fg=_COLOURS.get(state.name))


def show_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, cut: bool = True) -> None:
    """Aligned columns; on a terminal the last one is cut at its edge, unless it matters too much."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(click.unstyle(line[i])) for line in lines) for i in range(len(header))]
    edge = shutil.get_terminal_size().columns if cut and sys.stdout.isatty() else None
    for line in lines:
        cells = [
            cell + " " * (width - len(click.unstyle(cell)))
            for cell, width in zip(line[:-1], widths[:-1], strict=True)
        ]
        click.echo(_cut("  ".join(cells), line[-1], edge))


def _cut(beginning: str, last: str, edge: int | None) -> str:
    """The line, its last cell cut where it would leave the terminal."""
    if edge is not None:
        room = max(edge, NARROWEST) - len(click.unstyle(beginning)) - 2
        if len(last) > room:
            last = last[: max(room - 1, 0)] + "…"
    return f"{beginning}  {last}".rstrip()


def show_fields(fields: Iterable[tuple[str, str]]) -> None:
    """A block of names and values; empty values are left out."""
    for name, value in fields:
        if value:
            click.echo(f"{name + ':':<12} {value}")


# --- values for people ------------------------------------------------------------------------


def one_line(text: str) -> str:
    """Text with nothing in it that moves the cursor."""
    return "".join(each if each.isprintable() else "�" for each in text)


def command_line(argv: Sequence[str]) -> str:
    """The arguments as one would type them."""
    return one_line(shlex.join(argv))


def instant(at: dt.datetime | None) -> str:
    """An instant, as RFC 3339 in UTC, to the second."""
    return rfc3339(at)


def length(seconds: float | dt.timedelta | None) -> str:
    """A length of time, in its two largest units."""
    if seconds is None:
        return ""
    if isinstance(seconds, dt.timedelta):
        seconds = seconds.total_seconds()
    if seconds < 10:
        return f"{max(seconds, 0):.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def percent(value: float | None) -> str:
    """How far something is."""
    return f"{value:.0f}%" if value is not None else ""
