"""The lead: what holds for every store; see `tests/store/test_postgres_lead.py` for several servers."""

from jobservice.store.port import Store
from tests.conformance.values import insert_some, key_of, seconds

LEASE = seconds(3_600)


async def test_who_asks_first_leads_and_leads_on(store: Store) -> None:
    lead = await store.take_lead("a", 0, lease=LEASE)
    assert (lead.server, lead.epoch) == ("a", 1)
    assert await store.take_lead("a", 1, lease=LEASE) == lead


async def test_who_leads_is_obeyed(store: Store) -> None:
    led = store.led(await store.take_lead("a", 0, lease=LEASE))
    [job] = await insert_some(led)
    assert await store.find_job(key_of(job)) == await led.find_job(key_of(job)) is not None


async def test_who_leaves_can_lead_again(store: Store) -> None:
    await store.leave_lead(await store.take_lead("a", 0, lease=LEASE))
    again = await store.take_lead("a", 0, lease=LEASE)
    assert again.server == "a"
    await insert_some(store.led(again))
