"""The book of a worker: what it may start, and what it has to end."""

import datetime as dt

from jobservice.executors.port import Ended
from jobservice.model.attempt import Cause, Fence, Outcome
from jobservice.model.lease import Claim
from jobservice.model.spec import Command
from jobservice.worker.book import Book

NOW = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
FIRST, SECOND = Fence("default", "j1", 1, 1), Fence("default", "j1", 2, 2)
OTHER = Fence("default", "j2", 1, 1)


def claim_of(fence: Fence) -> Claim:
    return Claim(fence, Command(("true",)), None, dt.timedelta(seconds=10), 1 << 20)


def test_a_new_attempt_waits_until_the_one_that_runs_here_has_ended() -> None:
    book = Book()
    book.adopt(FIRST, NOW)
    book.adopt(OTHER, NOW)
    assert book.take([claim_of(SECOND)], NOW) == [FIRST]
    assert book.stop([FIRST], NOW) == [FIRST]
    assert book.send(5) == []
    book.hear([Ended(FIRST, Outcome(Cause.STOP, NOW))])
    assert [each.fence for each in book.send(5)] == [SECOND]


def test_a_claim_of_another_job_starts_at_once() -> None:
    book = Book()
    book.adopt(FIRST, NOW)
    assert book.take([claim_of(OTHER)], NOW) == []
    assert [each.fence for each in book.send(5)] == [OTHER]
