"""The service under fire, at the size of a test; `make chaos` is the same for longer."""

import shutil

import pytest

from jobservice.testing.history.check import Outcome
from tests.chaos.cluster import new_seed
from tests.chaos.rounds import Plan, run, summary

KILLS, JOBS = 25, 2_500
"""Of each store."""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("store", "hosts", "workers"),
    [("sqlite", 1, 0), ("postgres", 2, 1)],
    ids=["sqlite", "postgres"],
)
def test_nothing_is_lost_or_doubled_under_fire(store: str, hosts: int, workers: int) -> None:
    plan = Plan(store, new_seed(), KILLS, JOBS, hosts, workers)
    print(plan)  # noqa: T201
    result = run(plan)
    assert result.verdict.outcome is Outcome.PASSED, f"{summary([result])}\nsee {result.folder}"
    shutil.rmtree(result.folder)
