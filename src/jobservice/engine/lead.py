"""Lead: of several servers on one database one at a time does what only one may do.

That is what happens by itself: schedules, sweeps, operations. Who leads has a lease in the store, which
it renews three times in its length; the others look as often whether it is over, and at once where the
one before says that it leaves. So another leads after 4/3 of a lease at the latest, or 10 s later still
where the one before was frozen in the middle of a transaction: so long PostgreSQL waits for it.

Two things keep a server that has lost the lead from acting on it. It stops by itself when its lease may
be over, by a clock of its own, counted from before it asked. And should it be frozen and wake up later,
the store refuses whatever it writes, by the epoch of its lead.
"""

import asyncio
import contextlib
import dataclasses
import datetime as dt
from collections.abc import Callable, Coroutine, Iterable

from jobservice.engine.parts import Bell, Parts
from jobservice.errors import Deposed, JobServiceError
from jobservice.store.lead_port import Lead
from jobservice.telemetry import Logger, logger

RENEWALS = 3
"""How often a lease is renewed in its length, and how often others look whether it is over."""
TRUSTED = 0.8
"""The part of a lease after which a server that could not renew it stops to lead."""

Duties = Callable[[Parts], Iterable[Coroutine[object, object, None]]]
"""Loops, over the parts that they are to work with; each ends only by cancellation or `Deposed`."""


class _Left(Exception):
    """This server leads no more because it was told so."""


class Leader:
    """Has the duties done while this server leads."""

    def __init__(self, parts: Parts, *, server: str, lease_s: float) -> None:
        self._parts = parts
        self._server = server
        self._lease = dt.timedelta(seconds=lease_s)
        self._renew_s = lease_s / RENEWALS
        self._trust_s = lease_s * TRUSTED
        self._free = Bell()
        self._leaving = asyncio.Event()
        self._ended = asyncio.Event()
        self._log: Logger = logger("lead")
        parts.store.on_left(self._free.ring)

    async def run(self, duties: Duties) -> None:
        """Lead whenever this server can, until `leave`; the duties are those of one lead."""
        try:
            while not self._leaving.is_set():
                asked_s = self._parts.clock.monotonic_s()
                lead = await self._take()
                if lead is None:
                    await self._free.wait(self._parts.clock, self._renew_s)
                else:
                    await self._serve(lead, asked_s, duties)
        finally:
            self._ended.set()

    async def leave(self) -> None:
        """Stop the duties and let another server have them at once."""
        self._leaving.set()
        self._free.ring()
        await self._ended.wait()

    async def _take(self, epoch: int = 0) -> Lead | None:
        """The lead, where this server has it."""
        try:
            lead = await self._parts.store.take_lead(self._server, epoch, lease=self._lease)
        except JobServiceError as error:
            self._log.warning("lead_unknown", error=str(error))
            return None
        return lead if lead.server == self._server else None

    async def _serve(self, lead: Lead, asked_s: float, duties: Duties) -> None:
        """Do the duties until the lead is lost or left."""
        self._log.info("leads", epoch=lead.epoch, server=self._server)
        parts = dataclasses.replace(self._parts, store=self._parts.store.led(lead))
        why = "left"
        try:
            async with asyncio.TaskGroup() as group:
                for duty in duties(parts):
                    group.create_task(duty)
                group.create_task(self._keep(lead, asked_s))
                group.create_task(self._until_left())
        except* _Left:
            with contextlib.suppress(JobServiceError):
                await self._parts.store.leave_lead(lead)
        except* Deposed as errors:
            why = str(errors.exceptions[0])
        self._log.info("leads_no_more", epoch=lead.epoch, server=self._server, why=why)

    async def _until_left(self) -> None:
        await self._leaving.wait()
        raise _Left

    async def _keep(self, lead: Lead, asked_s: float) -> None:
        """Renew the lease; raises `Deposed` where another leads, or may by now."""
        clock = self._parts.clock
        if lead.for_ever:
            return
        while True:
            trusted_s = asked_s + self._trust_s - clock.monotonic_s()
            if trusted_s <= 0:
                raise Deposed("The lease could not be renewed in time.")
            await clock.sleep(min(self._renew_s, trusted_s))
            begin_s, kept = clock.monotonic_s(), None
            with contextlib.suppress(TimeoutError):
                async with clock.timeout(max(asked_s + self._trust_s - begin_s, 0.0)):
                    kept = await self._renewed(lead)
            if kept is not None:
                asked_s = begin_s

    async def _renewed(self, lead: Lead) -> Lead | None:
        """The lead as it was renewed; None where the store does not answer. Raises `Deposed`."""
        try:
            found = await self._parts.store.take_lead(self._server, lead.epoch, lease=self._lease)
        except JobServiceError as error:
            self._log.warning("lead_not_renewed", error=str(error))
            return None
        if found != lead:
            raise Deposed(f"{found.server} leads, under epoch {found.epoch}.")
        return lead
