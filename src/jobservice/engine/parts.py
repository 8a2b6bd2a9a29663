"""What every use case works with: the store, time, randomness, and the hints between loops."""

import asyncio
import contextlib
import dataclasses
import random
from collections.abc import Callable, Iterator, Sequence

from jobservice.clock import Clock
from jobservice.errors import StoreFull, StoreUnavailable
from jobservice.model.attempt import Fence
from jobservice.store.port import Store


class Bell:
    """A hint that something may be done now. Rings are not counted, and none is relied on."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._hearers: set[Bell] = set()

    def ring(self) -> None:
        """Wake whoever waits, now or next."""
        self._event.set()
        for bell in self._hearers:
            bell.ring()

    @contextlib.contextmanager
    def heard(self) -> "Iterator[Bell]":
        """A bell that rings with this one, for one who waits beside others and must not miss a ring."""
        bell = Bell()
        self._hearers.add(bell)
        try:
            yield bell
        finally:
            self._hearers.remove(bell)

    async def wait(self, clock: Clock, timeout_s: float) -> None:
        """Return at the next ring, or one that came since the last wait, or after `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            async with clock.timeout(timeout_s):
                await self._event.wait()
        self._event.clear()


class Outage:
    """When a worker was told last that its sign of life cannot be written, and so went on without."""

    def __init__(self) -> None:
        self.told_s = float("-inf")
        """Of the monotonic clock."""

    @contextlib.contextmanager
    def noted(self, clock: Clock) -> "Iterator[None]":
        """For what writes a sign of life."""
        try:
            yield
        except (StoreUnavailable, StoreFull):
            self.told_s = clock.monotonic_s()
            raise


@dataclasses.dataclass(frozen=True, slots=True)
class Timers:
    """Hints that the next instant has changed at which something happens by itself."""

    due: Bell = dataclasses.field(default_factory=Bell)
    """A job is due, or a pause over."""
    over: Bell = dataclasses.field(default_factory=Bell)
    """The time of a job is over."""
    resumes: Bell = dataclasses.field(default_factory=Bell)
    """The pause of a queue is over."""

    def ring(self) -> None:
        """Wake all who wait for an instant."""
        for bell in (self.due, self.over, self.resumes):
            bell.ring()


@dataclasses.dataclass(frozen=True, slots=True)
class Signals:
    """The hints; every one has a poll behind it."""

    work: Bell = dataclasses.field(default_factory=Bell)
    """Jobs were queued."""
    timers: Timers = dataclasses.field(default_factory=Timers)
    children: Bell = dataclasses.field(default_factory=Bell)
    """Jobs that others depend on ended, or are run again."""
    arrays: Bell = dataclasses.field(default_factory=Bell)
    """The turn of an array came, an index of one ended, or one is to be stopped or deleted."""
    deletions: Bell = dataclasses.field(default_factory=Bell)
    """Final jobs are to be deleted."""
    schedules: Bell = dataclasses.field(default_factory=Bell)
    """The time of the next fire may have changed, or a job ended for which a fire waits."""
    operations: Bell = dataclasses.field(default_factory=Bell)
    """An operation was begun."""
    outage: Outage = dataclasses.field(default_factory=Outage)
    """When workers were told last that their leases cannot be prolonged."""
    elsewhere: Bell = dataclasses.field(default_factory=Bell)
    """Another server changed something."""
    stops: list[Callable[[Sequence[Fence]], None]] = dataclasses.field(default_factory=list)
    """Called with attempts that are to end; a worker adds itself."""

    def children_moved(self) -> None:
        """Jobs that others may depend on ended or are run again, and these may be queued now."""
        self.children.ring()
        self.work.ring()
        self.timers.ring()
        self.arrays.ring()

    def anything(self) -> None:
        """Another server changed something: look at everything."""
        self.children_moved()
        for bell in (self.deletions, self.schedules, self.operations, self.elsewhere):
            bell.ring()

    def stop(self, fences: Sequence[Fence]) -> None:
        """Tell the workers of this process that these attempts are to end."""
        for hear in self.stops:
            hear(fences)


@dataclasses.dataclass(frozen=True, slots=True)
class Parts:
    """What every use case works with."""

    store: Store
    clock: Clock
    random: random.Random
    signals: Signals
