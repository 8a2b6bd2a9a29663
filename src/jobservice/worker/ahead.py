"""How many leases a worker may take ahead of a free slot.

A lease ahead saves the round trip between the end of one attempt and the start of the next, which
is what short jobs spend their time on. A job that is leased ahead waits for nobody but this worker,
so only as many are taken as will start within a few milliseconds at the present rate: none while
jobs run for long.
"""

import math

from jobservice.clock import Clock

MOST = 256


class Ahead:
    """Measures the rate of ends and says how many leases that is worth."""

    HORIZON_S = 0.03
    """What is leased ahead should start within this time."""
    WINDOW_S = 0.1
    """The rate is taken over windows of this length, and forgotten after ten of them."""
    PATIENCE_S = 0.5
    """A lease that got no slot in this time is handed back."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since = clock.monotonic_s()
        self._count = 0
        self._rate = 0.0

    def ended(self, count: int) -> None:
        """So many attempts ended just now."""
        self._roll()
        self._count += count

    def leases(self) -> int:
        """How many leases to hold beyond the slots."""
        self._roll()
        return min(MOST, math.floor(self._rate * self.HORIZON_S))

    def _roll(self) -> None:
        elapsed = self._clock.monotonic_s() - self._since
        if elapsed < self.WINDOW_S:
            return
        self._rate = 0.0 if elapsed > 10 * self.WINDOW_S else self._count / elapsed
        self._since += elapsed
        self._count = 0
