"""`jobservice serve`: the service itself."""

from pathlib import Path
from typing import Any

import click

from jobservice.cli.settings import DATA_DIR, DATABASE, host_options, settings
from jobservice.server.main import serve


@click.command("serve")
@DATA_DIR
@DATABASE
@click.option(
    "--listen",
    metavar="HOST:PORT",
    help="Also listen on TCP; loopback only, unless with TLS.",
)
@click.option("--tls-cert", metavar="FILE", help="The certificate that TCP is served with.")
@click.option("--tls-key", metavar="FILE", help="The private key of the certificate.")
@click.option("--tls-ca", metavar="FILE", help="The authorities of the certificates of clients.")
@host_options
def serve_command(data_dir: Path | None, **given: Any) -> None:
    r"""Run the service until SIGTERM.

    Jobs that run go on when it ends, and are found again when it starts. Every option has an
    environment variable, JOBSERVICE_SLOTS for --slots; the option goes first.

    \b
    Examples:
      jobservice serve
      jobservice serve --data-dir /srv/jobs --listen 127.0.0.1:7400 --slots 8
      jobservice serve --listen 0.0.0.0:7400 --tls-cert s.pem --tls-key s.key --tls-ca ca.pem
      jobservice serve --database postgresql:///jobs?host=/var/run/postgresql
    """
    serve(settings(data_dir, **given))
