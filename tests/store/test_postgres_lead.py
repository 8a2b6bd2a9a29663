"""The lead of several servers on one PostgreSQL database: one at a time, and no other is obeyed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from jobservice.errors import Deposed
from jobservice.model.spec import RetryPolicy
from jobservice.store.lead_port import Lead
from jobservice.store.port import Store
from jobservice.store.postgres.queries import QUERIES
from jobservice.store.postgres.store import PostgresStore
from tests.conformance.schedules import Engine
from tests.conformance.values import at, ended, insert_some, run, seconds, settle, states
from tests.examples import examples
from tests.machine.homes import PostgresHome
from tests.postgres import Databases

LONG, OVER = seconds(3_600), seconds(0)
"""A lease that is not over within a test, and one that is over at once."""


@pytest.fixture
async def stores(postgres: Databases) -> AsyncIterator[list[PostgresStore]]:
    """What two servers have open."""
    url = await postgres.lend()
    opened = [await PostgresStore.open(url) for _ in range(2)]
    yield opened
    for store in opened:
        await store.close()
    await postgres.take_back(url)


async def test_one_leads_while_its_lease_holds(stores: list[PostgresStore]) -> None:
    one, other = stores
    lead = await one.take_lead("a", 0, lease=LONG)
    assert await other.take_lead("b", 0, lease=LONG) == lead == Lead("a", 1)


async def test_of_many_that_ask_at_once_one_leads(stores: list[PostgresStore]) -> None:
    for round_ in range(10):
        asked = [
            store.take_lead(f"server {n}", 0, lease=LONG) for n, store in enumerate(stores * 3)
        ]
        [lead] = set(await asyncio.gather(*asked))
        assert lead.epoch == 2 * round_ + 1
        await stores[0].leave_lead(lead)


async def test_when_a_lease_is_over_another_leads_under_a_new_epoch(
    stores: list[PostgresStore],
) -> None:
    one, other = stores
    await one.take_lead("a", 0, lease=OVER)
    assert await other.take_lead("b", 0, lease=LONG) == Lead("b", 2)
    assert await one.take_lead("a", 1, lease=LONG) == Lead("b", 2)


async def test_a_lease_that_is_over_may_be_renewed_while_nobody_else_leads(
    stores: list[PostgresStore],
) -> None:
    one, other = stores
    await one.take_lead("a", 0, lease=OVER)
    assert await one.take_lead("a", 1, lease=LONG) == Lead("a", 1)
    assert await other.take_lead("b", 0, lease=LONG) == Lead("a", 1)


async def test_a_server_that_is_started_anew_takes_over_from_itself(
    stores: list[PostgresStore],
) -> None:
    one, anew = stores
    before = await one.take_lead("a", 0, lease=LONG)
    assert await anew.take_lead("a", 0, lease=LONG) == Lead("a", 2)
    with pytest.raises(Deposed):
        await insert_some(one.led(before))


async def _repeat(act: Callable[[], Awaitable[object]], until: asyncio.Event) -> None:
    """Do something until it is heard: the listener may not be up at first."""
    while not until.is_set():
        await act()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await until.wait()


async def test_the_others_hear_at_once_that_one_leaves(stores: list[PostgresStore]) -> None:
    one, other = stores
    left = asyncio.Event()
    other.on_left(left.set)

    async def take_and_leave() -> None:
        await one.leave_lead(await one.take_lead("a", 0, lease=LONG))

    await _repeat(take_and_leave, left)


async def test_who_closes_right_after_it_left_has_said_so(
    stores: list[PostgresStore],
) -> None:
    heard, left = asyncio.Event(), asyncio.Event()
    stores[0].on_hint(heard.set)
    stores[0].on_left(left.set)
    await _repeat(lambda: insert_some(stores[1]), heard)  # the listener is up
    for _ in range(5):
        leaving = await PostgresStore.open(stores[0]._readers._url)
        up = asyncio.Event()
        leaving.on_hint(up.set)
        await up.wait()
        await insert_some(leaving)  # it rests after it has told of that
        await leaving.leave_lead(await leaving.take_lead("b", 0, lease=LONG))
        await leaving.close()
        async with asyncio.timeout(5):
            await left.wait()
        left.clear()


# --- who is not obeyed ------------------------------------------------------------------------


async def _deposed(stores: list[PostgresStore]) -> Store:
    """The store of one that led; the other leads now."""
    one, other = stores
    lead = await one.take_lead("a", 0, lease=OVER)
    assert (await other.take_lead("b", 0, lease=LONG)).server == "b"
    return one.led(lead)


async def test_a_deposed_one_fires_no_schedule(stores: list[PostgresStore]) -> None:
    engine = Engine(await _deposed(stores))
    mine = Engine(stores[1], engine.clock)
    await mine.create()
    with pytest.raises(Deposed):
        await engine.after(1)
    assert await mine.runs() == []
    assert await mine.fire() == 1


DUTIES: dict[str, Callable[[Store], Awaitable[object]]] = {
    "release": lambda store: store.release_due(now=at(99), limit=9),
    "expire": lambda store: store.expire_leases(settle, now=at(99), limit=9),
    "time out": lambda store: store.time_out_jobs(now=at(99), limit=9),
    "settle children": lambda store: store.settle_children(now=at(99), limit=9),
    "settle arrays": lambda store: store.settle_arrays(("", ""), now=at(99), randomness=1),
    "wake parked": lambda store: store.wake_parked(("", ""), now=at(99)),
    "wake rates": lambda store: store.wake_rates(now=at(99), limit=9),
    "delete": lambda store: store.delete_jobs([], now=at(99)),
    "forget": lambda store: store.forget(before=at(99), limit=9),
    "forget operations": lambda store: store.forget_operations(before=at(99), limit=9),
}


@pytest.mark.parametrize("duty", DUTIES)
async def test_a_deposed_one_does_nothing(stores: list[PostgresStore], duty: str) -> None:
    led = await _deposed(stores)
    await run(stores[1], retry=RetryPolicy(max_attempts=2))
    await ended(stores[1], 1, 1, retry=RetryPolicy(max_attempts=2))
    before = await states(stores[1])
    with pytest.raises(Deposed):
        await DUTIES[duty](led)
    assert await states(stores[1]) == before


async def test_what_others_ask_in_the_same_batch_is_done(stores: list[PostgresStore]) -> None:
    led = await _deposed(stores)
    answers = await asyncio.gather(
        *[insert_some(led if n % 2 else stores[0]) for n in range(20)], return_exceptions=True
    )
    assert [isinstance(each, Deposed) for each in answers] == [bool(n % 2) for n in range(20)]
    assert len(await states(stores[0])) == 10


async def test_whoever_takes_over_waits_for_what_is_under_way(
    postgres: Databases, stores: list[PostgresStore]
) -> None:
    """What was obeyed is committed before another leads, so that this one sees it."""
    await stores[0].take_lead("a", 0, lease=OVER)
    old = await asyncpg.connect(stores[0]._readers._url)
    transaction = old.transaction()
    await transaction.start()
    assert await old.fetchval(QUERIES["find_obeyed"].text) == 1
    taking = asyncio.ensure_future(stores[1].take_lead("b", 0, lease=LONG))
    while not await old.fetchval("SELECT 1 FROM pg_locks WHERE NOT granted"):
        assert not taking.done()
    await transaction.commit()
    assert await taking == Lead("b", 2)
    await old.close()


async def test_a_frozen_transaction_does_not_keep_the_lead_for_ever(
    stores: list[PostgresStore],
) -> None:
    """It is ended by the database, and its session with it."""
    lead = await stores[0].take_lead("a", 0, lease=OVER)
    writer = stores[0]._writers[0]
    await insert_some(stores[0].led(lead))
    frozen = writer._connection
    assert frozen is not None
    await frozen.execute("SET idle_in_transaction_session_timeout = 100")
    await frozen.execute("BEGIN")
    assert await frozen.fetchval(QUERIES["find_obeyed"].text) == 1
    assert await stores[1].take_lead("b", 0, lease=LONG) == Lead("b", 2)


# --- any order --------------------------------------------------------------------------------

SERVERS = st.integers(0, 2)


class LeadMachine(RuleBasedStateMachine):
    """Three servers take, lose, renew and leave the lead, and write under whatever they believe."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.home = PostgresHome(self.loop)
        self.store = self.home.open()
        self.believed = [Lead("nobody", 0)] * 3
        self.now = Lead("", 0)
        """What the database must have: who leads, if anybody, and the newest epoch."""
        self.is_over = True
        self.written = 0

    def teardown(self) -> None:
        self.loop.run(self.store.close())
        self.home.remove()
        self.loop.close()

    @rule(n=SERVERS, lease=st.sampled_from([LONG, OVER]), anew=st.booleans())
    def take(self, n: int, lease: object, anew: bool) -> None:
        mine = "abc"[n]
        epoch = 0 if anew else self.believed[n].epoch
        if epoch and self.now == Lead(mine, epoch):
            self.is_over = lease is OVER
        elif self.is_over or self.now.server == mine:
            self.now, self.is_over = Lead(mine, self.now.epoch + 1), lease is OVER
        found = self.loop.run(
            self.store.take_lead(mine, epoch, lease=LONG if lease is LONG else OVER)
        )
        assert found == self.now
        if found.server == mine:
            self.believed[n] = found

    @rule(n=SERVERS)
    def leave(self, n: int) -> None:
        self.loop.run(self.store.leave_lead(self.believed[n]))
        if self.believed[n] == self.now:
            self.now, self.is_over = Lead("", self.now.epoch + 1), True

    @rule(n=SERVERS)
    def write(self, n: int) -> None:
        with contextlib.suppress(Deposed):
            self.loop.run(insert_some(self.store.led(self.believed[n])))
            assert self.believed[n] == self.now
            self.written += 1
            return
        assert self.believed[n] != self.now

    @invariant()
    def nothing_else_is_written(self) -> None:
        assert len(self.loop.run(states(self.store))) == self.written


LeadMachine.TestCase.settings = settings(max_examples=examples(20), stateful_step_count=25)
TestLead = LeadMachine.TestCase
