"""Workers, leases and what is told of them come out of the wire as they went in."""

import datetime as dt

from hypothesis import given
from hypothesis import strategies as st

from jobservice.model.attempt import Cause, Fence, Outcome
from jobservice.model.job import AttemptState, Progress
from jobservice.model.lease import (
    AttemptEnd,
    AttemptStart,
    Claim,
    LeaseAnswer,
    LiveAttempt,
    ProgressReport,
)
from jobservice.model.lifecycle import State
from jobservice.model.worker import Drain, Resources, Worker, WorkerInfo, WorkerState
from jobservice.wire import workers
from tests.wire.values import commands, counts, instants, lengths, percents, sizes, texts

numbers = st.integers(1, 2**31 - 1)
fences = st.builds(Fence, texts, texts, numbers, numbers)
resources = st.builds(Resources, sizes, sizes, st.dictionaries(texts, numbers, max_size=3))
infos = st.builds(
    WorkerInfo,
    texts,
    texts,
    texts,
    counts,
    st.dictionaries(texts, texts, max_size=3),
    resources,
    st.booleans(),
)
drains = st.none() | st.builds(Drain, instants, texts)
known = st.builds(
    Worker, infos, instants, instants, drains, counts, st.sampled_from(list(WorkerState))
)
spans = st.none() | lengths(86_400)
claims = st.builds(Claim, fences, commands, spans, lengths(3600), sizes, spans)
cpu_s = st.integers(0, 10**12).map(lambda us: dt.timedelta(microseconds=us).total_seconds())
outcomes = st.builds(
    Outcome,
    st.sampled_from(list(Cause)),
    instants,
    st.none() | instants,
    st.none() | st.integers(0, 255),
    st.none() | st.integers(1, 64),
    texts,
    cpu_s,
    sizes,
    sizes,
    sizes,
    sizes,
)
lives = st.builds(
    LiveAttempt,
    fences,
    st.just("w"),
    st.sampled_from([AttemptState.STARTING, AttemptState.RUNNING]),
    st.sampled_from([State.RUNNING, State.STOPPING]),
    st.none() | instants,
    st.booleans(),
)


@given(known)
def test_a_worker(worker: Worker) -> None:
    assert workers.to_worker(workers.worker_message(worker)) == worker
    assert workers.to_info(workers.info_message(worker.info)) == worker.info


@given(claims)
def test_a_lease(claim: Claim) -> None:
    assert workers.to_claim(workers.lease_message(claim)) == claim


@given(st.builds(AttemptStart, fences, instants))
def test_a_start(start: AttemptStart) -> None:
    assert workers.to_start(workers.start_message(start)) == start


@given(
    st.builds(
        ProgressReport,
        fences,
        st.builds(Progress, percents, texts, st.none() | instants, instants),
    )
)
def test_progress(report: ProgressReport) -> None:
    assert workers.to_progress(workers.progress_message(report)) == report


@given(st.builds(AttemptEnd, fences, outcomes))
def test_an_end(end: AttemptEnd) -> None:
    assert workers.to_end(workers.end_message(end)) == end


@given(lives)
def test_a_live_attempt(live: LiveAttempt) -> None:
    assert workers.to_live(workers.live_message(live), "w") == live


def test_an_answer_that_is_newer_than_this_version_is_one_to_stop() -> None:
    for answer in LeaseAnswer:
        assert workers.to_answer(workers.answer_number(answer)) is answer
    assert workers.to_answer(99) is LeaseAnswer.STOP
