"""What rules cannot say of dependencies: numbers that must agree, places in a batch, circles."""

from collections.abc import Iterator, Sequence

from jobservice.errors import Violation
from jobservice.model.graph import Condition, cycles
from jobservice.wire._gen.v1 import job_pb2

BATCH_DEPENDENCIES = 10_000
"""Of all jobs of a batch together."""
SHOWN_CYCLES = 10
_SHOWN_PLACES = 8


def check_dependencies(job: job_pb2.Job, path: str) -> list[Violation]:
    """What is wrong with the dependencies of one job."""
    return [*_check_policy(job, path), *_check_repeats(job, path)]


def _check_policy(job: job_pb2.Job, path: str) -> Iterator[Violation]:
    if not job.HasField("dependency_policy"):
        return
    if not job.dependencies:
        text = "must be left out where there are no dependencies"
        yield Violation(f"{path}.dependency_policy", text, "NO_DEPENDENCIES")
        return
    at_least, total = job.dependency_policy.at_least, len(job.dependencies)
    if job.dependency_policy.rule == job_pb2.DEPENDENCY_RULE_AT_LEAST:
        if not 1 <= at_least <= total:
            text = f"must be from 1 to the number of dependencies, {total}; got {at_least}"
            yield Violation(f"{path}.dependency_policy.at_least", text, "OUT_OF_RANGE")
    elif at_least:
        text = f"must be left out unless the rule is AT_LEAST; got {at_least}"
        yield Violation(f"{path}.dependency_policy.at_least", text, "NOT_WITH_THIS_RULE")


def _check_repeats(job: job_pb2.Job, path: str) -> Iterator[Violation]:
    first: dict[tuple[object, int], int] = {}
    for number, each in enumerate(job.dependencies):
        name = each.WhichOneof("parent")
        if name is None:
            continue
        parent = getattr(each, name)
        before = first.setdefault((parent, each.condition or Condition.SUCCEEDED), number)
        if before != number:
            text = (
                f"must not be there twice under one condition; dependencies[{before}] is the same"
            )
            yield Violation(f"{path}.dependencies[{number}].{name}", text, "REPEATED")


def check_graph(jobs: Sequence[job_pb2.Job]) -> list[Violation]:
    """What is wrong with the dependencies of the jobs of a batch upon one another."""
    total = sum(len(job.dependencies) for job in jobs)
    if not total:
        return []
    found = []
    if total > BATCH_DEPENDENCIES:
        text = f"must have at most {BATCH_DEPENDENCIES:,} dependencies together; got {total:,}"
        found.append(Violation("requests", text, "TOO_MANY_DEPENDENCIES"))
    places: dict[tuple[int, int], int] = {}
    parents: list[list[int]] = []
    for index, job in enumerate(jobs):
        above: list[int] = []
        for number, each in enumerate(job.dependencies):
            if not each.HasField("request_index"):
                continue
            if 0 <= each.request_index < len(jobs):
                above.append(each.request_index)
                places.setdefault((index, each.request_index), number)
            elif each.request_index >= 0:
                last, given = len(jobs) - 1, each.request_index
                text = f"must be a place in the batch, from 0 to {last}; got {given}"
                found.append(Violation(_field(index, number), text, "OUT_OF_RANGE"))
        parents.append(above)
    for circle in cycles(parents, SHOWN_CYCLES):
        last, first = circle[-1], circle[0]
        found.append(_circle(circle, _field(last, places[last, first])))
    return found


def _field(index: int, number: int) -> str:
    return f"requests[{index}].job.dependencies[{number}].request_index"


def _circle(circle: Sequence[int], field: str) -> Violation:
    """A circle, named from the job whose dependency closes it on through those that it waits for."""
    named = [f"requests[{index}]" for index in [circle[-1], *circle]]
    if len(named) > _SHOWN_PLACES:
        named = [*named[: _SHOWN_PLACES - 2], f"… {len(circle)} jobs in all …", named[-1]]
    text = f"must not close a circle: {' waits for '.join(named)}"
    return Violation(field, text, "DEPENDENCY_CYCLE")
