"""Delays of dependencies in virtual time: a start that is brought forward is kept to the instant."""

import datetime as dt
from collections.abc import Callable

import pytest

from jobservice import Condition, Dependency
from jobservice.model.event import EventKind
from jobservice.model.job import Job
from jobservice.model.lifecycle import State
from jobservice.model.unique import OnDuplicate, UniqueKey
from jobservice.testing.behaviour import Behaviour
from jobservice.testing.virtual import VirtualService

SECOND, MINUTE, DAY = dt.timedelta(seconds=1), dt.timedelta(minutes=1), dt.timedelta(days=1)
FIVE = 5 * MINUTE
SCRIPT = {
    "test": Behaviour(exit_code=1, after=MINUTE),
    "package": Behaviour(exit_code=1, after=2 * MINUTE),
    "gate": Behaviour(after=None),
}


def alarm(service: VirtualService, first: Job, second: Job, delay: dt.timedelta) -> Job:
    """Five minutes behind the one, or so long behind the other."""
    after = [
        Dependency(first.job_id, Condition.FINISHED, FIVE),
        Dependency(second.job_id, Condition.FINISHED, delay),
    ]
    return service.client.create(["alarm"], after=after, after_rule="any")


@pytest.mark.parametrize("delay", [dt.timedelta(), 30 * SECOND])
def test_the_end_of_another_is_followed_at_its_instant(delay: dt.timedelta) -> None:
    with VirtualService(SCRIPT) as service:
        tested, built = (service.client.create([name]) for name in ("test", "package"))
        job = alarm(service, tested, built, delay)
        ends = [service.client.wait(each).ended_at for each in (tested, built)]
        assert ends == [job.created_at + MINUTE, job.created_at + 2 * MINUTE]
        found = service.client.wait(job, timeout=DAY)
        assert found.started_at == job.created_at + 2 * MINUTE + delay
        starts = [event.start_at for event in service.events(job) if event.start_at]
        assert starts == [each + wait for each, wait in zip(ends, (FIVE, delay), strict=True)
                          if each and wait]  # fmt: skip


def cancel(service: VirtualService, gate: Job) -> None:
    service.client.cancel(gate)


def bulk_cancel(service: VirtualService, _: Job) -> None:
    service.client.bulk("cancel", "name = gate")


def replace(service: VirtualService, _: Job) -> None:
    key = UniqueKey("gate", on_duplicate=OnDuplicate.REPLACE)
    service.client.create(["true"], unique=key)


@pytest.mark.parametrize("end", [cancel, bulk_cancel, replace])
@pytest.mark.parametrize("delay", [dt.timedelta(), 30 * SECOND])
def test_whoever_ends_it_the_start_is_kept(
    end: Callable[[VirtualService, Job], None], delay: dt.timedelta
) -> None:
    """Nothing looks for what is due before the first start, unless it is told to."""
    with VirtualService(SCRIPT) as service:
        gate = service.client.create(["true"], name="gate", unique="gate", start_delay=DAY)
        done = service.client.wait(service.client.create(["test"]))
        job = alarm(service, done, gate, delay)
        assert service.client.get(job).state is State.SCHEDULED
        service.advance(MINUTE)
        end(service, gate)
        now = service.now
        found = service.client.wait(job, timeout=DAY)
        assert found.started_at == now + delay
        assert EventKind.DUE in {event.kind for event in service.events(job)}
