"""Filters: what is read, what it means, and what is said of a text that is none."""

import dataclasses
import datetime as dt

import pytest
from hypothesis import given

from jobservice.clock import EPOCH
from jobservice.model.filter import (
    DEEPEST,
    FIELDS,
    MOST_TERMS,
    FilterInvalid,
    matches,
    parse,
    states_of,
)
from jobservice.model.job import Job
from jobservice.model.lifecycle import Reason, State
from jobservice.model.spec import Command, JobSpec
from jobservice.store.filters import COLUMNS
from tests.model.filters import FILTERS

CREATED = EPOCH + dt.timedelta(days=20_000)
JOB = Job(
    tenant="default",
    job_id="j" + "0" * 26,
    spec=JobSpec(
        Command(("true",)),
        name="nightly build",
        labels={"team": "core-4", "a.b/c": "", "when": "10:30"},
        queue="builds",
        priority=50,
    ),
    state=State.FAILED,
    created_at=CREATED,
    updated_at=CREATED,
    edit_version=1,
    revision=9,
    reason=Reason.EXIT_CODE,
    attempt_count=3,
    failure_count=2,
    exit_code=7,
    started_at=CREATED + dt.timedelta(seconds=1),
)

TRUE = [
    "*",
    "state = FAILED",
    "state:JOB_STATE_FAILED",
    "  state=FAILED  ",
    "state != QUEUED",
    "NOT state = QUEUED",
    "-state = QUEUED",
    "NOT NOT state = FAILED",
    "(((state = FAILED)))",
    "state = FAILED AND queue = builds",
    "state = QUEUED OR state = RUNNING OR state = FAILED",
    "state = FAILED AND (queue = x OR queue = builds) AND NOT (exit_code = 0)",
    'name = "nightly build"',
    "name = 'nightly build'",
    "name = nightly*",
    'name = "nightly b*"',
    "name:*",
    "name > nightly",
    r'NOT name = "nightly\*"',
    "labels.team = core-4",
    "labels.team = core*",
    "labels.team:core-4",
    "labels.team:*",
    "labels:team",
    'labels:"a.b/c"',
    "labels.a.b/c:*",
    'labels.a.b/c = ""',
    "labels.when = 10:30",
    "NOT labels:nobody",
    "labels.nobody != x",
    "NOT labels.nobody < x",
    "priority = high AND priority > 0 AND priority <= 50 AND priority != -5",
    "reason = EXIT_CODE AND reason:*",
    "attempt_count = 3 AND failure_count < 3 AND exit_code >= 7",
    "create_time = 2024-10-04T00:00:00Z",
    "create_time < 2024-10-04T02:00:00.000001+02:00",
    "start_time > 2024-10-04T00:00:00.5Z",
    "start_time = 2024-10-04T00:00:01.0000009z",
    "NOT end_time:*",
    "NOT end_time > 1970-01-01T00:00:00Z",
    "end_time != 1970-01-01T00:00:00Z",
    "job_id = j0*",
]


@pytest.mark.parametrize("text", TRUE)
def test_what_holds_of_a_job(text: str) -> None:
    assert matches(parse(text), JOB)
    assert not matches(parse(f"NOT ({text})" if text != "*" else "name = x"), JOB)


FIELD_LIST = (
    "job_id, name, queue, job_type, state, reason, labels.KEY, priority, attempt_count, "
    "failure_count, exit_code, schedule, array_job_id, array_index, create_time, start_time, end_time"
)
WRONG = {
    "": (1, "the end, where a field, NOT or `(` may stand"),
    "   ": (4, "the end, where a field, NOT or `(` may stand"),
    "stat = FAILED": (1, f"`stat` is no field; the fields are {FIELD_LIST}"),
    "state.x = FAILED": (1, f"`state.x` is no field; the fields are {FIELD_LIST}"),
    "state": (6, "the end behind `state`, where one of = != < <= > >= : may stand"),
    "state FAILED": (7, "`FAILED` behind `state`, where one of = != < <= > >= : may stand"),
    "state =": (8, "the end, where a value may stand"),
    "state = AND": (9, "`AND`, where a value may stand; put it in quotes if it is one"),
    "state = (FAILED)": (9, "`(`, where a value may stand"),
    "state == FAILED": (8, "`=`, where a value may stand"),
    "state = failed": (
        9,
        "`failed`, where one of BLOCKED, SCHEDULED, HELD, QUEUED, RUNNING, STOPPING, SUCCEEDED, ",
    ),
    "state > QUEUED": (9, "`state` is compared by = != or : only, not by >"),
    "state = F*": (9, "`F*`, where one of BLOCKED, SCHEDULED, HELD"),
    "state = FAILED queue = x": (16, "`queue`, where AND, OR or the end may stand"),
    "queue = a AND queue = b OR queue = c": (
        25,
        "`OR` beside `AND`: put parentheses around what belongs together",
    ),
    "queue = a AND": (14, "the end, where a field, NOT or `(` may stand"),
    "AND queue = a": (1, "`AND`, where a field, NOT or `(` may stand"),
    "(queue = a": (11, "the end, where AND, OR or `)` may stand"),
    "queue = a)": (10, "`)`, where AND, OR or the end may stand"),
    "queue = a and queue = b": (11, "`and`, where AND, OR or the end may stand"),
    '"x" = queue': (1, '`"`, where a field, NOT or `(` may stand'),
    'queue = "a': (9, 'a text without its closing "'),
    r'queue = "\n"': (10, "a `\\` that stands before none of"),
    "queue = a*b": (9, "a `*` stands only behind the beginning of a text"),
    "queue = *": (
        9,
        "a `*` stands only behind the beginning of a text; queue:* is whether there is one",
    ),
    "queue < a*": (9, "a text with a `*` is compared by = != or : only, not by <"),
    "queue = a\0": (10, "a NUL character, which no job has"),
    "labels = x": (1, "`labels` needs a key: labels.KEY = VALUE, or labels:KEY for any value"),
    "labels:*": (1, "`labels` needs a key"),
    "labels.Team = x": (1, "`Team` is no key of a label; a key is 1 to 63 of a-z 0-9 . _ / -"),
    "labels:9": (8, "`9` is no key of a label"),
    "priority = urgent": (12, "`urgent`, where a whole number, or high, medium or low may stand"),
    "priority = 1.5": (12, "`1.5`, where a whole number, or high"),
    "exit_code = 99999999999": (13, "where a whole number from -2,147,483,648 to 2,147,483,647"),
    "exit_code = 2147483648": (13, "`2147483648`, where a whole number"),
    "exit_code = ٣": (13, "`٣`, where a whole number"),
    "exit_code = 1*": (13, "`1*`, where a whole number"),
    "create_time > yesterday": (
        15,
        "`yesterday`, where an instant from 1970 on with its zone, such as",
    ),
    "create_time > 2026-11-25": (15, "`2026-11-25`, where an instant"),
    "create_time > 2026-11-25T08:00:00": (15, "`2026-11-25T08:00:00`, where an instant"),
    "create_time > 2026-02-30T08:00:00Z": (15, "`2026-02-30T08:00:00Z`, where an instant"),
    "create_time > 1969-12-31T23:59:59Z": (15, "`1969-12-31T23:59:59Z`, where an instant"),
    "create_time > 9999-12-31T23:59:59-23:00": (
        15,
        "`9999-12-31T23:59:59-23:00`, where an instant",
    ),
    "name:run(x)": (9, "`(`, where AND, OR or the end may stand"),
    "nightly": (8, "the end behind `nightly`, where one of = != < <= > >= : may stand"),
    "(" * 20 + "queue = a": (DEEPEST + 2, "parentheses and NOT nested deeper than 16"),
    "NOT " * 20 + "queue = a": (69, "parentheses and NOT nested deeper than 16"),
    " OR ".join(["queue = a"] * (MOST_TERMS + 1)): (833, "more than 64 restrictions"),
    "queue = " + "a" * 2_000: (2_001, "must be at most 2,000 characters; has 2,008"),
    "x" * 100 + " = 1": (1, f"`{'x' * 40}…` is no field"),
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_said_of_a_text_that_is_no_filter(text: str) -> None:
    position, said = WRONG[text]
    with pytest.raises(FilterInvalid) as caught:
        parse(text)
    [problem] = caught.value.problems
    assert problem.position == position, problem
    assert said in problem.text


def test_every_wrong_word_is_told_at_once() -> None:
    with pytest.raises(FilterInvalid) as caught:
        parse("stat = X AND (priority = urgent OR labels.A = b) AND state = nothing AND (")
    assert [each.position for each in caught.value.problems] == [1, 26, 36, 62, 75]


def test_the_fields_are_listed_once() -> None:
    with pytest.raises(FilterInvalid) as caught:
        parse("stat = X AND nam = y OR x = z")
    told = [each.text for each in caught.value.problems]
    assert told[:2] == [f"`stat` is no field; the fields are {FIELD_LIST}", "`nam` is no field"]


def test_a_field_is_a_line_here_and_one_of_the_stores() -> None:
    assert {name for name, field in FIELDS.items() if not field.is_map} == set(COLUMNS)


@given(FILTERS)
def test_a_filter_is_read_as_it_is_written(filter_: object) -> None:
    assert str(parse(str(filter_))) == str(filter_)


@given(FILTERS)
def test_a_filter_holds_only_in_the_states_that_are_told_of_it(filter_: object) -> None:
    text = str(filter_)
    for state in State:
        job = dataclasses.replace(JOB, state=state)
        if matches(parse(text), job):
            assert state in states_of(parse(text))


def test_the_states_that_a_list_looks_at() -> None:
    def names(text: str) -> set[str]:
        return {state.name for state in states_of(parse(text))}

    assert names("state = FAILED") == {"FAILED"}
    assert names("state = FAILED AND state = QUEUED") == set()
    assert names("(state = FAILED OR state = QUEUED) AND queue = x") == {"FAILED", "QUEUED"}
    assert names("NOT (NOT state = FAILED OR queue = x)") == {"FAILED"}
    assert len(names("state = FAILED OR queue = x")) == len(State)
    assert len(names("state != FAILED")) == len(State) - 1
