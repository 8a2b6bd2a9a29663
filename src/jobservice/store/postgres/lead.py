"""The lead of the servers on one database: a row with the server, its epoch and the end of its lease.

Whatever only one server may do is done under an epoch (`Led`), which is looked up in the same
transaction, under a lock that all such transactions share and that is held until their commit. Who
takes the lead takes that lock for itself. So once a new epoch is committed nothing is written under an
older one: not by a server that was frozen and wakes up, nor by a commit that was under way.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from jobservice.store.lead_port import Lead
from jobservice.store.postgres.writer import Writer
from jobservice.store.verbs.transaction import Answer, Item, Transaction, Verb


class Led:
    """A writer whose calls are obeyed only while their epoch is the newest.

    Raises, from `run`, besides what `Writer` says: `Deposed` (nothing was changed).
    """

    def __init__(self, writer: Writer, epoch: int) -> None:
        self.on_commit: list[Callable[[], None]] = writer.on_commit
        self._writer = writer
        self._epoch = epoch

    async def run(self, verb: Verb[Item, Answer], item: Item) -> Answer:
        """Have a call run and committed under the epoch; durable when this returns."""
        return await self._writer.run(verb, item, epoch=self._epoch)


class TakeCall(NamedTuple):
    """One call of `take_lead`."""

    server: str
    epoch: int
    lease_us: int


async def take_lead(tx: Transaction, calls: Sequence[TakeCall]) -> list[Lead]:
    """Renew leases, and grant them where nobody has one."""
    return [await _take(tx, call) for call in calls]


async def _take(tx: Transaction, call: TakeCall) -> Lead:
    if call.epoch and await tx.write("renew_lead", [(call.server, call.epoch, call.lease_us)]):
        return Lead(call.server, call.epoch)
    for server, epoch, is_over in await tx.read_all("find_lead"):
        if server != call.server and not is_over:
            return Lead(server, epoch)
    await tx.read_all("lock_lead")
    for (epoch,) in await tx.read_all("take_lead", call.server, call.lease_us):
        return Lead(call.server, epoch)
    [(server, epoch, _)] = await tx.read_all("find_lead")  # another was quicker
    return Lead(server, epoch)


async def leave_lead(tx: Transaction, calls: Sequence[Lead]) -> list[bool]:
    """End leases; whether they were still held."""
    return [bool(await tx.write("leave_lead", [(each.server, each.epoch)])) for each in calls]
