"""What goes over the wire comes out of it as it went in, and defaults are filled in once."""

import dataclasses
import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobservice.model.event import Event
from jobservice.model.event import EventKind as ModelEventKind
from jobservice.model.graph import Condition, OnUnmet, Rule, Verdict
from jobservice.model.job import AttemptState, Job
from jobservice.model.lifecycle import ACTIVE, FINAL, Reason, State
from jobservice.model.limit import ConcurrencyKey, LimitKind, LimitUse, OnConflict
from jobservice.model.queue import Obstacle, OnFull, PauseMode, Queue, QueueStats
from jobservice.model.spec import Command, JobSpec, RetryPolicy
from jobservice.wire import convert, limits, messages, queues, times
from jobservice.wire._gen.v1 import job_pb2, job_service_pb2, limit_pb2, queue_pb2
from jobservice.wire.digest import request_digest
from jobservice.wire.pages import to_filter
from tests.wire import values

pb: Any = messages
VIEW = convert.View


@given(values.jobs())
def test_a_job_comes_back_as_it_was(job: Job) -> None:
    message = convert.job_message(job, VIEW.FULL)
    assert convert.to_job(pb.Job.FromString(message.SerializeToString())) == job
    assert convert.job_message(convert.to_job(message), VIEW.FULL) == message


@given(values.jobs())
def test_a_basic_view_leaves_out_what_is_large(job: Job) -> None:
    seen = convert.to_job(convert.job_message(job, VIEW.BASIC))
    command = dataclasses.replace(job.spec.command, env={}, stdin=b"")
    spec = dataclasses.replace(job.spec, command=command)
    assert seen == dataclasses.replace(job, spec=spec, attempts=())


@given(values.jobs())
def test_an_id_view_is_the_id_alone(job: Job) -> None:
    assert convert.job_message(job, VIEW.ID) == pb.Job(job_id=job.job_id)


@given(values.events())
def test_an_event_comes_back_as_it_was(event: Event) -> None:
    message = convert.event_message(event)
    assert convert.to_event(pb.JobEvent.FromString(message.SerializeToString())) == event


@given(values.jobs(), values.texts, st.none() | st.integers(0, 10_000))
def test_a_status_says_what_the_job_says(job: Job, waiting: str, position: int | None) -> None:
    status = convert.status_message(job, waiting_reason=waiting, queue_position=position)
    full = convert.job_message(job, VIEW.FULL)
    for field in status.DESCRIPTOR.fields:
        if field.name in {"waiting_reason", "queue_position", "attempt"}:
            continue
        assert getattr(status, field.name) == getattr(full, field.name), field.name
    assert status.waiting_reason == waiting
    assert (status.queue_position if status.HasField("queue_position") else None) == position
    assert status.HasField("attempt") == bool(job.attempts)


@given(values.queues)
def test_a_queue_comes_back_as_it_was(queue: Queue) -> None:
    message = queues.queue_message(queue)
    assert queues.to_queue(pb.Queue.FromString(message.SerializeToString()), "t") == queue


@given(values.stats)
def test_the_stats_of_a_queue_come_back_as_they_were(stats: QueueStats) -> None:
    message = queues.stats_message(stats)
    assert queues.to_stats(pb.QueueStats.FromString(message.SerializeToString())) == stats


@given(values.uses)
def test_a_limit_comes_back_with_its_use(use: LimitUse) -> None:
    message = limits.use_message(use)
    assert limits.to_use(pb.Limit.FromString(message.SerializeToString())) == use


@given(values.instants)
def test_an_instant_is_exact_to_the_microsecond(instant: dt.datetime) -> None:
    message = times.timestamp(instant)
    assert times.to_instant(message) == instant == message.ToDatetime(dt.UTC)


@given(st.timedeltas(dt.timedelta(days=-3650), dt.timedelta(days=3650)))
def test_a_length_of_time_is_exact_to_the_microsecond(length: dt.timedelta) -> None:
    message = times.duration(length)
    assert times.to_timedelta(message) == length == message.ToTimedelta()


def test_what_is_unset_has_the_default_of_the_model() -> None:
    assert convert.to_spec(pb.Job(command=pb.Command(argv=["true"]))) == JobSpec(Command(("true",)))


def test_a_key_alone_waits_and_weighs_one() -> None:
    job = pb.Job(command=pb.Command(argv=["true"]), concurrency_keys=[{"key": "db"}])
    assert convert.to_spec(job).concurrency_keys == (ConcurrencyKey("db", 0, 1, OnConflict.QUEUE),)


def test_an_empty_policy_is_the_default_policy() -> None:
    assert convert.to_retry(pb.RetryPolicy()) == RetryPolicy()


def test_zero_lengths_of_time_are_not_unset() -> None:
    job = pb.Job(command=pb.Command(argv=["true"]))
    job.stop_grace.SetInParent()
    job.retry_policy.initial_backoff.SetInParent()
    spec = convert.to_spec(job)
    assert spec.stop_grace == dt.timedelta(0)
    assert spec.retry.initial_backoff == dt.timedelta(0)


@pytest.mark.parametrize(
    ("ours", "theirs", "prefix"),
    [
        (State, job_pb2.JobState, "JOB_STATE_"),
        (Reason, job_pb2.JobReason, "JOB_REASON_"),
        (AttemptState, job_pb2.AttemptState, "ATTEMPT_STATE_"),
        (ModelEventKind, job_service_pb2.JobEventKind, "JOB_EVENT_KIND_"),
        (OnConflict, job_pb2.OnConflict, "ON_CONFLICT_"),
        (LimitKind, limit_pb2.LimitKind, "LIMIT_KIND_"),
        (OnFull, queue_pb2.OnFull, "ON_FULL_"),
        (PauseMode, queue_pb2.PauseMode, "PAUSE_MODE_"),
        (Obstacle, queue_pb2.QueueObstacle, "QUEUE_OBSTACLE_"),
        (convert.View, job_service_pb2.JobView, "JOB_VIEW_"),
        (Condition, job_pb2.DependencyCondition, "DEPENDENCY_CONDITION_"),
        (Rule, job_pb2.DependencyRule, "DEPENDENCY_RULE_"),
        (OnUnmet, job_pb2.UnmetAction, "UNMET_ACTION_"),
        (Verdict, job_pb2.DependencyVerdict, "DEPENDENCY_VERDICT_"),
    ],
)
def test_numbers_mean_the_same_on_both_sides(ours: Any, theirs: Any, prefix: str) -> None:
    mine = {each.name: each.value for each in ours if each.value}
    wire = {name.removeprefix(prefix): number for name, number in theirs.items() if number}
    assert mine == wire


# --- digests ----------------------------------------------------------------------------------


@given(st.lists(values.specs, max_size=3), st.lists(values.specs, max_size=3))
def test_equal_jobs_have_equal_digests(one: list[JobSpec], two: list[JobSpec]) -> None:
    equal = request_digest(one) == request_digest(two)
    assert equal == (one == two)


def test_the_order_of_labels_and_variables_does_not_matter() -> None:
    one = JobSpec(Command(("a",), env={"A": "1", "B": "2"}), labels={"a": "1", "b": "2"})
    two = JobSpec(Command(("a",), env={"B": "2", "A": "1"}), labels={"b": "2", "a": "1"})
    assert request_digest([one]) == request_digest([two])


def test_input_is_not_mistaken_for_the_next_job() -> None:
    one = [JobSpec(Command(("a",), stdin=b"x")), JobSpec(Command(("a",), stdin=b""))]
    two = [JobSpec(Command(("a",), stdin=b"")), JobSpec(Command(("a",), stdin=b"x"))]
    assert request_digest(one) != request_digest(two)


# --- requests ---------------------------------------------------------------------------------


def test_edits_hold_the_masked_fields_alone() -> None:
    request = pb.UpdateJobRequest(
        job=pb.Job(name="n", queue="", priority=7, timeout={"seconds": 5}),
        update_mask={"paths": ["name", "queue", "retry_policy", "timeout"]},
    )
    assert convert.to_edits(request) == {
        "name": "n",
        "queue": "default",
        "retry_policy": RetryPolicy(),
        "timeout": dt.timedelta(seconds=5),
    }


def test_a_masked_field_that_is_unset_goes_back_to_its_default() -> None:
    request = pb.UpdateJobRequest(job=pb.Job(), update_mask={"paths": ["timeout", "priority"]})
    assert convert.to_edits(request) == {"timeout": None, "priority": 0}


def test_a_star_at_the_end_of_a_name_is_any_rest() -> None:
    found = to_filter(pb.ListJobsRequest(name="night*"))
    assert (found.name, found.name_is_prefix) == ("night", True)
    found = to_filter(pb.ListJobsRequest(name="night"))
    assert (found.name, found.name_is_prefix) == ("night", False)


def test_states_are_spelled_out() -> None:
    assert to_filter(pb.ListJobsRequest()).states == frozenset(State)
    assert to_filter(pb.ListActiveJobsRequest()).states == ACTIVE
    assert to_filter(pb.GetJobHistoryRequest()).states == FINAL
    wanted = to_filter(pb.GetJobHistoryRequest(states=[job_pb2.JOB_STATE_FAILED]))
    assert wanted.states == {State.FAILED}


def test_history_is_narrowed_by_the_time_of_the_end() -> None:
    request = pb.GetJobHistoryRequest(ended_after={"seconds": 10}, labels={"a": "b"})
    found = to_filter(request)
    assert found.ended_from == dt.datetime(1970, 1, 1, 0, 0, 10, tzinfo=dt.UTC)
    assert found.ended_before is None
    assert found.labels == {"a": "b"}
