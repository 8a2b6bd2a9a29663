"""What is asked of a job, held to what only the service knows: its clusters, and what time it is."""

import datetime as dt
from collections.abc import Iterator, Sequence

from jobservice.errors import InvalidRequest, Violation
from jobservice.model.bounds import LONGEST_AHEAD
from jobservice.model.job import Edits
from jobservice.model.spec import DEFAULT_CLUSTER, JobSpec

_AHEAD = ("start_after", "deadline")
"""Instants that may lie only so far ahead."""


def check(specs: Sequence[JobSpec], path: str, now: dt.datetime) -> None:
    """Refuse jobs that cannot be here; `path` is that of a job, with `{}` for its number.

    Raises:
        InvalidRequest: with every violation.
    """
    _refuse(each for n, spec in enumerate(specs) for each in _violations(spec, path.format(n), now))


def check_edits(edits: Edits, now: dt.datetime) -> None:
    """Refuse new values of fields that cannot be here.

    Raises:
        InvalidRequest: with every violation.
    """
    _refuse(each for name in _AHEAD for each in _ahead(f"job.{name}", edits.get(name), now))


def _refuse(found: Iterator[Violation]) -> None:
    violations = list(found)
    if violations:
        raise InvalidRequest(violations)


def _violations(spec: JobSpec, path: str, now: dt.datetime) -> Iterator[Violation]:
    if spec.cluster != DEFAULT_CLUSTER:
        text = f"there is no cluster {spec.cluster!r}; configured: {DEFAULT_CLUSTER}"
        yield Violation(f"{path}.cluster", text, "CLUSTER_UNKNOWN")
    for name in _AHEAD:
        yield from _ahead(f"{path}.{name}", getattr(spec, name), now)


def _ahead(path: str, at: object, now: dt.datetime) -> Iterator[Violation]:
    if isinstance(at, dt.datetime) and at > now + LONGEST_AHEAD:
        text = f"must be at most 10 years ahead; got {at.isoformat()}"
        yield Violation(path, text, "TOO_FAR_AHEAD")
