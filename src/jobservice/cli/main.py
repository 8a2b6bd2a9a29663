"""The command `jobservice`: its commands, and what every error becomes.

Results go to stdout, everything else to stderr. Nothing heavy is loaded before a command needs it:
`--help` and completion answer at once.
"""

import importlib
import os
import sys
from typing import NamedTuple, NoReturn

import click

from jobservice import __version__
from jobservice.cli.refusals import told
from jobservice.errors import DeadlineExceeded, JobServiceError, SetupError, Unavailable

INTERRUPTED = 130
BROKEN_PIPE = 141

COMMANDS = {
    "submit": ("submit", "Submit a job and print its id."),
    "status": ("jobs", "Show where a job is right now, and what it waits for."),
    "get": ("jobs", "Show all of a job: what was asked for, and every attempt."),
    "list": ("jobs", "List jobs, newest first."),
    "history": ("jobs", "List the jobs that have ended, the newest end first."),
    "logs": ("follow", "Print the output of a job, byte for byte."),
    "wait": ("follow", "Wait for the end of jobs; print each as it ends."),
    "watch": ("follow", "Print everything that happens to jobs, or to all of them."),
    "cancel": ("change", "End jobs: their whole process tree is stopped."),
    "retry": ("change", "Queue jobs that have ended once more."),
    "hold": ("change", "Keep jobs that wait from starting, until they are released."),
    "release": ("change", "Let jobs go on that are on hold: they wait by priority and age."),
    "move": ("change", "Give a job that is queued another place in its queue."),
    "update": ("change", "Change fields of a job that may still be changed."),
    "delete": ("change", "Delete jobs with their output and history."),
    "queue": ("queue", "Give queues rules, pause them, and see how they move."),
    "limit": ("limit", "Limit what runs at once and how often something starts."),
    "schedule": ("schedule", "Have jobs made again and again, at their times."),
    "bulk": ("bulk", "Change many jobs at once, by a filter."),
    "workers": ("workers", "Show who runs jobs, and keep workers from taking new ones."),
    "serve": ("serve", "Run the service until SIGTERM."),
    "worker": ("worker", "Run jobs of servers on other hosts until SIGTERM."),
    "db": ("db", "Look after the database."),
    "version": ("version", "Print the versions of this command and of the service."),
}
"""Each command with its module and its first sentence, so that listing them loads none of them."""


class Service(NamedTuple):
    """Where the service is and how to be sure of it, as said before the command."""

    address: str | None
    tls_ca: str | None
    tls_cert: str | None
    tls_key: str | None


def _keep_examples(command: click.Command) -> click.Command:
    r"""Have click keep the lines of a paragraph that begins with `\b` in a docstring."""
    command.help = (command.help or "").replace("\\b\n", "\b\n")
    for each in command.commands.values() if isinstance(command, click.Group) else ():
        _keep_examples(each)
    return command


class LazyGroup(click.Group):
    """Loads a command when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        try:
            module = importlib.import_module(f"jobservice.cli.{COMMANDS[cmd_name][0]}")
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("jobservice"):
                raise
            raise SetupError(
                f"This command needs the service, which is not installed here ({error.name} is "
                "missing): pip install 'jobservice[server]'."
            ) from error
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return _keep_examples(command)

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002
        formatter: click.HelpFormatter,
    ) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    commands=dict.fromkeys(COMMANDS, click.Command(None)),  # names to guess from after a typo
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--address",
    metavar="ADDRESS",
    help="The service: unix:/PATH or HOST:PORT. Default: JOBSERVICE_ADDRESS, else the socket of "
    "the data directory (JOBSERVICE_DATA_DIR, else ~/.local/share/jobservice).",
)
@click.option(
    "--tls-ca",
    metavar="FILE",
    help="For HOST:PORT with TLS, the authorities of its certificate. Default: JOBSERVICE_TLS_CA.",
)
@click.option(
    "--tls-cert", metavar="FILE", help="Our certificate for it. Default: JOBSERVICE_TLS_CERT."
)
@click.option("--tls-key", metavar="FILE", help="The key of that. Default: JOBSERVICE_TLS_KEY.")
@click.version_option(__version__, "-V", "--version", message="%(prog)s %(version)s")
@click.pass_context
def cli(
    context: click.Context,
    address: str | None,
    tls_ca: str | None,
    tls_cert: str | None,
    tls_key: str | None,
) -> None:
    r"""Store, queue, run, watch and remember jobs.

    \b
    Examples:
      jobservice serve --data-dir ./data &
      export JOBSERVICE_DATA_DIR=$PWD/data
      id=$(jobservice submit --name nightly -- tar czf /tmp/etc.tgz /etc)
      jobservice logs -f "$id"
      jobservice submit --wait --retries 2 --timeout 5m -- ./build.sh

    Completion of words: put eval "$(_JOBSERVICE_COMPLETE=bash_source jobservice)" into ~/.bashrc;
    there are zsh_source and fish_source too.
    """
    context.obj = Service(address, tls_ca, tls_cert, tls_key)


_keep_examples(cli)


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    try:
        sys.exit(cli.main(standalone_mode=False, prog_name="jobservice") or 0)
    except click.exceptions.Exit as exit_:
        sys.exit(exit_.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain again at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)
    except JobServiceError as error:
        sys.exit(refused(error))


def refused(error: JobServiceError) -> int:
    """Say what could not be done; the exit code."""
    click.echo(told(error), err=True)
    for note in getattr(error, "__notes__", ()):
        click.echo(note, err=True)
    if isinstance(error, Unavailable) and "address" in error.metadata:
        hint = "Is it running? `jobservice serve` starts it; see --address, and --tls-ca for TLS."
        click.echo(hint, err=True)
    if isinstance(error, DeadlineExceeded):
        click.echo("`jobservice status` shows where a job is.", err=True)
    return error.exit_code
