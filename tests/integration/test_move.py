"""Move over the wire: the order in which queued jobs start."""

import pytest

from jobservice import Client
from jobservice.errors import InvalidRequest, InvalidTransition, NotFound
from jobservice.model.lifecycle import State
from tests.integration.bare import running


def test_jobs_start_in_the_order_they_were_moved_to(parked: Client) -> None:
    a, b, c, d = parked.create_many([["true"]] * 4)
    parked.move(d, top=True)
    parked.move(a, bottom=True)
    parked.move(c, before=b)
    places = {parked.status(each).queue_position: each.job_id for each in (a, b, c, d)}
    assert [places[n] for n in range(4)] == [each.job_id for each in (d, c, b, a)]
    parked.move(d, after=c)
    assert parked.status(d).queue_position == 1


def test_what_cannot_be_moved_says_why(local: Client, parked: Client) -> None:
    gate = running(local, local.create(["sleep", "600"]))
    with pytest.raises(
        InvalidTransition, match="is RUNNING; only a job that is QUEUED has a place"
    ):
        local.move(gate, top=True)
    local.cancel(gate, wait=True)
    one, other = parked.create(["true"]), parked.create(["true"], queue="other")
    with pytest.raises(InvalidRequest, match=r"before: .* of the same queue and fairness key"):
        parked.move(one, before=other)
    with pytest.raises(InvalidRequest, match="after: there is no job"):
        parked.move(one, after="j" + "0" * 26)
    with pytest.raises(NotFound):
        parked.move("j" + "0" * 26, top=True)
    with pytest.raises(InvalidRequest, match="exactly one of top, bottom, before and after"):
        parked.move(one, top=True, bottom=True)
    assert parked.get(one).state is State.QUEUED
