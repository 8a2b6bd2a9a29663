"""Time: the only module that asks the system what time it is.

Everything else takes instants and durations as arguments, so that a test decides them.
Instants are aware UTC `datetime`s; on the wire and in the stores they are microseconds.
"""

import asyncio
import datetime as dt
import mmap
import os
import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
_STEPS = "JOBSERVICE_TEST_CLOCK"
_STEP_BYTES = 8
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """What a part of the service may ask about time."""

    def now(self) -> dt.datetime:
        """The wall clock, aware UTC, in microseconds."""

    def monotonic_s(self) -> float:
        """Seconds that never go back, and count the sleep of a host but no step of its wall clock."""

    async def sleep(self, seconds: float) -> None:
        """Wait so long; returns early only by cancellation."""

    def timeout(self, seconds: float) -> AbstractAsyncContextManager[object]:
        """Give what stands in the block so long; then it ends by TimeoutError."""


class SystemClock:
    """The clock of production. It cannot be stubbed; a test injects another `Clock`."""

    def now(self) -> dt.datetime:
        return dt.datetime.now(dt.UTC)

    def monotonic_s(self) -> float:
        return time.clock_gettime(_STEADY)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def timeout(self, seconds: float) -> AbstractAsyncContextManager[object]:
        return asyncio.timeout(seconds)


class SteppedClock(SystemClock):
    """The system's clock with a wall time that a test steps, while the process runs.

    Args:
        path: A file of 8 bytes: how far the wall time is off in microseconds, little-endian.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._step = mmap.mmap(file.fileno(), _STEP_BYTES, access=mmap.ACCESS_READ)

    def now(self) -> dt.datetime:
        step_us = int.from_bytes(self._step, "little", signed=True)
        return super().now() + dt.timedelta(microseconds=step_us)


def server_clock() -> SystemClock:
    """The clock of a server: the system's, or the one that a test has put into the environment."""
    path = os.environ.get(_STEPS, "")
    return SteppedClock(Path(path)) if path else SystemClock()


def to_us(instant: dt.datetime) -> int:
    """Microseconds since 1970 of an aware instant."""
    return (instant - EPOCH) // _MICROSECOND


def from_us(microseconds: int) -> dt.datetime:
    """The aware UTC instant of microseconds since 1970."""
    return EPOCH + dt.timedelta(microseconds=microseconds)


def rfc3339(instant: dt.datetime | None) -> str:
    """An instant for a person, in UTC and to the second; empty where there is none."""
    return "" if instant is None else instant.strftime("%Y-%m-%dT%H:%M:%SZ")
