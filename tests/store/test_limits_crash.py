"""Limits under 32 claimers that are killed: a witness never counts more than is allowed."""

import collections
import random
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from jobservice.model.attempt import Cause, Fence
from jobservice.model.job import NewJob
from jobservice.model.lifecycle import State
from jobservice.model.limit import ConcurrencyKey, Limit, LimitKind, type_key
from jobservice.model.spec import RetryPolicy
from jobservice.store.port import Store
from jobservice.testing.invariants import check_invariants
from jobservice.testing.wait import wait_until
from tests.conformance.values import BEGINNING, NOW, TENANT, end, finish, insert, new_job, states
from tests.postgres import Databases
from tests.store.claiming_child import opened

ROOT = Path(__file__).parents[2]
CLAIMERS = 32
JOBS = 360
KILLS = 8
TYPE = type_key("render").key
LIMITS = {"queue": 11, "one": 1, "four": 4, "heavy": 6, TYPE: 5}
"""Of weights that may run at once."""
WEIGHTS = {"heavy": 2}


def jobs() -> list[NewJob]:
    """Jobs of one limited queue, most of a limited type, with none, one or two keys."""
    wanted = [(), ("one",), ("four",), ("heavy",), ("four", "heavy"), ("one", "four")]
    return [
        new_job(
            concurrency_keys=tuple(
                ConcurrencyKey(key, weight=WEIGHTS.get(key, 1)) for key in wanted[n % len(wanted)]
            ),
            job_type="render" if n % 5 < 4 else "",
            retry=RetryPolicy(max_lost=100),
        )
        for n in range(JOBS)
    ]


async def fill(store: Store) -> dict[str, NewJob]:
    rules = {"max_running": LIMITS["queue"]}
    await store.save_queue(TENANT, "default", rules, create=False, edit_version=None, now=NOW)
    for key in ("four", "heavy", TYPE):
        limit = Limit(TENANT, LimitKind.KEY, key, LIMITS[key])
        await store.save_limit(limit, now=NOW)
    made = jobs()
    await insert(store, *made)
    return {each.job_id: each for each in made}


class Crowd:
    """The processes, and what the witness has heard."""

    def __init__(self, where: str, witness: Path, processes: int) -> None:
        self._where = where
        self._witness = witness
        self._each = CLAIMERS // processes
        self.running = {f"w{n}": self._begin(f"w{n}") for n in range(processes)}

    def _begin(self, worker_id: str) -> "subprocess.Popen[bytes]":
        arguments = [self._where, worker_id, str(self._witness), str(self._each)]
        return subprocess.Popen(
            [sys.executable, "-m", "tests.store.claiming_child", *arguments], cwd=ROOT
        )

    def heard(self) -> int:
        """How many bytes there are."""
        return self._witness.stat().st_size

    def has_come_to(self, size: int) -> bool:
        """Whether the witness has heard so much, or nobody is there to tell it more."""
        gone = all(each.poll() is not None for each in self.running.values())
        return gone or self.heard() >= size

    def kill(self, worker_id: str) -> None:
        """End a process in the middle of what it does."""
        self.running[worker_id].kill()
        self.running[worker_id].wait(timeout=30)

    def begin_again(self, worker_id: str) -> None:
        self.running[worker_id] = self._begin(worker_id)

    def end(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait(timeout=30)


async def bury(store: Store, worker_id: str, witness: Path) -> None:
    """What the killed process held is over: say so, then record it."""
    fences = [each.fence for each in await store.list_live(worker_id)]
    with witness.open("a") as file:
        file.write("".join(f"- {fence}\n" for fence in fences))
    await finish(store, *[end(each, exit_code=None, cause=Cause.LOST) for each in fences])


def most_held(witness: Path, made: dict[str, NewJob]) -> dict[str, int]:
    """The largest weight that was held at once of the queue and of each key."""
    held: set[Fence] = set()
    now: collections.Counter[str] = collections.Counter()
    most: collections.Counter[str] = collections.Counter()
    for sign, fence in told(witness):
        if (fence in held) == (sign == "+"):
            continue  # the death of a process is told for what it may have told itself
        held ^= {fence}
        keys = made[fence.job_id].spec.held_keys
        for name, weight in [("queue", 1), *((key.key, key.weight) for key in keys)]:
            now[name] += weight if sign == "+" else -weight
            most[name] = max(most[name], now[name])
    return most


def told(witness: Path) -> Iterator[tuple[str, Fence]]:
    for line in witness.read_text().splitlines():
        sign, fence = line.split()
        yield sign, Fence.parse(fence)


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_no_limit_is_passed_whoever_is_killed(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    where, processes = str(tmp_path / "jobservice.db"), 1
    if kind == "postgres":
        server: Databases = request.getfixturevalue("postgres")
        where, processes = await server.new_database(), 4
    witness = tmp_path / "witness"
    witness.touch()
    store = await opened(where)
    made = await fill(store)
    if kind == "sqlite":
        await store.close()  # one process at a time has the file
    crowd, rng = Crowd(where, witness, processes), random.Random(kind)
    try:
        for _ in range(KILLS):
            goal = crowd.heard() + rng.randint(1, 2_000)
            wait_until(partial(crowd.has_come_to, goal), what="the claimers to go on")
            worker_id = rng.choice(sorted(crowd.running))
            crowd.kill(worker_id)
            if kind == "sqlite":
                store = await opened(where)
            await bury(store, worker_id, witness)
            if kind == "sqlite":
                await store.close()
            crowd.begin_again(worker_id)
        await _until_done(crowd, made, where, store if kind == "postgres" else None)
    finally:
        crowd.end()
    most = most_held(witness, made)
    assert all(most[name] <= limit for name, limit in LIMITS.items()), most
    assert most["queue"] > LIMITS["queue"] // 2, "too few at once to prove anything"
    store = store if kind == "postgres" else await opened(where)
    found = collections.Counter((await states(store)).values())
    assert found == {State.SUCCEEDED: JOBS}
    await check_invariants(store, beginning=BEGINNING)
    await store.close()


async def _until_done(
    crowd: Crowd, made: dict[str, NewJob], where: str, store: Store | None
) -> None:
    """Have claimers come back until every job has ended: each leaves when it finds nothing.

    A job that was parked just as the key got free is found by the sweep alone.
    """
    while True:
        for process in crowd.running.values():
            assert process.wait(timeout=120) == 0
        seen = store or await opened(where)
        await seen.wake_parked(("", ""), now=NOW)
        left = [state for state in (await states(seen)).values() if state is not State.SUCCEEDED]
        if store is None:
            await seen.close()
        if not left:
            return
        for worker_id in crowd.running:
            crowd.begin_again(worker_id)
