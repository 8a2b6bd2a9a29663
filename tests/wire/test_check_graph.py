"""Bad dependencies are refused with all that is wrong with them, circles by name."""

from typing import Any

import pytest
from google.protobuf.message import Message

from jobservice.wire import messages, validate
from jobservice.wire.remedies import REMEDIES

pb: Any = messages
ID = "j" + "0" * 26


def create(**fields: Any) -> Message:
    made: Message = pb.CreateJobRequest(job=pb.Job(command=pb.Command(argv=["true"]), **fields))
    return made


def batch(*parents: list[int]) -> Message:
    """Jobs that depend on others of the same batch."""
    made: Message = pb.BatchCreateJobsRequest(
        requests=[create(dependencies=[{"request_index": n} for n in each]) for each in parents]
    )
    return made


def found(request: Message) -> list[tuple[str, str]]:
    return [(each.field, each.message) for each in validate.violations(request)]


@pytest.mark.parametrize(
    "request_",
    [
        create(
            dependencies=[{"job_id": ID}, {"job_id": ID, "condition": 2, "delay": {"seconds": 1}}],
            dependency_policy={"rule": 3, "at_least": 2, "on_unmet": 3},
        ),
        create(dependencies=[{"job_id": f"j{n:026}"} for n in range(1000)]),
        batch([1], []),
        batch([1, 2], [2], []),
        batch(*[[n + 1] for n in range(999)], []),
    ],
)
def test_what_is_good_passes(request_: Message) -> None:
    assert found(request_) == []


def test_every_violation_is_named() -> None:
    request = create(
        dependencies=[
            {},
            {"job_id": "x", "condition": 9},
            {"job_id": ID, "delay": {"seconds": -1}},
            {"job_id": ID, "condition": 1},
            {"request_index": 0},
        ],
        dependency_policy={"rule": 9, "at_least": -1, "on_unmet": 9},
    )
    at_least = REMEDIES["DependencyPolicy.at_least"]
    repeated = "must not be there twice under one condition; dependencies[2] is the same"
    assert sorted(found(request)) == sorted(
        [
            ("job.dependencies[0].parent", REMEDIES["Dependency.parent"]),
            ("job.dependencies[1].job_id", 'must be a job id: `j` and 26 of `0-9 a-v`; got "x"'),
            ("job.dependencies[1].condition", f"{REMEDIES['Dependency.condition']}; got 9"),
            ("job.dependencies[2].delay", "must be from 0 s to 365 days; got -1 s"),
            ("job.dependencies[3].job_id", repeated),
            ("job.dependencies[4].request_index", "must be a `job_id` outside of a batch"),
            ("job.dependency_policy.rule", f"{REMEDIES['DependencyPolicy.rule']}; got 9"),
            ("job.dependency_policy.at_least", f"{at_least}; got -1"),
            (
                "job.dependency_policy.at_least",
                "must be left out unless the rule is AT_LEAST; got -1",
            ),
            ("job.dependency_policy.on_unmet", f"{REMEDIES['DependencyPolicy.on_unmet']}; got 9"),
        ]
    )


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (
            create(dependencies=[{"job_id": ID}], dependency_policy={"rule": 3, "at_least": 2}),
            (
                "job.dependency_policy.at_least",
                "must be from 1 to the number of dependencies, 1; got 2",
            ),
        ),
        (
            create(dependency_policy={}),
            ("job.dependency_policy", "must be left out where there are no dependencies"),
        ),
        (
            create(dependencies=[{"job_id": f"j{n:026}"} for n in range(1001)]),
            ("job.dependencies", "must be at most 1,000 dependencies; got 1,001"),
        ),
        (
            pb.BatchCreateJobsRequest(
                requests=[create(dependencies=[{"job_id": f"j{n:026}"} for n in range(1000)])] * 11
            ),
            ("requests", "must have at most 10,000 dependencies together; got 11,000"),
        ),
        (
            batch([1], [2], [1]),
            (
                "requests[2].job.dependencies[0].request_index",
                "must not close a circle: requests[2] waits for requests[1] waits for requests[2]",
            ),
        ),
        (
            batch([0]),
            (
                "requests[0].job.dependencies[0].request_index",
                "must not close a circle: requests[0] waits for requests[0]",
            ),
        ),
        (
            batch([5], []),
            (
                "requests[0].job.dependencies[0].request_index",
                "must be a place in the batch, from 0 to 1; got 5",
            ),
        ),
    ],
)
def test_what_is_wrong_is_said(request_: Message, expected: tuple[str, str]) -> None:
    assert found(request_) == [expected]


def test_a_large_circle_is_named_in_a_line() -> None:
    [(field, message)] = found(batch(*[[(n + 1) % 1000] for n in range(1000)]))
    assert field == "requests[999].job.dependencies[0].request_index"
    assert message.endswith("… 1000 jobs in all … waits for requests[999]")
    assert len(message) < 300


def test_a_few_circles_of_many_are_named() -> None:
    assert len(found(batch(*[[n] for n in range(100)]))) == 10


def test_the_jobs_of_a_schedule_wait_for_nobody() -> None:
    job = create(dependencies=[{"job_id": ID}])
    request = pb.CreateScheduleRequest(schedule={"job": job.job})  # type: ignore[attr-defined]
    text = "must be left out of a schedule, whose jobs wait for nobody"
    assert ("schedule.job.dependencies", text) in found(request)
