"""`jobservice version`: of this command and of the service."""

import json

import click

from jobservice import __version__
from jobservice.cli.options import client_options, connected
from jobservice.cli.output import say
from jobservice.errors import JobServiceError


@click.command("version")
@client_options
def version_command(address: str | None, *, as_json: bool) -> None:
    """Print the versions of this command and of the service."""
    found: dict[str, str | None] = {"client": __version__, "server": None}
    problem = ""
    try:
        with connected(address) as client:
            found["server"] = client.server_version()
    except JobServiceError as error:
        problem = error.message
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(f"client {found['client']}")
    click.echo(f"server {found['server'] or 'unknown'}")
    if problem:
        say(problem)
