"""What an edit of a schedule keeps: its job and its timing as the options that make them again.

The API replaces the job and the timing as a whole; a command that changes a part of one reads the
schedule, puts what was given over what there is, and writes it under the etag of what it read.
"""

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import Any

import click

from jobservice.model.limit import NORMAL_WEIGHT
from jobservice.model.schedule import Misfire, MisfirePolicy
from jobservice.model.spec import JobSpec
from jobservice.model.when import Timing

_KINDS = ("cron", "every", "at")


def job_options(spec: JobSpec, given: Mapping[str, Any]) -> Any:
    """The options of a job with some of them changed.

    Raises:
        click.UsageError: it is an array, and no array is given; its items cannot be read.
    """
    if spec.array is not None and "array" not in given:
        raise click.UsageError(
            "Give --array or --array-items too: the items of an array cannot be read back."
        )
    options = _options_of(spec)
    changed = dict(given)
    if "retries" in changed:
        attempts = changed.pop("retries") + 1
        changed["retry_policy"] = dataclasses.replace(spec.retry, max_attempts=attempts)
    if "resources" in changed:
        changed["resources"] = options["resources"] | changed["resources"]
    return options | changed


def _options_of(spec: JobSpec) -> dict[str, Any]:
    """The options that make a job of a schedule; those at their default may be left out."""
    command, amounts = spec.command, spec.placement.resources
    resources: dict[str, float] = {"cpu": amounts.cpu_millis / 1000, "memory": amounts.memory_bytes}
    names = (
        "name", "labels", "queue", "priority", "cluster", "job_type", "timeout", "idle_timeout",
        "stop_grace", "output_limit_bytes", "start_delay", "fairness_key", "queue_timeout",
        "total_timeout", "deadline",
    )  # fmt: skip
    options = {name: getattr(spec, name) for name in names} | {
        "env": command.env,
        "stdin": command.stdin,
        "work_dir": command.work_dir,
        "retry_policy": spec.retry,
        "keys": spec.concurrency_keys,
        "fairness_weight": spec.fairness_weight / NORMAL_WEIGHT,
        "required_labels": spec.placement.labels,
        "resources": {name: n for name, n in (resources | dict(amounts.counts)).items() if n},
    }
    if spec.unique_key is not None:
        options["unique"] = spec.unique_key
    if spec.array is not None:
        rules = {name: getattr(spec.array, name) for name in ("max_parallel", "max_failures")}
        options |= {name: value for name, value in rules.items() if value is not None}
    return options


def timing_options(timing: Timing, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a timing with some of them changed; another kind leaves what was of the old one."""
    options: dict[str, Any] = {
        "cron": timing.cron or None,
        "every": timing.every,
        "phase": timing.phase or None,
        "at": timing.at,
        "time_zone": timing.zone,
        "start_time": timing.start_at,
        "end_time": timing.end_at,
        "jitter": timing.jitter or None,
    }
    new = [kind for kind in _KINDS if kind in given]
    if new:
        left = set(_KINDS)
        left |= set() if "every" in new else {"phase"}
        left |= set() if "cron" in new else {"time_zone"}
        options = {name: value for name, value in options.items() if name not in left}
    return {name: value for name, value in options.items() if value is not None} | dict(given)


def misfire(old: Misfire, given: Mapping[str, Any]) -> Misfire:
    """A rule for missed fires with some of its options changed."""
    window_s = given.get("misfire_window")
    return Misfire(
        MisfirePolicy[given["misfire"].upper()] if "misfire" in given else old.policy,
        given.get("misfire_count", old.max_count),
        old.window if window_s is None else dt.timedelta(seconds=window_s),
    )
