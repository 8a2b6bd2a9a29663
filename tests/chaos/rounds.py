"""A round: a cluster under load and under fire, and the verdict on all that was seen."""

import asyncio
import dataclasses
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from jobservice import Client
from jobservice.testing.history.check import Verdict, check
from jobservice.testing.history.dump import record_store
from jobservice.testing.history.follow import JournalFollower
from jobservice.testing.history.history import History
from jobservice.testing.history.record import Recorder, read_records
from jobservice.testing.wait import wait_until
from tests.chaos.cluster import BEGINNING, Cluster, processes_of
from tests.chaos.load import GATE, KEYS
from tests.chaos.nemesis import Nemesis
from tests.postgres import Postgres

ROOT = Path(__file__).parents[2]
LOADS = ("a", "b")
QUIET_S = 240.0
"""How long all jobs may take to end once the faults are over."""
CALM_S = 4.0
"""How long it is quiet between two faults once there were enough kills, but not enough jobs."""
LONGEST_S = 1_200.0
"""How long a round may be under fire."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a round is."""

    store: str
    seed: int
    kills: int
    jobs: int
    hosts: int
    workers: int = 0
    """On hosts without a server."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What came of it."""

    plan: Plan
    verdict: Verdict
    seconds: float
    folder: Path
    """With all records."""


def run(plan: Plan) -> Result:
    """Run a round; its records stay in a folder of their own."""
    begun = time.monotonic()
    postgres = Postgres() if plan.store == "postgres" else None

    def burn(cluster: Cluster, folder: Path) -> None:
        """Until there were enough kills and jobs."""
        nemesis = Nemesis(cluster, Recorder(folder, "nemesis"), random.Random(plan.seed))
        deadline = time.monotonic() + LONGEST_S
        try:
            while nemesis.kills < plan.kills or _jobs(folder) < plan.jobs or nemesis.is_freezing:
                assert time.monotonic() < deadline, f"{nemesis.kills} kills, {_jobs(folder)} jobs"
                nemesis.act()
                if nemesis.kills >= plan.kills:
                    nemesis.rest(CALM_S)
        finally:
            nemesis.end()

    try:
        history = observe(plan.seed, postgres, burn, hosts=plan.hosts, workers=plan.workers)
    finally:
        if postgres is not None:
            postgres.close()
    verdict = check(history.history, least_kills=plan.kills, least_jobs=plan.jobs)
    return Result(plan, verdict, time.monotonic() - begun, history.folder)


@dataclasses.dataclass(frozen=True)
class Observed:
    """What was seen, and where the records are."""

    history: History
    folder: Path


def observe(
    seed: int,
    postgres: Postgres | None,
    burn: Callable[[Cluster, Path], None],
    *,
    hosts: int,
    workers: int = 0,
    servers_run: bool = True,
    mode: str = "all",
) -> Observed:
    """Run a cluster with clients while `burn` does what it likes, until all jobs have ended.

    What `burn` breaks it mends. `mode` is what the clients do; see `load.py`.
    """
    folder = Path(tempfile.mkdtemp(prefix="js-chaos-"))
    cluster = Cluster(folder, postgres, hosts, workers, servers_run=servers_run)
    recorder = Recorder(folder, "harness")
    with cluster.running():
        _prepare(cluster, recorder)
        with _Followers(cluster, folder):
            _with_load(seed, cluster, folder, mode, burn)
        _come_to_rest(cluster, recorder, folder)
    _note_leaders(cluster, recorder)
    asyncio.run(_read_store(cluster, folder))
    recorder.close()
    return Observed(History.of(read_records(folder)), folder)


def _prepare(cluster: Cluster, recorder: Recorder) -> None:
    with Client(cluster.hosts[0].server.unix_address) as client:
        for key, most in KEYS.items():
            client.limits.set("key", key, max_running=most)
            recorder.note("limit", key=key, most=most)
        for name in LOADS:
            client.queues.create(f"{GATE}-{name}")
    recorder.note("slots", most=cluster.slots)
    recorder.note("servers", count=len(cluster.hosts))


def _with_load(
    seed: int, cluster: Cluster, folder: Path, mode: str, burn: Callable[[Cluster, Path], None]
) -> None:
    loads = [_load(seed, cluster, folder, mode, name) for name in LOADS]
    try:
        burn(cluster, folder)
        (folder / "stop").touch()
        for load in loads:
            assert load.wait(QUIET_S) == 0, f"clients have failed: see {folder}/*.log"
    finally:
        for load in loads:
            load.kill()
            load.wait()


def _load(
    seed: int, cluster: Cluster, folder: Path, mode: str, name: str
) -> "subprocess.Popen[bytes]":
    words = [folder, name, seed, mode, *cluster.addresses]
    command = [sys.executable, "-m", "tests.chaos.load", *words]
    with (folder / f"load-{name}.log").open("wb") as log:
        return subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, cwd=ROOT)


def _jobs(folder: Path) -> int:
    """How many jobs were acknowledged."""
    counts = [path.read_text() for path in folder.glob("*.count")]
    return sum(int(count or 0) for count in counts)


class _Followers:
    """A thread that reads what the runners write."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._followers = [
            JournalFollower(each.data_dir, Recorder(folder, f"runner-{each.data_dir.parent.name}"))
            for each in cluster.services
        ]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def _read(self) -> None:
        while not self._over.wait(0.02):
            for each in self._followers:
                each.read()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
        for each in self._followers:
            each.close()


def _come_to_rest(cluster: Cluster, recorder: Recorder, folder: Path) -> None:
    """Stop the servers once nothing runs, and note what is left."""
    for service in cluster.services:
        wait_until(service.is_ready, what="a service that is ready")
    if cluster.database is not None:
        wait_until(
            lambda: not asyncio.run(_has_left_files(cluster)), what="the end of what is left"
        )
    for each in reversed(cluster.services):
        each.stop()
    try:
        wait_until(lambda: not processes_of(folder / "h"), what="the end of all processes")
    except AssertionError:
        for found in processes_of(folder / "h"):
            recorder.note("left", kind="process", name=found)
    for service in cluster.services:
        for path in (service.data_dir / "attempts").glob("*/*"):
            if any(each.is_file() for each in path.rglob("*")):
                recorder.note("directory", job_id=path.name.partition("-")[0])


def _note_leaders(cluster: Cluster, recorder: Recorder) -> None:
    for host in cluster.hosts:
        for said in host.server.said("leads"):
            recorder.note("lead", server=said["server"], epoch=said["epoch"])


async def _has_left_files(cluster: Cluster) -> bool:
    """Whether a server has yet to remove what another deleted."""
    store = await cluster.open_store()
    try:
        servers = [host.server.worker_id for host in cluster.hosts]
        return any([await store.list_left_files(each, after="", limit=1) for each in servers])
    finally:
        await store.close()


async def _read_store(cluster: Cluster, folder: Path) -> None:
    store = await cluster.open_store()
    try:
        await record_store(store, Recorder(folder, "store"), beginning=BEGINNING)
    finally:
        await store.close()


def summary(results: Sequence[Result]) -> str:
    """One line for each round."""
    return "\n".join(
        f"{each.plan.store} seed {each.plan.seed}: {each.seconds:.0f} s, {each.verdict}"
        for each in results
    )
