"""Run a command with JOBSERVICE_TEST_DATABASE_URL set to a server of Debian's PostgreSQL.

`python -m tests.debian_postgres pytest …` begins a cluster in a folder of its own, on a Unix socket
alone, runs the command, and ends the cluster. Where the package is missing and this is root, apt-get
installs it.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.postgres import VARIABLE

PACKAGE = "postgresql-15"
PROGRAMS = Path("/usr/lib/postgresql/15/bin")
USER = "postgres"
"""Whom the package makes; root may not run a server."""
LONGEST_S = 60
LONGEST_INSTALL_S = 600
SETTINGS = (
    "listen_addresses=",
    "max_connections=300",
    "fsync=off",  # what the tests kill are processes, never the machine
)


def find_programs(programs: Path = PROGRAMS, *, is_root: bool | None = None) -> Path:
    """The folder of the programs of the server; installed if need be.

    Raises:
        SystemExit: with what is missing.
    """
    if is_server(programs):
        return programs
    needs = f"The tests need Debian's {PACKAGE}: {programs / 'initdb'} is not there"
    if not (os.geteuid() == 0 if is_root is None else is_root):
        raise SystemExit(f"{needs}, and only root may install it: apt-get install {PACKAGE}")
    if shutil.which("apt-get") is None:
        raise SystemExit(f"{needs}, and without apt-get it cannot be installed.")
    install()
    if not is_server(programs):
        raise SystemExit(f"{needs}, though apt-get has installed {PACKAGE}.")
    return programs


def is_server(programs: Path) -> bool:
    """Whether a server can be begun with what is there."""
    return (programs / "initdb").exists() and (programs / "pg_ctl").exists()


def install() -> None:
    """Have apt-get install the package, with new lists where the old ones do not do."""
    # With this level of run no service is started by the package itself.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    get = ["apt-get", "--quiet", "--yes", "--no-install-recommends", "install", PACKAGE]
    for command in (get, ["apt-get", "--quiet", "update"], get):
        done = subprocess.run(
            command, env=environment, check=False, timeout=LONGEST_INSTALL_S, stdout=sys.stderr
        )
        if command is get and not done.returncode:
            return
    raise SystemExit(
        f"The tests need Debian's {PACKAGE}, and apt-get cannot install it: see above."
    )


@contextlib.contextmanager
def cluster(programs: Path) -> Iterator[str]:
    """The address of a fresh server; it is ended afterwards, and its data removed."""
    user = USER if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="jobservice-pg15-"))
    if user is not None:
        shutil.chown(folder, user)

    def run(program: str, *arguments: str) -> None:
        done = subprocess.run(
            [programs / program, "-D", folder / "data", *arguments],
            user=user,
            cwd=folder,
            check=False,
            timeout=LONGEST_S,
            stdout=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        )
        if done.returncode:
            log = folder / "log"
            said = log.read_bytes() if log.exists() else done.stdout or b""
            raise SystemExit(f"{program} failed:\n{said.decode(errors='replace')}")

    try:
        run("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync")
        options = " ".join(["-k", str(folder), *(f"-c {each}" for each in SETTINGS)])
        run("pg_ctl", "start", "--wait", "--log", str(folder / "log"), "--options", options)
        try:
            yield f"postgresql://postgres@/postgres?host={folder}"
        finally:
            run("pg_ctl", "stop", "--wait", "--mode=immediate")
    finally:
        shutil.rmtree(folder)


def main(command: Sequence[str]) -> int:
    """Run the command; its exit code is the answer."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with cluster(find_programs()) as address:
        done = subprocess.run(command, env={**os.environ, VARIABLE: address}, check=False)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
