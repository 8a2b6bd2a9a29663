"""`jobservice schedule`: jobs that are made again and again."""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

import click

from jobservice.cli import kept
from jobservice.cli.options import AT_MOST, INSTANT, LENGTH, Whole, client_options, connected
from jobservice.cli.output import (
    command_line,
    instant,
    length,
    one_line,
    say,
    show_fields,
    show_json,
    show_table,
)
from jobservice.cli.submit import check_fairness, given_options, submit_command
from jobservice.model.schedule import (
    Backfill,
    Misfire,
    MisfirePolicy,
    Overlap,
    Preview,
    Run,
    Schedule,
)

Command = TypeVar("Command", bound=Callable[..., Any])
NAME = click.argument("schedule", metavar="NAME")
OF_A_JOB = (
    "queue", "priority", "job_type", "labels", "env", "stdin", "work_dir", "cluster", "timeout",
    "idle_timeout", "retries", "stop_grace", "output_limit_bytes", "keys", "on_conflict",
    "fairness_key", "fairness_weight", "queue_timeout", "total_timeout", "array", "array_items",
    "max_parallel", "max_failures", "required_labels", "cpu", "memory", "resources",
)  # fmt: skip
"""The options of `submit` that say what each job is."""
TIMING = ("cron", "every", "phase", "at", "time_zone", "start_time", "end_time", "jitter")
POLICIES = [each.name.lower().replace("_", "-") for each in Overlap]
MISFIRES = [each.name.lower() for each in MisfirePolicy]


@click.group("schedule")
def schedule_command() -> None:
    """Have jobs made again and again, at their times."""


# --- options that several have ----------------------------------------------------------------


_TIMING_OPTIONS = (
    click.option(
        "--cron",
        metavar="EXPR",
        help="Fire as these 5 fields say, or @daily and the like; H is a value of its own.",
    ),
    click.option(
        "--every", type=LENGTH, metavar="TIME", help="Fire once in each TIME: 90s, 5m, 1d."
    ),
    click.option("--phase", type=LENGTH, metavar="TIME", help="Shift --every by TIME."),
    click.option("--at", type=INSTANT, metavar="INSTANT", help="Fire once, at INSTANT."),
    click.option(
        "--time-zone",
        metavar="ZONE",
        help="The zone that --cron is read in, such as Europe/Berlin [UTC].",
    ),
    click.option(
        "--start",
        "start_time",
        type=INSTANT,
        metavar="INSTANT",
        help="No fire before INSTANT.",
    ),
    click.option(
        "--end",
        "end_time",
        type=INSTANT,
        metavar="INSTANT",
        help="No fire at INSTANT or after it.",
    ),
    click.option(
        "--jitter", type=LENGTH, metavar="TIME", help="Each fire is up to TIME late, by chance."
    ),
)
_RULE_OPTIONS = (
    click.option("--description", metavar="TEXT", help="For people."),
    click.option(
        "--misfire",
        type=click.Choice(MISFIRES),
        help="Which of the fires that could not be made in time are made [last].",
    ),
    click.option(
        "--misfire-count",
        type=Whole("leave it out for 10"),
        metavar="N",
        help="How many --misfire all makes [10].",
    ),
    click.option(
        "--misfire-window",
        type=LENGTH,
        metavar="TIME",
        help="What has been due for longer is missed in any case [1h].",
    ),
    click.option(
        "--overlap",
        type=click.Choice(POLICIES),
        help="What a fire does while a job of the schedule is not final [skip].",
    ),
    click.option(
        "--pause-after-failures",
        type=Whole("give 0 for never"),
        metavar="N",
        help="Pause after N jobs in a row that failed; 0: never [0].",
    ),
)


def timing_options(command: Command) -> Command:
    """When a schedule fires."""
    for option in reversed(_TIMING_OPTIONS):
        command = option(command)
    return command


def rule_options(command: Command) -> Command:
    """What else is said of a schedule."""
    for option in reversed(_RULE_OPTIONS):
        command = option(command)
    return command


def with_job_options(command: click.Command) -> click.Command:
    """Give a command the options of `submit` that say what a job is, before those that all have."""
    options = {each.name: each for each in submit_command.params}
    job_name = click.Option(
        ["--job-name", "name"], metavar="NAME", help="The name of its jobs, for people."
    )
    place = next(n for n, each in enumerate(command.params) if each.name == "address")
    command.params[place:place] = [job_name, *(options[name] for name in OF_A_JOB)]
    return command


def _timing_of(given: dict[str, Any]) -> dict[str, Any]:
    return _taken(given, TIMING)


def _check_zone(given: Mapping[str, Any], timing: Mapping[str, Any]) -> None:
    """Refuse a zone that nothing is read in; `timing` is all there is then, `given` what is new."""
    if "time_zone" in given and timing and "cron" not in timing:
        raise click.UsageError("--time-zone is about --cron: give --cron too, or leave it out.")


def _taken(given: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Those of the options that were given, taken out of the others."""
    found = {name: given.pop(name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def _rules_of(given: dict[str, Any]) -> dict[str, Any]:
    return _taken(given, ("description", "overlap", "pause_after_failures"))


def _misfire_of(given: dict[str, Any]) -> dict[str, Any]:
    return _taken(given, ("misfire", "misfire_count", "misfire_window"))


# --- one schedule -----------------------------------------------------------------------------


@with_job_options
@schedule_command.command("create")
@NAME
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- PROGRAM ARG…")
@timing_options
@rule_options
@client_options
def create_command(
    *, schedule: str, argv: tuple[str, ...], address: str | None, as_json: bool, **given: Any
) -> None:
    r"""Make a schedule.

    One that is there already with the same fields is left as it is, so this can be repeated.

    \b
    Examples:
      jobservice schedule create nightly --cron '30 2 * * *' --time-zone Europe/Berlin -- ./backup.sh
      jobservice schedule create poll --every 5m --overlap skip --timeout 4m -- ./poll.sh
      jobservice schedule create spread --cron 'H H * * *' -- ./report.sh
    """
    timing, rules = _timing_of(given), _rules_of(given)
    if missed := _misfire_of(given):
        rules["misfire"] = kept.misfire(Misfire(), missed)
    _check_zone(timing, timing)
    job = given_options(given)
    check_fairness(job)
    with connected(address) as client:
        made = client.schedules.create(schedule, argv, job=job, **timing, **rules)
    _show(made, as_json=as_json)


@schedule_command.command("get")
@NAME
@client_options
def get_command(schedule: str, address: str | None, *, as_json: bool) -> None:
    """Show all of a schedule."""
    with connected(address) as client:
        found = client.schedules.get(schedule)
    show_json(found) if as_json else show_fields(_schedule_fields(found))


def _schedule_fields(schedule: Schedule) -> Iterator[tuple[str, str]]:
    spec, pause = schedule.spec, schedule.pause
    yield "schedule", schedule.schedule_id
    yield "for", one_line(spec.description)
    yield "when", _when(schedule)
    yield "next", instant(schedule.next_at)
    yield "paused", _paused(schedule)
    yield "misfire", f"{spec.misfire.policy.name}, within {_short(spec.misfire.window)}"
    yield "overlap", spec.overlap.name
    yield "waiting", str(schedule.buffered_count or "")
    limit = spec.pause_after_failures
    yield "failures", f"paused after {limit} in a row" if limit else ""
    yield "command", command_line(spec.job.command.argv)
    yield "queue", f"{spec.job.queue}, priority {spec.job.priority}"
    yield "backfill", _backfill(schedule.backfill) if schedule.backfill else ""
    yield "created", instant(schedule.created_at)
    if pause is not None:
        yield "since", instant(pause.since)


def _when(schedule: Schedule) -> str:
    timing = schedule.spec.timing
    if timing.cron:
        return f"{timing.cron} {timing.zone}"
    return f"every {_short(timing.every)}" if timing.every else f"at {instant(timing.at)}"


def _short(time: dt.timedelta) -> str:
    return length(time).replace(".0s", "s")


def _paused(schedule: Schedule) -> str:
    pause = schedule.pause
    if pause is None:
        return ""
    until = f" (until {instant(pause.until)})" if pause.until else ""
    return f"{one_line(pause.reason)}{until}"


def _backfill(backfill: Backfill) -> str:
    done = backfill.job_count + backfill.skipped_count
    return (
        f"{backfill.state.name}: {done} of {backfill.total_count} times from {_range(backfill)},"
        f" {backfill.job_count} jobs"
    )


def _range(backfill: Backfill) -> str:
    return f"{instant(backfill.start_at)} to {instant(backfill.end_at)}"


@schedule_command.command("list")
@click.option(
    "--limit", type=AT_MOST, default=50, metavar="N", help="How many at most; 0: all [50]."
)
@client_options
def list_command(*, limit: int, address: str | None, as_json: bool) -> None:
    """List schedules by name."""
    with connected(address) as client:
        _show_rows(
            _first(client.schedules.list(), limit),
            ("SCHEDULE", "NEXT", "WHEN", "PAUSED", "COMMAND"),
            lambda each: (
                each.schedule_id,
                instant(each.next_at),
                _when(each),
                _paused(each),
                command_line(each.spec.job.command.argv),
            ),
            as_json=as_json,
        )


@with_job_options
@schedule_command.command("update")
@NAME
@click.argument("argv", nargs=-1, type=click.UNPROCESSED, metavar="[-- PROGRAM ARG…]")
@timing_options
@rule_options
@click.option(
    "--replace",
    is_flag=True,
    help="Of a timing, job or misfire rule of which a part is given, have the rest at its default.",
)
@click.option("--etag", default="", metavar="ETAG", help="Only if it was not edited since.")
@client_options
def update_command(
    *, schedule: str, argv: tuple[str, ...], replace: bool, etag: str, address: str | None,
    as_json: bool, **given: Any,
) -> None:  # fmt: skip
    r"""Change a schedule; what is not given stays.

    --cron, --every and --at take each other's place. An option that may be given several times, such as
    --label, takes the place of all that were there. --replace takes away what has no option for that.

    \b
    Examples:
      jobservice schedule update nightly --cron '0 3 * * *' --time-zone Europe/Berlin
      jobservice schedule update poll --overlap buffer-one
      jobservice schedule update poll --timeout 10m
      jobservice schedule update poll -- ./poll.sh --slow
    """
    timing, rules, missed = _timing_of(given), _rules_of(given), _misfire_of(given)
    job = given_options(given)
    if not (timing or rules or missed or job or argv):
        raise click.UsageError("Nothing to change; see jobservice schedule update --help.")
    if replace and job and not argv:
        raise click.UsageError("Give the program too: --replace is about the whole job.")
    if replace:
        _check_zone(timing, timing)
        check_fairness(job)
    with connected(address) as client:
        if not replace and (timing or missed or job or argv):
            found = client.schedules.get(schedule)
            etag, spec = etag or found.etag, found.spec
            if timing:
                timing, new = kept.timing_options(spec.timing, timing), timing
                _check_zone(new, timing)
            if job or argv:
                check_fairness({"fairness_key": spec.job.fairness_key} | job)
                job, argv = kept.job_options(spec.job, job), argv or spec.job.command.argv
            old = spec.misfire
        else:
            old = Misfire()
        if missed:
            rules["misfire"] = kept.misfire(old, missed)
        program: dict[str, Any] = {"argv": argv, "job": job} if argv else {}
        changed = client.schedules.update(schedule, etag=etag, **program, **timing, **rules)
    _show(changed, as_json=as_json)


@schedule_command.command("delete")
@NAME
@click.option("--missing-ok", is_flag=True, help="A schedule that does not exist is no error.")
@client_options
def delete_command(schedule: str, address: str | None, *, missing_ok: bool, as_json: bool) -> None:
    """Delete a schedule and the record of its runs; its jobs stay."""
    with connected(address) as client:
        client.schedules.delete(schedule, allow_missing=missing_ok)
    click.echo(f'{{"schedule_id": "{schedule}"}}') if as_json else say(f"{schedule} is gone.")


@schedule_command.command("pause")
@NAME
@click.option("--reason", default="", metavar="TEXT", help="Why, for people.")
@click.option("--until", type=INSTANT, metavar="INSTANT", help="Resume by itself at INSTANT.")
@client_options
def pause_command(
    *, schedule: str, reason: str, until: dt.datetime | None, address: str | None, as_json: bool
) -> None:
    """Keep a schedule from making jobs by itself.

    What would be due meanwhile is left out.
    """
    with connected(address) as client:
        _show(client.schedules.pause(schedule, reason=reason, until=until), as_json=as_json)


@schedule_command.command("resume")
@NAME
@client_options
def resume_command(schedule: str, address: str | None, *, as_json: bool) -> None:
    """End the pause of a schedule, which goes on from now."""
    with connected(address) as client:
        _show(client.schedules.resume(schedule), as_json=as_json)


# --- fires ------------------------------------------------------------------------------------


@schedule_command.command("preview")
@click.argument("schedule", metavar="[NAME]", default="")
@timing_options
@click.option(
    "-n",
    "count",
    type=Whole("leave it out for 10"),
    default=10,
    metavar="N",
    help="How many fires [10].",
)
@click.option("--from", "after", type=INSTANT, metavar="INSTANT", help="Those after INSTANT [now].")
@client_options
def preview_command(
    *, schedule: str, count: int, after: dt.datetime | None, address: str | None, as_json: bool,
    **given: Any,
) -> None:  # fmt: skip
    r"""Say when a schedule fires next, and what that means in words.

    With a timing, NAME need not exist: it decides what H stands for.

    \b
    Examples:
      jobservice schedule preview nightly -n 3
      jobservice schedule preview --cron '30 2 * * *' --time-zone Europe/Berlin --from 2027-03-27T00:00Z
    """
    timing = _timing_of(given)
    _check_zone(timing, timing)
    with connected(address) as client:
        found = client.schedules.preview(schedule, count=count, after=after, **timing)
    show_json(found) if as_json else _show_preview(found)


def _show_preview(preview: Preview) -> None:
    click.echo(preview.words)
    rows = [(each.local, instant(each.due_at), one_line(each.note)) for each in preview.fires]
    if rows:
        show_table(("LOCAL TIME", "DUE", "NOTE"), rows, cut=False)
    else:
        say("It does not fire any more.")


@schedule_command.command("trigger")
@NAME
@client_options
def trigger_command(schedule: str, address: str | None, *, as_json: bool) -> None:
    """Make one job of a schedule now, and print its id."""
    with connected(address) as client:
        job = client.schedules.trigger(schedule)
    show_json(job) if as_json else click.echo(job.job_id)


@schedule_command.command("backfill")
@NAME
@click.option(
    "--from", "start_at", type=INSTANT, metavar="INSTANT", help="The beginning of the range."
)
@click.option(
    "--until", "end_at", type=INSTANT, metavar="INSTANT", help="Its end, which is not part of it."
)
@click.option(
    "--rate",
    type=Whole("leave it out for 60"),
    default=60,
    metavar="N",
    help="How many jobs are made in a minute at most [60].",
)
@click.option("--dry-run", is_flag=True, help="Only check, and count the times.")
@click.option("--cancel", is_flag=True, help="End the backfill that is under way instead.")
@client_options
def backfill_command(
    *, schedule: str, start_at: dt.datetime | None, end_at: dt.datetime | None, rate: int,
    dry_run: bool, cancel: bool, address: str | None, as_json: bool,
) -> None:  # fmt: skip
    r"""Make the jobs of a range of times, at a rate. It goes on by itself; `get` shows how far.

    \b
    Examples:
      jobservice schedule backfill nightly --from 2026-11-01T00:00Z --until 2026-11-08T00:00Z
      jobservice schedule backfill nightly --cancel
    """
    if not cancel and (start_at is None or end_at is None):
        raise click.UsageError("Give --from and --until, or --cancel.")
    if start_at is not None and end_at is not None and end_at <= start_at:
        text = f"--until must be after --from, {start_at.isoformat()}; got {end_at.isoformat()}."
        raise click.UsageError(text)
    if cancel and (dry_run or start_at is not None or end_at is not None):
        raise click.UsageError("--cancel excludes --dry-run, --from and --until.")
    with connected(address) as client:
        if start_at is not None and end_at is not None and not cancel:
            begun = client.schedules.backfill(
                schedule, start_at, end_at, jobs_per_minute=rate, validate_only=dry_run
            )
            if as_json:
                show_json(begun)
            elif dry_run:
                click.echo(f"{begun.total_count:,} times from {_range(begun)}")
            else:
                click.echo(_backfill(begun))
        else:
            found = client.schedules.cancel_backfill(schedule)
            none = "There is no backfill."
            show_json(found) if as_json else click.echo(
                _backfill(found.backfill) if found.backfill else none
            )


@schedule_command.command("runs")
@NAME
@click.option(
    "--limit", type=AT_MOST, default=50, metavar="N", help="How many at most; 0: all [50]."
)
@client_options
def runs_command(*, schedule: str, limit: int, address: str | None, as_json: bool) -> None:
    """List what became of the fires of a schedule, the newest first."""
    with connected(address) as client:
        _show_rows(
            _first(client.schedules.runs(schedule), limit),
            ("NOMINAL TIME", "OUTCOME", "CAUSE", "JOB", "MESSAGE"),
            lambda run: (
                instant(run.nominal_at),
                _outcome(run),
                run.cause.name,
                run.job_id,
                one_line(run.message),
            ),
            as_json=as_json,
        )


def _outcome(run: Run) -> str:
    return run.outcome.name if run.count == 1 else f"{run.outcome.name} x {run.count}"


# --- output -----------------------------------------------------------------------------------

Item = TypeVar("Item")


def _first(found: Iterator[Item], limit: int) -> Iterator[Item]:
    return islice(found, limit) if limit > 0 else found


def _show(schedule: Schedule, *, as_json: bool) -> None:
    if as_json:
        show_json(schedule)
    elif schedule.pause is not None:
        click.echo(f"{schedule.schedule_id} is paused: {_paused(schedule)}")
    else:
        at = instant(schedule.next_at)
        click.echo(f"{schedule.schedule_id} " + (f"fires next at {at}" if at else "fires no more"))


def _show_rows(
    found: Iterator[Item],
    header: tuple[str, ...],
    row_of: Callable[[Item], tuple[str, ...]],
    *,
    as_json: bool,
) -> None:
    if as_json:
        for each in found:
            show_json(each)
        return
    rows = [row_of(each) for each in found]
    if rows:
        show_table(header, rows)
    else:
        say("None.")
