"""`jobservice worker`: a worker on another host than its servers."""

from pathlib import Path
from typing import Any

import click

from jobservice.cli.settings import settings_of
from jobservice.client.address import default_worker_dir
from jobservice.config import WorkerSettings
from jobservice.server.remote_worker import work


@click.command("worker")
@click.option(
    "--server",
    metavar="ADDRESS,…",
    help="The servers to work for: HOST:PORT, several of one database with commas between them.",
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="The directory of its attempts. Default: JOBSERVICE_WORKER_DATA_DIR, else that of a "
    "server with -worker behind it.",
)
@click.option("--tls-ca", metavar="FILE", help="The authorities of the servers, for TLS.")
@click.option("--tls-cert", metavar="FILE", help="The certificate that it shows to servers.")
@click.option("--tls-key", metavar="FILE", help="The private key of the certificate.")
@click.option("--slots", type=int, metavar="N", help="How many attempts run at once [2].")
@click.option("--labels", metavar="K=V,…", help="What this host is, for jobs that ask for labels.")
@click.option(
    "--resources",
    metavar="NAME=N,…",
    help="What jobs may take of it: cpu=8,memory=32GiB,gpu=2 [its processors and memory].",
)
@click.option(
    "--containment",
    type=click.Choice(["auto", "cgroup", "subreaper"]),
    help="How the process tree of an attempt is held together [auto].",
)
@click.option("--stop-jobs", is_flag=True, default=None, help="On shutdown also stop the jobs.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="The least important lines that are logged [info].",
)
@click.option(
    "--log-format",
    type=click.Choice(["auto", "json", "console"]),
    help="How lines are logged, to stderr [auto: JSON when that is no terminal].",
)
def worker_command(data_dir: Path | None, **given: Any) -> None:
    r"""Run jobs of servers on other hosts until SIGTERM.

    It needs no database, only the port of a server. Jobs that run go on when it ends, and are found
    again when it starts within 20 seconds. Every option has an environment variable,
    JOBSERVICE_WORKER_SLOTS for --slots; the option goes first.

    \b
    Examples:
      jobservice worker --server 127.0.0.1:7400 --slots 8
      jobservice worker --server a.example:7400,b.example:7400 --data-dir /srv/worker
    """
    work(settings_of(WorkerSettings, data_dir or default_worker_dir(), given))
