"""All at once in one store: jobs, queues, limits, keys, dependencies, arrays, clock jumps and crashes.

Each call is compared with the model's answer (`workers.py`, `users.py`, `model.py`), and after each rule
the whole store with the model and with its invariants. Now and then everything that may start is let
start: then something is in the way of each job that still waits. Any call may be the last one of the
process: it dies before the commit, and nothing of the call was done; or behind it, and all was.
"""

import contextlib
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from jobservice.model.attempt import Cause
from jobservice.model.lifecycle import ACTIVE, FINAL, LIVE, WAITING, State
from jobservice.model.limit import Limit, LimitKind, Rate
from jobservice.model.queue import Move, OnFull, Pause, PauseMode
from tests.conformance.values import seconds
from tests.machine import submits
from tests.machine.homes import Death, DiedError, Home, PostgresHome, SqliteHome
from tests.machine.submits import KEYS, TENANTS, Wish
from tests.machine.users import Everybody
from tests.machine.workers import End

some = st.sampled_from([None, None, 4, 3, 2, 1, 0])
numbers = st.integers(0, 40)
ends = st.sampled_from(
    [(Cause.EXIT, 0), (Cause.EXIT, 0), (Cause.EXIT, 1), (Cause.LOST, None), (Cause.STOP, None)]
)
rates = st.builds(
    Rate, st.integers(1, 3), st.sampled_from([seconds(1), seconds(30)]), st.integers(1, 3)
)
limits = st.one_of(
    st.builds(Limit, st.just(""), st.just(LimitKind.SERVICE), max_running=st.integers(2, 8)),
    st.builds(
        Limit,
        submits.tenants,
        st.just(LimitKind.TENANT),
        max_running=some,
        weight=st.sampled_from([500, 1000, 3000]),
    ),
    st.builds(
        Limit, submits.tenants, st.just(LimitKind.KEY), submits.limited, some, st.none() | rates
    ),
)
queue_edits = st.fixed_dictionaries(
    {},
    optional={
        "max_running": some,
        "max_depth": st.sampled_from([None, None, 3, 1, 0]),
        "on_full": st.sampled_from(OnFull),
        "pause": st.sampled_from([None, None, PauseMode.HOLD, PauseMode.DRAIN]),
    },
)
job_edits = st.fixed_dictionaries(
    {}, optional={"priority": submits.priorities, "queue": submits.queues}
)


reports = st.sampled_from(["start", "finish", "lose", "unclaim", "extend", "report"])
WHICH = {
    "stop": ACTIVE,
    "delete": ACTIVE | FINAL,
    "hold": WAITING,
    "release": frozenset({State.HELD}),
    "retry": FINAL,
}
"""The jobs of which these can be asked."""


class WholeMachine(RuleBasedStateMachine):
    """See the head of the file."""

    home: type[Home] = SqliteHome

    @initialize(
        own=st.lists(st.sampled_from([0, 1, 2, 3, 3]), min_size=2, max_size=2),
        wishes=st.lists(submits.plain_wishes, min_size=1, max_size=4),
        later=st.lists(submits.plain_wishes, min_size=2, max_size=6),
        claimed=st.integers(1, 4),
    )
    def begin(self, own: list[int], wishes: list[Wish], later: list[Wish], claimed: int) -> None:
        """With a few jobs that run, and a few that wait for them."""
        self.all = Everybody(self.home, dict(zip(KEYS, own, strict=True)))
        for wish in wishes:
            self.all.submit(TENANTS[0], wish)
        self.all.claim_up_to(claimed)
        for wish in later:
            self.all.submit(TENANTS[0], wish)
        self.all.claim_everything()

    def teardown(self) -> None:
        if hasattr(self, "all"):
            self.all.close()

    # --- users

    @rule(tenant=submits.tenants, wishes=st.lists(submits.single_wishes, min_size=1, max_size=3))
    def submit(self, tenant: str, wishes: list[Wish]) -> None:
        for wish in wishes:
            self.all.submit(tenant, wish)

    @rule(tenant=submits.tenants, wish=submits.wishes, count=st.integers(2, 3), chain=st.booleans())
    def submit_batch(self, tenant: str, wish: Wish, count: int, *, chain: bool) -> None:
        self.all.submit_batch(tenant, wish, count, chain=chain)

    @rule(steps=st.lists(st.tuples(numbers, st.sampled_from(list(WHICH))), min_size=1, max_size=3))
    def change(self, steps: list[tuple[int, str]]) -> None:
        with contextlib.suppress(DiedError):
            for number, what in steps:
                job = self.all.pick(number, self.all.model.where(*WHICH[what]))
                if job is not None:
                    getattr(self.all, what)(job)

    @rule(number=numbers)
    def stop(self, number: int) -> None:
        """One that runs: until it is gone it holds what it has."""
        job = self.all.pick(number, self.all.model.where(*LIVE))
        with contextlib.suppress(DiedError):
            if job is not None:
                self.all.stop(job)
                self.all.claim_everything()

    @rule(number=numbers, edits=job_edits)
    def edit(self, number: int, edits: dict[str, Any]) -> None:
        job = self.all.pick(number, self.all.model.where(*ACTIVE))
        with contextlib.suppress(DiedError):
            if job is not None:
                self.all.edit(job, edits)

    @rule(number=numbers, other=numbers, move=st.sampled_from(Move))
    def move(self, number: int, other: int, move: Move) -> None:
        queued = self.all.model.where(State.QUEUED)
        job, beside = self.all.pick(number, queued), self.all.pick(other, queued)
        with contextlib.suppress(DiedError):
            if job is not None and beside is not None:
                self.all.move(job, beside, move)

    @rule(
        steps=st.lists(
            st.tuples(
                submits.keys,
                st.integers(0, 2),
                st.sampled_from([0, 0, 1, 2]),
                st.sampled_from(["stop", "hold", "hold", "move"]) | job_edits,
            ),
            min_size=1,
            max_size=4,
        )
    )
    def step_aside(self, steps: list[tuple[str, int, int, str | dict[str, Any]]]) -> None:
        """What has a key ends, and who waited first for it does not want it any more: another may."""
        with contextlib.suppress(DiedError):
            for key, count, number, what in steps:
                self.all.finish_some([(Cause.EXIT, 0)] * count, key)
                queued = [each for each in self.all.model.where(State.QUEUED) if each.weight(key)]
                job = self.all.pick(number, sorted(queued, key=lambda each: -each.claim_key))
                if job is None:
                    continue
                if isinstance(what, dict):
                    self.all.edit(job, what)
                elif what == "move":
                    self.all.move(job, job, Move.BOTTOM)
                else:
                    getattr(self.all, what)(job)
                self.all.claim_everything()

    # --- rules of queues, limits

    @rule(
        tenant=submits.tenants,
        name=submits.queues,
        edits=queue_edits,
        lasts=st.sampled_from([None, None, 5.0, 60.0]),
    )
    def save_queue(
        self, tenant: str, name: str, edits: dict[str, Any], lasts: float | None
    ) -> None:
        now = self.all.model.now
        if edits.get("pause") is not None:
            until = None if lasts is None else now + seconds(lasts)
            edits = {**edits, "pause": Pause(edits["pause"], now, "because", until)}
        with contextlib.suppress(DiedError):
            self.all.save_queue(tenant, name, edits)

    @rule(limit=limits)
    def save_limit(self, limit: Limit) -> None:
        with contextlib.suppress(DiedError):
            self.all.save_limit(limit)

    @rule(number=numbers, tenant=submits.tenants, name=submits.queues, limit=st.booleans())
    def delete_rule(self, number: int, tenant: str, name: str, *, limit: bool) -> None:
        with contextlib.suppress(DiedError):
            if limit:
                self.all.delete_limit(number)
            else:
                self.all.delete_queue(tenant, name)

    # --- workers

    @rule(
        limit=st.integers(1, 6),
        worker=st.sampled_from(["w1", "w2"]),
        hows=st.lists(ends, max_size=3),
    )
    def work(self, limit: int, worker: str, hows: list[End]) -> None:
        """Claim, and have some of what runs end."""
        with contextlib.suppress(DiedError):
            self.all.claim_up_to(limit, worker)
            self.all.finish_some(hows)

    @precondition(lambda self: self.all.model.where(*LIVE))
    @rule(hows=st.lists(ends, min_size=1, max_size=3))
    def finish(self, hows: list[End]) -> None:
        with contextlib.suppress(DiedError):
            self.all.finish_some(hows)

    @precondition(lambda self: self.all.fences)
    @rule(number=numbers, what=reports)
    def report(self, number: int, what: str) -> None:
        """Of an attempt that is live, or is not any more."""
        with contextlib.suppress(DiedError):
            getattr(self.all, what)(self.all.fence(number))

    @precondition(lambda self: self.all.model.where(*LIVE))
    @rule(number=numbers, how=st.sampled_from(["unclaim", "lose", "finish"]), what=reports)
    def come_late(self, number: int, how: str, what: str) -> None:
        """A lease ends, its job may be claimed again, and somebody still tells of the old one."""
        job = self.all.pick(number, self.all.model.where(*LIVE))
        with contextlib.suppress(DiedError):
            if job is not None and job.has_lease:
                fence = job.fence
                getattr(self.all, how)(fence)
                self.all.claim_up_to(6, "w2")
                getattr(self.all, what)(fence)

    @rule(worker=st.sampled_from(["w1", "w2"]))
    def adopt(self, worker: str) -> None:
        self.all.adopt(worker)

    @precondition(lambda self: self.all.model.where(State.QUEUED))
    @rule(rounds=st.lists(st.integers(0, 3), min_size=1, max_size=3))
    def work_off(self, rounds: list[int]) -> None:
        """All that may start does; and when some of it has ended, all that waited for that."""
        with contextlib.suppress(DiedError):
            for count in rounds:
                self.all.claim_everything()
                self.all.finish_some([(Cause.EXIT, 0)] * count)

    # --- time, and the end of the process

    @rule(
        by=st.sampled_from([0.0, 0.4, 5.0, 21.0, 31.0, 120.0]),
        sweeps=st.permutations(
            ["expire", "time_out", "release_due", "wake_rates", "collect_deleted"]
        ),
        count=st.integers(0, 5),
    )
    def time_passes(self, by: float, sweeps: list[str], count: int) -> None:
        self.all.model.now += seconds(by)
        with contextlib.suppress(DiedError):
            for sweep in sweeps[:count]:
                getattr(self.all, sweep)()

    @rule(what=st.sampled_from(["wake_parked", "look_at_arrays"]))
    def sweep(self, what: str) -> None:
        with contextlib.suppress(DiedError):
            getattr(self.all, what)()

    @rule(death=st.sampled_from([None, *Death]), orderly=st.booleans())
    def end_of_process(self, death: Death | None, *, orderly: bool) -> None:
        """Between two calls, or in the next one."""
        if death is not None:
            self.all.death = death
        elif orderly:
            self.all.reopen()
        else:
            self.all.die()

    @invariant()
    def all_holds(self) -> None:
        self.all.compare()


LONGEST_S = 300
"""A step over PostgreSQL is a dozen round trips, and the machine may be busy."""


class PostgresWholeMachine(WholeMachine):
    """The same over PostgreSQL."""

    home: type[Home] = PostgresHome


TestWholeMachine = pytest.mark.timeout(LONGEST_S)(WholeMachine.TestCase)
TestWholeMachine.settings = settings(
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestPostgresWholeMachine = pytest.mark.timeout(LONGEST_S)(PostgresWholeMachine.TestCase)
TestPostgresWholeMachine.settings = settings(
    TestWholeMachine.settings, max_examples=TestWholeMachine.settings.max_examples // 5
)
