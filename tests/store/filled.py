"""A store with something of everything in it."""

import datetime as dt
import itertools
import random

from jobservice.model.array import ArraySpec
from jobservice.model.job import Progress
from jobservice.model.lifecycle import State
from jobservice.model.limit import ConcurrencyKey, Limit, LimitKind, Rate
from jobservice.model.operation import Action
from jobservice.model.output import LogAppend, Piece, Stream
from jobservice.model.schedule import Overlap
from jobservice.model.spec import Command, Dependency, RetryPolicy
from jobservice.model.unique import UniqueKey, UniqueScope
from jobservice.model.worker import Drain, Placement, Resources, WorkerInfo
from jobservice.store.port import ProgressReport, RequestKey, StopRequest, Store
from jobservice.store.schedule_port import ScheduleKey
from tests.conformance.schedules import Engine
from tests.conformance.test_filters import Life, live
from tests.conformance.test_operations import begin
from tests.conformance.values import (
    NOW,
    TENANT,
    at,
    claim,
    end,
    ended,
    finish,
    insert,
    key_of,
    new_job,
    run,
    seconds,
)

RANDOM = random.Random(7)
FATES = ["queued", "held", "cancelled", "claimed", "running", "ended"]
TEXT = "naïve \"quoted\" 'text' \\ {1} %s 𝄞 \u2028 $1 :x"
LARGE = Command(("a", "", TEXT), {"B": TEXT, "A": "1"}, bytes(range(256)) * 8_000, "/tmp")


async def fill(store: Store) -> None:
    """Jobs in all states, and whatever else there can be."""
    await _rules(store)
    lives = [
        Life(
            name=TEXT,
            queue=queue,
            labels={"zz": "1", "a": TEXT},
            priority=n,
            fate=fate,
            exit_code=n,
        )
        for n, (fate, queue) in enumerate(itertools.product(FATES, ["default", "gpu"]))
    ]
    await live(store, lives)
    await _waiting(store)
    await _families(store)
    await _arrays(store)
    await _schedules(store)
    offered = Resources(1500, 1 << 40, {"gpu": 2})
    await store.register_worker(WorkerInfo("w9", TEXT, "1", 3, {"a": TEXT}, offered), now=NOW)
    await store.note_contact("w9", now=NOW, minds_silence=True)
    await store.drain_worker("w9", Drain(at(1), TEXT))
    await insert(store, new_job(placement=Placement({"a": TEXT}, offered)))
    await begin(store, "name = a", Action.HOLD)
    await begin(store, "queue = gpu", Action.SET_PRIORITY, priority=5)


async def _rules(store: Store) -> None:
    every = {"description": TEXT, "max_running": 50, "max_depth": 1000, "max_age": seconds(9e5)}
    await store.save_queue(TENANT, "gpu", every, create=True, edit_version=None, now=NOW)
    await store.save_queue(TENANT, "plain", {}, create=True, edit_version=None, now=NOW)
    rate = Rate(5, dt.timedelta(minutes=1), 2)
    await store.save_limit(Limit(TENANT, LimitKind.KEY, "k", 1, rate), now=NOW)
    await store.save_limit(Limit(TENANT, LimitKind.TENANT, weight=3000), now=NOW)
    await store.save_limit(Limit("", LimitKind.SERVICE, max_running=9000), now=NOW)


async def _waiting(store: Store) -> None:
    """Jobs that wait for all kinds of things, and one that shows each kind of value."""
    keys = (ConcurrencyKey("k"),)
    for n in range(3):
        spec = {"concurrency_keys": keys, "fairness_key": f"f{n}", "queue_timeout": seconds(10**6)}
        new = new_job("others", at(n), **spec)
        await store.insert_jobs([new], request=RequestKey(f"r{n}", bytes([0, n, 255])))
    await claim(store, 3)  # of the three one, and the others are parked
    unique = UniqueKey("u", UniqueScope.TENANT, seconds(60), (State.QUEUED,))
    later = new_job(
        command=LARGE,
        unique_key=unique,
        start_after=at(10**6),
        total_timeout=seconds(1),
        idle_timeout=seconds(2),
        labels={"zz": "1", "a": "2"},
    )
    await insert(store, later)
    fences = await run(store, 4, retry=RetryPolicy(max_attempts=2))
    reports = [ProgressReport(each, Progress(100 / 3, TEXT, at(9), at(8))) for each in fences]
    await store.record_progress(reports)
    pieces = Piece(0, bytes(range(256))), Piece(256, dropped_bytes=1 << 40)
    for stream in Stream:
        await store.append_logs(
            [LogAppend(each, stream, piece) for each in fences for piece in pieces]
        )
    await finish(store, *[end(each, 1, cpu_s=0.1, message=TEXT) for each in fences[:2]])
    await store.request_stop([StopRequest(TENANT, fences[2].job_id)], now=at(11))


async def _families(store: Store) -> None:
    parents = await ended(store, 4)
    live_parents = await run(store, 2)
    for parent in [*parents, *live_parents]:
        both = (Dependency(parent.job_id), Dependency(live_parents[0].job_id, delay=seconds(5)))
        await store.insert_jobs([new_job(dependencies=both)])
    gone = [key_of(each) for each in parents[:2]]
    await store.request_stop(
        [StopRequest(each.tenant, each.job_id, delete=True) for each in gone], now=at(20)
    )
    await store.delete_jobs(gone, now=at(20))


async def _arrays(store: Store) -> None:
    items = tuple(f"{TEXT}{n}" for n in range(20))
    new = new_job(array=ArraySpec(20, items=items, max_parallel=5, max_failures=3), priority=100)
    await insert(store, new, new_job(array=ArraySpec(1000), priority=100))
    for n in range(3):
        await store.claim_jobs(worker_id="w1", limit=5, lease_until=at(30), now=at(n))
        await store.settle_arrays(("", ""), now=at(n), randomness=RANDOM.getrandbits(60))
    claims = [each.fence for each in await claim(store, 4)]
    await finish(store, *[end(each, n % 2) for n, each in enumerate(claims)])


async def _schedules(store: Store) -> None:
    engine = Engine(store)
    for n, overlap in enumerate((Overlap.ALLOW, Overlap.SKIP, Overlap.BUFFER_ONE)):
        await engine.create(key=ScheduleKey(TENANT, f"s{n}"), overlap=overlap)
    for _ in range(3):
        await engine.after(1)
