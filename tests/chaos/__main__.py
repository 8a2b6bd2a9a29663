"""`make chaos`: rounds under fire until there were enough kills and jobs, and the report on them."""

import argparse
import shutil
import sys

from jobservice.testing.history.check import Outcome
from tests.chaos.cluster import new_seed
from tests.chaos.figures import measure_partitions, measure_restarts
from tests.chaos.report import REPORT, write_report
from tests.chaos.rounds import Plan, Result, run, summary

HOSTS = {"sqlite": 1, "postgres": 3}
WORKERS = {"sqlite": (0,), "postgres": (1, 2)}
"""How many more run jobs on other hosts: by turns, as the seed says."""
ROUND_KILLS, ROUND_JOBS = 50, 5_000
"""What a round is asked for: its records fit into memory, and its seed is soon run again."""


def main() -> int:
    """Run what the command line says; 1 where anything was found."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=1_000, help="over all rounds (1000)")
    parser.add_argument("--jobs", type=int, default=100_000, help="over all rounds (100000)")
    parser.add_argument("--seed", type=int, help="of the first round; each next one has the next")
    parser.add_argument("--store", choices=["sqlite", "postgres", "both"], default="both")
    parser.add_argument("--restarts", type=int, default=12, help="of the database (12)")
    parser.add_argument("--partitions", type=int, default=12, help="of workers (12)")
    parser.add_argument("--no-report", action="store_true", help=f"leave {REPORT.name} as it is")
    asked = parser.parse_args()
    seed = new_seed() if asked.seed is None else asked.seed
    results = _rounds(asked.kills, asked.jobs, seed, asked.store)
    restarts = measure_restarts(seed, asked.restarts) if asked.restarts else None
    partitions = measure_partitions(seed, asked.partitions) if asked.partitions else None
    if not asked.no_report:
        write_report(results, restarts, partitions)
    others = [each.verdict for each in (restarts, partitions) if each is not None]
    verdicts = [*(each.verdict for each in results), *others]
    return 0 if all(each.outcome is Outcome.PASSED for each in verdicts) else 1


def _rounds(kills: int, jobs: int, seed: int, store: str) -> list[Result]:
    stores = sorted(HOSTS, reverse=True) if store == "both" else [store]
    results: list[Result] = []
    while True:
        done_kills = sum(each.verdict.kills for each in results)
        done_jobs = sum(each.verdict.jobs for each in results)
        if len(results) >= len(stores) and done_kills >= kills and done_jobs >= jobs:
            return results
        number = len(results)
        kind = stores[number % len(stores)]
        workers = WORKERS[kind]
        plan = Plan(
            store=kind,
            seed=seed + number,
            kills=min(ROUND_KILLS, kills),
            jobs=min(ROUND_JOBS, jobs),
            hosts=HOSTS[kind],
            workers=workers[(seed + number) // len(HOSTS) % len(workers)],
        )
        results.append(run(plan))
        print(summary(results[-1:]), flush=True)  # noqa: T201
        if results[-1].verdict.outcome is Outcome.PASSED:
            shutil.rmtree(results[-1].folder)
        else:
            print(f"its records are in {results[-1].folder}", flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
