"""`jobservice serve`: the service itself."""

from pathlib import Path
from typing import Any

import click

from jobservice.cli.settings import DATA_DIR, DATABASE, settings
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
