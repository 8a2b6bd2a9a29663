"""Whatever is said of a job or a schedule is kept as it is."""

import dataclasses
import datetime as dt
import json

from hypothesis import given
from hypothesis import strategies as st

from jobservice.model.schedule import Misfire, MisfirePolicy, Overlap, ScheduleSpec
from jobservice.model.spec import JobSpec
from jobservice.model.when import Timing
from jobservice.store.spec_text import dump, load
from tests.wire import values

spans = st.timedeltas(min_value=dt.timedelta(0), max_value=dt.timedelta(days=400))
timings = st.builds(
    Timing,
    st.text(max_size=20),
    st.none() | spans,
    spans,
    st.none() | values.instants,
    st.text(max_size=20),
    st.none() | values.instants,
    st.none() | values.instants,
    spans,
)
misfires = st.builds(Misfire, st.sampled_from(MisfirePolicy), st.integers(1, 100), spans)
specs = st.builds(
    ScheduleSpec,
    values.specs,
    timings,
    st.text(max_size=50),
    misfires,
    st.sampled_from(Overlap),
    st.integers(0, 100),
)


@given(specs)
def test_a_schedule_comes_back_as_it_was(spec: ScheduleSpec) -> None:
    assert load(ScheduleSpec, dump(spec)) == spec


@given(values.specs)
def test_every_field_is_written_and_one_that_is_missing_has_its_default(spec: JobSpec) -> None:
    text = dump(spec)
    given = json.loads(text)
    assert list(given) == [field.name for field in dataclasses.fields(JobSpec)]
    del given["queue"]
    assert load(JobSpec, json.dumps(given, separators=(",", ":"))).queue == "default"
