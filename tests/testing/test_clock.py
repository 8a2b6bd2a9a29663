"""A clock that jumps: who is woken, when, and who is not."""

import asyncio
import contextlib
import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobservice.clock import SteppedClock, SystemClock
from jobservice.testing.clock import START, JumpClock


def after(seconds: float) -> dt.datetime:
    return START + dt.timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Iterator[JumpClock]:
    clock = JumpClock()
    yield clock
    assert clock.next_alarm_at() is None


def test_alarms_ring_in_order_once_and_not_before_their_time(clock: JumpClock) -> None:
    rung: list[str] = []
    clock.call_later(2, lambda: rung.append("second"))
    clock.call_later(1, lambda: rung.append("first"))
    clock.call_later(2, lambda: rung.append("third"))
    clock.advance(1.999999)
    assert rung == ["first"]
    clock.advance(0.000001)
    clock.advance(10)
    assert rung == ["first", "second", "third"]


def test_the_next_alarm_is_one_that_still_waits(clock: JumpClock) -> None:
    assert clock.next_alarm_at() is None
    gone = clock.call_later(1, lambda: None)
    clock.call_later(3, lambda: None)
    gone.cancel()
    assert clock.next_alarm_at() == after(3)
    clock.advance_to(after(3))


def test_time_does_not_go_back(clock: JumpClock) -> None:
    clock.advance(5)
    clock.advance_to(after(2))
    assert clock.now() == after(5)
    assert clock.monotonic_s() == 5


def test_who_sleeps_until_an_instant_is_woken_at_it() -> None:
    clock = JumpClock(dt.datetime(2031, 3, 7, 11, 13, 17, 123457, tzinfo=dt.UTC))
    rung: list[dt.datetime] = []
    until = clock.now() + dt.timedelta(days=400, microseconds=7)
    clock.call_later((until - clock.now()).total_seconds(), lambda: rung.append(clock.now()))
    at = clock.next_alarm_at()
    assert at is not None
    clock.advance_to(at)
    assert rung == [until]


async def test_a_sleep_that_is_cancelled_is_forgotten(clock: JumpClock) -> None:
    async with asyncio.TaskGroup() as group:
        sleeper = group.create_task(clock.sleep(5))
        await asyncio.sleep(0)
        assert clock.next_alarm_at() == after(5)
        sleeper.cancel()
        clock.advance(5)


async def test_a_timeout_ends_what_it_bounds(clock: JumpClock) -> None:
    ended_at: list[dt.datetime] = []

    async def wait() -> None:
        with contextlib.suppress(TimeoutError):
            async with clock.timeout(3):
                await asyncio.Event().wait()
        ended_at.append(clock.now())

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        waiter = group.create_task(wait())
        await asyncio.sleep(0)
        clock.advance(3)
        await waiter
        clock.advance(1)
    assert ended_at == [after(3)]


async def test_a_timeout_that_is_not_reached_leaves_nothing(clock: JumpClock) -> None:
    async with clock.timeout(3):
        pass
    assert clock.next_alarm_at() is None


def test_the_clock_of_a_server_is_stepped_while_it_runs(tmp_path: Path) -> None:
    path = tmp_path / "clock"
    path.write_bytes(bytes(8))
    clock, system = SteppedClock(path), SystemClock()
    before = clock.monotonic_s()
    assert abs(clock.now() - system.now()) < dt.timedelta(minutes=1)
    for hours in (3, -3):
        step_us = hours * 3_600_000_000
        with path.open("r+b") as file:
            file.write(step_us.to_bytes(8, "little", signed=True))
        off = clock.now() - system.now()
        assert abs(off - dt.timedelta(hours=hours)) < dt.timedelta(minutes=1)
    assert 0 <= clock.monotonic_s() - before < 60
