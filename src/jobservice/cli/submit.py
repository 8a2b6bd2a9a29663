"""`jobservice submit`: one job, and perhaps its end."""

import dataclasses
import datetime as dt
import sys
from collections.abc import Mapping
from typing import Any, BinaryIO, TextIO

import click

from jobservice.cli.exit_codes import exit_code_of
from jobservice.cli.options import (
    AFTER,
    AFTER_RULE,
    AMOUNT,
    INSTANT,
    KEY,
    LENGTH,
    NAME,
    ON_CONFLICT,
    ON_DUPLICATE,
    PAIR,
    PRIORITY,
    RETRIES,
    STATE_LIST,
    UNIQUE_SCOPES,
    UNLIMITED,
    Whole,
    client_options,
    connected,
)
from jobservice.cli.output import say, show_json
from jobservice.cli.progress import watch_to_the_end
from jobservice.client.sync import Client
from jobservice.model.job import Job
from jobservice.model.limit import OnConflict
from jobservice.model.placements import amount_of
from jobservice.model.unique import UniqueKey, UniqueScope


@click.command("submit")
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- PROGRAM ARG…")
@click.option("--name", metavar="NAME", help="A name for people.")
@click.option("--queue", type=NAME, metavar="QUEUE", help="The queue it waits in [default].")
@click.option(
    "--priority", type=PRIORITY, metavar="N", help="high, medium, low, or -100 to 100 [medium]."
)
@click.option(
    "--label",
    "labels",
    type=PAIR,
    multiple=True,
    metavar="K=V",
    help="A label; may be given several times.",
)
@click.option(
    "--env",
    type=PAIR,
    multiple=True,
    metavar="K=V",
    help="A variable for the program, which inherits none; may be given several times.",
)
@click.option(
    "--stdin", type=click.File("rb"), metavar="FILE", help="What the program reads; - is our stdin."
)
@click.option(
    "--work-dir", metavar="DIR", help="The absolute directory it starts in [a fresh one]."
)
@click.option("--cluster", metavar="CLUSTER", help="Where it runs [local].")
@click.option(
    "--timeout", type=LENGTH, metavar="TIME", help="How long an attempt may run: 90s, 5m."
)
@click.option(
    "--idle-timeout",
    type=LENGTH,
    metavar="TIME",
    help="How long an attempt may be silent: no output, no line of progress.",
)
@click.option(
    "--retries", type=RETRIES, metavar="N", help="How often a failed attempt is tried again [0]."
)
@click.option(
    "--stop-grace", type=LENGTH, metavar="TIME", help="Between SIGTERM and SIGKILL [10s]."
)
@click.option(
    "--output-limit",
    "output_limit_bytes",
    type=Whole("leave it out for 1 GiB", most=(1 << 63) - 1),
    metavar="BYTES",
    help="How much output of an attempt is kept [1 GiB].",
)
@click.option(
    "--at",
    "start_after",
    type=INSTANT,
    metavar="INSTANT",
    help="The earliest start: 2026-11-25T09:30Z; without a zone, the local time here.",
)
@click.option(
    "--delay", "start_delay", type=LENGTH, metavar="TIME", help="The same, counted from now."
)
@click.option(
    "--after",
    type=AFTER,
    multiple=True,
    metavar="JOB",
    help="Wait for JOB to succeed; JOB:failed, JOB:finished, JOB+10m (so long after its end); may be "
    "given several times.",
)
@click.option(
    "--after-rule",
    type=AFTER_RULE,
    metavar="RULE",
    help="How many of them it takes: all, any, a number, or always (all final) [all].",
)
@click.option(
    "--after-unmet",
    type=click.Choice(["skip", "fail", "hold"]),
    help="What becomes of the job if they end otherwise [skip].",
)
@click.option(
    "--key",
    "keys",
    type=KEY,
    multiple=True,
    metavar="NAME[:LIMIT[:WEIGHT]]",
    help="Run only so many jobs with this key at once [1]; may be given several times.",
)
@click.option(
    "--on-conflict",
    type=click.Choice(ON_CONFLICT),
    metavar="POLICY",
    help=f"What to do when a key is taken: {', '.join(ON_CONFLICT)} [queue].",
)
@click.option(
    "--unique",
    metavar="KEY",
    help="Create it only if no other job with KEY is there that is not final.",
)
@click.option(
    "--unique-window",
    type=LENGTH,
    metavar="TIME",
    help="Another counts only for TIME after its creation [without a limit].",
)
@click.option(
    "--unique-scope",
    type=click.Choice(UNIQUE_SCOPES),
    help="Where KEY is looked for: all jobs of the tenant, or those of the queue [tenant].",
)
@click.option(
    "--unique-states",
    type=STATE_LIST,
    metavar="STATES",
    help="Another counts only in these states, with commas: queued,succeeded [all but the final].",
)
@click.option(
    "--on-duplicate",
    type=click.Choice(list(ON_DUPLICATE)),
    help="What to do when another counts: return it, reject the new one, or replace one that waits "
    "[return].",
)
@click.option(
    "--type", "job_type", metavar="NAME", help="What kind of work it is, for limits and filters."
)
@click.option(
    "--require-label",
    "required_labels",
    type=PAIR,
    multiple=True,
    metavar="K=V",
    help="Only on a worker with this label; may be given several times.",
)
@click.option(
    "--cpu", type=AMOUNT, metavar="N", help="Take so many processors of the worker: 2, 0.5 [none]."
)
@click.option(
    "--memory", type=AMOUNT, metavar="SIZE", help="Take so much of its memory: 4GiB [none]."
)
@click.option(
    "--resource",
    "resources",
    type=PAIR,
    multiple=True,
    metavar="NAME=N",
    help="Take so many of what it counts: gpu=1; may be given several times.",
)
@click.option("--fairness-key", metavar="KEY", help="Jobs with different keys take turns.")
@click.option(
    "--fairness-weight", type=float, metavar="N", help="The share of its fairness key [1]."
)
@click.option(
    "--queue-timeout", type=LENGTH, metavar="TIME", help="How long it may wait for a worker."
)
@click.option(
    "--total-timeout",
    type=LENGTH,
    metavar="TIME",
    help="How long it may take all in all, waits and attempts together.",
)
@click.option(
    "--deadline", type=INSTANT, metavar="INSTANT", help="When it has to be final; as for --at."
)
@click.option(
    "--array",
    type=Whole("leave it out for a job that is no array", least=1),
    metavar="N",
    help="Stand for N jobs of this command; each finds its index, from 0, in JOBSERVICE_ARRAY_INDEX.",
)
@click.option(
    "--array-items",
    type=click.File("r", encoding="utf-8", errors="strict"),
    metavar="FILE",
    help="One for each line of FILE, handed to it as JOBSERVICE_ARRAY_ITEM; - is our stdin.",
)
@click.option(
    "--max-parallel",
    type=UNLIMITED,
    metavar="N",
    help="How many indices may run at once [no limit].",
)
@click.option(
    "--max-failures",
    type=Whole("leave it out for never"),
    metavar="N",
    help="Stop the array once more indices failed [never].",
)
@click.option(
    "--request-id", metavar="ID", help="Create the job once, however often this is called with ID."
)
@click.option("--wait", is_flag=True, help="Show progress on stderr; exit with the job's code.")
@client_options
def submit_command(
    *, argv: tuple[str, ...], address: str | None, wait: bool, as_json: bool, **given: Any
) -> None:
    r"""Submit a job and print its id.

    There is no shell: give /bin/sh -c 'LINE' to have one. With --wait, Ctrl-C lets go of the job,
    which goes on.

    \b
    Examples:
      jobservice submit -- /usr/bin/make -C /src all
      jobservice submit --env LANG=C --work-dir /data -- sort -o out.txt in.txt
      jobservice submit --wait --timeout 10m --retries 2 -- ./flaky-test
      echo hello | jobservice submit --stdin - -- wc -c
      jobservice submit --at 2026-11-26T03:00+01:00 -- ./nightly
      jobservice submit --after "$build" --after "$lint:finished" -- ./publish
      jobservice submit --key db --key gpu:4:2 -- ./train
      jobservice submit --unique report-2026-11 --unique-window 1h -- ./report
      jobservice submit --require-label disk=ssd --cpu 4 --memory 8GiB --resource gpu=1 -- ./train
      jobservice submit --array 1000 --max-parallel 8 -- ./simulate
    """
    request_id = given.pop("request_id") or ""
    options = given_options(given)
    check_fairness(options)
    with connected(address) as client:
        job = client.create(argv, request_id=request_id, **options)
        if job.existing:
            say(f"Nothing was created: job {job.job_id}, {job.state.name}, stands for the new one.")
        if not as_json:
            click.echo(job.job_id)
            sys.stdout.flush()
        elif not wait:
            show_json(job)
        if wait:
            sys.exit(_wait(client, job, as_json=as_json))


_OWN_OPTION = ("cpu", "memory")
"""Resources with an option of their own."""


def check_fairness(options: Mapping[str, Any]) -> None:
    """Refuse a share of nothing."""
    if "fairness_weight" in options and not options.get("fairness_key"):
        raise click.UsageError(
            "--fairness-weight is about a fairness key: give --fairness-key too."
        )


def given_options(given: dict[str, Any]) -> Any:
    """The options of the SDK that were given."""
    source: BinaryIO | None = given.pop("stdin")
    options = {name: value for name, value in given.items() if value not in {None, ()}}
    _check_companions(options)
    for name in ("labels", "env", "required_labels"):
        if name in options:
            options[name] = dict(options[name])
    if source is not None:
        options["stdin"] = source.read()
    _put_items(options)
    amounts = {name: options.pop(name) for name in _OWN_OPTION if name in options}
    for name, text in options.pop("resources", ()):
        if name in amounts and name in _OWN_OPTION:
            raise click.UsageError(f"--{name} and --resource {name}=… exclude each other.")
        amounts[name] = _count(name, text)
    if amounts:
        options["resources"] = amounts
    policy = options.pop("on_conflict", None)
    if policy is not None:
        if "keys" not in options:
            raise click.UsageError("--on-conflict is about a key: give --key too.")
        conflict = OnConflict[policy.replace("-", "_").upper()]
        options["keys"] = [
            dataclasses.replace(key, on_conflict=conflict) for key in options["keys"]
        ]
    unique = _unique(options)
    if unique is not None:
        options["unique"] = unique
    return options


def _check_companions(options: dict[str, Any]) -> None:
    """Whether what belongs together was given together."""
    if "start_after" in options and "start_delay" in options:
        raise click.UsageError("Give one of --at and --delay, not both.")
    for names, others, about, remedy in (
        (("after_rule", "after_unmet"), {"after"}, "other jobs", "--after"),
        (
            ("max_parallel", "max_failures"),
            {"array", "array_items"},
            "an array",
            "--array or --array-items",
        ),
    ):
        for name in names:
            if name in options and not others & options.keys():
                option = name.replace("_", "-")
                raise click.UsageError(f"--{option} is about {about}: give {remedy} too.")


def _count(name: str, text: str) -> float:
    try:
        return amount_of(name, text)
    except ValueError as error:
        raise click.UsageError(f"--resource {name}: {error}.") from None


def _unique(options: dict[str, Any]) -> UniqueKey | None:
    """Takes what is about a unique key out of the options."""
    names = ("unique_window", "unique_scope", "unique_states", "on_duplicate")
    rules = {name: options.pop(name) for name in names if name in options}
    key = options.pop("unique", None)
    if key is None:
        if rules:
            option = next(iter(rules)).replace("_", "-")
            raise click.UsageError(f"--{option} is about a unique key: give --unique too.")
        return None
    try:
        window = dt.timedelta(seconds=rules["unique_window"]) if "unique_window" in rules else None
    except OverflowError:
        raise click.UsageError("--unique-window is longer than any may be.") from None
    return UniqueKey(
        key,
        UniqueScope[rules.get("unique_scope", "tenant").upper()],
        window,
        rules.get("unique_states", ()),
        ON_DUPLICATE[rules.get("on_duplicate", "return")],
    )


def _put_items(options: dict[str, Any]) -> None:
    """Have an array stand for the lines of a file."""
    lines: TextIO | None = options.pop("array_items", None)
    if lines is None:
        return
    if "array" in options:
        raise click.UsageError("--array and --array-items exclude each other.")
    try:
        text = lines.read()
    except UnicodeDecodeError as error:
        raise click.UsageError(f"--array-items {lines.name} is no UTF-8: {error}.") from None
    if not text:
        raise click.UsageError(
            f"--array-items {lines.name} is empty: an array has an item or more."
        )
    options["array"] = text.removesuffix("\n").split("\n")


def _wait(client: Client, job: Job, *, as_json: bool) -> int:
    try:
        job = watch_to_the_end(client, job.job_id)
    except KeyboardInterrupt:
        say(f"Job {job.job_id} goes on; `jobservice cancel {job.job_id}` ends it.")
        raise
    if as_json:
        show_json(job)
    return exit_code_of(job)
