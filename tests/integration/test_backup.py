"""A backup of a running service comes back: with its jobs, in order, and nothing runs twice at once."""

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import apsw
import pytest

from jobservice import Client
from jobservice.errors import NotFound
from jobservice.model.job import AttemptState, Job
from jobservice.model.lifecycle import State
from jobservice.store.rows import position_token
from jobservice.store.sqlite.store import SqliteStore
from jobservice.testing.invariants import check_invariants
from jobservice.testing.server import COMMAND, Server
from jobservice.testing.wait import wait_until

WITNESS = """
exec 9>{folder}/{name}.lock
flock -n 9 || echo {name} >> {folder}/overlaps
echo $JOBSERVICE_ATTEMPT >> {folder}/{name}.runs
until test -e {folder}/{name}.go; do sleep 0.02; done
"""
SETUP = 78


class Site:
    """Jobs that say when they run, and run until they are let go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def submit(self, client: Client, name: str) -> Job:
        script = WITNESS.format(folder=self.folder, name=name)
        return client.create(["sh", "-c", script], name=name, stop_grace=1)

    def runs(self, name: str) -> int:
        """How many attempts of a job came to be."""
        file = self.folder / f"{name}.runs"
        return len(file.read_text().splitlines()) if file.exists() else 0

    def until_it_runs(self, name: str, times: int = 1) -> None:
        wait_until(lambda: self.runs(name) == times, what=f"run {times} of {name}")

    def let_go(self, name: str) -> None:
        (self.folder / f"{name}.go").touch()


def db(server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(COMMAND), "db", *words, "--data-dir", str(server.data_dir)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def check(data_dir: Path) -> None:
    """What must hold of the store that is left. Its events are all there, whatever watchers are told."""
    connection = apsw.Connection(str(data_dir / "jobservice.db"))
    connection.execute("UPDATE feed SET forgotten_position = 0")
    connection.close()

    async def look() -> None:
        store = await SqliteStore.open(data_dir / "jobservice.db")
        await check_invariants(store, beginning=position_token(0))
        await store.close()

    asyncio.run(look())


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["lives", "killed"])
def test_a_backup_of_a_running_service_comes_back(
    data_dir: Path, tmp_path: Path, runner: str
) -> None:
    site, file = Site(tmp_path), tmp_path / "jobs.backup"
    server = Server(data_dir, "--slots", "2", "--stop-jobs").start()
    with Client(server.unix_address) as client:
        done = client.wait(client.create(["true"]))
        goes_on, ends = site.submit(client, "goes-on"), site.submit(client, "ends")
        queued = site.submit(client, "queued")
        site.until_it_runs("goes-on")
        site.until_it_runs("ends")
        ran = db(server, "backup", str(file))
        assert ran.returncode == 0, ran.stderr
        refused = db(server, "restore", str(file), "--force")
        assert refused.returncode == SETUP
        assert f"pid {server.pid}" in refused.stderr
        later = client.create(["true"])
        site.let_go("ends")
        assert client.wait(ends).state is State.SUCCEEDED
        site.until_it_runs("queued")
    held = server.runner()
    server.kill()
    assert held is not None
    if runner == "killed":
        os.kill(held.pid, signal.SIGKILL)
    assert "--force" in db(server, "restore", str(file)).stderr
    restored = db(server, "restore", str(file), "--force")
    assert restored.returncode == 0, restored.stderr
    assert f"{data_dir}/jobservice.db.replaced-1" in restored.stderr
    # One slot more, for the attempts of the backup are told in any order: none of these jobs, two of
    # which run until they are let go, may have to wait for another.
    server = Server(data_dir, "--slots", "3", "--stop-jobs")
    with server:
        see_what_comes_back(
            server, site, {"goes-on": goes_on, "ends": ends, "queued": queued}, runner
        )
        with Client(server.unix_address) as client:
            assert client.get(done).state is State.SUCCEEDED
            with pytest.raises(NotFound):
                client.get(later)
    assert not (tmp_path / "overlaps").exists()
    check(data_dir)


def see_what_comes_back(server: Server, site: Site, jobs: dict[str, Job], runner: str) -> None:
    """What becomes of the jobs of the backup, after the start."""
    runs = 1 if runner == "lives" else 2
    with Client(server.unix_address) as client:
        # It ended after the backup. Its runner remembers how; a new one does if the end is in the
        # journal as not acknowledged yet.
        ended = client.wait(jobs["ends"], timeout=30)
        assert (ended.state, ended.attempt_count) == (State.SUCCEEDED, site.runs("ends"))
        assert ended.attempt_count <= runs
        # It still runs, under the lease of the backup.
        site.until_it_runs("goes-on", runs)
        assert client.get(jobs["goes-on"]).state is State.RUNNING
        # It was started after the backup, which the database does not know: that process goes first.
        site.until_it_runs("queued", 2)
        site.let_go("goes-on")
        site.let_go("queued")
        for name in ("goes-on", "queued"):
            assert client.wait(jobs[name], timeout=30).state is State.SUCCEEDED
        attempts = client.get(jobs["goes-on"]).attempts
        lost = [AttemptState.LOST] * (runs - 1)
        assert [each.state for each in attempts] == [*lost, AttemptState.SUCCEEDED]
        assert client.wait(client.create(["true"]), timeout=30).state is State.SUCCEEDED
