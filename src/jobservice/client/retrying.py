"""When a call that failed is made again: the rules, without a clock and without a channel.

Only UNAVAILABLE is repeated: a service that restarts, drains, or has lost its database for a moment.
gRPC's own retries stop after five tries, which is less than a restart takes, so these go by time.
A create may be repeated because its request_id makes it happen once.
"""

import dataclasses

from jobservice.errors import JobServiceError, Unavailable
from jobservice.wire.status import is_foreign

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 1.0


@dataclasses.dataclass(slots=True)
class Patience:
    """How long an unavailable service is waited for, counted from the last time that it answered."""

    patience_s: float
    first_s: float | None = None
    """The same while it has not answered at all; None: `patience_s`."""
    _since_s: float | None = None
    _wait_s: float = FIRST_WAIT_S

    def answered(self) -> None:
        """The service is there."""
        self.first_s = None
        self._since_s, self._wait_s = None, FIRST_WAIT_S

    def wait_s(
        self, error: JobServiceError, now_s: float, fraction: float, *, repeatable: bool = True
    ) -> float | None:
        """How long to wait before the next try; None to give up and raise the error.

        Args:
            error: What the last try ended with.
            now_s: Of a monotonic clock.
            fraction: A random number in [0, 1), so that many clients do not come at once.
            repeatable: Whether the call may be made again where it is not known if the service
                acted. An error that the service raised itself always says that it did not.
        """
        if not isinstance(error, Unavailable):
            return None
        if not repeatable and is_foreign(error):
            return None
        if self._since_s is None:
            self._since_s = now_s
        patience_s = self.patience_s if self.first_s is None else self.first_s
        if now_s - self._since_s >= patience_s:
            return None
        wait_s = self._wait_s * (0.5 + fraction / 2)
        self._wait_s = min(self._wait_s * 2, LONGEST_WAIT_S)
        return wait_s
