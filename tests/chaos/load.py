"""The clients of a round, in a process of their own: they use everything at once, and note all of it.

    python -m tests.chaos.load FOLDER NAME SEED MODE ADDRESS [ADDRESS ...]

MODE is `all`, or one thing alone: `steady`, jobs that end at once, as many as there is room for; or
`long`, jobs that take up to a minute.

Once FOLDER/stop exists they ask for nothing new, wait until every job that they know has ended, and
leave. How many jobs were acknowledged is in FOLDER/NAME.count.
"""

import contextlib
import datetime as dt
import itertools
import random
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jobservice import Client, RetryPolicy
from jobservice.errors import JobServiceError
from jobservice.model.lifecycle import FINAL
from jobservice.testing.history.clients import BareClient, RecordedClient
from jobservice.testing.history.record import Recorder
from jobservice.testing.history.witness import Witness

BACKLOG = 250
"""How many jobs of all may be active before nothing more is submitted."""
LONG_BACKLOG = 40
"""The same of jobs that take up to LONG_MS: longer than a lease, so that two attempts would meet."""
LONG_MS = 60_000
FEW_LONG = 2
"""How many of those each process of clients keeps running for each server, where it does all things."""
PATIENCE_S = 120.0
"""Longer than anything that the nemesis does at once."""
LAST_FRAMES_S = 2.0
"""How long the watch has to tell of the last changes."""
SLOW_MS = 20_000
_OFTEN_LOST = RetryPolicy(max_lost=100)
NAMES_OF_FINAL = {state.name for state in FINAL}
KEYS = {"chaos-one": 1, "chaos-two": 2}
"""Concurrency keys, and how many jobs with them may run at once."""
GATE = "stop-and-go"
"""How queues are called that are paused now and then, one for each process of clients."""
SCHEDULE = "each-second"
_QUICK_RETRY = RetryPolicy(max_attempts=3, initial_backoff=dt.timedelta(seconds=0.1))


class Load:
    """What all threads of the process share."""

    def __init__(self, folder: Path, name: str, seed: str, addresses: Sequence[str]) -> None:
        self.folder, self.name, self.seed, self.addresses = folder, name, seed, addresses
        self.witness = Witness(folder)
        self._stop = folder / "stop"
        self._requests = itertools.count()
        self._lock = threading.Lock()
        self._active: dict[str, int] = {}
        self._ended: set[str] = set()
        self._final: list[str] = []
        self._count = 0
        self._closing = threading.Event()

    @property
    def is_stopped(self) -> bool:
        return self._stop.exists()

    @property
    def backlog(self) -> int:
        """How many jobs were asked for or heard of and have not ended, as far as the watch says."""
        with self._lock:
            return sum(self._active.values())

    def request(self) -> str:
        return f"{self.name}-{next(self._requests)}"

    def rest(self, seconds: float) -> None:
        self._closing.wait(seconds)

    def heard(self, job_id: str, state: str) -> None:
        """A watch told of a job."""
        with self._lock:
            if state in NAMES_OF_FINAL:
                self._active.pop(job_id, None)
                self._ended.add(job_id)
                self._final.append(job_id)
            else:
                self._ended.discard(job_id)
                self._active.setdefault(job_id, 1)

    def recount(self, client: Client) -> None:
        """Ask which jobs are active: the first may have ended before the watch began."""
        with self._lock:
            asked = dict(self._active)
        with contextlib.suppress(JobServiceError):
            active = {job.job_id for job in client.active()}
            with self._lock:
                for job_id in asked.keys() - active:
                    self._active.pop(job_id, None)

    def made(self, job_ids: Sequence[str], size: int = 1) -> None:
        """Jobs were acknowledged, each an array of so many or a single one."""
        with self._lock:
            self._active |= {each: size for each in job_ids if each not in self._ended}
            self._count += size * len(job_ids)
            (self.folder / f"{self.name}.count").write_text(str(self._count))

    def is_active(self, job_id: str) -> bool:
        """Whether a job has not ended, as far as the watch says."""
        with self._lock:
            return job_id in self._active

    def some_final(self, chance: random.Random) -> str | None:
        with self._lock:
            return chance.choice(self._final[-200:]) if self._final else None

    def client(self, role: str, chance: random.Random) -> RecordedClient:
        """A client of a role, at one of the servers."""
        address = chance.choice(self.addresses)
        recorder = Recorder(self.folder, f"client-{self.name}-{role}")
        return RecordedClient(
            Client(address, patience=PATIENCE_S, timeout=PATIENCE_S), recorder, self.witness
        )


def submit(load: Load, client: RecordedClient, chance: random.Random) -> None:
    """A few dozen jobs of one kind."""
    kind, witness, request = chance.randrange(12), load.witness, load.request()
    size = chance.randrange(20, 60)
    if kind < 5:
        made = client.create([witness.argv(lines=3)] * size, request)
    elif kind < 8:
        parallel = chance.choice([3, size])
        made = client.create([witness.argv()], request, array=size, max_parallel=parallel)
        load.made(made, size)
        return
    elif kind == 8:
        argv = witness.argv(fail_until=chance.randrange(1, 4))
        made = client.create([argv] * 5, request, retry_policy=_QUICK_RETRY)
    elif kind == 9:
        key = chance.choice(sorted(KEYS))
        argv = witness.argv(keys=[key], sleep_ms=chance.randrange(120))
        made = client.create([argv] * 8, request, keys=[key])
    elif kind == 10:
        made = client.create([witness.argv(lines=2)], request)
        if made:
            load.made(made)
            child = load.request()
            made = client.create([witness.argv()] * 3, child, after=[made[0]])
    else:
        delay, priority = chance.random(), chance.randrange(-50, 50)
        made = client.create([witness.argv()] * 5, request, start_delay=delay, priority=priority)
    load.made(made)


def submit_steadily(load: Load, client: RecordedClient, chance: random.Random) -> None:
    """Jobs that end at once."""
    del chance
    load.made(client.create([load.witness.argv()] * 40, load.request()))


def submit_long(load: Load, client: RecordedClient, chance: random.Random) -> None:
    """Jobs that take their time, some with a child that does not want to end."""
    argv = load.witness.argv(sleep_ms=chance.randrange(LONG_MS), child=chance.random() < 0.3)
    load.made(client.create([argv] * 5, load.request(), retry_policy=_OFTEN_LOST))


def keep_long(load: Load, client: RecordedClient, chance: random.Random) -> None:
    """A few jobs that outlive a lease, so that two attempts would meet; at last they are cancelled."""
    argv = load.witness.argv(sleep_ms=LONG_MS, child=chance.random() < 0.3)
    count = FEW_LONG * len(load.addresses)
    made = client.create([argv] * count, load.request(), retry_policy=_OFTEN_LOST, stop_grace=0.2)
    load.made(made)
    while not load.is_stopped and any(map(load.is_active, made)):
        load.rest(0.5)
    for job_id in filter(load.is_active, made):
        client.cancel(job_id, wait=False)


def call_barely(load: Load, client: BareClient, chance: random.Random) -> None:
    """One job over the bare API: tried until it is there, with deadlines too short, and once more."""
    request, argv = load.request(), load.witness.argv(lines=1)
    made: Sequence[str] = ()
    while not made:
        made = client.create(argv, request, timeout_s=chance.choice([0.01, 0.1, 2.0]))
        load.rest(0.02)
    load.made(made)
    if chance.random() < 0.5:
        client.create(argv, request, timeout_s=2.0)


def end_some(load: Load, client: RecordedClient, chance: random.Random) -> None:
    """One slow job, which is cancelled, deleted, held, or runs out of its time."""
    request, child = load.request(), chance.random() < 0.5
    argv = load.witness.argv(sleep_ms=SLOW_MS, child=child)
    kind = chance.choice(["cancel", "cancel", "delete", "hold", "timeout", "retry"])
    timeout = 0.3 if kind == "timeout" else None
    made = client.create([argv], request, stop_grace=0.2, priority="high", timeout=timeout)
    load.made(made)
    for job_id in made:
        load.rest(chance.random())
        client.get(job_id)
        if kind == "delete":
            client.delete(job_id)
        elif kind == "hold":
            client.change("hold", job_id)
            client.change("release", job_id)
        if kind not in {"delete", "timeout"}:
            client.cancel(job_id, wait=chance.random() < 0.7)
            client.get(job_id)
        if kind == "retry":
            client.change("retry", job_id)
            client.cancel(job_id, wait=True)


def read_some(load: Load, client: RecordedClient, chance: random.Random) -> None:
    """Where a job is that has ended, and what it wrote."""
    job_id = load.some_final(chance)
    if job_id is not None:
        found = client.get(job_id)
        if found and found["attempt"] and found["state"] in NAMES_OF_FINAL:
            client.read_output(job_id, found["attempt"])
    load.rest(0.05)


def stop_and_go(load: Load, client: RecordedClient, chance: random.Random) -> None:
    """A queue is paused, filled, and let go."""
    queue = f"{GATE}-{load.name}"
    paused = client.pause(queue)
    made = client.create([load.witness.argv()] * 4, load.request(), queue=queue)
    load.made(made)
    load.rest(chance.random() / 2)
    if paused:
        while client.resume(queue) is None:
            load.rest(0.1)
    load.rest(chance.random())


Step = Callable[[Load, RecordedClient, random.Random], None]
STEPS: Mapping[str, Sequence[Step]] = {
    "all": (submit, submit, submit, end_some, read_some, stop_and_go, keep_long),
    "steady": (submit_steadily, submit_steadily),
    "long": (submit_long, submit_long),
}


def repeat(load: Load, number: int, step: Step) -> None:
    """One thread of the SDK."""
    chance = random.Random(f"{load.seed}/{load.name}/{number}")
    client = load.client(f"{step.__name__}-{number}", chance)
    while not load.is_stopped:
        most = LONG_BACKLOG if step is submit_long else BACKLOG
        if load.backlog > most and step not in {read_some, keep_long}:
            many = step in {submit, submit_steadily}
            load.rest(0.2 if many else 0.05)
            if many:
                load.recount(client.client)
        else:
            step(load, client, chance)


def repeat_barely(load: Load) -> None:
    """The thread of the bare API."""
    chance = random.Random(f"{load.seed}/{load.name}/bare")
    recorder = Recorder(load.folder, f"client-{load.name}-bare")
    client = BareClient(chance.choice(load.addresses), recorder)
    while not load.is_stopped:
        if load.backlog > BACKLOG:
            load.rest(0.05)
        else:
            call_barely(load, client, chance)


def watch(load: Load) -> None:
    """The thread that hears of everything."""
    chance = random.Random(f"{load.seed}/{load.name}/watch")
    client = load.client("watch", chance)
    client.watch(f"watch-{load.name}", load.heard)


def main(folder: str, name: str, seed: str, mode: str, *addresses: str) -> None:
    """Run all threads until they are told to stop."""
    load = Load(Path(folder), name, seed, addresses)
    chance = random.Random(f"{seed}/{name}")
    first = load.client("first", chance)
    everything = mode == "all"
    if everything and name == "a":
        while first.schedule(SCHEDULE, load.witness.argv(), 1) is None:
            load.rest(0.1)
    steps = enumerate(STEPS[mode])
    threads = [threading.Thread(target=repeat, args=(load, n, step)) for n, step in steps]
    if everything:
        threads.append(threading.Thread(target=repeat_barely, args=(load,)))
    threading.Thread(target=watch, args=(load,), daemon=True).start()
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    if everything and name == "a":
        first.client.schedules.delete(SCHEDULE)
    deadline = time.monotonic() + PATIENCE_S
    while load.backlog and time.monotonic() < deadline:
        load.rest(0.1)
        load.recount(first.client)
    load.rest(LAST_FRAMES_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
