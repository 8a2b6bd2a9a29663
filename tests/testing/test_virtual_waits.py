"""Waits in virtual time: in the queue under a full load, for a far start, of one index for another."""

import datetime as dt

import pytest

from jobservice.executors.port import StartOrder
from jobservice.model.event import EventKind
from jobservice.model.lifecycle import State
from jobservice.testing.behaviour import Behaviour
from jobservice.testing.virtual import VirtualService

MINUTE, HOUR, DAY = dt.timedelta(minutes=1), dt.timedelta(hours=1), dt.timedelta(days=1)


@pytest.mark.parametrize(
    ("priority", "others", "bound"),
    [("low", "high", HOUR), ("low", "medium", HOUR / 2), ("medium", "high", HOUR / 2)],
)
def test_a_full_load_of_a_higher_priority_is_waited_for_so_long(
    priority: str, others: str, bound: dt.timedelta
) -> None:
    with VirtualService(Behaviour(after=10 * MINUTE), slots=1) as service:
        service.client.schedules.create(
            "load", ["load"], every=10 * MINUTE, overlap="allow", job={"priority": others}
        )
        for _ in range(2):  # so that one of them waits whenever the slot is free
            service.client.create(["load"], priority=others)
        service.advance(HOUR)
        job = service.client.create(["job"], priority=priority)
        service.advance(bound)
        assert service.client.get(job).state is State.QUEUED
        found = service.client.wait(job, timeout=DAY)
        assert found.started_at is not None
        # The jobs of the bound and those in the line before them, and no later one.
        assert found.started_at - found.created_at <= bound + 30 * MINUTE


def test_a_start_far_ahead_has_no_lease_before_and_one_attempt() -> None:
    with VirtualService() as service:
        job = service.client.create(["far"], start_delay=400 * DAY)
        service.advance(200 * DAY)
        service.restart(after=DAY)
        service.advance(198 * DAY)
        assert [event.kind for event in service.events(job)] == [EventKind.CREATED]
        found = service.client.wait(job, timeout=2 * DAY)
        assert (found.attempt_count, found.started_at) == (1, found.created_at + 400 * DAY)


def test_an_array_with_a_slow_index_and_one_that_always_fails() -> None:
    def script(order: StartOrder) -> Behaviour:
        index = order.env["JOBSERVICE_ARRAY_INDEX"]
        return Behaviour(exit_code=1 if index == "1" else 0, after=DAY if index == "0" else MINUTE)

    with VirtualService(script, slots=2) as service:
        array = service.client.create(["work"], array=50, retries=2)
        service.advance(2 * HOUR)
        counts = service.client.get(array).array_counts
        assert counts is not None
        assert (counts.succeeded, counts.failed, counts.active) == (48, 1, 1)
        done = service.client.wait(array, timeout=2 * DAY)
        assert (done.state, done.message) == (State.FAILED, "1 of 50 indices did not succeed: 1")
        failed = service.client.get(service.client.index(array, 1))
        assert len(failed.attempts) == 3
