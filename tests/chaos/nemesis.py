"""The nemesis: does to a cluster what the world does to hosts, and notes each thing that it did."""

import contextlib
import random
import signal
import threading
from collections.abc import Callable, Sequence

import psutil

from jobservice.failpoints import NAMES
from jobservice.testing.history.record import Recorder
from jobservice.testing.proxy import BLACK_HOLE, CALM, Proxy, Trouble
from tests.chaos.cluster import Cluster, Host, signal_all, thaw

LONGEST_S = 2.0
"""How long a freeze or a trouble of the network lasts at most; leases hold for 30 s."""
DIES_S = 3.0
"""How long a server may take to come to its failpoint before it is killed anyway."""
STEPS_S = (-20.0, -5.0, 0.0, 5.0, 20.0)
"""How far the clock of a lone server may be off; what it has set for later is late by as much."""
SMALL_STEPS_S = (-5.0, -1.0, 0.0, 1.0, 5.0)
"""The same of several servers on one database: hosts with a time service are closer than this."""
POINTS = sorted(name for name in NAMES if not name.startswith("bulk."))
RUNNER_POINTS = (
    "runner.intent_journaled",
    "runner.spawned_unjournaled",
    "runner.exited_unreported",
    "runner.ended_unreported",
    "runner.reported_unacknowledged",
)


class Nemesis:
    """Does one thing at a time, chosen by a seeded chance."""

    def __init__(self, cluster: Cluster, recorder: Recorder, chance: random.Random) -> None:
        self._cluster = cluster
        self._recorder = recorder
        self._chance = chance
        self._never = threading.Event()
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
        ]
        if cluster.postgres is not None:
            weighed += [
                (6, self._kill_database),
                (6, self._kill_session),
                (3, self._freeze_session),
            ]
        self._weights = [weight for weight, _ in weighed]
        self._kinds = [kind for _, kind in weighed]

    def act(self) -> None:
        """Do one thing, and undo what can be undone."""
        for host in self._cluster.hosts:
            if not host.is_up():
                host.spawn()  # as whatever supervises it would
        [kind] = self._chance.choices(self._kinds, self._weights)
        kind(self._chance.choice(self._cluster.hosts))
        self.rest(self._chance.uniform(0.05, 1.2))

    def end(self) -> None:
        """Leave everything as it should be."""
        for host in self._cluster.hosts:
            host.front.set(CALM)
            if host.back is not None:
                host.back.set(CALM)
            host.step_clock(0)
            if not host.is_up():
                host.spawn()

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

    def _freeze(self, host: Host) -> None:
        processes = host.processes()
        some = [each for each in processes if self._chance.random() < 0.7] or processes
        self._freeze_all("freeze", some)

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
        way.set(kinds[kind])
        if kind in {"cut", "refuse"}:
            way.cut()
        self._note(f"network: {kind}", way=name, seconds=seconds)
        self.rest(seconds)
        way.set(CALM)

    def _step_clock(self, host: Host) -> None:
        alone = len(self._cluster.hosts) == 1
        seconds = self._chance.choice(STEPS_S if alone else SMALL_STEPS_S)
        host.step_clock(seconds)
        self._note("clock step", seconds=seconds)
