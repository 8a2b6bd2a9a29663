"""What every use case works with: the store, time, randomness, and the hints between loops."""

import asyncio
import contextlib
import dataclasses
import random
from collections.abc import Callable, Sequence

from jobservice.clock import Clock
from jobservice.model.attempt import Fence
from jobservice.store.port import Store


class Bell:
    """A hint that something may be done now. Rings are not counted, and none is relied on."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake whoever waits, now or next."""
        self._event.set()

    async def wait(self, timeout_s: float | None) -> None:
        """Return at the next ring, or one that came since the last wait, or after `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        self._event.clear()


@dataclasses.dataclass(frozen=True, slots=True)
class Signals:
    """The hints; every one has a poll behind it."""

    work: Bell = dataclasses.field(default_factory=Bell)
    """Jobs were queued."""
    timers: Bell = dataclasses.field(default_factory=Bell)
    """The time of the next due job may have changed."""
    deletions: Bell = dataclasses.field(default_factory=Bell)
    """Final jobs are to be deleted."""
    stops: list[Callable[[Sequence[Fence]], None]] = dataclasses.field(default_factory=list)
    """Called with attempts that are to end; a worker adds itself."""

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
