"""`jobservice worker`: a worker on another host than its servers."""

from pathlib import Path
from typing import Any

import click

from jobservice.cli.settings import host_options, settings_of
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
@host_options
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
