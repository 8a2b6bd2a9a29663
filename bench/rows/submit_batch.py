"""Durable submits in batches through the API, beside a commit for each job."""

import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import apsw

import bench.batch_client
from bench.report import Ratio, Row, Samples, per_round
from bench.service import batch
from bench.workplace import Workplace
from jobservice.clock import SystemClock
from jobservice.model.ids import job_id
from jobservice.model.job import NewJob
from jobservice.model.spec import Command, JobSpec
from jobservice.store.sqlite.connect import open_writer
from jobservice.store.sqlite.migrate import upgrade
from jobservice.store.sqlite.transaction import Transaction
from jobservice.store.sqlite.writer import CHECKPOINT_PAGES
from jobservice.store.verbs import submit
from jobservice.store.verbs.transaction import run_now

BATCH = 100
IN_FLIGHT = 4
ARGV = ("/bin/true", "of", "the", "bench")


def measure(place: Workplace) -> list[Row]:
    """Jobs per second, and how much faster than one-row commits that is."""
    calls, commits = place.amount(300, 60), place.amount(4000, 1000)
    request = place.path("batch")
    request.write_bytes(batch(BATCH, *ARGV))
    single = _SingleCommits(place.path("single.db"))
    ours, reference = [], []
    with place.service(slots=0) as service:
        _submit(service.unix_address, request, calls // 10)
        for _ in place.rounds(5, 3):
            ours.append(_submit(service.unix_address, request, calls) * BATCH)
            reference.append(single.commit(commits))
    single.close()
    _check_stored(service.data_dir / "jobservice.db", len(ours) * calls * BATCH)
    return [
        Row(
            "submit_batch",
            f"durable submits in batches of {BATCH} / one-row commits",
            Samples(ours, "jobs/s"),
            Samples(reference, "commits/s"),
            Ratio(per_round(ours, reference), required=4, aim=6),
        )
    ]


def _submit(address: str, request: Path, calls: int) -> float:
    client = [sys.executable, bench.batch_client.__file__, address, str(request)]
    ran = subprocess.run(
        [*client, str(calls), str(IN_FLIGHT)], check=True, capture_output=True, text=True
    )
    return float(ran.stdout)


def _check_stored(database: Path, least: int) -> None:
    """Every submit that was counted is there, read when the service has ended."""
    with apsw.Connection(str(database)) as connection:
        stored = connection.execute("SELECT count(*) FROM jobs").get
    assert stored >= least, f"{stored} jobs of {least} are stored"


class _SingleCommits:
    """The store's own statements, schema and checkpoints, with a transaction for each job."""

    def __init__(self, path: Path) -> None:
        upgrade(path)
        self._connection = open_writer(path)
        self._connection.set_wal_hook(self._note_wal)
        self._wal_pages = 0
        self._position = 0
        self._random = random.Random(1)

    def commit(self, count: int) -> float:
        """Commits per second. The rows are made before the clock starts."""
        calls = self._calls(count)
        begin = time.perf_counter()
        for call in calls:
            self._commit_one(call)
            if self._wal_pages >= CHECKPOINT_PAGES:
                self._wal_pages = 0
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        return count / (time.perf_counter() - begin)

    def _commit_one(self, call: submit.InsertCall) -> None:
        transaction = Transaction(self._connection, self._position)
        self._connection.execute("BEGIN IMMEDIATE")
        run_now(submit.insert_jobs(transaction, [call]))
        run_now(transaction.flush())
        self._connection.execute("COMMIT")
        self._position = transaction.position

    def _note_wal(self, connection: apsw.Connection, database: str, pages: int) -> int:
        del connection, database
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def _calls(self, count: int) -> Sequence[submit.InsertCall]:
        now = SystemClock().now()
        unix_ms = int(now.timestamp() * 1000)
        spec = JobSpec(command=Command(ARGV))
        ids = [job_id(unix_ms, self._random.getrandbits(74)) for _ in range(count)]
        return [submit.insert_call([NewJob("default", each, spec, now)], None) for each in ids]

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()
