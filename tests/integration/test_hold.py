"""Hold and release over the wire."""

import pytest

from jobservice import Client
from jobservice.errors import InvalidTransition
from jobservice.model.lifecycle import Reason, State
from tests.integration.bare import running


def test_a_held_job_starts_only_when_it_is_released(local: Client) -> None:
    gates = [running(local, local.create(["sleep", "600"])) for _ in range(4)]
    job = local.create(["true"])
    held = local.hold(job)
    assert (held.state, held.reason, held.message) == (State.HELD, Reason.USER, "held on request")
    assert local.hold(job) == held
    assert local.status(job).waiting_reason
    behind = local.create(["true"])
    for gate in gates:
        local.cancel(gate, wait=True)
    assert local.wait(behind).state is State.SUCCEEDED
    assert local.get(job).state is State.HELD
    assert local.release(job).state in {State.QUEUED, State.RUNNING}
    assert local.wait(job).state is State.SUCCEEDED


def test_what_cannot_be_held_or_released(local: Client) -> None:
    gate = running(local, local.create(["sleep", "600"]))
    with pytest.raises(InvalidTransition, match="is RUNNING; only a job that waits can be held"):
        local.hold(gate)
    assert local.release(gate).state is State.RUNNING
    done = local.wait(local.create(["true"]))
    with pytest.raises(InvalidTransition, match="is SUCCEEDED; only a job that waits can be held"):
        local.hold(done)
    with pytest.raises(InvalidTransition, match="is SUCCEEDED; retry it"):
        local.release(done)
    assert local.cancel(gate, wait=True).state is State.CANCELLED


def test_a_held_job_can_be_cancelled_and_deleted(local: Client) -> None:
    first, second = local.create_many([["sleep", "600"]] * 2, priority=-100, queue="later")
    gates = local.create_many([["sleep", "600"]] * 4)
    for job in (first, second):
        if local.get(job).state is State.QUEUED:
            local.hold(job)
    assert local.cancel(first, wait=True).state is State.CANCELLED
    local.delete(second)
    for gate in gates:
        local.cancel(gate, wait=True)


def test_a_hold_ends_the_place_that_a_job_was_moved_to(parked: Client) -> None:
    first, moved = parked.create(["true"]), parked.create(["true"])
    parked.move(moved, top=True)
    assert parked.status(moved).queue_position == 0
    parked.hold(moved)
    parked.release(moved)
    assert [parked.status(each).queue_position for each in (first, moved)] == [0, 1]
