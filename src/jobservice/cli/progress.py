"""What is shown on stderr while somebody waits for a job: a bar on a terminal, else plain lines."""

import sys
from types import TracebackType
from typing import Protocol, Self

from jobservice.cli.output import fancy, length, one_line, percent, say
from jobservice.client.sync import Client
from jobservice.errors import NotFound
from jobservice.model.event import Event, EventKind
from jobservice.model.job import Job
from jobservice.model.lifecycle import FINAL, Reason

LINE_EVERY_PERCENT = 10.0


class Display(Protocol):
    """Shows where one job is."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def show(self, update: Job | Event) -> None:
        """The job is so now."""


def watch_to_the_end(client: Client, job_id: str) -> Job:
    """Show a job until it is final, and return it.

    Raises:
        NotFound: it was deleted meanwhile.
    """
    with _display() as display:
        for update in client.watch([job_id]):
            if isinstance(update, Event) and update.kind is EventKind.DELETED:
                raise NotFound(f"Job {job_id} was deleted.", job_id=job_id)
            display.show(update)
    job = client.get(job_id)
    say(ending(job))
    return job if job.state in FINAL else client.wait(job_id)


def _display() -> Display:
    if not fancy(sys.stderr):
        return _Lines()
    from jobservice.cli.bar import Bar  # noqa: PLC0415 - rich takes long to load

    return Bar()


def ending(job: Job) -> str:
    """One sentence about how a job ended."""
    took = ""
    if job.started_at and job.ended_at:
        took = f" after {length(job.ended_at - job.started_at)}"
    why = f": {cause(job)}" if cause(job) else ""
    return f"Job {job.job_id} is {job.state.name}{took}{why}."


def cause(update: Job | Event) -> str:
    """Why a job is where it is, in a few words."""
    if update.message:
        return one_line(update.message).rstrip(".")
    if update.exit_code:
        return f"exit code {update.exit_code}"
    if update.signal:
        return f"signal {update.signal}"
    return "" if update.reason is Reason.NONE else update.reason.name


class _Lines:
    """A line for each state, and for each tenth of the way."""

    def __init__(self) -> None:
        self._last = ""
        self._percent = -LINE_EVERY_PERCENT

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def show(self, update: Job | Event) -> None:
        state = _described(update)
        if state != self._last:
            self._last, self._percent = state, -LINE_EVERY_PERCENT
            say(state)
        progress = update.progress
        if progress is not None and progress.percent - self._percent >= LINE_EVERY_PERCENT:
            self._percent = progress.percent
            say(f"{percent(progress.percent)} {one_line(progress.step)}".rstrip())


def _described(update: Job | Event) -> str:
    why = "" if update.state in FINAL else cause(update)  # the last sentence says why it ended
    return f"{update.state.name}: {why}" if why else update.state.name
