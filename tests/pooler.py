"""A PgBouncer of the tests' own, before the PostgreSQL server that they share."""

import shutil
import subprocess
import tempfile
import urllib.parse
from pathlib import Path

import psutil

from jobservice.testing.wait import wait_until
from tests.postgres import Databases

SESSIONS = 4
"""How many it has for each database: fewer than a store has connections to it."""
_SETTINGS = """
[databases]
* = host={host} user=postgres

[pgbouncer]
pool_mode = transaction
default_pool_size = {sessions}
auth_type = any
listen_addr =
listen_port = 6432
unix_socket_dir = {folder}
logfile = {folder}/log
pidfile = {folder}/pid
"""


class Pooler:
    """One process, which lends each session for a transaction; as root it runs as PostgreSQL does."""

    def __init__(self, postgres: Databases) -> None:
        program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
        if program is None:
            raise AssertionError("pgbouncer is not here: install it (apt-get install pgbouncer).")
        self._postgres = postgres
        self.folder = Path(tempfile.mkdtemp(prefix="jobservice-pool-"))
        self.folder.chmod(0o777)
        host = urllib.parse.parse_qs(urllib.parse.urlsplit(postgres.url()).query)["host"][0]
        settings = self.folder / "pgbouncer.ini"
        text = _SETTINGS.format(host=host, folder=self.folder, sessions=SESSIONS)
        settings.write_text(text)
        owner = (Path(host) / ".s.PGSQL.5432").owner()  # others cannot reach it
        user = ["-u", owner] if psutil.Process().uids().real == 0 else []
        self._process = subprocess.Popen([program, "-q", *user, str(settings)])
        socket = self.folder / ".s.PGSQL.6432"
        wait_until(socket.exists, what=f"{socket}: {self._said()}")

    def url(self, of: str) -> str:
        """The address here of a database of the server."""
        path = urllib.parse.urlsplit(of).path
        return f"postgresql://postgres@{path}?host={self.folder}&port=6432&pool_mode=transaction"

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(10)
        shutil.rmtree(self.folder)

    def _said(self) -> str:
        log = self.folder / "log"
        return log.read_text() if log.exists() else "no log"
