"""Schedules between the wire and the model: nothing is lost on the way."""

import dataclasses
import datetime as dt

from hypothesis import given
from hypothesis import strategies as st

from jobservice.model.schedule import (
    Backfill,
    BackfillState,
    Cause,
    Misfire,
    MisfirePolicy,
    Outcome,
    Overlap,
    Pause,
    Preview,
    Run,
    Schedule,
    ScheduleSpec,
    Upcoming,
)
from jobservice.model.spec import DependencyPolicy
from jobservice.model.when import Timing
from jobservice.wire import messages as pb
from jobservice.wire import schedules
from jobservice.wire.validate import violations
from tests.wire.values import counts, instants, specs, texts

SECOND = dt.timedelta(seconds=1)
maybe = st.none() | instants
spans = st.timedeltas(min_value=dt.timedelta(0), max_value=dt.timedelta(days=366))
timings = st.builds(
    Timing, texts, st.none() | spans, spans, maybe, texts.filter(bool), maybe, maybe, spans
)
misfires = st.builds(
    Misfire,
    st.sampled_from(MisfirePolicy),
    st.integers(1, 100),
    st.timedeltas(min_value=SECOND, max_value=31 * dt.timedelta(days=1)),
)
backfills = st.builds(
    Backfill,
    instants,
    instants,
    counts,
    counts,
    instants,
    st.just(dt.datetime(1970, 1, 1, tzinfo=dt.UTC)),
    st.sampled_from(BackfillState),
    counts,
    counts,
    maybe,
)
templates = specs.map(
    lambda spec: dataclasses.replace(spec, dependencies=(), dependency_policy=DependencyPolicy())
)
"""A schedule's jobs depend on no other."""
asked = st.builds(
    ScheduleSpec, templates, timings, texts, misfires, st.sampled_from(Overlap), st.integers(0, 100)
)
made = st.builds(
    Schedule,
    tenant=texts,
    schedule_id=texts,
    spec=asked,
    created_at=instants,
    updated_at=instants,
    decided_at=instants,
    edit_version=counts,
    next_at=maybe,
    pause=st.none() | st.builds(Pause, texts, instants, maybe),
    buffered_count=counts,
    backfill=st.none() | backfills,
)
runs = st.builds(
    Run,
    instants,
    st.sampled_from(Cause),
    st.sampled_from(Outcome),
    instants,
    texts,
    texts,
    counts,
    maybe,
)


@given(made)
def test_a_schedule_comes_back_as_it_was(schedule: Schedule) -> None:
    assert schedules.to_schedule(schedules.schedule_message(schedule)) == schedule


@given(runs)
def test_a_run_comes_back_as_it_was(run: Run) -> None:
    assert schedules.to_run(schedules.run_message(run)) == run


@given(st.lists(st.builds(Upcoming, instants, instants, texts, texts)), texts)
def test_a_preview_comes_back_as_it_was(fires: list[Upcoming], words: str) -> None:
    preview = Preview(words, tuple(fires))
    assert schedules.to_preview(schedules.preview_message(preview)) == preview


def test_a_timing_is_checked_beside_what_breaks_a_rule_of_it() -> None:
    timing = pb.ScheduleTiming(cron="61 25 * * *", time_zone="Mars/X", jitter={"seconds": -1})  # type: ignore[arg-type]
    found = {each.field for each in violations(pb.PreviewScheduleRequest(timing=timing))}
    assert found == {"timing.cron", "timing.time_zone", "timing.jitter"}
    late = pb.ScheduleTiming(every={"seconds": -1}, jitter={"seconds": -1})  # type: ignore[arg-type]
    found = {each.field for each in violations(pb.PreviewScheduleRequest(timing=late))}
    assert found == {"timing.every", "timing.jitter"}
