"""Arrays as the engine carries them out: at once, not at the next poll."""

import datetime as dt

import pytest

from jobservice.model.lifecycle import State
from jobservice.testing.behaviour import Behaviour
from jobservice.testing.virtual import VirtualService

MOMENT = dt.timedelta(milliseconds=100)
HOUR = dt.timedelta(hours=1)
ENDLESS = Behaviour(after=None)


@pytest.mark.parametrize("action", ["cancel", "delete"])
def test_arrays_among_many_jobs_end_at_once(action: str) -> None:
    with VirtualService(ENDLESS, slots=4) as service:
        array = service.client.create(["endless"], array=1_000)
        service.advance(MOMENT)
        service.client.bulk(action, f'job_id = "{array.job_id}"')
        service.advance(MOMENT)
        service.settle()
        left = [each.state for each in service.jobs() if each.job_id == array.job_id]
        assert left == ([State.CANCELLED] if action == "cancel" else [])


def test_an_array_of_a_schedule_makes_room_at_once() -> None:
    with VirtualService(ENDLESS, slots=2) as service:
        service.client.schedules.create(
            "s", ["endless"], every=HOUR, overlap="cancel_other", job={"array": 2}
        )
        service.advance(HOUR + MOMENT)
        first = [each for each in service.jobs() if each.array_counts is not None]
        assert [each.state for each in first] == [State.RUNNING]
        service.advance(HOUR)
        arrays = [each for each in service.jobs() if each.array_counts is not None]
        assert sorted(each.state for each in arrays) == [State.RUNNING, State.CANCELLED]
