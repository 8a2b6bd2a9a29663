"""docs/reference/{sdk,errors}.md say what the SDK is and what it raises."""

import inspect
import re

import pytest

from jobservice import Client
from jobservice.client.limits import Limits
from jobservice.client.queues import Queues
from jobservice.client.schedules import Schedules
from jobservice.client.values import JobEdits, JobFilters, JobOptions, QueueOptions, ScheduleOptions
from jobservice.client.workers import Workers
from jobservice.errors import JobServiceError
from jobservice.wire.status import error_classes
from tests.arch import tree

REFERENCE = tree.ROOT / "docs" / "reference"
SDK = (REFERENCE / "sdk.md").read_text()
ERRORS = (REFERENCE / "errors.md").read_text()


def rows(heading: str) -> dict[str, str]:
    """The first column of the first table below a heading, with the rest of each row."""
    below = SDK[SDK.index(heading) :]
    table = re.search(r"^\|---.*?\n\n", below, re.MULTILINE | re.DOTALL)
    assert table
    return dict(re.findall(r"^\| (`\w+`(?: ✎)?) \| (.*) \|$", table.group(), flags=re.MULTILINE))


def test_every_method_is_documented() -> None:
    assert sorted(rows("## Methods")) == methods_of(Client)
    assert sorted(rows("## Schedules")) == methods_of(Schedules)
    assert sorted(rows("## Queues")) == methods_of(Queues)
    assert sorted(rows("## Limits")) == methods_of(Limits)
    assert sorted(rows("## Workers")) == methods_of(Workers)


def methods_of(kind: type) -> list[str]:
    names = [name for name, _ in inspect.getmembers(kind, callable) if name[0] != "_"]
    return sorted(f"`{name}`" for name in names)


def test_every_option_of_a_schedule_is_documented() -> None:
    expected = [f"`{name}`" for name in ScheduleOptions.__annotations__]
    assert list(rows("| option of a schedule")) == expected


def test_every_rule_of_a_queue_is_documented() -> None:
    expected = [f"`{name}`" for name in QueueOptions.__annotations__]
    assert list(rows("| rule of a queue")) == expected


def test_every_argument_of_the_client_is_documented() -> None:
    parameters = [*inspect.signature(Client).parameters.values()]
    assert list(rows("# The Python SDK")) == [f"`{each.name}`" for each in parameters]
    shown = ", ".join(
        f"{each.name}={each.default}" if each.kind != each.KEYWORD_ONLY or i != 1
        else f"*, {each.name}={each.default}"
        for i, each in enumerate(parameters)
    )  # fmt: skip
    assert f"`Client({shown})`" in SDK


def test_every_option_of_a_job_is_documented_and_whether_it_may_change() -> None:
    expected = [
        f"`{name}` ✎" if name in JobEdits.__annotations__ else f"`{name}`"
        for name in JobOptions.__annotations__
    ]
    assert list(rows("## Options of a job")) == expected
    assert set(JobEdits.__annotations__) <= set(JobOptions.__annotations__)


def test_every_filter_is_named() -> None:
    sentence = SDK[SDK.index("Lists take the filters") :].split(";")[0]
    assert re.findall(r"`(\w+)`", sentence) == list(JobFilters.__annotations__)


@pytest.mark.parametrize("error", error_classes())
def test_an_error_is_documented_as_it_is(error: type[JobServiceError]) -> None:
    section = re.split(rf"^### {error.__name__}$", ERRORS, flags=re.MULTILINE)[1]
    assert f"| `{error.code}` | `{error.reason}` | {error.exit_code} |" in section.split("###")[0]


def test_no_other_error_is_documented() -> None:
    headings = re.findall(r"^### (\w+)$", ERRORS, flags=re.MULTILINE)
    assert set(headings) == {"JobServiceError", *(each.__name__ for each in error_classes())}
