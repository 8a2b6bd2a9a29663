"""The nemesis: does to a cluster what the world does to hosts, and notes each thing that it did."""

import contextlib
import random
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import psutil

from jobservice.failpoints import NAMES
from jobservice.testing.history.record import Recorder
from jobservice.testing.proxy import BLACK_HOLE, CALM, Proxy, Trouble
from tests.chaos.cluster import Cluster, Host, Machine, WorkerHost, signal_all, thaw

LONGEST_S = 2.0
"""How long a freeze or a trouble of the network lasts at most, but for the long freezes."""
LONG_S = (25.0, 45.0)
"""How long these last: what runs is ended at 20 s, the lead is lost at 10 s, a lease at 35 s."""
LONG_FREEZES = 2
"""How many of them there are in a round at most."""
DIES_S = 3.0
"""How long a server may take to come to its failpoint before it is killed anyway."""
STEPS_S = (-20.0, -5.0, 0.0, 5.0, 20.0)
"""How far the clock of a lone server may be off; what it has set for later is late by as much."""
SMALL_STEPS_S = (-5.0, -1.0, 0.0, 1.0, 5.0)
"""The same of several servers on one database: they must not be more than a third of a lease apart."""
POINTS = sorted(name for name in NAMES if not name.startswith("bulk."))
RUNNER_POINTS = (
    "runner.intent_journaled",
    "runner.spawned_unjournaled",
    "runner.exited_unreported",
    "runner.ended_unreported",
    "runner.reported_unacknowledged",
)
_Kind = TypeVar("_Kind", bound=Machine)


class Nemesis:
    """Does one thing at a time, chosen by a seeded chance."""

    def __init__(self, cluster: Cluster, recorder: Recorder, chance: random.Random) -> None:
        self._cluster = cluster
        self._recorder = recorder
        self._chance = chance
        self._never = threading.Event()
        self._frozen: list[tuple[float, Machine, Sequence[psutil.Process]]] = []
        """What is frozen for long, and until when, by the monotonic clock."""
        self._long_freezes = 0
        self.kills = 0
        weighed: list[tuple[int, Callable[[Host], None]]] = [
            (34, self._kill_server),
            (16, self._kill_at_failpoint),
            (24, self._kill_runner),
            (6, self._kill_both),
            (4, self._kill_runner_at_failpoint),
            (4, self._freeze),
            (8, self._spoil_network),
            (4, self._step_clock),
            (2, self._freeze_for_long),
        ]
        if cluster.postgres is not None:
            weighed += [
                (6, self._kill_database),
                (6, self._kill_session),
                (3, self._freeze_session),
            ]
        if cluster.workers:
            weighed += [
                (16, self._on_a_worker(self._kill_worker)),
                (4, self._on_a_worker(self._freeze)),
                (6, self._on_a_worker(self._spoil_network_of_worker)),
            ]
        self._weights = [weight for weight, _ in weighed]
        self._kinds = [kind for _, kind in weighed]

    def act(self) -> None:
        """Do one thing, and undo what can be undone; what is frozen for long is left alone."""
        self._thaw(time.monotonic())
        for machine in self._cluster.machines:
            if not machine.is_up():
                machine.spawn()  # as whatever supervises it would
        [kind] = self._chance.choices(self._kinds, self._weights)
        awake = self._awake(self._cluster.hosts)
        if awake:
            kind(self._chance.choice(awake))
        self.rest(self._chance.uniform(0.05, 1.2))

    def end(self) -> None:
        """Leave everything as it should be."""
        self._thaw(float("inf"))
        for host in self._cluster.hosts:
            host.front.set(CALM)
            if host.back is not None:
                host.back.set(CALM)
            host.step_clock(0)
        for each in self._cluster.workers:
            each.set(CALM)
        for machine in self._cluster.machines:
            if not machine.is_up():
                machine.spawn()

    @property
    def is_freezing(self) -> bool:
        """Whether anything is frozen for long; `act` thaws it when its time has come."""
        return bool(self._frozen)

    def _awake(self, machines: Sequence[_Kind]) -> Sequence[_Kind]:
        frozen = {machine.name for _, machine, _ in self._frozen}
        return [each for each in machines if each.name not in frozen]

    def _thaw(self, now_s: float) -> None:
        """Let go on what was frozen for long enough."""
        for until_s, machine, processes in list(self._frozen):
            if until_s <= now_s:
                thaw(processes)
                self._frozen.remove((until_s, machine, processes))

    def _note(self, kind: str, **about: object) -> None:
        self.kills += kind.startswith("kill")
        self._recorder.note("fault", kind=kind, **about)

    def rest(self, seconds: float) -> None:
        """Do nothing for a while."""
        self._never.wait(seconds)

    def _kill_server(self, host: Host) -> None:
        host.server.kill()
        self._note("kill server", host=host.folder.name)
        self.rest(self._chance.choice([0, 0, 0.3]))
        host.spawn()

    def _kill_at_failpoint(self, host: Host) -> None:
        host.server.kill()
        point = f"{self._chance.choice(POINTS)}@{self._chance.randrange(1, 30)}"
        host.spawn(point)
        with contextlib.suppress(psutil.TimeoutExpired):
            psutil.Process(host.server.pid).wait(DIES_S)
        by_itself = not host.is_up()
        host.server.kill()
        self._note("kill at failpoint" if by_itself else "kill server", point=point)
        host.spawn()

    def _kill_runner(self, host: Host) -> None:
        if host.kill_runner():
            self._note("kill runner", host=host.folder.name)

    def _kill_runner_at_failpoint(self, host: Host) -> None:
        host.server.kill()
        host.kill_runner()
        point = self._chance.choice(RUNNER_POINTS)
        host.spawn(point)
        self.rest(DIES_S)
        host.server.kill()
        host.kill_runner()
        self._note("kill runner at failpoint", point=point)
        host.spawn()

    def _kill_both(self, host: Host) -> None:
        pair = [host.kill_runner, host.server.kill]
        self._chance.shuffle(pair)
        for kill in pair:
            kill()
        self._note("kill server and runner", host=host.folder.name)
        host.spawn()

    def _on_a_worker(self, kind: Callable[[WorkerHost], None]) -> Callable[[Host], None]:
        def act(host: Host) -> None:
            del host
            awake = self._awake(self._cluster.workers)
            if awake:
                kind(self._chance.choice(awake))

        return act

    def _kill_worker(self, each: WorkerHost) -> None:
        """The worker, its runner, or both."""
        kills: dict[str, Callable[[], object]] = {
            "worker": each.worker.kill,
            "runner": each.kill_runner,
        }
        some = self._chance.sample(sorted(kills), self._chance.choice([1, 1, 2]))
        for name in some:
            kills[name]()
        self._note(f"kill remote {' and '.join(sorted(some, reverse=True))}", host=each.name)
        self.rest(self._chance.choice([0, 0, 0.3]))
        if not each.is_up():
            each.spawn()

    def _kill_database(self, host: Host) -> None:
        del host
        assert self._cluster.postgres is not None
        self._cluster.postgres.kill()
        self._note("kill database")
        self.rest(self._chance.uniform(0, 1))
        self._cluster.postgres.start_again()

    def _kill_session(self, host: Host) -> None:
        del host
        backends = self._cluster.backends()
        if backends:
            signal_all([self._chance.choice(backends)], signal.SIGKILL)
            self._note("kill session of the database")

    def _freeze_session(self, host: Host) -> None:
        del host
        backends = self._cluster.backends()
        if backends:
            self._freeze_all("freeze session of the database", [self._chance.choice(backends)])

    def _freeze(self, machine: Machine) -> None:
        processes = machine.processes()
        some = [each for each in processes if self._chance.random() < 0.7] or processes
        self._freeze_all("freeze", some)

    def _freeze_for_long(self, host: Host) -> None:
        """A server or a worker, but not its runner, which has to end what runs.

        The fire goes on meanwhile, or stops: a leader takes no lease away before it has led for as long
        as a lease holds.
        """
        if self._long_freezes >= LONG_FREEZES:
            return
        machine = self._chance.choice([host, *self._awake(self._cluster.workers)])
        if not machine.is_up():
            return
        self._long_freezes += 1
        processes, seconds = [psutil.Process(machine.service.pid)], self._chance.uniform(*LONG_S)
        signal_all(processes, signal.SIGSTOP)
        is_calm = self._chance.random() < 0.5
        self._note(
            "long freeze, calm" if is_calm else "long freeze", host=machine.name, seconds=seconds
        )
        self._frozen.append((time.monotonic() + seconds, machine, processes))
        if is_calm:
            self.rest(seconds)

    def _freeze_all(self, kind: str, processes: Sequence[psutil.Process]) -> None:
        seconds = self._chance.uniform(0.1, LONGEST_S)
        signal_all(list(processes), signal.SIGSTOP)
        self._note(kind, seconds=seconds)
        self.rest(seconds)
        thaw(list(processes))

    def _spoil_network(self, host: Host) -> None:
        ways: list[tuple[str, Proxy]] = [("client", host.front)]
        if host.back is not None:
            ways.append(("database", host.back))
        name, way = self._chance.choice(ways)
        self._spoil(name, [way])

    def _spoil_network_of_worker(self, each: WorkerHost) -> None:
        """Its way to one server, or to all."""
        self._spoil("worker", self._chance.choice([each.ways, [self._chance.choice(each.ways)]]))

    def _spoil(self, name: str, ways: Sequence[Proxy]) -> None:
        kinds = {
            "cut": CALM,
            "refuse": Trouble(refuses=True),
            "delay": Trouble(delay_s=self._chance.uniform(0.01, 0.3)),
            "throttle": Trouble(bytes_a_second=self._chance.choice([8_000, 64_000])),
            "black hole": BLACK_HOLE,
            "lose answers": Trouble(swallows_answers=True),
        }
        kind = self._chance.choice(sorted(kinds))
        seconds = self._chance.uniform(0.1, LONGEST_S)
        for way in ways:
            way.set(kinds[kind])
            if kind in {"cut", "refuse"}:
                way.cut()
        self._note(f"network: {kind}", way=name, seconds=seconds)
        self.rest(seconds)
        for way in ways:
            way.set(CALM)

    def _step_clock(self, host: Host) -> None:
        alone = len(self._cluster.hosts) == 1
        seconds = self._chance.choice(STEPS_S if alone else SMALL_STEPS_S)
        host.step_clock(seconds)
        self._note("clock step", seconds=seconds)
