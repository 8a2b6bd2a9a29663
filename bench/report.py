"""Rows of the table: samples, their ratio, what is required of it, and how it is written down."""

import dataclasses
import statistics
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Samples:
    """What one side measured, a value a round."""

    values: Sequence[float]
    unit: str
    middle: float | None = None
    """What stands for all rounds; their median where nothing else is given."""

    def __str__(self) -> str:
        low, median, high = _spread(self.values)
        middle = number(median if self.middle is None else self.middle)
        if len(self.values) == 1:
            return f"{middle} {self.unit}"
        return f"{middle} [{number(low)}-{number(high)}] {self.unit}"


@dataclasses.dataclass(frozen=True)
class Ratio:
    """Ours over the reference, a value a round, and where it has to be."""

    values: Sequence[float]
    required: float | None = None
    """None where the row is for information."""
    aim: float | None = None
    middle: float | None = None
    """What stands for all rounds; their median where nothing else is given."""
    percent: bool = False
    """Written as a percentage."""
    at_most: bool = False
    """Lower is better."""

    @property
    def value(self) -> float:
        """What the verdict is about."""
        return statistics.median(self.values) if self.middle is None else self.middle

    @property
    def verdict(self) -> str:
        """Whether what is required was reached."""
        if self.required is None:
            return ""
        good = self.value <= self.required if self.at_most else self.value >= self.required
        return "ok" if good else "**short**"

    def bound(self, value: float | None) -> str:
        """The least that is required, or the aim, in words."""
        return "" if value is None else f"{'≤' if self.at_most else '≥'} {self._text(value)}"

    def __str__(self) -> str:
        scale, unit = (100, " %") if self.percent else (1, "")
        text = number(scale * self.value)
        if len(self.values) > 1:
            low, _, high = _spread(self.values)
            text += f" [{number(scale * low)}-{number(scale * high)}]"
        return text + unit

    def _text(self, value: float) -> str:
        return f"{number(100 * value)} %" if self.percent else number(value)


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    what: str
    ours: Samples
    reference: Samples | None
    ratio: Ratio | None
    notes: Sequence[str] = ()
    """What else was seen; printed under the table."""


HEAD = ("row", "what", "ours", "reference", "ratio", "required", "aim", "")


def per_round(ours: Sequence[float], reference: Sequence[float]) -> list[float]:
    """The ratios of rounds whose two sides were measured one right after the other."""
    return [a / b for a, b in zip(ours, reference, strict=True)]


def number(value: float) -> str:
    """Three digits, or all of a whole number."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def quantile(values: Sequence[float], share: float) -> float:
    """The value that so large a share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown that can be read as it is."""
    lines = [HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    text = [
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    ]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text)


def notes(rows: Sequence[Row]) -> str:
    """What else was seen, as a list."""
    return "\n".join(f"- {row.name}: {note}" for row in rows for note in row.notes)


def _cells(row: Row) -> tuple[str, ...]:
    ratio = row.ratio
    return (
        row.name,
        row.what,
        str(row.ours),
        "" if row.reference is None else str(row.reference),
        "" if ratio is None else str(ratio),
        "" if ratio is None else ratio.bound(ratio.required),
        "" if ratio is None else ratio.bound(ratio.aim),
        "" if ratio is None else ratio.verdict,
    )


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    return min(values), statistics.median(values), max(values)
