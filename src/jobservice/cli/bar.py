"""A line on a terminal that shows how far a job is. Apart, because it loads rich."""

from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from jobservice.cli.output import one_line, percent
from jobservice.model.event import Event
from jobservice.model.job import Job, Progress


class Bar:
    """One line that is drawn over and over."""

    def __init__(self) -> None:
        self._progress = RichProgress(
            TextColumn("{task.fields[state]}"),
            BarColumn(),
            TextColumn("{task.fields[percent]:>4}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[step]}", markup=False),
            console=Console(stderr=True),
            transient=True,
        )
        self._bar = self._progress.add_task("", total=None, state="", percent="", step="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._progress.stop()

    def show(self, update: Job | Event) -> None:
        self._progress.update(self._bar, state=update.state.name)
        if update.progress is not None:
            self._show_progress(update.progress)

    def _show_progress(self, progress: Progress) -> None:
        self._progress.update(
            self._bar,
            total=100,
            completed=progress.percent,
            percent=percent(progress.percent),
            step=one_line(progress.step),
        )
